"""What a classifier sees of an event: what models see, and what they are known to miss."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from mlgen.physics.kinematics import eta, phi, pt, rapidity
from mlgen.radiation.jets import JetEvents
from mlgen.radiation.representation import ETA, LOG_M2, LOG_PT, PHI, Representation

SMALL_GEV = 1e-2
"""A sum of transverse momenta that is as good as none."""


def classifier_features(events: JetEvents, representation: Representation, n_seen: int) -> Tensor:
    """Columns of each event.

    Azimuths come as cosine and sine. Beside the columns of `Representation` there are, of each pair of
    particles, ln Delta R, |Delta phi| and ln of the ratio of pt: anti-kt jets have an edge in Delta R
    that is none in the columns. Of all together there are the pt that is not balanced, the number of
    jets and the pt of those that are not seen.

    Args:
        n_seen: the jets whose momenta are seen, hardest first.

    Returns:
        (n, n_features), float64; 0 where a particle is missing.

    Raises:
        MlgenError: see `check_jet_events`.
    """
    seen = events.padded(max(n_seen, events.n_max))
    seen = replace(seen, jets=seen.jets[:, :n_seen], n_jets=seen.n_jets.clamp(max=n_seen))
    found = representation.encode(seen)
    columns, there = found.columns, found.is_particle[..., None]
    azimuth = columns[..., PHI : PHI + 1]
    single = torch.cat(
        [columns[..., [LOG_PT, ETA, LOG_M2]], azimuth.cos() * there, azimuth.sin() * there], dim=-1
    )
    rest = pt(events.jets).sum(1) - pt(seen.jets).sum(1)
    missing = pt(events.hard + events.jets.sum(1))
    together = torch.stack(
        [missing.clamp(min=SMALL_GEV).log(), rest.clamp(min=0).log1p(), events.n_jets.double()], -1
    )
    return torch.cat([single.flatten(1), _pairs(seen), together], dim=1)


def _pairs(events: JetEvents) -> Tensor:
    """Three numbers of each pair of particles, (n, 3 n_pairs); 0 where one of them is missing."""
    is_jet = events.is_jet
    # Any direction will do for filler.
    jets = torch.where(is_jet[..., None], events.jets, events.jets.new_tensor([1.0, 1.0, 0.0, 0.0]))
    momenta = torch.cat([events.hard[:, None], jets], dim=1)
    log_pt, azimuth = pt(momenta).log(), phi(momenta)
    along = torch.cat([rapidity(events.hard)[:, None], eta(jets)], dim=1)
    there = torch.cat([is_jet.new_ones(len(events), 1), is_jet], dim=1)
    i, j = torch.triu_indices(momenta.shape[1], momenta.shape[1], offset=1)
    turn = azimuth[:, i] - azimuth[:, j]
    turn = (turn - 2 * torch.pi * (turn / (2 * torch.pi)).round()).abs()
    log_r = torch.hypot(turn, along[:, i] - along[:, j]).clamp(min=1e-3).log()
    pairs = torch.stack([log_r, turn, log_pt[:, i] - log_pt[:, j]], dim=-1)
    return (pairs * (there[:, i] & there[:, j])[..., None]).flatten(1)
