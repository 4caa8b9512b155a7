from __future__ import annotations

import sys
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MissingExtra
from mlgen.surrogate_cards import SurrogateCard
from mlgen.surrogates.group_surrogate import GroupSurrogate, train_group
from mlgen.surrogates.methods import METHODS
from mlgen.surrogates.momentum_columns import MomentumColumns
from mlgen.surrogates.surrogate import Surrogate, restore_surrogate
from tests.laws import check_amplitude_is_lorentz_invariant, check_amplitude_is_symmetric
from tests.surrogates.toys import GGG, MODEL, ZGG, flat_points, toy_sample

SETTINGS = SurrogateCard(
    network="lgatr",
    n_hidden=16,
    n_layers=2,
    n_members=2,
    n_steps=120,
    batch_size=128,
    learning_rate=0.01,
)


@pytest.fixture(scope="module")
def learned() -> GroupSurrogate:
    pytest.importorskip("lgatr")
    return train_group(toy_sample(4000, seed=1), ZGG, MODEL, SETTINGS, 1, SilentProgress())[0]


@pytest.fixture(scope="module")
def momenta() -> Tensor:
    return flat_points(ZGG, 500, seed=7)


def test_a_transformer_learns(learned: GroupSurrogate) -> None:
    test = toy_sample(2000, seed=2)
    untrained = GroupSurrogate(ZGG, MODEL, SETTINGS, torch.Generator().manual_seed(1))
    untrained.load_state_dict(
        {
            name: untrained.state_dict()[name] if name.startswith("method.") else tensor
            for name, tensor in learned.state_dict().items()
        }
    )
    errors = [
        float((surrogate.predict(test.momenta).log_value - test.value.log()).abs().median())
        for surrogate in (learned, untrained)
    ]
    assert errors[0] < 0.2 * errors[1]


def test_what_it_says_is_invariant(learned: GroupSurrogate, momenta: Tensor) -> None:
    surrogate = Surrogate([ZGG], [learned], SETTINGS)
    check_amplitude_is_symmetric(surrogate, momenta, (3, 4), 0, rtol=1e-4)
    check_amplitude_is_lorentz_invariant(surrogate, momenta, 0, rtol=1e-4)
    with pytest.raises(AssertionError):
        check_amplitude_is_symmetric(surrogate, momenta, (0, 1), 0, rtol=1e-4)


def test_a_state_gives_the_same_transformer_back(learned: GroupSurrogate, momenta: Tensor) -> None:
    state = Surrogate([ZGG], [learned], SETTINGS).state()
    restored = restore_surrogate([ZGG], MODEL, SETTINGS, state)
    alpha_s = torch.ones(len(momenta), dtype=torch.float64)
    found = restored(momenta, alpha_s, 0)
    assert torch.equal(
        found.value, Surrogate([ZGG], [learned], SETTINGS)(momenta, alpha_s, 0).value
    )


@pytest.mark.parametrize("method", sorted(METHODS))
def test_each_method_takes_a_transformer(method: str, momenta: Tensor) -> None:
    pytest.importorskip("lgatr")
    settings = replace(SETTINGS, method=method)
    one, same = (
        GroupSurrogate(ZGG, MODEL, settings, torch.Generator().manual_seed(3)) for _ in range(2)
    )
    found = one.predict(momenta)
    assert bool(found.std.isfinite().all())
    assert bool((found.std > 0).all())
    assert torch.equal(found.log_value, same.predict(momenta).log_value)
    columns = one.seen(momenta, one.features(momenta)[0])
    loss = one.method.loss(columns, torch.zeros(len(momenta)), len(momenta))
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped


def test_identical_legs_are_of_one_kind() -> None:
    assert MomentumColumns(ZGG).inputs.kinds == (0, 1, 2, 3, 3)
    # What comes in is not what goes out.
    assert MomentumColumns(GGG).inputs.kinds == (0, 0, 1, 1, 1)


def test_without_the_package_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lgatr", None)
    with pytest.raises(MissingExtra, match=r"pip install 'mlgen-hep\[lgatr\]', or surrogate.net"):
        GroupSurrogate(ZGG, MODEL, SETTINGS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_hidden": 24}, "surrogate.n_hidden = 24: expected a multiple of 16 with"),
        (
            {"method": "bayesian", "variational": "all"},
            "surrogate.variational = 'all': expected 'last' with surrogate.network = 'lgatr'",
        ),
    ],
)
def test_what_a_transformer_cannot_do_is_an_error(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CardError, match=message):
        replace(SETTINGS, **changes)  # type: ignore[arg-type]  # of several fields
