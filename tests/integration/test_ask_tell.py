from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from mlgen.cards import FlowCard, VegasCard
from mlgen.errors import CardError, GenerationError, NonFiniteWeight, PackError
from mlgen.integration.ask_tell import Asked, AskTell
from mlgen.integration.integral import Integral
from mlgen.integration.learner import LearnerState
from tests.integration.functions import (
    N_VALUES,
    SERIES,
    SMALL_FLOW,
    SMALL_VEGAS,
    camel,
    camel_integral,
    ridge,
    ridge_integral,
    series,
    waves,
)
from tests.laws import check_estimate, check_pulls

FEW = VegasCard(n_points=1000, n_iterations=2, n_bins=16)
SHORT = FlowCard(n_bins=4, n_hidden=8, batch_size=256, n_steps=32, learning_rate=0.01)

Values = Callable[[Asked], Any]


def of(function: Callable[..., Any]) -> Values:
    """A function of points, and of k where there is one, at what was asked."""

    def values(asked: Asked) -> Any:
        k = (asked.k.numpy(),) if asked.k.shape[1] else ()
        return function(asked.points.numpy(), *k)

    return values


def learned(ask_tell: AskTell, values: Values, n: int = 500) -> AskTell:
    """The same, with what it wants to know told batch by batch."""
    while not ask_tell.is_frozen:
        asked = ask_tell.ask(min(n, ask_tell.n_wanted))
        ask_tell.tell(asked.id, values(asked))
    return ask_tell


def driven(
    ask_tell: AskTell, values: Values, n_batches: int, n: int, backwards: bool = False
) -> Integral:
    """Several batches are out at a time, and told forwards or backwards."""
    while not ask_tell.is_frozen:
        batches = []
        while ask_tell.n_wanted:
            batches.append(ask_tell.ask(700))
        for asked in reversed(batches) if backwards else batches:
            ask_tell.tell(asked.id, values(asked))
    batches = [ask_tell.ask(n) for _ in range(n_batches)]
    for asked in reversed(batches) if backwards else batches:
        ask_tell.tell(asked.id, values(asked))
    return ask_tell.result()


@pytest.mark.parametrize("sampler", ["vegas", "flow"])
def test_told_values_give_the_integral(sampler: str) -> None:
    ask_tell = AskTell(2, sampler=sampler, vegas=SMALL_VEGAS, flow=SMALL_FLOW)
    found = driven(ask_tell, of(ridge), 10, 2000)
    assert found.sampler == sampler
    check_estimate(found.value, found.error, ridge_integral(), max_relative_error=0.02)
    assert found.n_points == 20_000
    assert found.absolute == found.value


def test_a_flow_learns_from_what_it_is_told() -> None:
    grid, flow = (
        driven(AskTell(2, sampler=s, vegas=SMALL_VEGAS, flow=SMALL_FLOW), of(ridge), 10, 1000)
        for s in ("vegas", "flow")
    )
    assert flow.ess > 1.5 * grid.ess


def test_bounds_discrete_values_and_signs_are_those_of_integrate() -> None:
    ask_tell = AskTell(2, n_values=N_VALUES, vegas=SMALL_VEGAS)
    found = driven(ask_tell, of(series), 10, 4000)
    check_estimate(found.value, found.error, 91.0001, max_relative_error=0.01)
    for value, error, expected in zip(
        found.values.flatten(), found.errors.flatten(), np.ravel(SERIES), strict=True
    ):
        if expected == 0:
            assert value == error == 0
        else:
            check_estimate(float(value), float(error), expected, max_relative_error=0.25)
    box = AskTell(bounds=[(0, 2), (0, 100)], vegas=SMALL_VEGAS)
    found = driven(box, of(lambda x: camel(x * [0.5, 0.01])), 10, 2000)
    check_estimate(found.value, found.error, 200 * camel_integral(2), max_relative_error=0.01)


def test_log_q_is_the_density_in_the_box_within_the_combination() -> None:
    ask_tell = learned(AskTell(bounds=[(1, 4)], n_values=(2,), vegas=FEW), of(lambda x, k: x[:, 0]))
    asked = ask_tell.ask(20_000)
    first = asked.k[:, 0] == 0
    # The mean of 1 / q is the length.
    inverse = (-asked.log_q[first]).exp()
    error = float(inverse.std()) / int(first.sum()) ** 0.5
    check_estimate(float(inverse.mean()), error, 3.0, max_relative_error=0.01)


