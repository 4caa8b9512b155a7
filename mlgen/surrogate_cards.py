"""The section `[surrogate]` of a card."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mlgen.cut_cards import require


@dataclass(frozen=True, kw_only=True, slots=True)
class SurrogateCard:
    """`[surrogate]`: how |M|² is learned; `run.surrogate` says whether it is."""

    method: str = "gaussian"
    """How the uncertainty is learned: `gaussian`, `mixture`, `bayesian`, `repulsive` (an ensemble) or `evidential`."""
    network: Literal["mlp", "lgatr"] = "mlp"
    """`mlp` sees invariants; `lgatr` is a Lorentz-equivariant transformer that sees momenta, for those with a GPU (`mlgen-hep[lgatr]`)."""
    variational: Literal["last", "all"] = "last"
    """The layers of a Bayesian network whose weights are distributions."""
    n_hidden: int = 128
    """The width of a layer; for `lgatr` a multiple of 16."""
    n_layers: int = 3
    """Hidden layers; for `lgatr` its blocks."""
    n_members: int = 4
    """Networks of an ensemble, components of a mixture."""
    n_steps: int = 12_000
    """Optimizer steps; in a run, fewer where the events that are asked for are not worth as many."""
    max_cpu_s: float = math.inf
    """A training ends within so many CPU-seconds; with this the result depends on the machine."""
    batch_size: int = 512
    batch_growth: float = 1.0
    """The last batches are so many times larger than the first ones."""
    learning_rate: float = 8e-3
    boost: float = 2.0
    """How much more often badly described points are used in the second half of the training."""
    validation_share: float = 0.02
    """The part of the sample that tells when the training is at its best."""
    calibration_share: float = 0.2
    """The part of the sample that the uncertainties are calibrated with."""

    max_points: int = 400_000
    """At most so many of the points whose matrix element was computed while samplers were adapted, trained and measured are learned from: the last ones."""
    guides: Literal["auto", "always", "never"] = "auto"
    """Whether VEGAS, after its first rounds, and the flow learn from a surrogate, with the exact matrix element where that is unsure and at some of the other points; `auto`: where that is expected to take less time."""
    helicities: Literal["auto", "all", "drawn"] = "auto"
    """What the exact |M|² of a chosen point is computed from: all helicities, or a few that are drawn from shares which were learned; `auto`: what is cheaper by measurement. The events are exact either way."""

    def __post_init__(self) -> None:
        counts = ("n_hidden", "n_layers", "n_members", "n_steps", "batch_size", "max_points")
        for key in counts:
            value = getattr(self, key)
            require(value >= 1, f"surrogate.{key}", value, "at least 1")
        if self.network == "lgatr":
            wanted = "a multiple of 16 with surrogate.network = 'lgatr'"
            require(self.n_hidden % 16 == 0, "surrogate.n_hidden", self.n_hidden, wanted)
            is_mlp_alone = self.method == "bayesian" and self.variational == "all"
            wanted = "'last' with surrogate.network = 'lgatr'"
            require(not is_mlp_alone, "surrogate.variational", self.variational, wanted)
        rate, limit = self.learning_rate, self.max_cpu_s
        require(0 < rate < math.inf, "surrogate.learning_rate", rate, "a positive number")
        require(limit > 0, "surrogate.max_cpu_s", limit, "a positive number, or inf")
        for key in ("validation_share", "calibration_share"):
            value = getattr(self, key)
            require(0 < value < 0.5, f"surrogate.{key}", value, "a share between 0 and 0.5")
        growth = self.batch_growth
        require(growth >= 1, "surrogate.batch_growth", growth, "at least 1")
        require(0 <= self.boost < math.inf, "surrogate.boost", self.boost, "0 or more")
