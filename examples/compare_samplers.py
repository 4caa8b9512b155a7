"""Compare VEGAS and the flow on a card: cross sections, efficiencies, and a picture of the weights.

python examples/compare_samplers.py [CARD] [PICTURE.png]
"""

from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import numpy as np
import torch

import mlgen
from mlgen.diagnostics.progress import RichProgress
from mlgen.events.unweighting import find_w_max_by_channel
from mlgen.integration.measure import Estimate

COLOURS = {"vegas": "tab:orange", "flow": "tab:blue"}


def efficiency(measured: Estimate, budget: float) -> float:
    """eps_uw at another overweight budget."""
    weights, channel = measured.weights, measured.channel
    w_max = find_w_max_by_channel(weights, channel, len(measured.w_max), budget)
    return float(measured.sums.means.abs().sum() / w_max.sum())


def main() -> None:
    """Integrate the card, print what was measured, draw it."""
    card, picture = [*sys.argv[1:], *["pp_to_eej", "weights.png"][len(sys.argv) - 1 :]]
    integration = mlgen.integrate(card, progress=RichProgress())
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained")
    budgets = np.geomspace(1e-4, 0.1, 25)
    for candidate in integration.candidates:
        measured, colour = candidate.measured, COLOURS.get(candidate.name)
        sums, eps_uw = measured.sums, measured.eps_uw
        print(
            f"{candidate.name:6} {sums.mean:.2f} ± {sums.error:.2f} pb   "
            f"eps_uw({eps_uw.n}, {eps_uw.t:g}) = {eps_uw.value:.4f} ± {eps_uw.error:.4f}"
        )
        # As for events: channel c with probability w_max,c / sum w_max, over the mean weight.
        scale = measured.w_max.sum() / measured.w_max / sums.mean
        x = (measured.weights * scale[measured.channel]).numpy()
        share = measured.unweighting_fractions / torch.bincount(measured.channel)
        edges = np.linspace(0, 5, 101)
        heights, _ = np.histogram(x, edges, weights=share[measured.channel].numpy())
        left.stairs(heights / np.diff(edges), edges, color=colour, label=candidate.name)
        left.axvline(1 / eps_uw.value, color=colour, linestyle="--", linewidth=1)
        right.plot(budgets, [efficiency(measured, t) for t in budgets], color=colour)
        right.errorbar(eps_uw.t, eps_uw.value, eps_uw.error, fmt="o", color=colour)
    left.plot(
        [], [], color="grey", linestyle="--", linewidth=1, label=r"$w_\mathrm{max}$, t = 0.1 %"
    )
    left.set(yscale="log", xlim=(0, 5), ylim=(1e-4, 30))
    left.set(xlabel="weight / mean weight", ylabel="density of points")
    left.legend(frameon=False)
    right.set(xscale="log", ylim=(0, 1))
    right.set(xlabel="overweight budget t", ylabel="unweighting efficiency")
    right.grid(alpha=0.3)
    figure.suptitle(f"{card}: the same cross section, fewer points thrown away", fontsize=11)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main()
