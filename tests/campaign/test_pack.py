from __future__ import annotations

import dataclasses
import json
import math
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from mlgen.campaign.fingerprint import Fingerprint
from mlgen.campaign.pack import (
    Pack,
    PackedEstimate,
    PackedSampler,
    PackedSurrogate,
    read_pack,
    write_pack,
)
from mlgen.campaign.run_record import Efficiency
from mlgen.errors import MlgenError, PackError

AN_ESTIMATE = PackedEstimate(
    n_points=(100.0, 300.0),
    total=(0.1 + 0.2, 2e5),
    total_squares=(1 / 3, 5e-324),
    kept=0.5,
    inside=0.9,
    inside_error=0.01,
    eps_uw=Efficiency(value=0.5, error=0.02, n=400, t=0.001),
    ess=0.8,
    overweight_fraction=0.0012,
)


def a_pack() -> Pack:
    rng = torch.Generator().manual_seed(1)
    edges = torch.rand(3, 7, generator=rng, dtype=torch.float64)
    weights = torch.randn(4, 5, generator=rng)
    return Pack(
        process="p p > e+ e- j",
        card='[process]\nname = "pp_to_eej"\n',
        seed=7,
        sampler="flow",
        samplers={
            "vegas": PackedSampler(
                config={"n_bins": 6},
                tensors={"edges": edges},
                fraction=(0.25, 0.75),
                w_max=(1 / 3, 2e5),
                estimate=AN_ESTIMATE,
            ),
            "flow": PackedSampler(
                config={"n_blocks": 2, "learning_rate": 0.1, "masks": [[0, 1], [1, 0]]},
                tensors={
                    "net.0.weight": weights,
                    "net.0.weight_again": weights,
                    "transposed": weights.T,
                    "mask": torch.tensor([True, False]),
                    "n_seen": torch.tensor(2**40),
                    "nothing": torch.zeros(0, 3),
                    "odd": torch.tensor([math.nan, -0.0, 5e-324], dtype=torch.float64),
                },
                fraction=(0.5, 0.5),
                w_max=(0.1, 0.2),
                estimate=dataclasses.replace(AN_ESTIMATE, kept=0.7),
            ),
        },
        provider="closed_form",
        fingerprint=Fingerprint(
            channels_sha256="ab" * 32,
            r=[[0.1, 0.2], [1 / 3, 0.7]],
            channel=[0, 1],
            value=[1e-7, 3.0],
        ),
        tables={"eps_uw": {"flow": {"value": 0.31}}},
    )


def write(path: Path, pack: Pack | None = None) -> Path:
    write_pack(path, a_pack() if pack is None else pack)
    return path


def bits(tensor: torch.Tensor) -> tuple[torch.dtype, torch.Size, bytes]:
    return tensor.dtype, tensor.shape, tensor.contiguous().numpy().tobytes()


def same(a: Pack, b: Pack) -> bool:
    def plain(pack: Pack) -> Pack:
        return dataclasses.replace(
            pack,
            samplers={
                name: dataclasses.replace(sampler, tensors={})
                for name, sampler in pack.samplers.items()
            },
        )

    return plain(a) == plain(b) and all(
        {key: bits(tensor) for key, tensor in a.samplers[name].tensors.items()}
        == {key: bits(tensor) for key, tensor in b.samplers[name].tensors.items()}
        for name in a.samplers
    )


def rewrite(path: Path, changes: Mapping[str, bytes | None]) -> None:
    """Replace members of a pack; None removes one."""
    with zipfile.ZipFile(path) as archive:
        members: dict[str, bytes | None] = {n: archive.read(n) for n in archive.namelist()}
    members |= changes
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if content is not None:
                archive.writestr(name, content)


def index_with(path: Path, **changes: Any) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        index = json.loads(archive.read("pack.json"))
    return {"pack.json": json.dumps(index | changes).encode()}


