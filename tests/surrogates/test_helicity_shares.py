from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mlgen.core import SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import PackError, TrainingFailed
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates import helicity_shares
from mlgen.surrogates.features import PointFeatures
from mlgen.surrogates.helicity_shares import (
    FLOOR,
    GroupShares,
    HelicityShares,
    restore_shares,
    seconds_to_train,
    start_shares,
    train_shares,
)
from tests.surrogates.toys import GGG, MODEL, ZGG, flat_points, products

SETTINGS = SurrogateCard(n_hidden=16, batch_size=128)


def configurations(group: SubprocessGroup) -> Tensor:
    """All of them, two for each leg."""
    return torch.tensor(list(itertools.product((-1, 1), repeat=group.n_ext)))


def started(group: SubprocessGroup) -> GroupShares:
    """With random networks, whose outputs are large enough to differ."""
    (shares,) = start_shares([group], MODEL, [configurations(group)], seed=3)
    with torch.no_grad():
        shares.network.layers[-1].mul_(10.0)
    shares.features.fit(flat_points(group, 500, 1))
    return shares


@pytest.mark.parametrize("group", [ZGG, GGG])
def test_shares_add_up_to_one_and_none_is_below_the_floor(group: SubprocessGroup) -> None:
    shares = started(group)
    q = shares(flat_points(group, 300, 2))
    torch.testing.assert_close(q.sum(1), torch.ones(300, dtype=torch.float64), rtol=1e-14, atol=0)
    assert float(q.min()) > 0.999 * FLOOR / shares.n_helicities
    assert float(q.max()) > 2 / shares.n_helicities
    assert shares(flat_points(group, 300, 2)[:0]).shape == (0, shares.n_helicities)


@pytest.mark.parametrize(
    ("group", "order"),
    [
        (ZGG, (0, 1, 2, 4, 3)),
        (GGG, (0, 1, 4, 2, 3)),
        (GGG, (1, 0, 2, 3, 4)),
        (GGG, (1, 0, 3, 4, 2)),
    ],
)
def test_shares_of_permuted_legs_are_permuted_shares(
    group: SubprocessGroup, order: tuple[int, ...]
) -> None:
    shares, table = started(group), configurations(group)
    momenta = flat_points(group, 300, 2)
    index_of = {tuple(labels): index for index, labels in enumerate(table.tolist())}
    permuted = torch.tensor([index_of[tuple(labels)] for labels in table[:, order].tolist()])
    here, there = shares(momenta), shares(momenta[:, order])
    torch.testing.assert_close(there[:, permuted], here, rtol=1e-5, atol=1e-7)
    # Labels that stay where they are would be noticed.
    assert float((there - here).abs().max()) > 0.01


@pytest.mark.parametrize("group", [ZGG, GGG])
def test_the_order_of_legs_is_that_of_the_features(group: SubprocessGroup) -> None:
    features = PointFeatures(group, MODEL)
    momenta = flat_points(group, 300, 2)
    order = features.leg_order(momenta)
    in_order = momenta.gather(1, order[..., None].expand(-1, -1, 4))
    expected = features._in_order(momenta.permute(2, 1, 0).contiguous()).permute(2, 1, 0)
    assert torch.equal(in_order, expected)
    assert not torch.equal(in_order, momenta)


def test_configurations_without_their_permuted_ones_stay_as_they_are() -> None:
    table = torch.tensor([[9] * 5, [1, 1, 1, 1, -1]])
    (shares,) = start_shares([ZGG], MODEL, [table])
    assert torch.equal(shares.relabelled, torch.tensor([[0, 1], [0, 1]]))


def toy_values(momenta: Tensor) -> Tensor:
    """Antennae-like |M_h|² of z g g, symmetric in its gluons: (n, 32)."""
    s = products(momenta)
    table = configurations(ZGG)
    gluons = [(s[0, leg] / s[0, 1], s[1, leg] / s[0, 1]) for leg in (3, 4)]
    values = torch.ones(len(momenta), len(table), dtype=torch.float64)
    for index, labels in enumerate(table.tolist()):
        for helicity, (near, far) in zip(labels[3:], gluons, strict=True):
            values[:, index] *= 0.05 + (near if helicity > 0 else far)
        values[:, index] *= 3.0 if labels[0] == -labels[1] else 0.5
    return values


def divergence(shares: HelicityShares, momenta: Tensor, values: Tensor) -> float:
    """The mean Kullback-Leibler divergence of true shares from q."""
    p, q = values / values.sum(1, keepdim=True), shares(momenta, 0)
    assert q is not None
    return float((p * (p / q).log()).sum(1).mean())


@pytest.fixture(scope="module")
def learned() -> HelicityShares:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(helicity_shares, "N_STEPS", 900)
        patch.setattr(helicity_shares, "WIDTHS", (32, 32))
        momenta = flat_points(ZGG, 3000, 1)
        tables = [(momenta, toy_values(momenta))]
        started = start_shares([ZGG], MODEL, [configurations(ZGG)], seed=1)
        return train_shares(started, tables, SETTINGS, 1, SilentProgress())


def test_shares_are_learned(learned: HelicityShares) -> None:
    momenta = flat_points(ZGG, 2000, 2)
    values = toy_values(momenta)
    mean = (values / values.sum(1, keepdim=True)).mean(0)

    class Mean(HelicityShares):
        def __call__(self, momenta: Tensor, group: int) -> Tensor | None:
            return mean.expand(len(momenta), -1)

    without = divergence(Mean([]), momenta, values)
    assert without > 0.1
    assert divergence(learned, momenta, values) < 0.1 * without


def test_a_state_gives_the_same_shares_again(
    learned: HelicityShares, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(helicity_shares, "WIDTHS", (32, 32))
    state = learned.state()
    again = restore_shares([ZGG], MODEL, [configurations(ZGG)], state)
    momenta = flat_points(ZGG, 200, 3)
    here, there = learned(momenta, 0), again(momenta, 0)
    assert here is not None
    assert there is not None
    assert torch.equal(here, there)
    with pytest.raises(PackError, match="the helicities of d d~ > z g g do not fit the process"):
        restore_shares([ZGG], MODEL, [configurations(ZGG)[:8]], state)


def test_groups_with_few_points_stay_unlearned() -> None:
    momenta = flat_points(ZGG, 100, 1)
    table = momenta, toy_values(momenta)
    started = start_shares([ZGG], MODEL, [configurations(ZGG)])
    with pytest.raises(
        TrainingFailed, match="helicities: 100 points of a group: expected at least"
    ):
        train_shares(started, [table], SETTINGS, 1, SilentProgress())
    unlearned = restore_shares([ZGG], MODEL, [configurations(ZGG)], {})
    assert unlearned(momenta, 0) is None
    assert unlearned.state() == {}


def test_the_time_of_a_training_is_that_of_its_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    started = start_shares([ZGG], MODEL, [configurations(ZGG)])
    monkeypatch.setattr(helicity_shares, "seconds_a_step", lambda *_: 0.01)
    assert seconds_to_train(started, SETTINGS) == pytest.approx(0.01 * helicity_shares.N_STEPS)
