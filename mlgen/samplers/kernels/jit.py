"""How kernels are compiled, and how they are remembered on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.integer[Any]]

inner = njit(nogil=True, error_model="numpy", fastmath={"contract"})
"""Of a function that only kernels call; no more than multiplication and addition are contracted."""

reordered = njit(nogil=True, error_model="numpy", fastmath={"contract", "reassoc"})
"""Of one whose sums may run in any order, as long sums must to be vectorised."""


def kernel(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile what Python calls, and keep it on disk where there is a folder for that."""
    settings: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
    try:
        compiled: Any = njit(cache=True, **settings)(function)
    except RuntimeError:  # no folder is writable
        return njit(**settings)(function)  # type: ignore[no-any-return]  # numba has no types
    # numba (0.68) looks for changes in the file of the kernel alone, not in those of the functions
    # that it calls. Where it comes to keep its stamp elsewhere, that is what remains.
    with suppress(AttributeError):
        compiled._cache._cache_file._source_stamp = _stamp()
    return compiled  # type: ignore[no-any-return]  # numba has no types


@cache
def _stamp() -> str:
    """A digest of all that kernels are made from."""
    folder = Path(__file__).parent
    files = [*sorted(folder.glob("*.py")), folder.parent / "splines.py"]
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files)).hexdigest()
