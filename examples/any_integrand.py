"""Integrate a function of one's own: signed, with a discrete dimension, and with values computed elsewhere.

python examples/any_integrand.py
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mlgen

Array = NDArray[Any]


def interference(x: Array, k: Array) -> Array:
    """A resonance at 0.3 (k = 0), one at 0.6 (k = 1), and their interference, which has both signs (k = 2)."""
    one, two = (1 / (x[:, 0] - at + 0.02j) for at in (0.3, 0.6))
    parts = np.stack([np.abs(one) ** 2, np.abs(two) ** 2, 2 * (one * two.conj()).real])
    shape: Array = parts[k[:, 0], np.arange(len(x))] * np.exp(-x[:, 1])
    return shape


def by_mlgen() -> None:
    """To a relative error, and then some points of it."""
    found = mlgen.integrate(interference, bounds=[(0, 1), (0, 5)], n_values=(3,))
    print(f"{found.value:.3f} ± {found.error:.3f} with {found.sampler}: {found.reason}")
    print("each combination:", found.values.tolist(), "±", found.errors.tolist())
    sample = found.sample(100_000)
    mean = sample.unit * float((sample.weight * sample.points[:, 1]).mean())
    print(f"integral of f x2, from unweighted points: {mean:.3f}")


def from_elsewhere() -> None:
    """The same, with values that threads compute and bring back in any order."""
    ask_tell = mlgen.AskTell(bounds=[(0, 1), (0, 5)], n_values=(3,))
    with ThreadPoolExecutor(4) as pool:

        def compute(n_batches: int, n: int) -> None:
            batches = [ask_tell.ask(n) for _ in range(n_batches)]
            jobs = {
                pool.submit(interference, asked.points.numpy(), asked.k.numpy()): asked.id
                for asked in batches
            }
            for job in as_completed(jobs):
                ask_tell.tell(jobs[job], job.result())

        while not ask_tell.is_frozen:
            compute(4, -(-ask_tell.n_wanted // 4))
        compute(40, 10_000)
    result = ask_tell.result()
    print(f"{result.value:.3f} ± {result.error:.3f} from {result.n_points} points")


if __name__ == "__main__":
    by_mlgen()
    from_elsewhere()