@pytest.mark.parametrize("sampler", ["vegas", "flow"])
def test_the_order_of_telling_changes_no_bit(sampler: str) -> None:
    one, other = (
        driven(
            AskTell(2, n_values=(2,), sampler=sampler, vegas=FEW, flow=SHORT),
            of(lambda x, k: ridge(x) * (1 + k[:, 0])),
            5,
            777,
            backwards,
        )
        for backwards in (False, True)
    )
    assert torch.equal(one.sums.total, other.sums.total)
    assert torch.equal(one.sums.total_squares, other.sums.total_squares)
    assert (one.value, one.error, one.ess) == (other.value, other.error, other.ess)
    assert one.eps_uw == other.eps_uw


def test_a_seed_fixes_the_points_and_another_seed_changes_them() -> None:
    first, again, other = (AskTell(2, seed=seed).ask(5).points for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def experiments(rule: Callable[[Tensor], bool] = lambda values: True) -> Iterator[Integral]:
    """Small integrals of 1 + sin sin; batches whose values do not keep to a rule are cancelled."""
    for seed in range(250):
        ask_tell = AskTell(2, seed=seed)
        ask_tell.freeze()
        for _ in range(8):
            asked = ask_tell.ask(100)
            values = torch.from_numpy(1 + waves(asked.points.numpy()))
            if rule(values):
                ask_tell.tell(asked.id, values)
            else:
                ask_tell.cancel(asked.id)
        yield ask_tell.result()


def pulls(found: Iterator[Integral]) -> Tensor:
    return torch.tensor([(one.value - 1) / one.error for one in found], dtype=torch.float64)


def test_pulls_have_mean_0_and_width_1() -> None:
    check_pulls(pulls(experiments()))


def test_batches_that_are_cancelled_whatever_their_values_do_no_harm() -> None:
    turn = itertools.cycle((True, False, True))
    check_pulls(pulls(experiments(lambda values: next(turn))))


def test_to_cancel_the_batches_of_slow_points_would_bias_the_integral() -> None:
    """Where large values take longer, and what takes too long is given up."""
    with pytest.raises(AssertionError, match="mean pull -"):
        check_pulls(pulls(experiments(lambda values: float(values.sum()) < 106)))


def test_points_that_were_asked_for_while_it_learned_do_not_count() -> None:
    ask_tell = AskTell(1, vegas=FEW)
    early = ask_tell.ask(100)
    ask_tell.freeze()
    counted = ask_tell.ask(1000)
    ask_tell.tell(counted.id, torch.ones(1000))
    before = ask_tell.result()
    ask_tell.tell(early.id, torch.full((100,), 1e6))
    after = ask_tell.result()
    assert before.value == after.value == pytest.approx(1)
    assert after.n_points == 1000
    assert after.n_calls == 1100


def test_learning_ends_by_itself_and_earlier_by_freezing() -> None:
    ask_tell = AskTell(2, sampler="flow", vegas=FEW, flow=SHORT)
    assert (ask_tell.is_frozen, ask_tell.n_wanted) == (False, 1000)
    learned(ask_tell, of(ridge))
    assert (ask_tell.is_frozen, ask_tell.n_wanted) == (True, 0)
    n_rounds = 2 + 32 // 16
    asked = ask_tell.ask(10)
    assert (
        asked.id == 4 + (n_rounds - 2) * 3
    )  # batches of at most 500: rounds of 1000, then of 1024
    ask_tell.freeze()  # again, to no effect
    ask_tell.tell(asked.id, of(ridge)(asked))
    assert ask_tell.result().n_points == 10
    early = AskTell(2, sampler="flow", vegas=FEW, flow=SHORT)
    early.freeze()
    assert driven(early, of(ridge), 1, 100).sampler == "vegas"


def test_frozen_in_the_midst_of_training_a_flow_is_used_as_it_is() -> None:
    ask_tell = AskTell(2, sampler="flow", vegas=FEW, flow=SHORT)
    for _ in range(3):
        asked = ask_tell.ask(ask_tell.n_wanted)
        ask_tell.tell(asked.id, of(ridge)(asked))
    ask_tell.freeze()
    found = driven(ask_tell, of(ridge), 4, 2000)
    assert found.sampler == "flow"
    check_estimate(found.value, found.error, ridge_integral(), max_relative_error=0.02)


def test_a_round_waits_for_its_values_and_says_for_which() -> None:
    ask_tell = AskTell(2, vegas=FEW)
    first, second = ask_tell.ask(600), ask_tell.ask(600)
    assert ask_tell.n_wanted == 0
    assert list(ask_tell.waits_for) == [0, 1]
    ask_tell.tell(second.id, of(ridge)(second))
    with pytest.raises(
        GenerationError, match=r"ask\(5\): expected the values of batch 0 first: the next round"
    ):
        ask_tell.ask(5)
    ask_tell.tell(first.id, of(ridge)(first))
    assert not ask_tell.waits_for
    assert ask_tell.n_wanted == 1000


def test_a_cancelled_batch_of_a_round_is_made_up_for() -> None:
    ask_tell = AskTell(2, vegas=FEW)
    first, second = ask_tell.ask(400), ask_tell.ask(600)
    ask_tell.tell(second.id, of(ridge)(second))
    ask_tell.cancel(first.id)
    assert ask_tell.n_wanted == 400
    assert ask_tell.ask(400).id == 2


def test_a_round_of_zeros_is_an_error_and_goes_on_with_more_points() -> None:
    ask_tell = AskTell(2, vegas=FEW)
    asked = ask_tell.ask(1000)
    with pytest.raises(GenerationError, match="the values of all 1000 points of a round are 0"):
        ask_tell.tell(asked.id, torch.zeros(1000))
    more = ask_tell.ask(1000)
    ask_tell.tell(more.id, of(ridge)(more))
    assert ask_tell.n_wanted == 1000


def frozen(n_values: Sequence[int] = ()) -> AskTell:
    ask_tell = AskTell(2, n_values=n_values, vegas=FEW)
    ask_tell.freeze()
    return ask_tell


def test_no_result_while_a_batch_is_missing() -> None:
    ask_tell = frozen()
    batches = [ask_tell.ask(10) for _ in range(13)]
    ask_tell.tell(3, torch.ones(10))
    with pytest.raises(GenerationError, match="batches 0, 1, 2, 4, 5, 6, 7, 8, 9, 10 and 2 more"):
        ask_tell.result()
    for asked in batches[:3] + batches[4:-1]:
        ask_tell.tell(asked.id, torch.ones(10))
    with pytest.raises(GenerationError, match="batch 12 not told: expected all values, since to"):
        ask_tell.result()
    ask_tell.cancel(12)
    assert ask_tell.result().n_points == 120


def test_no_result_of_nothing() -> None:
    with pytest.raises(GenerationError, match="0 % learned: expected all of it, or freeze"):
        AskTell(2).result()
    with pytest.raises(GenerationError, match="0 points: expected at least 2"):
        frozen().result()
    ask_tell = frozen(n_values=(5,))
    ask_tell.tell(ask_tell.ask(6).id, torch.ones(6))
    with pytest.raises(
        GenerationError, match=r"1 points of the combination k = \[\d\]: expected at least 2; ask"
    ):
        ask_tell.result()
    ask_tell = frozen()
    ask_tell.tell(ask_tell.ask(10).id, torch.zeros(10))
    with pytest.raises(GenerationError, match="all values are 0"):
        ask_tell.result()


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (
            torch.ones(9),
            GenerationError,
            "the values of batch 0 has the shape (9,): expected (10,)",
        ),
        (torch.ones(10, 1), GenerationError, "the values of batch 0 has the shape (10, 1)"),
        (1.0, GenerationError, "the values of batch 0 has the shape ()"),
        ("many", GenerationError, "the values of batch 0: expected 10 real numbers"),
        (1j * np.ones(10), GenerationError, "the values of batch 0 has the dtype torch.complex128"),
        (np.full(10, np.nan), NonFiniteWeight, "the values of batch 0[0] = nan at point = ["),
    ],
)
def test_values_that_are_no_good_change_nothing(
    values: object, error: type[Exception], message: str
) -> None:
    ask_tell = frozen()
    ask_tell.ask(10)
    with pytest.raises(error, match=re.escape(message)):
        ask_tell.tell(0, values)
    ask_tell.tell(0, list(range(10)))
    assert ask_tell.result().value == pytest.approx(4.5)


