"""Groups, points and an amplitude with gluon poles, for tests of surrogates."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.core import AmplitudeValue, SubprocessGroup
from mlgen.phasespace.rambo import build_rambo
from mlgen.physics.kinematics import minkowski_product, pt
from mlgen.physics.model import StandardModel
from mlgen.surrogates.sample import AmplitudeSample

MODEL = StandardModel()
ZGG = SubprocessGroup(name="d d~ > z g g", pdg_ids=((1, -1, 23, 21, 21),), qcd_order=2, qed_order=1)
GGG = SubprocessGroup(name="g g > g g g", pdg_ids=((21,) * 5,), qcd_order=3)
EEG = SubprocessGroup(
    name="u u~ > e+ e- g", pdg_ids=((2, -2, -11, 11, 21),), qcd_order=1, qed_order=2
)


def flat_points(
    group: SubprocessGroup, n: int, seed: int, beam_gev: float = 500.0, pt_min_gev: float = 30.0
) -> Tensor:
    """Momenta (n, n_ext, 4) of flat phase space at a fixed energy, with a cut on massless legs."""
    phase_space = build_rambo([group], MODEL, (beam_gev, beam_gev), hadronic=False)
    rng = torch.Generator().manual_seed(seed)
    r = torch.rand(3 * n, phase_space.n_dim + 1, generator=rng, dtype=torch.float64)
    momenta = phase_space.forward(r, torch.zeros(len(r), dtype=torch.int64)).momenta
    light = [leg for leg, p in enumerate(group.pdg_ids[0]) if leg > 1 and MODEL.mass_gev(p) == 0]
    hard = (pt(momenta[:, light]) > pt_min_gev).all(1)
    momenta = momenta[hard][:n]
    assert len(momenta) == n
    return momenta


def products(momenta: Tensor) -> dict[tuple[int, int], Tensor]:
    """2 p_i · p_j of all pairs, both ways round, the plain way."""
    n_ext = momenta.shape[1]
    return {
        (i, j): 2 * minkowski_product(momenta[:, i], momenta[:, j])
        for i in range(n_ext)
        for j in range(n_ext)
        if i != j
    }


class ToyZgg:
    """alpha_s² times antennae of two gluons, times a smooth function: an `Amplitude` like d d~ > z g g."""

    def __call__(self, momenta: Tensor, alpha_s: Tensor, group: int) -> AmplitudeValue:
        s = products(momenta)
        antennae = sum(s[0, 1] / (s[0, i] * s[i, j] * s[j, 1]) for i, j in ((3, 4), (4, 3)))
        smooth = (s[0, 2].square() + 2 * s[1, 2].square()) / s[0, 1]
        value = alpha_s.square() * antennae * smooth
        return AmplitudeValue(value=value, std=torch.zeros_like(value))


def toy_sample(n: int, seed: int) -> AmplitudeSample:
    momenta = flat_points(ZGG, n, seed)
    one = torch.ones(n, dtype=torch.float64)
    return AmplitudeSample.of(momenta, ToyZgg()(momenta, one, 0).value, one, ZGG)
