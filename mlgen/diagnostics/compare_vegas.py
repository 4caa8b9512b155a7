"""The vegas package (G. P. Lepage, arXiv:2009.05112) in a comparison, with its own defaults.

`classic` is importance sampling alone, as in J. Comput. Phys. 27 (1978) 192 with one stratum;
`stratified` is vegas+, with its adaptive stratification. vegas knows no channels: each has an
integrator of its own, and gets points in proportion to the spread of its weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mlgen.core import Progress, random_stream
from mlgen.diagnostics.contenders import FreshPoints, Learned, Meter
from mlgen.errors import GenerationError, MissingExtra
from mlgen.integration.adapt import share_of_points

if TYPE_CHECKING:
    import vegas

N_ITERATIONS = 10
"""Its default, and the least that its documentation calls usual."""
PILOT_ITERATIONS = 3
PILOT_SHARE = 0.1
"""The part of the calls in which channels are compared, before each gets its share."""
MIN_POINTS = 1000
"""Of an iteration of a channel: its default."""


def import_vegas() -> Any:
    """The package.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import vegas
    except ImportError as error:
        raise MissingExtra(
            "vegas is not installed: pip install 'mlgen-hep[compare]', or leave its samplers out of "
            "--samplers"
        ) from error
    return vegas


def learn_vegas(
    stratified: bool, integrand: Meter, n_calls: int, seed: int, progress: Progress
) -> Learned:
    """Adapt one integrator a channel; see `mlgen.diagnostics.contenders.Learn`.

    A pilot of a tenth of the calls compares the channels. Then each has the same number of points in
    each iteration, since another number would make vegas+ forget its strata, until the calls are
    spent.
    """
    before = integrand.spent
    purpose = "compare vegas stratified" if stratified else "compare vegas classic"
    rng = random_stream(seed, purpose, 0)
    channels = [_Channel.start(c, integrand, rng, stratified) for c in range(integrand.n_channels)]
    with progress.step("adapting the vegas package", n_calls) as advance:
        n_pilot = n_calls * PILOT_SHARE / (PILOT_ITERATIONS * len(channels))
        for channel in channels:
            for _ in range(PILOT_ITERATIONS):
                channel.iterate(max(MIN_POINTS, round(n_pilot)))
        spread = torch.tensor([channel.spread for channel in channels], dtype=torch.float64)
        if not bool(spread.any()):
            raise GenerationError(f"none of {integrand.spent.n_points} points passes the cuts")
        fractions = share_of_points(spread)
        passing = torch.tensor([channel.passing for channel in channels], dtype=torch.float64)
        spent = (integrand.spent - before).n_calls
        per_iteration = (n_calls - spent) / N_ITERATIONS / float(fractions @ passing)
        n_points = [max(MIN_POINTS, round(per_iteration * float(f))) for f in fractions]
        done = last = spent
        advance(spent, "the channels compared")
        while done == spent or done + last / 2 < n_calls:
            for channel, n in zip(channels, n_points, strict=True):
                channel.iterate(n)
            last = (integrand.spent - before).n_calls - done
            done += last
            advance(last, "")

    def draw(n: int) -> FreshPoints:
        rng.set_state(random_stream(seed, purpose, 1).get_state())
        return _fresh_points(channels, fractions, n)

    settings = _settings(channels, n_points)
    return Learned(cost=integrand.spent - before, settings=settings, draw=draw)


def _settings(channels: Sequence[_Channel], n_points: Sequence[int]) -> Mapping[str, str | float]:
    first = channels[0].integrator
    return {
        "nitn": N_ITERATIONS,
        "nitn, pilot": PILOT_ITERATIONS,
        "neval, all channels": sum(n_points),
        "alpha": first.alpha,
        "beta": first.beta,
        "increments": first.maxinc_axis,
        "strata, all channels": sum(int(channel.integrator.nhcube) for channel in channels),
    }


