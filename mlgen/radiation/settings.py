"""How a model of radiation is built and trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from mlgen.cut_cards import require

USUAL_SEEN = 4e6
"""Events that a training sees, the same ones several times, where nothing says how many."""
USUAL_EPOCHS = (4.0, 16.0)
"""Fewest and most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkSettings:
    """The size of the two transformers; published is 128 channels and 3 blocks (arXiv:2412.12074)."""

    n_channels: int = 64
    n_blocks: int = 3
    """Of each of the two."""
    n_heads: int = 4
    n_components: int = 12
    """Of the mixture that each number of a jet is drawn from."""
    variational: Literal["none", "last", "all"] = "none"
    """The layers whose weights are distributions."""

    def __post_init__(self) -> None:
        for key in ("n_channels", "n_blocks", "n_heads", "n_components"):
            value = getattr(self, key)
            require(value >= 1, f"radiation.{key}", value, "at least 1")
        heads, channels = self.n_heads, self.n_channels
        require(channels % heads == 0, "radiation.n_heads", heads, f"a divisor of {channels}")


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainingSettings:
    """How the transformers are trained."""

    variant: str = "truncated"
    """How multiplicities beyond `n_max` are prepared for: a name in `VARIANTS`."""
    n_max: int = 3
    """Of each event so many jets are seen; where an event has more, none of what follows is."""
    n_epochs: float | None = None
    """How often each event is seen; None: `epochs`."""
    max_cpu_s: float = math.inf
    """A training ends within so many CPU-seconds; with this the result depends on the machine."""
    batch_size: int = 512
    learning_rate: float = 1e-2
    validation_share: float = 0.05
    """The part of the events that tells when the training is at its best."""
    n_members: int = 1
    """Networks of an ensemble. Where there are several, each learns from its own draw of the events, with replacement, so that they differ as networks of other samples would."""

    def __post_init__(self) -> None:
        for key in ("n_max", "batch_size", "n_members"):
            value = getattr(self, key)
            require(value >= 1, f"radiation.{key}", value, "at least 1")
        for key in ("n_epochs", "learning_rate"):
            number = getattr(self, key)
            is_right = number is None or 0 < number < math.inf
            require(is_right, f"radiation.{key}", number, "a positive number")
        limit, share = self.max_cpu_s, self.validation_share
        require(limit > 0, "radiation.max_cpu_s", limit, "a positive number, or inf")
        wanted = "a share between 0 and 0.5"
        require(0 < share < 0.5, "radiation.validation_share", share, wanted)

    def epochs(self, n_events: int) -> float:
        """How often each of so many events is seen: few of them more often."""
        if self.n_epochs is not None:
            return self.n_epochs
        return min(max(USUAL_SEEN / n_events, USUAL_EPOCHS[0]), USUAL_EPOCHS[1])
