"""e+ e- > mu+ mu- by a photon, as a user would write it, with a fault that the environment asks for.

The variable FAULT is JSON, the fields of `Fault`. Without it the same |M|² comes, and so the same bytes.
"""

from __future__ import annotations

import ctypes
import json
import math
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

FAULT = "MLGEN_FAULT"
ALPHA = 1 / 132.507

_counted: dict[str, int] = {"calls": 0}


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """What goes wrong in a matrix element."""

    how: str
    """raise, nan, inf, shape, twice, exit, kill, segfault, abort, memory, out_of_memory, sleep."""
    after: int = 0
    """So many calls of a process are good."""
    in_workers: bool = False
    """Not in the process of the command line."""
    seconds: float = 0.0
    """That each call takes."""
    folder: str = ""
    """Where it is counted how often it went wrong; empty: nowhere."""
    times: int = 0
    """It goes wrong so often, all processes together; 0: always."""

    @property
    def environment(self) -> dict[str, str]:
        """The variable that asks for it."""
        return {FAULT: json.dumps(asdict(self))}


def muon_pairs(momenta: Tensor, alpha_s: Tensor, pdg_ids: Tensor) -> Tensor:
    """2 e⁴ (t² + u²) / s², averaged over spins; or what the fault makes of it."""
    a, b, c, _ = momenta.unbind(1)
    s, t = _squared(a + b), _squared(a - c)
    u = -s - t
    value = 2 * (4 * math.pi * ALPHA) ** 2 * (t**2 + u**2) / s**2
    text = os.environ.get(FAULT)
    return value if text is None else _spoilt(value, Fault(**json.loads(text)))


def _squared(p: Tensor) -> Tensor:
    return p[:, 0] ** 2 - p[:, 1:].square().sum(1)


def _spoilt(value: Tensor, fault: Fault) -> Tensor:
    if fault.in_workers and "mlgen.cli" in sys.modules:
        return value
    time.sleep(fault.seconds)
    _counted["calls"] += 1
    if _counted["calls"] <= fault.after or not _its_turn(fault):
        return value
    if fault.how == "raise":
        raise ZeroDivisionError("of the user's")
    if fault.how == "exit":
        sys.exit(0)
    if fault.how == "abort":
        os.abort()
    if fault.how == "segfault":
        ctypes.string_at(0)
    if fault.how == "kill":
        os.kill(os.getpid(), 9)
    if fault.how == "out_of_memory":
        raise MemoryError
    if fault.how == "memory":
        return torch.ones(1 << 45, dtype=torch.float64)
    if fault.how == "twice":
        return 2 * value
    if fault.how == "shape":
        return value[:, None]
    if fault.how in ("nan", "inf"):
        value = value.clone()
        value[-1] = float(fault.how)
    return value


def _its_turn(fault: Fault) -> bool:
    for i in range(fault.times):
        try:
            (Path(fault.folder) / f"fault-{i}").touch(exist_ok=False)
        except FileExistsError:
            continue
        return True
    return fault.times == 0
