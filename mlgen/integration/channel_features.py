"""What learned channel weights see of a point: the prior shares, and its invariants."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from mlgen.core import PhaseSpacePoints, SubprocessGroup

LEAST_SHARE = 1e-8
"""Of the squared energy: invariants below it look alike."""


class ChannelFeatures:
    """ln of the prior shares of a group's channels, then of the invariants 2 p_i p_j / s_hat, s_hat and x.

    Identical legs come in the order of their transverse momentum, so that the features depend neither
    on their order nor on the beams' one.
    """

    def __init__(self, groups: Sequence[SubprocessGroup], n_shares: int) -> None:
        """Take the groups of a process, and the columns of `PhaseSpace.log_shares`."""
        n_ext = groups[0].n_ext
        self._pairs = list(itertools.combinations(range(n_ext), 2))[1:]
        self.n_shares = n_shares
        self.n_features = n_shares + len(self._pairs) + 3
        final = [group.pdg_ids[0][2:] for group in groups]
        self._has_alike = any(len(set(pdg_ids)) < len(pdg_ids) for pdg_ids in final)
        self._kind = torch.tensor([[ids.index(pdg) for pdg in ids] for ids in final])

    def __call__(self, points: PhaseSpacePoints, group: Tensor, log_shares: Tensor) -> Tensor:
        """Features (n, n_features) of points of groups (n,), with ln of their shares (n, n_shares)."""
        momenta = self._in_order(points.momenta, group) if self._has_alike else points.momenta
        energy, px, py, pz = momenta.permute(2, 1, 0).contiguous()
        s_hat = 4 * energy[0] * energy[1]
        columns = []
        for i, j in self._pairs:
            product = energy[i] * energy[j] - px[i] * px[j] - py[i] * py[j] - pz[i] * pz[j]
            # Shifted and scaled to the order of 1.
            columns.append((2 * product / s_hat).clamp(min=LEAST_SHARE).log() / 2 + 1)
        columns += [s_hat.log() / 2 - 6, *(points.x.T.log() / 2 + 1)]
        return torch.cat([log_shares, torch.stack(columns, dim=1)], dim=1)

    def _in_order(self, momenta: Tensor, group: Tensor) -> Tensor:
        """The momenta (n, n_ext, 4) with final legs of a kind next to each other, falling in pt."""
        final = momenta[:, 2:]
        kind = self._kind.to(group.device)[group]
        by_pt = (final[..., 1].square() + final[..., 2].square()).argsort(dim=1, descending=True)
        by_kind = kind.gather(1, by_pt).argsort(dim=1, stable=True)
        order = by_pt.gather(1, by_kind)
        return torch.cat([momenta[:, :2], final.gather(1, order[..., None].expand_as(final))], 1)