def test_a_pack_comes_back_bit_for_bit(tmp_path: Path) -> None:
    assert same(read_pack(write(tmp_path / "a.mlgen.zip")), a_pack())


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    first = write(tmp_path / "a.mlgen.zip").read_bytes()
    shuffled = dataclasses.replace(
        a_pack(),
        samplers={
            name: dataclasses.replace(
                sampler, tensors=dict(reversed(list(sampler.tensors.items())))
            )
            for name, sampler in a_pack().samplers.items()
        },
    )
    assert write(tmp_path / "b.mlgen.zip").read_bytes() == first
    assert write(tmp_path / "c.mlgen.zip", shuffled).read_bytes() == first


def test_a_pack_that_was_read_is_written_the_same(tmp_path: Path) -> None:
    first = write(tmp_path / "a.mlgen.zip")
    second = write(tmp_path / "b.mlgen.zip", read_pack(first))
    assert second.read_bytes() == first.read_bytes()


def test_no_single_damaged_byte_changes_what_is_read(tmp_path: Path) -> None:
    content = write(tmp_path / "a.mlgen.zip").read_bytes()
    damaged = tmp_path / "damaged.mlgen.zip"
    n_found = 0
    for position in range(len(content)):
        damaged.write_bytes(
            content[:position] + bytes([content[position] ^ 0x55]) + content[position + 1 :]
        )
        try:
            assert same(read_pack(damaged), a_pack()), f"byte {position}"
        except PackError:
            n_found += 1
    assert n_found > 0.9 * len(content)


def test_a_truncated_pack_is_refused(tmp_path: Path) -> None:
    content = write(tmp_path / "a.mlgen.zip").read_bytes()
    truncated = tmp_path / "truncated.mlgen.zip"
    for n in range(0, len(content), 97):
        truncated.write_bytes(content[:n])
        with pytest.raises(PackError, match="no sampler pack, or a damaged one"):
            read_pack(truncated)


def test_a_missing_file_is_a_pack_error(tmp_path: Path) -> None:
    with pytest.raises(PackError, match="cannot be read"):
        read_pack(tmp_path / "nowhere.mlgen.zip")


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mlgen.zip")
    rewrite(path, {"samplers/flow.safetensors": None})
    with pytest.raises(PackError, match=r"damaged: samplers/flow\.safetensors cannot be read"):
        read_pack(path)


def test_an_exchanged_member_is_found_by_its_checksum(tmp_path: Path) -> None:
    path, other = write(tmp_path / "a.mlgen.zip"), write(tmp_path / "b.mlgen.zip")
    with zipfile.ZipFile(other) as archive:
        vegas = archive.read("samplers/vegas.safetensors")
    rewrite(path, {"samplers/flow.safetensors": vegas})
    with pytest.raises(PackError, match=r"flow\.safetensors does not have the checksum"):
        read_pack(path)


def test_a_foreign_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("madevent.tar", b"")
    with pytest.raises(PackError, match=r"no sampler pack: it holds no pack\.json"):
        read_pack(path)


@pytest.mark.parametrize("index", [b"[]", b'{"schema": "other"}', b"{}"])
def test_a_pack_of_another_program_is_refused(tmp_path: Path, index: bytes) -> None:
    path = write(tmp_path / "a.mlgen.zip")
    rewrite(path, {"pack.json": index})
    with pytest.raises(PackError, match="of another program"):
        read_pack(path)


