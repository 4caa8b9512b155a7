"""Points at which a matrix element was computed: what a surrogate learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from mlgen.core import SubprocessGroup, random_stream
from mlgen.errors import MlgenError


@dataclass(frozen=True, kw_only=True, slots=True)
class AmplitudeSample:
    """|M|² at points of one group, without its powers of alpha_s.

    Raises:
        MlgenError: the shapes do not fit, or a value is not finite and positive.
    """

    momenta: Tensor
    """(n, n_ext, 4), float64, (E, px, py, pz) in GeV."""
    value: Tensor
    """(n,), |M|² / alpha_s^qcd_order, GeV^(8 - 2 n_ext)."""

    def __post_init__(self) -> None:
        if self.momenta.dim() != 3 or self.momenta.shape[0::2] != (len(self.value), 4):
            raise MlgenError(
                f"sample.momenta = shape {tuple(self.momenta.shape)}: expected "
                f"({len(self.value)}, n_ext, 4), one row for each value"
            )
        usable = (self.value > 0) & self.value.isfinite() & self.momenta.isfinite().all((1, 2))
        if not bool(usable.all()):
            index = int((~usable).nonzero()[0])
            raise MlgenError(
                f"sample.value = {float(self.value[index])}: expected a finite positive |M|² "
                f"(GeV^(8 - 2 n_ext)) at finite (E, px, py, pz) in GeV = "
                f"{self.momenta[index].tolist()}"
            )

    @classmethod
    def of(cls, momenta: Tensor, value: Tensor, alpha_s: Tensor, group: SubprocessGroup) -> Self:
        """The sample of a matrix element's values (n,) at the couplings alpha_s (n,).

        Points where |M|² is not positive teach its logarithm nothing, and are left out.

        Raises:
            MlgenError: the shapes do not fit.
        """
        positive = value > 0
        scaled = value / alpha_s**group.qcd_order
        return cls(momenta=momenta[positive], value=scaled[positive])

    def __len__(self) -> int:
        return len(self.value)

    def select(self, index: Tensor | slice) -> Self:
        """The points at an index, mask or slice."""
        return type(self)(momenta=self.momenta[index], value=self.value[index])

    def split(self, shares: Sequence[float], seed: int) -> tuple[Self, ...]:
        """Random disjoint parts with the given shares of the points, the first with what is left.

        Raises:
            MlgenError: the shares leave nothing to the first part.
        """
        sizes = [round(share * len(self)) for share in shares]
        first = len(self) - sum(sizes)
        if first <= 0:
            raise MlgenError(
                f"surrogate.shares = {list(shares)}: expected a sum below 1 (of {len(self)} points)"
            )
        order = torch.randperm(len(self), generator=random_stream(seed, "split sample", 0))
        return tuple(self.select(part) for part in torch.split(order, [first, *sizes]))