def test_each_batch_is_told_once() -> None:
    ask_tell = frozen()
    for n in (10, 10, 10):
        ask_tell.ask(n)
    ask_tell.tell(0, np.ones(10))
    ask_tell.cancel(1)
    for act in (lambda id: ask_tell.tell(id, np.ones(10)), ask_tell.cancel):
        with pytest.raises(GenerationError, match="batch 0 was told before: expected batch 2"):
            act(0)
        with pytest.raises(GenerationError, match="batch 1 was cancelled: expected batch 2"):
            act(1)
        with pytest.raises(GenerationError, match="batch 7 was not asked for: expected batch 2"):
            act(7)
    ask_tell.tell(2, np.ones(10))
    with pytest.raises(GenerationError, match="told before: expected none, since all are told"):
        ask_tell.tell(2, np.ones(10))


def test_what_was_told_may_change_afterwards() -> None:
    ask_tell = frozen()
    values = torch.ones(10, dtype=torch.float64)
    ask_tell.tell(ask_tell.ask(10).id, values)
    values[:] = 7
    assert ask_tell.result().value == pytest.approx(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sampler": "auto"}, "sampler = 'auto': expected the name of a sampler"),
        ({"sampler": "vegan"}, "'vegan': expected one of auto, flow, vegas"),
        ({"n_dim": 0}, "n_dim = 0: expected at least 1"),
        ({"seed": -1}, "seed = -1: expected zero or a positive number"),
    ],
)
def test_arguments_that_make_no_sense_are_an_error(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=re.escape(message)):
        AskTell(**({"n_dim": 2} | arguments))


