"""The rows of events as they stand in LHEH5 files."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from mlgen.core import EventBatch, Variation
from mlgen.errors import EventFileError
from mlgen.events.lhe_numbers import MAX_WHOLE
from mlgen.events.lhe_text import PROCESS_ID
from mlgen.events.lheh5_layout import PARTICLE_COLUMNS
from mlgen.events.writing import check_events

MAX_MISSED = 1
"""Units in the last place: one rounding of a product, one of a quotient."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Lheh5Piece:
    """Rows of some events; `start` is counted from the first row of `particles` here."""

    events: NDArray[np.float64]
    """(n, n_columns), EVENT_COLUMNS and the weights."""
    particles: NDArray[np.float64]
    """(n_rows, 13), PARTICLE_COLUMNS."""
    last_bits: NDArray[np.int8]
    """(n, n_variations), LAST_BITS; (n, 0) where weights do not stand for 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Lheh5Encoder:
    """Makes the rows of events, as they stand in an LHEH5 file."""

    factor: float
    """What stands in the file, in pb, over the weight of an event."""
    is_unit: bool = False
    """Whether each weight is 1, so that the reader divides by the factor."""
    variations: tuple[Variation, ...] = ()

    def __call__(self, events: EventBatch) -> Lheh5Piece:
        check_events(events, len(self.variations))
        is_row = events.pdg_id != 0
        n_rows = is_row.sum(1).to(torch.float64)
        counts = torch.cat(
            [events.pdg_id[..., None], events.status[..., None], events.mothers, events.colour],
            dim=-1,
        )[is_row]
        if len(counts) and int(counts.abs().max()) > MAX_WHOLE:
            raise EventFileError(f"{int(counts.abs().max())}: expected whole numbers up to 2^53")
        particles = np.zeros((len(counts), len(PARTICLE_COLUMNS)))
        particles[:, :6] = counts.cpu().numpy()
        particles[:, 6:10] = events.momenta[is_row][:, [1, 2, 3, 0]].cpu().numpy()
        particles[:, 10] = events.mass[is_row].cpu().numpy()
        particles[:, 12] = events.spin[is_row].cpu().numpy()
        columns = [
            torch.full_like(events.weight, PROCESS_ID),
            n_rows,
            n_rows.cumsum(0) - n_rows,
            torch.ones_like(events.weight),
            # Readers in C++ take SCALUP from `rscale`, pylhe from `scale`.
            events.scale,
            events.scale,
            events.scale,
            events.alpha_em,
            events.alpha_s,
            self.factor * events.weight,
        ]
        in_pb = self.factor * events.variations
        rows = torch.cat([torch.stack(columns, dim=1), in_pb], dim=1)
        if not bool(rows.isfinite().all()):
            raise EventFileError(
                f"weights times {self.factor} pb: expected finite numbers in pb in an LHEH5 file"
            )
        return Lheh5Piece(
            events=rows.cpu().numpy(),
            particles=particles,
            last_bits=self._last_bits(events.variations, in_pb).cpu().numpy(),
        )

    def _last_bits(self, variations: torch.Tensor, in_pb: torch.Tensor) -> torch.Tensor:
        """By how many units in the last place dividing by the factor misses the variations."""
        if not self.is_unit:
            return torch.empty(len(variations), 0, dtype=torch.int8)
        found = (in_pb / self.factor).view(torch.int64)
        missed = variations.to(torch.float64).view(torch.int64) - found
        if bool((missed.abs() > MAX_MISSED).any()):
            raise EventFileError(
                f"variations times {self.factor} pb: expected numbers that float64 holds in an "
                f"LHEH5 file"
            )
        return missed.to(torch.int8)
