"""What a network sees of a point: standardised invariants, whatever the order of identical legs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlgen.core import SubprocessGroup
from mlgen.physics.model import Model
from mlgen.surrogates.ansatz import PoleAnsatz, ansatz_powers
from mlgen.surrogates.invariants import Virtualities, pair_products, pairs_of, propagator_legs
from mlgen.surrogates.resonances import Resonances, decay_lines

LEAST_SPREAD = 1e-6
"""A feature that varies less than this in the training sample is a constant, up to rounding."""


class PointFeatures(nn.Module):
    """Invariants and their logarithms, in units of s_hat, with mean 0 and width 1 in the sample.

    They are: ln of s_hat; ln of 2 p_i·p_j / s_hat of all other pairs; these ratios; ln of |P² / s_hat|
    of the sets of legs of `propagator_legs`, and its square root; two of each resonance, see `Resonances`.

    Identical final legs come in the order of p_i·(p_1 + p_2), their energy in the partonic rest
    frame, and of two identical incoming legs that one first which is nearer to the first final leg:
    an exact symmetry of |M|². Everything is Lorentz invariant.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, group: SubprocessGroup, model: Model) -> None:
        """Start without a shift and a scale; see `fit`."""
        super().__init__()
        pdg_ids = group.pdg_ids[0]
        self._alike = _alike_legs(pdg_ids)
        self._incoming_alike = pdg_ids[0] == pdg_ids[1] and group.n_ext > 2
        self._masses = tuple(model.mass_gev(pdg_id) for pdg_id in pdg_ids)
        sets = propagator_legs(self._masses)
        self.virtualities = Virtualities(sets, self._masses)
        lines = decay_lines(group, model)
        self.resonances = Resonances(lines, self._masses) if lines else None
        n_peaks = self.resonances.n_resonances if self.resonances is not None else 0
        self.n_features = 2 * (len(pairs_of(group.n_ext)) + len(sets) + n_peaks) - 1
        self.register_buffer("mean", torch.zeros(self.n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.n_features, dtype=torch.float64))
        self.ansatz = PoleAnsatz(ansatz_powers(group, model))

    def fit(self, momenta: Tensor) -> None:
        """Shift and scale as the sample (n, n_ext, 4), GeV, asks for; what does not vary stays near 0."""
        rows, _ = self._rows_and_ansatz(momenta)
        std, self.mean = torch.std_mean(rows, dim=1, correction=0)
        self.scale = 1 / std.clamp(min=LEAST_SPREAD)

    def forward(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """The features (n, n_features), float32, and ln of the ansatz (n,), float64.

        Args:
            momenta: (n, n_ext, 4), float64, GeV.
        """
        rows, log_ansatz = self._rows_and_ansatz(momenta)
        shift = (-self.mean * self.scale)[:, None]
        # float64 until here: what hardly varies is scaled up by as much as 1 / LEAST_SPREAD.
        features = torch.addcmul(shift, rows, self.scale[:, None]).float()
        return features.T, log_ansatz

    def leg_order(self, momenta: Tensor) -> Tensor:
        """Which leg of a point stands where, once identical ones are in order: int64 (n, n_ext)."""
        n, n_ext, _ = momenta.shape
        order = torch.arange(n_ext, device=momenta.device).repeat(n, 1)
        metric = momenta.new_tensor([1.0, -1.0, -1.0, -1.0])
        total = (momenta[:, :1] + momenta[:, 1:2]) * metric
        energy = (momenta * total).sum(2)
        for alike in self._alike:
            ranks = energy[:, alike].argsort(dim=1, descending=True, stable=True)
            order[:, alike] = order[:, alike].gather(1, ranks)
        if self._incoming_alike:
            first = momenta[torch.arange(n, device=momenta.device), order[:, 2]] * metric
            is_swapped = ((momenta[:, 0] - momenta[:, 1]) * first).sum(1) > 0
            order[:, :2] = torch.where(is_swapped[:, None], order[:, :2].flip(1), order[:, :2])
        return order

    def _rows_and_ansatz(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """The features as they are (n_features, n), and ln of the ansatz (n,)."""
        # Components first: arithmetic on strided columns is several times slower.
        components = self._in_order(momenta.permute(2, 1, 0).contiguous())
        products = pair_products(components, self._masses)
        poles = self.virtualities(products) / products[0]
        log_products = products.log()
        rows = [
            log_products[:1],
            log_products[1:] - log_products[0],
            products[1:] / products[0],
            poles.log(),
            poles.sqrt(),
        ]
        log_ansatz = self.ansatz(log_products)
        if self.resonances is not None:
            peaks, log_propagators = self.resonances(products)
            rows.append(peaks)
            log_ansatz = log_ansatz + log_propagators
        return torch.cat(rows), log_ansatz

    def _in_order(self, components: Tensor) -> Tensor:
        """The momenta (4, n_ext, n) with identical legs in an order that does not depend on the given one."""
        if not self._alike and not self._incoming_alike:
            return components
        metric = components.new_tensor([1.0, -1.0, -1.0, -1.0])[:, None]
        legs = list(components.unbind(1))
        total = (legs[0] + legs[1]) * metric
        for alike in self._alike:
            ranked = [((legs[leg] * total).sum(0), legs[leg]) for leg in alike]
            # One pass of neighbours after the other: sorting networks need no gathers.
            for last in range(len(alike) - 1, 0, -1):
                for at in range(last):
                    ranked[at : at + 2] = _larger_first(*ranked[at : at + 2])
            for leg, (_, momentum) in zip(alike, ranked, strict=True):
                legs[leg] = momentum
        if self._incoming_alike:
            nearer = ((legs[0] - legs[1]) * legs[2] * metric).sum(0) <= 0
            legs[:2] = torch.where(nearer, legs[0], legs[1]), torch.where(nearer, legs[1], legs[0])
        return torch.stack(legs, dim=1)


_Ranked = tuple[Tensor, Tensor]
"""A key (n,) and what goes with it, (4, n)."""


def _larger_first(one: _Ranked, other: _Ranked) -> tuple[_Ranked, _Ranked]:
    keep = one[0] >= other[0]
    first = torch.maximum(one[0], other[0]), torch.where(keep, one[1], other[1])
    second = torch.minimum(one[0], other[0]), torch.where(keep, other[1], one[1])
    return first, second


def _alike_legs(pdg_ids: Sequence[int]) -> list[list[int]]:
    """The final legs of each particle that occurs more than once."""
    final = list(enumerate(pdg_ids))[2:]
    kinds = dict.fromkeys(pdg_ids[2:])
    legs = [[leg for leg, pdg_id in final if pdg_id == kind] for kind in kinds]
    return [alike for alike in legs if len(alike) > 1]