def test_a_newer_pack_says_who_wrote_it(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mlgen.zip")
    rewrite(path, index_with(path, schema_version=99, mlgen_version="9.9", samplers="unknown"))
    with pytest.raises(PackError, match=r"written by mlgen 9\.9 in form 99.*update mlgen"):
        read_pack(path)


@pytest.mark.parametrize(
    "change",
    [{"schema_version": "1"}, {"samplers": []}, {"samplers": {"flow": {}}}, {"sha256": {}}],
)
def test_an_index_that_mlgen_does_not_write_is_damage(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.mlgen.zip")
    rewrite(path, index_with(path, **change))
    with pytest.raises(PackError, match="damaged"):
        read_pack(path)


def test_loading_runs_no_code(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    path.write_bytes(pickle.dumps({"weight": [1.0]}))
    with pytest.raises(PackError, match="no sampler pack"):
        read_pack(path)


def test_a_number_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    pack = dataclasses.replace(a_pack(), tables={"eps_uw": math.nan})
    with pytest.raises(MlgenError, match=r"pack\.json: tables\.eps_uw = nan"):
        write_pack(tmp_path / "a.mlgen.zip", pack)
    assert list(tmp_path.iterdir()) == []


def test_a_sampler_name_that_is_a_path_is_refused(tmp_path: Path) -> None:
    sampler = a_pack().samplers["vegas"]
    pack = dataclasses.replace(a_pack(), sampler="../x", samplers={"../x": sampler})
    with pytest.raises(PackError, match=r"samplers\.\.\./x: expected a name of letters"):
        write_pack(tmp_path / "a.mlgen.zip", pack)


def test_a_pack_without_its_own_sampler_is_refused() -> None:
    with pytest.raises(PackError, match="sampler = onnx: expected one of vegas, flow"):
        dataclasses.replace(a_pack(), sampler="onnx")


def test_channels_that_do_not_match_are_refused() -> None:
    with pytest.raises(PackError, match="w_max has 1 channels, fraction 2"):
        dataclasses.replace(a_pack().samplers["flow"], w_max=(0.1,))


def test_an_older_pack_says_what_is_wanted(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mlgen.zip")
    rewrite(path, index_with(path, schema_version=1, mlgen_version="0.0.1"))
    with pytest.raises(PackError, match=r"by mlgen 0\.0\.1 in form 1: expected form 4"):
        read_pack(path)


# --- with a surrogate -------------------------------------------------------------------------

A_SURROGATE = PackedSurrogate(
    tensors={"0.weight": torch.tensor([0.1, math.inf], dtype=torch.float64)},
    trust={"n_std": 2.0, "max_relative_std": 5.0, "floor": 0.01},
    floor=(0.0, 1 / 3),
    s_max=(0.1, 2e5),
    x_max=(1.5, 1.1),
    kept=0.123456789,
    kept_error=0.001,
)


def with_surrogate() -> Pack:
    return dataclasses.replace(a_pack(), surrogate=A_SURROGATE)


def test_a_surrogate_comes_back_bit_for_bit(tmp_path: Path) -> None:
    read = read_pack(write(tmp_path / "a.mlgen.zip", with_surrogate())).surrogate
    assert read is not None
    plain = [dataclasses.replace(one, tensors={}) for one in (read, A_SURROGATE)]
    assert plain[0] == plain[1]
    assert bits(read.tensors["0.weight"]) == bits(A_SURROGATE.tensors["0.weight"])


def test_what_is_drawn_and_kept_is_that_of_the_surrogate_but_for_weighted_events() -> None:
    pack = with_surrogate()
    products = [0.1 * 1.5, 2e5 * 1.1]
    expected = [product / sum(products) for product in products]
    assert pack.drawn(weighted=False) == pytest.approx(expected)
    assert pack.yield_of(weighted=False) == (0.123456789, 0.001)
    for ask in (Pack.drawn, Pack.yield_of):
        assert ask(pack, weighted=True) == ask(a_pack(), weighted=True)


@pytest.mark.parametrize(
    "change",
    [
        {"s_max": (0.0, 0.0)},
        {"s_max": (-1.0, 1.0)},
        {"x_max": (0.0, 1.0)},
        {"floor": (-1e-9, 0.0)},
        {"floor": (0.1,)},
        {"floor": (0.1,) * 3, "s_max": (0.1,) * 3, "x_max": (0.1,) * 3},
    ],
)
def test_maxima_that_nothing_can_be_made_with_are_damage(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    path = write(tmp_path / "a.mlgen.zip", with_surrogate())
    with zipfile.ZipFile(path) as archive:
        stored = json.loads(archive.read("pack.json"))["surrogate"]
    rewrite(path, index_with(path, surrogate=stored | change))
    with pytest.raises(PackError, match=r"surrogate(:| of .* channels:) expected"):
        read_pack(path)


def test_no_sampler_has_the_name_of_the_surrogate() -> None:
    sampler = a_pack().samplers["vegas"]
    samplers = {**a_pack().samplers, "surrogate": sampler}
    with pytest.raises(PackError, match=r"samplers\.surrogate: expected another name"):
        dataclasses.replace(a_pack(), samplers=samplers)
