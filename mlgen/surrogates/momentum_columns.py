"""What a network sees that is equivariant by itself: the momenta."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mlgen.core import SubprocessGroup
from mlgen.physics.kinematics import boost_back, mass
from mlgen.surrogates.networks import Inputs


class MomentumColumns(nn.Module):
    """ln of s_hat as `PointFeatures` standardises it, then the momenta over sqrt(s_hat) of each leg.

    They are in the partonic rest frame: single precision has no digits to spare for a boost.
    """

    def __init__(self, group: SubprocessGroup) -> None:
        super().__init__()
        kinds: list[tuple[bool, int]] = []
        for leg, pdg_id in enumerate(group.pdg_ids[0]):
            kinds.append((leg < 2, pdg_id))
        known = list(dict.fromkeys(kinds))
        self.inputs = Inputs(1 + 4 * group.n_ext, tuple(map(known.index, kinds)))

    def forward(self, momenta: Tensor, features: Tensor) -> Tensor:
        """(n, inputs.n_columns), float32.

        Args:
            momenta: (n, n_ext, 4), float64, GeV.
            features: (n, n_features), of `PointFeatures`.
        """
        total = momenta[:, :2].sum(1, keepdim=True)
        scaled = boost_back(momenta, total) / mass(total)[..., None]
        return torch.cat([features[:, :1], scaled.flatten(1).float()], dim=1)
