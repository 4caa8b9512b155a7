from __future__ import annotations

import math

import pytest
import torch

from mlgen.core import Channel, SubprocessGroup
from mlgen.cut_cards import CutsCard, ParticleCutsCard
from mlgen.phasespace.channels import Setting, build_phase_space
from mlgen.phasespace.invariants import Uniform
from mlgen.phasespace.multichannel import MultiChannel, parts
from mlgen.phasespace.production import LeptonProduction
from mlgen.phasespace.tree import Decay, Leaf, TreeMap
from mlgen.physics.bounds import CutBounds
from tests.phasespace.wired import MODEL, uniform_r, wire_process

GROUPS = [
    SubprocessGroup(
        name="u g > e+ e- u",
        pdg_ids=((2, 21, -11, 11, 2),),
        n_orientations=2,
        qcd_order=1,
        qed_order=2,
    ),
    SubprocessGroup(
        name="u u~ > e+ e- g",
        pdg_ids=((2, -2, -11, 11, 21),),
        n_orientations=2,
        qcd_order=1,
        qed_order=2,
    ),
    SubprocessGroup(name="g g > t t~ g", pdg_ids=((21, 21, 6, -6, 21),), qcd_order=3, qed_order=0),
    SubprocessGroup(name="g g > g g g", pdg_ids=((21,) * 5,), qcd_order=3, qed_order=0),
]
SETTING = Setting(
    model=MODEL,
    cuts=CutBounds(CutsCard(jets=ParticleCutsCard(pt_min_gev=20.0, abs_eta_max=5.0))),
    energies_gev=(6500.0, 6500.0),
    hadronic=True,
)
TOGETHER = build_phase_space(GROUPS, SETTING)


def test_channels_of_different_maps_mix_in_one_batch() -> None:
    n_channels = len(TOGETHER.channels)
    n = 200 * n_channels
    r, channel = uniform_r(n, TOGETHER), torch.arange(n) % n_channels
    points = TOGETHER.forward(r, channel)
    assert torch.equal(points.channel, channel)
    exists = points.log_jac > -math.inf
    r_back, log_jac = TOGETHER.inverse(points)
    torch.testing.assert_close(r_back[exists], r[exists], rtol=0, atol=1e-6)
    torch.testing.assert_close(log_jac[exists], -points.log_jac[exists], rtol=0, atol=1e-6)
    log_prior = TOGETHER.log_prior(points)
    for index, group in enumerate(GROUPS):
        alone = build_phase_space([group], SETTING)
        first = next(i for i, c in enumerate(TOGETHER.channels) if c.group == index)
        assert [c.topology for c in TOGETHER.channels if c.group == index] == [
            c.topology for c in alone.channels
        ]
        at = ((channel >= first) & (channel < first + len(alone.channels))).nonzero()[:, 0]
        expected = alone.forward(r[at], channel[at] - first)
        for name in ("momenta", "x", "log_jac"):
            torch.testing.assert_close(
                getattr(points, name)[at], getattr(expected, name), rtol=1e-12, atol=1e-10
            )
        expected = expected.select(exists[at])
        torch.testing.assert_close(
            log_prior[at][exists[at]], alone.log_prior(expected), rtol=0, atol=1e-9
        )


def test_channels_have_the_number_of_their_group() -> None:
    assert [channel.group for channel in TOGETHER.channels] == sorted(
        channel.group for channel in TOGETHER.channels
    )
    assert {channel.group for channel in TOGETHER.channels} == set(range(len(GROUPS)))


def test_a_group_with_one_channel_leaves_it_everything() -> None:
    phase_space = wire_process("p p > e+ e-").phase_space
    assert [channel.group for channel in phase_space.channels] == [0, 1]
    points = phase_space.forward(uniform_r(50, phase_space), torch.arange(50) % 2)
    assert torch.equal(phase_space.log_prior(points), torch.zeros(50, dtype=torch.float64))


def test_a_batch_may_be_empty_or_lack_channels() -> None:
    r = uniform_r(5, TOGETHER)
    for n, channel in ((5, 1), (5, len(TOGETHER.channels) - 1), (0, 0)):
        points = TOGETHER.forward(r[:n], torch.full((n,), channel))
        assert len(points) == n
        assert TOGETHER.inverse(points)[0].shape == (n, r.shape[1])
        assert TOGETHER.log_prior(points).shape == (n,)


def test_nothing_that_is_given_is_changed_in_place() -> None:
    r, channel = uniform_r(60, TOGETHER), torch.arange(60) % len(TOGETHER.channels)
    r_before, channel_before = r.clone(), channel.clone()
    points = TOGETHER.forward(r, channel)
    momenta, x, log_jac = points.momenta.clone(), points.x.clone(), points.log_jac.clone()
    TOGETHER.inverse(points)
    TOGETHER.log_prior(points)
    assert torch.equal(r, r_before)
    assert torch.equal(channel, channel_before)
    assert torch.equal(points.momenta, momenta)
    assert torch.equal(points.x, x)
    assert torch.equal(points.log_jac, log_jac)


def test_the_points_of_each_kind_of_channel_are_found_once() -> None:
    kind_of_channel = torch.tensor([2, 0, 2, 1, 5])
    channel = torch.tensor([4, 2, 1, 0, 4, 2, 1])
    found = parts(kind_of_channel, channel)
    assert [kind for kind, _ in found] == [0, 2, 5]
    assert [at.tolist() for _, at in found] == [[2, 6], [1, 3, 5], [0, 4]]
    assert parts(kind_of_channel, channel[:0]) == []


def test_maps_of_unlike_dimensions_are_refused() -> None:
    production = LeptonProduction(s=500.0**2)
    pair = Decay(Leaf(2, 0.0), Leaf(3, 0.0), Uniform())
    maps = [
        TreeMap(production=production, systems=(system,))
        for system in (pair, Decay(pair, Leaf(4, 0.0), Uniform()))
    ]
    channels = [Channel(group=0, topology="two"), Channel(group=1, topology="three")]
    with pytest.raises(ValueError, match="same number of dimensions"):
        MultiChannel(channels, maps, [1, 1], [])
