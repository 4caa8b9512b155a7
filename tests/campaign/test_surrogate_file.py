from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mlgen.campaign.surrogate_file import StoredSurrogate, read_surrogate, write_surrogate
from mlgen.errors import PackError

STORED = StoredSurrogate(
    card='[process]\nname = "uux_to_zggg"\n',
    groups=("u u~ > z g g g",),
    tensors={
        "0.method.weight": torch.randn(3, 5, generator=torch.Generator().manual_seed(1)),
        "0.largest_std": torch.tensor(torch.inf, dtype=torch.float64),
    },
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "a.surrogate.zip"
    write_surrogate(found, STORED)
    return found


def test_a_surrogate_comes_back_bit_for_bit(path: Path) -> None:
    read = read_surrogate(path)
    assert replace(read, tensors={}) == replace(STORED, tensors={})
    assert read.tensors.keys() == STORED.tensors.keys()
    assert all(torch.equal(read.tensors[name], STORED.tensors[name]) for name in read.tensors)


def test_no_single_damaged_byte_changes_what_is_read(path: Path, tmp_path: Path) -> None:
    content, damaged = path.read_bytes(), tmp_path / "damaged.surrogate.zip"
    n_found = 0
    for position in range(0, len(content), 7):
        flipped = bytes([content[position] ^ 0x55])
        damaged.write_bytes(content[:position] + flipped + content[position + 1 :])
        try:
            read = read_surrogate(damaged)
        except PackError:
            n_found += 1
            continue
        assert (read.card, read.groups) == (STORED.card, STORED.groups), f"byte {position}"
        for name, tensor in STORED.tensors.items():
            assert torch.equal(read.tensors[name], tensor), f"byte {position}"
    assert n_found > 0.8 * len(range(0, len(content), 7))


def test_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no surrogate")
    with pytest.raises(PackError, match="no surrogate, or a damaged one"):
        read_surrogate(path)
    with pytest.raises(PackError, match="cannot be read"):
        read_surrogate(tmp_path / "nowhere.surrogate.zip")
