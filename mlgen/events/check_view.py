"""The columns of a table of events under their names, for the rules of a check."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mlgen.events.check_findings import Fault, Mask, Severity
from mlgen.events.lhe_numbers import EventTable

INCOMING, OUTGOING, RESONANCE = -1, 1, 2


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """The columns of n events with up to n_max particles; (n, n_max) but for `info` and `decays`."""

    info: NDArray[np.float64]
    """(n, N_INFO)."""
    is_row: Mask
    """Which rows belong to their event; all columns are 0 in the others."""
    pdg_id: NDArray[np.int64]
    status: NDArray[np.int64]
    is_incoming: Mask
    is_outgoing: Mask
    mothers: NDArray[np.int64]
    """(n, n_max, 2)."""
    colour: NDArray[np.int64]
    """(n, n_max, 2)."""
    momenta: NDArray[np.float64]
    """(n, n_max, 4): px, py, pz, E in the order of the file."""
    mass: NDArray[np.float64]
    lifetime: NDArray[np.float64]
    spin: NDArray[np.float64]
    decays: Decays

    @classmethod
    def of(cls, table: EventTable) -> View:
        """The columns of a table of finite numbers, whole ones where the accord wants them."""
        # One copy with the columns first: each then lies in memory in one piece.
        columns = np.ascontiguousarray(np.moveaxis(table.particles, -1, 0))
        whole = columns[:6].astype(np.int64)
        status, mothers = whole[1], np.moveaxis(whole[2:4], 0, -1)
        return cls(
            info=table.info,
            is_row=np.arange(status.shape[1]) < table.info[:, :1],
            pdg_id=whole[0],
            status=status,
            is_incoming=status == INCOMING,
            is_outgoing=status == OUTGOING,
            mothers=mothers,
            colour=np.moveaxis(whole[4:6], 0, -1),
            momenta=np.moveaxis(columns[6:10], 0, -1),
            mass=columns[10],
            lifetime=columns[11],
            spin=columns[12],
            decays=Decays.of(status, mothers),
        )

    def row_fault(
        self, kind: str, severity: Severity, expected: str, mask: Mask, name: str
    ) -> Fault:
        """A fault of single rows (n, n_max), whose column or columns `name` are shown."""

        def got(event: int) -> str:
            row = int(mask[event].argmax())
            return f"line {row + 1}: {name} = {getattr(self, name)[event, row].tolist()}"

        return Fault(kind, severity, expected, np.any(mask, axis=1), got)


@dataclass(frozen=True, kw_only=True, slots=True)
class Decays:
    """Which rows come from one resonance alone; indices count the n n_max rows of all events."""

    daughter: NDArray[np.int64]
    """(k,)."""
    mother: NDArray[np.int64]
    """(k,), a row of status 2."""
    has_daughters: Mask
    """(n, n_max)."""

    @classmethod
    def of(cls, status: NDArray[np.int64], mothers: NDArray[np.int64]) -> Decays:
        """The decays among rows of this status (n, n_max), from MOTHUP (n, n_max, 2)."""
        n, n_max = status.shape
        first, last = mothers[..., 0], mothers[..., 1]
        has_daughters = np.zeros(n * n_max, dtype=np.bool_)
        is_sole = (first > 0) & (first <= n_max) & ((last == first) | (last == 0))
        (daughter,) = np.nonzero(is_sole.reshape(-1))
        mother = daughter // n_max * n_max + first.reshape(-1)[daughter] - 1
        decays = (status.reshape(-1)[mother] == RESONANCE) & (status.reshape(-1)[daughter] != 0)
        has_daughters[mother[decays]] = True
        return cls(
            daughter=daughter[decays],
            mother=mother[decays],
            has_daughters=has_daughters.reshape(n, n_max),
        )

    def out_minus_in(self, column: NDArray[np.float64]) -> NDArray[np.float64]:
        """The sum of a column (n, n_max) over the daughters of each row, less its own; 0 if none."""
        flat = column.reshape(-1)
        total = np.bincount(self.mother, flat[self.daughter], minlength=flat.size)
        return np.where(self.has_daughters, total.reshape(column.shape) - column, 0.0)