@dataclass
class _Channel:
    """A channel and the integrator that adapts to it."""

    channel: int
    integrand: Meter
    integrator: vegas.Integrator
    rng: torch.Generator
    spread: float = 0.0
    """The root mean square of the weights of the last iteration."""
    passing: float = 1.0
    """The part of the points of the last iteration that passed the cuts."""

    @classmethod
    def start(
        cls, channel: int, integrand: Meter, rng: torch.Generator, stratified: bool
    ) -> _Channel:
        module = import_vegas()

        def random(shape: tuple[int, int]) -> NDArray[np.float64]:
            numbers: NDArray[np.float64] = torch.rand(
                shape, generator=rng, dtype=torch.float64
            ).numpy()
            return numbers

        strata = {} if stratified else {"beta": 0.0, "nstrat": [1] * integrand.n_dim}
        integrator = module.Integrator(
            [[0.0, 1.0]] * integrand.n_dim,
            nitn=1,
            neval=MIN_POINTS,
            ran_array_generator=random,
            **strata,
        )
        return cls(channel=channel, integrand=integrand, integrator=integrator, rng=rng)

    def value(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        if len(x) == 1:
            # vegas 6.4.1 asks for the shape of values, at a point of gvar's global generator.
            return np.zeros(1)
        # A copy: vegas 6.4.1 uses the memory of its points again.
        r = torch.from_numpy(np.array(x))
        channel = torch.full((len(r),), self.channel, dtype=torch.int64)
        value: NDArray[np.float64] = self.integrand.value(r, channel, self.rng).numpy()
        return value

    def iterate(self, n_points: int) -> None:
        """One iteration of adaptation."""
        before = self.integrand.spent
        # vegas 6.4.1 chooses strata anew wherever neval is given, unless they are, too.
        nstrat = {} if self.integrator.beta > 0 else {"nstrat": [1] * self.integrand.n_dim}
        function = import_vegas().lbatchintegrand(self.value)
        result = self.integrator(function, nitn=1, neval=n_points, **nstrat).itn_results[-1]
        cost = self.integrand.spent - before
        self.passing = cost.n_calls / cost.n_points
        self.spread = float(np.sqrt(result.mean**2 + result.var * cost.n_points))

    def draw(self, n_points: int) -> tuple[Tensor, float, float]:
        """Fresh points of the frozen integrator, in whole iterations.

        Returns:
            weight: (n,), at least n_points, in random order.
            mean, variance: of the integral, the variance within strata alone.
        """
        weighted, stratum, n_done, n_iterations = [], [], 0, 0
        while n_done < n_points:
            for x, share, cube in self.integrator.random_batch(yield_hcube=True):
                weighted.append(self.value(x) * share)
                stratum.append(cube + n_iterations * int(self.integrator.nhcube))
                n_done += len(x)
            n_iterations += 1
        value, at = (np.concatenate(parts) for parts in (weighted, stratum))
        mean, variance = _stratified(value, at, n_iterations)
        order = torch.randperm(n_done, generator=self.rng)
        weight = torch.from_numpy(value)[order] * (n_done / n_iterations)
        return weight, mean, variance


def _stratified(
    value: NDArray[np.float64], stratum: NDArray[np.intp], n_iterations: int
) -> tuple[float, float]:
    """The mean over iterations of the sum over points, and its variance.

    Within a stratum of n points the variance of their sum is n / (n - 1) sum (v - mean v)².
    """
    n = np.bincount(stratum).clip(min=1)
    mean = np.bincount(stratum, value) / n
    squares = np.bincount(stratum, (value - mean[stratum]) ** 2)
    variance = (squares * n / (n - 1).clip(min=1)).sum() / n_iterations**2
    return float(value.sum() / n_iterations), float(variance)


def _fresh_points(channels: Sequence[_Channel], fractions: Tensor, n_points: int) -> FreshPoints:
    """Points of all channels, shared by the fractions."""
    cross_section = variance = 0.0
    n_drawn = 0
    weights, owners = [], []
    edges = (fractions.cumsum(0) * n_points).round().to(torch.int64).tolist()
    for channel, first, last in zip(channels, [0, *edges[:-1]], edges, strict=True):
        weight, mean, own_variance = channel.draw(max(2, last - first))
        cross_section += mean
        variance += own_variance
        n_drawn += len(weight)
        weights.append(weight[: last - first])
        owners.append(torch.full((last - first,), channel.channel, dtype=torch.int64))
    return FreshPoints(
        cross_section=cross_section,
        error=float(np.sqrt(variance)),
        n_points=n_drawn,
        weight=torch.cat(weights),
        channel=torch.cat(owners),
    )
