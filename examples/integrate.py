"""The cross section of a card, and what VEGAS and the flow are worth on it."""

import mlgen
from mlgen.diagnostics.progress import RichProgress

integration = mlgen.integrate("pp_to_eej", seed=1, progress=RichProgress())
for candidate in integration.candidates:
    sums, eps_uw = candidate.measured.sums, candidate.measured.eps_uw
    print(
        f"{candidate.name:6} {sums.mean:.2f} ± {sums.error:.2f} pb   "
        f"eps_uw({eps_uw.n}, {eps_uw.t:g}) = {eps_uw.value:.3f} ± {eps_uw.error:.3f}"
    )
