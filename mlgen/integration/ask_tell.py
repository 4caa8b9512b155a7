"""An integral of values that are computed elsewhere: points are asked for, and their values told.

    ask(n) -> id, points -> (computed somewhere, in any order) -> tell(id, values)

While a sampler learns, points come in rounds: a round closes when it has the points that its learner
wants, and the next one begins when all their values are there. Then the sampler is frozen, and points
that are asked for from there on count for the integral. What was told is summed in the order in
which it was asked for, so that the order of telling changes no bit of the result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mlgen.cards import FlowCard, VegasCard
from mlgen.core import TrainingBatch, random_stream
from mlgen.cut_cards import require
from mlgen.errors import GenerationError, PackError
from mlgen.events.unweighting import effective_sample_size, unweighting_efficiency
from mlgen.integration.adapt import GridLearner
from mlgen.integration.domain import Domain
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.function_integral import FunctionSettings
from mlgen.integration.integral import Integral
from mlgen.integration.learner import LearnerState
from mlgen.integration.ledger import Ledger, listed, under
from mlgen.integration.proposal import channel_weight, draw_channels
from mlgen.integration.replay import joined
from mlgen.integration.training import SamplerLearner
from mlgen.integration.user_function import checked_values
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.registry import (
    check_sampler_name,
    restore_sampler,
    sampler_state,
    start_sampler,
)
from mlgen.samplers.vegas import VegasGrid

VEGAS = "vegas"


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """Points whose values are wanted."""

    id: int
    """Under which the values are to be told; counted from 0."""
    points: Tensor
    """(n, n_dim), float64, in the box."""
    k: Tensor
    """(n, len(n_values)), int64: the combination of each point."""
    log_q: Tensor
    """(n,), ln of the density in the box that drew each point, within its combination."""

    def __len__(self) -> int:
        return len(self.log_q)


class AskTell:
    """A sampler that is driven from outside, and the integral that comes of it.

    >>> ask_tell = AskTell(2, vegas=VegasCard(n_points=1000, n_iterations=2), seed=3)
    >>> while not ask_tell.is_frozen:
    ...     asked = ask_tell.ask(500)
    ...     ask_tell.tell(asked.id, asked.points.prod(dim=1))
    >>> slow, fast = ask_tell.ask(5000), ask_tell.ask(5000)
    >>> ask_tell.tell(fast.id, fast.points.prod(dim=1))
    >>> ask_tell.tell(slow.id, slow.points.prod(dim=1))
    >>> result = ask_tell.result()
    >>> abs(result.value - 0.25) < 5 * result.error < 0.01
    True
    """

    def __init__(
        self,
        n_dim: int | None = None,
        *,
        bounds: Sequence[tuple[float, float]] | None = None,
        n_values: Sequence[int] = (),
        sampler: str = VEGAS,
        seed: int = 1,
        vegas: VegasCard | None = None,
        flow: FlowCard | None = None,
    ) -> None:
        """Begin to learn.

        Args:
            n_dim: continuous dimensions; None: as many as there are bounds.
            bounds: lower and upper end of each of them; None: 0 and 1.
            n_values: how many values each discrete dimension has.
            sampler: `vegas`, `flow`, or any registered sampler; all begin with a VEGAS grid.

        Raises:
            CardError: an argument is out of range, or there is no such sampler.
        """
        expected = "the name of a sampler: what a value costs elsewhere is not known here"
        require(sampler != "auto", "sampler", sampler, expected)
        check_sampler_name(sampler)
        self.domain = Domain.of(n_dim, bounds, n_values)
        self._settings = FunctionSettings(
            sampler=sampler, seed=seed, vegas=vegas or VegasCard(), flow=flow or FlowCard()
        )
        grid_learner = self._grid_learner()
        self._learner: GridLearner | SamplerLearner | None = grid_learner
        self._sampler: SamplerModule
        self._follow(grid_learner)
        self._ledger = Ledger()

    @property
    def is_frozen(self) -> bool:
        """Whether points that are asked for now count for the integral."""
        return self._learner is None

    @property
    def n_wanted(self) -> int:
        """How many more points the round wants; 0 where it only waits for values, or the sampler is frozen."""
        if self._learner is None:
            return 0
        return max(0, self._learner.n_points - self._ledger.n_in_round)

    @property
    def waits_for(self) -> tuple[int, ...]:
        """The batches whose values are to be told before more points can be asked for."""
        return () if self.is_frozen or self.n_wanted else tuple(self._ledger.out)

    def ask(self, n: int) -> Asked:
        """Draw n points whose values are wanted.

        While the sampler learns, `n_wanted` says how many suit the round: more make it longer.

        Raises:
            CardError: n is not positive.
            GenerationError: the round waits for values: see `waits_for`.
        """
        require(n >= 1, "n", n, "at least 1")
        if self.waits_for:
            raise GenerationError(
                f"ask({n}): expected the values of {listed(self.waits_for)} first: the next round "
                "is drawn from what they teach"
            )
        rng = random_stream(self._settings.seed, "ask", self._ledger.next_id)
        channel = draw_channels(self._fractions, n, rng)
        with torch.no_grad():
            r, log_q = self._sampler.sample(channel, rng)
        batch = TrainingBatch(
            r=r,
            channel=channel,
            value=torch.zeros_like(log_q),
            log_q=log_q,
            fraction=self._fractions[channel],
        )
        return self._asked(self._ledger.hand_out(batch))

    def outstanding(self) -> list[Asked]:
        """What was asked for and not yet told, once more: after `restore` for instance."""
        return [self._asked(id) for id in self._ledger.out]

    def tell(self, id: int, values: object) -> None:
        """Take the values of a batch, all of them, once.

        Values of batches that were asked for before the sampler was frozen do not count for the integral.

        Args:
            values: (n,), of f at the points: a tensor, an array or a list of real numbers.

        Raises:
            GenerationError: there is no such batch, or it was told or cancelled before, or these
                are not n real numbers: nothing is changed. Or what was learned is of no use.
            NonFiniteWeight: a value is NaN or infinite: nothing is changed.
        """
        batch = self._ledger.get(id)
        points = self.domain.points(batch.r)
        where = f"the values of batch {id}"
        value = checked_values(values, points, batch.channel, self.domain, where)
        self._ledger.take_back(id, replace(batch, value=value * self.domain.volume))
        self._learn_if_complete()

    def cancel(self, id: int) -> None:
        """Give up a whole batch, for a reason that its values have nothing to do with.

        A worker that was lost, for instance; not one that is slow, where slow points have other values
        than fast ones: to leave them out biases the integral.

        Raises:
            GenerationError: there is no such batch, or it was told or cancelled before.
        """
        self._ledger.get(id)
        self._ledger.cancel(id)
        self._learn_if_complete()

    def freeze(self) -> None:
        """End learning now: what is asked for from here on counts. Learning that is done ends by itself."""
        if self._learner is None:
            return
        if isinstance(self._learner, SamplerLearner):
            self._learner.finish()
            self._fractions = self._learner.proposal.fractions
        else:
            self._fractions = self._learner.fractions
        self._learner = None
        self._ledger.begin_counting()

    def result(self) -> Integral:
        """The integral, from all batches that were asked for since the sampler was frozen.

        To ask for more until the error looks small enough biases it: decide before how many.

        Raises:
            GenerationError: the sampler still learns, a batch is not told, or there are too few
                points or none that is not 0.
        """
        if self._learner is not None:
            progress = 100 * self._learner.progress
            raise GenerationError(f"{progress:.0f} % learned: expected all of it, or freeze()")
        if self._ledger.missing:
            raise GenerationError(
                f"{listed(self._ledger.missing)} not told: expected all values, since to leave out "
                "slow points biases the integral; cancel(id) gives up a whole batch"
            )
        n_channels, batches = self.domain.n_channels, self._ledger.counted()
        sums = absolute_sums = ChannelSums.empty(n_channels)
        for batch in batches:
            sums += ChannelSums.of(batch, n_channels)
            absolute = replace(batch, value=batch.value.abs())
            absolute_sums += ChannelSums.of(absolute, n_channels)
        self._check_enough(sums)
        points, run = joined(batches), self._settings.run
        weight = channel_weight(points)
        rng = random_stream(run.seed, "bootstrap", 0)
        return Integral(
            domain=self.domain,
            sums=sums,
            absolute_sums=absolute_sums,
            ess=effective_sample_size(weight / points.fraction),
            eps_uw=unweighting_efficiency(weight, points.channel, run.overweight_budget, rng),
            sampler=VEGAS if isinstance(self._sampler, VegasGrid) else run.sampler,
            n_calls=self._ledger.n_back,
        )

    def state(self) -> LearnerState:
        """All that is known, outstanding batches too; safetensors and JSON can hold it."""
        learned = self._learner.state() if self._learner else LearnerState(tensors={}, numbers={})
        tensors = {f"learner.{name}": tensor for name, tensor in learned.tensors.items()}
        tensors |= {f"sampler.{name}": t for name, t in sampler_state(self._sampler).items()}
        tensors |= {f"ledger.{name}": t for name, t in self._ledger.tensors().items()}
        tensors["fractions"] = self._fractions
        numbers = {f"learner.{name}": number for name, number in learned.numbers.items()}
        numbers |= {f"ledger.{name}": number for name, number in self._ledger.numbers().items()}
        numbers |= {"is_frozen": self.is_frozen, "is_grid": isinstance(self._sampler, VegasGrid)}
        whole = torch.contiguous_format
        clones = {name: t.detach().clone(memory_format=whole) for name, t in tensors.items()}
        return LearnerState(tensors=clones, numbers=numbers | self._identity())

    def restore(self, state: LearnerState) -> None:
        """Go on from a stored state, in an `AskTell` that was made in the same way.

        Raises:
            PackError: it was not.
        """
        for name, number in self._identity().items():
            if (stored := state.numbers.get(name)) != number:
                raise PackError(f"a state with {name} = {stored}: expected {number}")
        settings, shape = self._settings, (self.domain.n_channels, self.domain.n_dim)
        is_grid, is_frozen = bool(state.numbers["is_grid"]), bool(state.numbers["is_frozen"])
        tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        name = VEGAS if is_grid else settings.sampler
        self._sampler = restore_sampler(name, settings, *shape, under("sampler.", tensors))
        self._fractions = tensors["fractions"]
        if is_frozen:
            self._sampler.requires_grad_(False)
            self._learner = None
        else:
            self._learner = self._grid_learner() if is_grid else self._trainer(self._sampler)
            self._learner.restore(
                LearnerState(
                    tensors=under("learner.", tensors), numbers=under("learner.", state.numbers)
                )
            )
            self._follow(self._learner)
        self._ledger.restore(under("ledger.", tensors), under("ledger.", state.numbers))

    def _asked(self, id: int) -> Asked:
        batch = self._ledger.get(id)
        return Asked(
            id=id,
            points=self.domain.points(batch.r),
            k=self.domain.combinations(batch.channel),
            log_q=batch.log_q - math.log(self.domain.volume),
        )

    def _learn_if_complete(self) -> None:
        """Hand a round over, in the order of its ids, when it has all its points and their values."""
        learner, batch = self._learner, self._ledger.round()
        if learner is None or batch is None or self.n_wanted:
            return
        if not bool(batch.value.any()):
            raise GenerationError(
                f"the values of all {len(batch)} points of a round are 0: expected a function that "
                "is not 0 everywhere; the round goes on with more points"
            )
        learner.learn(batch)
        self._ledger.close_round()
        self._follow(learner)
        if learner.progress < 1:
            return
        if isinstance(learner, GridLearner) and self._settings.sampler != VEGAS:
            self._fractions = learner.fractions
            rng = random_stream(self._settings.seed, "initialise", 0)
            name = self._settings.sampler
            sampler = start_sampler(name, learner.grid, self._settings, rng)
            self._learner = self._trainer(sampler)
            self._follow(self._learner)
        else:
            self.freeze()

    def _follow(self, learner: GridLearner | SamplerLearner) -> None:
        """Draw from what a learner proposes."""
        self._sampler = learner.grid if isinstance(learner, GridLearner) else learner.sampler
        self._fractions = learner.proposal.fractions

    def _grid_learner(self) -> GridLearner:
        return GridLearner(self.domain.n_channels, self.domain.n_dim, self._settings.vegas)

    def _trainer(self, sampler: SamplerModule) -> SamplerLearner:
        settings, budget = self._settings, self._settings.run.overweight_budget
        return SamplerLearner(sampler, self._fractions, settings.flow, settings.seed, budget)

    def _identity(self) -> dict[str, float]:
        """What must be alike where a state is restored."""
        ends = {
            f"bounds[{i}][{j}]": end
            for i, pair in enumerate(self.domain.bounds)
            for j, end in enumerate(pair)
        }
        counts = {f"n_values[{i}]": float(n) for i, n in enumerate(self.domain.n_values)}
        lengths = {"n_dim": self.domain.n_dim, "n_discrete": len(self.domain.n_values)}
        return {"seed": self._settings.seed, **lengths, **ends, **counts}

    def _check_enough(self, sums: ChannelSums) -> None:
        """Each combination has an integral and an error of its own: that takes two points at least."""
        few = ((sums.n_points < 2) & (self._fractions > 0)).nonzero()[:, 0]
        if len(few):
            channel = int(few[0])
            k = self.domain.combinations(few[:1])[0].tolist()
            of = f" of the combination k = {k}" if k else ""
            raise GenerationError(
                f"{int(sums.n_points[channel])} points{of}: expected at least 2; ask for more than "
                f"{2 / float(self._fractions[channel]):.0f}"
            )
        if not bool(sums.total_squares.any()):
            raise GenerationError("all values are 0: expected a function that is not 0 everywhere")
