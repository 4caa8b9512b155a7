"""What a network sees of a point: standardised invariants, whatever the order of identical legs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mlgen.core import SubprocessGroup
from mlgen.physics.model import Model
from mlgen.surrogates.ansatz import PoleAnsatz, ansatz_powers
from mlgen.surrogates.invariants import pair_products, pairs_of, propagator_legs, virtualities

LEAST_SPREAD = 1e-6
"""A feature that varies less than this in the training sample is a constant, up to rounding."""


class PointFeatures(nn.Module):
    """Invariants and their logarithms, in units of s_hat, with mean 0 and width 1 in the sample.

    Columns: ln of s_hat; ln of 2 p_i·p_j / s_hat of all other pairs; these ratios; ln of |P² / s_hat|
    of the sets of legs of `propagator_legs`, and its square root.

    Identical final legs come in the order of p_i·(p_1 + p_2), their energy in the partonic rest
    frame, and of two identical incoming legs that one first which is nearer to the first final leg:
    an exact symmetry of |M|². Everything is Lorentz invariant.
    """

    masses: Tensor
    signs: Tensor
    mean: Tensor
    scale: Tensor

    def __init__(self, group: SubprocessGroup, model: Model) -> None:
        """Start without a shift and a scale; see `fit`."""
        super().__init__()
        pdg_ids = group.pdg_ids[0]
        self._alike = _alike_legs(pdg_ids)
        self._incoming_alike = pdg_ids[0] == pdg_ids[1]
        masses = torch.tensor([model.mass_gev(p) for p in pdg_ids], dtype=torch.float64)
        self.register_buffer("masses", masses)
        sets = propagator_legs(masses)
        signs = torch.zeros(len(sets), group.n_ext, dtype=torch.float64)
        for row, legs in zip(signs, sets, strict=True):
            row[list(legs)] = 1
        signs[:, :2] *= -1
        self.register_buffer("signs", signs)
        self.n_features = 2 * (len(pairs_of(group.n_ext)) + len(sets)) - 1
        self.register_buffer("mean", torch.zeros(self.n_features, dtype=torch.float64))
        self.register_buffer("scale", torch.ones(self.n_features, dtype=torch.float64))
        self.ansatz = PoleAnsatz(ansatz_powers(group, model))

    def fit(self, momenta: Tensor) -> None:
        """Shift and scale as the sample (n, n_ext, 4), GeV, asks for; what does not vary stays near 0."""
        columns, _ = self._columns(momenta)
        std, self.mean = torch.std_mean(columns, dim=0, correction=0)
        self.scale = 1 / std.clamp(min=LEAST_SPREAD)

    def forward(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """The features (n, n_features), float32, and ln of the ansatz (n,), float64.

        Args:
            momenta: (n, n_ext, 4), float64, GeV.
        """
        columns, log_products = self._columns(momenta)
        return ((columns - self.mean) * self.scale).float(), self.ansatz(log_products)

    def _columns(self, momenta: Tensor) -> tuple[Tensor, Tensor]:
        """The features as they are (n, n_features), and ln of the products of pairs (n, n_pairs)."""
        ordered = self._in_order(momenta)
        log_products = pair_products(ordered, self.masses).log()
        log_s = log_products[:, :1]
        log_ratios = log_products[:, 1:] - log_s
        log_poles = virtualities(ordered, self.signs).log() - log_s
        columns = [log_s, log_ratios, log_ratios.exp(), log_poles, (0.5 * log_poles).exp()]
        return torch.cat(columns, dim=1), log_products

    def _in_order(self, momenta: Tensor) -> Tensor:
        """The momenta with identical legs in an order that does not depend on the given one."""
        if not self._alike and not self._incoming_alike:
            return momenta
        n_ext = momenta.shape[1]
        legs = list(momenta.unbind(1))
        # With (+, -, -, -): what the total momentum is multiplied with.
        total = (legs[0] + legs[1]) * momenta.new_tensor([1.0, -1.0, -1.0, -1.0])
        for alike in self._alike:
            stacked = torch.stack([legs[leg] for leg in alike], dim=1)
            key = (stacked * total[:, None]).sum(2)
            order = key.argsort(dim=1, descending=True)[..., None].expand(-1, -1, 4)
            for leg, row in zip(alike, stacked.gather(1, order).unbind(1), strict=True):
                legs[leg] = row
        if self._incoming_alike and n_ext > 2:
            metric = momenta.new_tensor([1.0, -1.0, -1.0, -1.0])
            nearer = ((legs[0] - legs[1]) * legs[2] * metric).sum(1, keepdim=True) <= 0
            legs[:2] = torch.where(nearer, legs[0], legs[1]), torch.where(nearer, legs[1], legs[0])
        return torch.stack(legs, dim=1)


def _alike_legs(pdg_ids: Sequence[int]) -> list[list[int]]:
    """The final legs of each particle that occurs more than once."""
    final = list(enumerate(pdg_ids))[2:]
    kinds = dict.fromkeys(pdg_ids[2:])
    legs = [[leg for leg, pdg_id in final if pdg_id == kind] for kind in kinds]
    return [alike for alike in legs if len(alike) > 1]