def test_no_points_cannot_be_asked_for() -> None:
    with pytest.raises(CardError, match="n = 0: expected at least 1"):
        AskTell(2).ask(0)


def stored(state: LearnerState) -> LearnerState:
    """As it comes back from a file."""
    tensors = safetensors.torch.load(safetensors.torch.save(dict(state.tensors)))
    return LearnerState(tensors=tensors, numbers=dict(state.numbers))


@pytest.mark.parametrize("n_rounds", [0, 1, 2, 3, 4])
def test_a_restored_state_goes_on_bit_for_bit(n_rounds: int) -> None:
    """From within adapting, training, and the result; with batches out, some of them told."""

    def made() -> AskTell:
        return AskTell(2, n_values=(2,), sampler="flow", vegas=FEW, flow=SHORT)

    values = of(lambda x, k: ridge(x) * (1 - 3 * k[:, 0]))
    ask_tell = made()
    for _ in range(n_rounds):
        asked = ask_tell.ask(ask_tell.n_wanted)
        ask_tell.tell(asked.id, values(asked))
    assert ask_tell.is_frozen == (n_rounds == 4)
    waiting, told, lost = (ask_tell.ask(200) for _ in range(3))
    ask_tell.tell(told.id, values(told))
    ask_tell.cancel(lost.id)
    state = stored(ask_tell.state())
    results = []
    for going_on in (ask_tell, made()):
        if going_on is not ask_tell:
            going_on.restore(state)
        assert [asked.id for asked in going_on.outstanding()] == [waiting.id]
        assert torch.equal(going_on.outstanding()[0].points, waiting.points)
        with pytest.raises(GenerationError, match="was cancelled"):
            going_on.cancel(lost.id)
        going_on.tell(waiting.id, values(waiting))
        results.append(driven(going_on, values, 3, 500))
    one, other = results
    assert torch.equal(one.sums.total, other.sums.total)
    assert (one.value, one.error, one.n_calls) == (other.value, other.error, other.n_calls)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_dim": 2, "seed": 2}, "a state with seed = 1: expected 2"),
        ({"n_dim": 3}, "a state with n_dim = 2: expected 3"),
        ({"bounds": [(0, 1), (0, 2)]}, "a state with bounds[1][1] = 1.0: expected 2.0"),
        ({"n_dim": 2, "n_values": (2,)}, "a state with n_discrete = 0: expected 1"),
        ({"n_dim": 2, "vegas": SMALL_VEGAS}, "does not fit its card"),
    ],
)
def test_a_state_of_something_else_is_not_restored(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PackError, match=re.escape(message)):
        AskTell(**arguments).restore(AskTell(2, vegas=FEW).state())
