"""Matrix products round in one way, wherever in memory their factors lie: else no run could be repeated."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PRODUCTS = """
import torch

torch.set_num_threads(1)
rng = torch.Generator().manual_seed(1)


def at(offset, matrix):
    memory = torch.empty(4 * matrix.numel() + 128, dtype=torch.uint8)
    start = -memory.data_ptr() % 64 + offset
    found = memory[start : start + 4 * matrix.numel()].view(torch.float32).view(matrix.shape)
    return found.copy_(matrix)


n_different = 0
for rows, inner, columns in ((1, 16, 1), (1, 16, 32), (7, 48, 33), (64, 32, 16), (512, 48, 36)):
    left, right = torch.randn(rows, inner, generator=rng), torch.randn(columns, inner, generator=rng)
    expected = left @ right.T
    for offset in (4, 16, 32):
        n_different += not torch.equal(at(offset, left) @ at(0, right).T, expected)
        n_different += not torch.equal(at(0, left) @ at(offset, right).T, expected)
print(n_different)
"""


def count_different(before: str, **settings: str) -> int:
    """How many products change with where their factors lie, in a fresh interpreter."""
    others = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
    done = subprocess.run(
        [sys.executable, "-c", before + PRODUCTS],
        env=others | settings,
        check=True,
        capture_output=True,
        text=True,
    )
    return int(done.stdout)


@pytest.mark.parametrize("before", ["import mlgen", "import torch; import mlgen"])
def test_products_do_not_depend_on_where_their_factors_lie(before: str) -> None:
    assert count_different(before) == 0


def test_what_the_user_asks_of_the_library_stays() -> None:
    code = "import os, mlgen; assert os.environ['MKL_CBWR'] == 'COMPATIBLE'"
    assert count_different(code, MKL_CBWR="COMPATIBLE") == 0
