"""A continuous flow, trained by flow matching on points that are paid for, and what it can teach.

    python -m benchmarks.flow_matching [--of NAME ...] [--set KEY=VALUE ...] [--json FILE]

The map from uniform u to r is that of an ordinary differential equation between two fixed maps: the
quantiles of the normal distribution, and the VEGAS grid.

    u -> z(0) = Phi^-1(u),   dz/dt = v(z, t | channel),   z(1) -> Phi(z(1)) -> grid -> r

v is fitted to z_1 - z_0 at z = (1 - t) z_0 + t z_1, with z_0 normal and z_1 the points that are paid
for, drawn in proportion to their weights: arXiv:2210.02747 (equation 23), with the importance
weights of arXiv:2509.03726. The density follows from the divergence of v (arXiv:1806.07366, equation
8). A coupling flow is then fitted to samples of the continuous flow: to its map, as in
arXiv:2506.01158, or to its log-density; and trained on with the usual loss. docs/experiments.md has
the findings. One torch thread, CPU seconds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.tail import Row, figures, fresh, load
from mlgen.cards import Card
from mlgen.core import Evaluation, Integrand, Sampler, TrainingBatch, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.events.unweighting import effective_sample_size
from mlgen.integration.adapt import GridLearner
from mlgen.integration.learner import teach
from mlgen.integration.optimizer import AveragedAdam
from mlgen.integration.proposal import Proposal, channel_weight
from mlgen.integration.replay import joined
from mlgen.integration.training import SamplerLearner
from mlgen.samplers.module import SamplerModule
from mlgen.samplers.registry import start_sampler
from mlgen.samplers.vegas import VegasGrid

N_PAIRS = 100_000
"""Samples of the continuous flow that it is judged by, and that a coupling flow learns from."""
N_ODE_STEPS = 8
"""Of Runge and Kutta, each with four evaluations of v."""
TILE = 2048
EDGE = 1e-12
"""Nearer to a face of the cube no point comes: the quantiles there are 7 standard deviations out."""


@dataclass(frozen=True)
class Settings:
    """The sizes of the experiment."""

    width: int
    matching_steps: int
    student_steps: int
    batch_size: int = 2048
    learning_rate: float = 2e-3


class Velocity(nn.Module):
    """v(z, t | channel): the field that leaves the grid's density as it is, and a network.

    A normal z_1 has the field a(t) z, a = (2t - 1) / s², s² = t² + (1 - t)². The network adds to
    it, has two hidden layers, and begins with 0.
    """

    def __init__(self, n_dim: int, n_channels: int, width: int, rng: torch.Generator) -> None:
        super().__init__()
        n_times = _times(torch.zeros(1)).shape[1]

        def uniform(n_out: int, n_in: int) -> nn.Parameter:
            numbers = torch.rand(n_out, n_in, generator=rng)
            return nn.Parameter((2 * numbers - 1) * math.sqrt(3 / n_in))

        self.of_z, self.between = uniform(width, n_dim), uniform(width, width)
        self.of_time = nn.ParameterList([uniform(width, n_times) for _ in range(2)])
        self.of_channel = nn.ParameterList(
            [nn.Parameter(torch.zeros(n_channels, width)) for _ in range(2)]
        )
        self.out = nn.Parameter(torch.zeros(n_dim, width))

    def forward(self, z: Tensor, t: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        """Velocity (n, n_dim) and divergence (n,) at z (n, n_dim) and times t (n,) or (1,).

        With v = W_3 f(W_2 f(W_1 z)) the divergence is the trace of W_3 D_2 W_2 D_1 W_1, with D the
        diagonal matrices of f', and so d_2 · [W_2 * (W_1 W_3)^T] d_1 with an elementwise product:
        exact at the price of another hidden layer.
        """
        square = t.square() + (1 - t).square()
        linear, scale = (2 * t - 1) / square, square.rsqrt()
        times = _times(t)
        first = F.linear(z * scale[:, None], self.of_z) + self._bias(0, times, channel)
        hidden, slope = _silu(first)
        hidden, slope_2 = _silu(F.linear(hidden, self.between) + self._bias(1, times, channel))
        coupled = self.between * (self.of_z @ self.out).T
        trace = (slope_2 * F.linear(slope, coupled)).sum(1)
        velocity = F.linear(hidden, self.out) + linear[:, None] * z
        return velocity, trace * scale + z.shape[1] * linear

    def _bias(self, layer: int, times: Tensor, channel: Tensor) -> Tensor:
        bias = F.linear(times, self.of_time[layer])
        return bias + F.embedding(channel, self.of_channel[layer])


def _times(t: Tensor) -> Tensor:
    """What the network is told of the time: (n, 6)."""
    waves = [f(k * math.pi * t) for k in (1, 2) for f in (torch.cos, torch.sin)]
    return torch.stack([torch.ones_like(t), t, *waves], dim=1)


def _silu(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / (1 + e^-x) and its derivative."""
    sigmoid = x.sigmoid()
    value = x * sigmoid
    return value, sigmoid + value * (1 - sigmoid)


class ContinuousFlow(Sampler):
    """The map of the differential equation, on top of a grid."""

    def __init__(self, velocity: Velocity, grid: VegasGrid, n_steps: int = N_ODE_STEPS) -> None:
        self.n_dim, self.n_channels = grid.n_dim, grid.n_channels
        self._velocity, self._grid, self._n_steps = velocity, grid, n_steps
        self._dtype = velocity.out.dtype

    def forward(self, u: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        z = quantiles(u)
        z_1, log_det = self._in_tiles(z, channel, 0.0, 1.0)
        r, log_jac = self._grid.forward(torch.special.ndtr(z_1), channel)
        return r, log_jac + log_det + _log_normal(z_1) - _log_normal(z)

    def inverse(self, r: Tensor, channel: Tensor) -> tuple[Tensor, Tensor]:
        u_1, log_jac = self._grid.inverse(r, channel)
        z_1 = quantiles(u_1)
        z, log_det = self._in_tiles(z_1, channel, 1.0, 0.0)
        return torch.special.ndtr(z), log_jac + log_det + _log_normal(z) - _log_normal(z_1)

    def _in_tiles(
        self, z: Tensor, channel: Tensor, start: float, end: float
    ) -> tuple[Tensor, Tensor]:
        tiles = zip(torch.split(z, TILE), torch.split(channel, TILE), strict=True)
        moved = [self._integrate(part, of, start, end) for part, of in tiles]
        return torch.cat([z for z, _ in moved]), torch.cat([log_det for _, log_det in moved])

    def _integrate(
        self, z: Tensor, channel: Tensor, start: float, end: float
    ) -> tuple[Tensor, Tensor]:
        """z at the end (n, n_dim), and ln |dz_end/dz_start| (n,): the classical method of order 4."""
        log_det, h = z.new_zeros(len(z)), (end - start) / self._n_steps

        def field(z: Tensor, t: float) -> tuple[Tensor, Tensor]:
            at = torch.tensor([t], dtype=self._dtype)
            v, divergence = self._velocity(z.to(self._dtype), at, channel)
            return v.double(), divergence.double()

        for step in range(self._n_steps):
            t = start + step * h
            k_1, d_1 = field(z, t)
            k_2, d_2 = field(z + h / 2 * k_1, t + h / 2)
            k_3, d_3 = field(z + h / 2 * k_2, t + h / 2)
            k_4, d_4 = field(z + h * k_3, t + h)
            z = z + h / 6 * (k_1 + 2 * k_2 + 2 * k_3 + k_4)
            log_det = log_det + h / 6 * (d_1 + 2 * d_2 + 2 * d_3 + d_4)
        return z, log_det


def quantiles(u: Tensor) -> Tensor:
    """Phi^-1(u), float64."""
    z: Tensor = torch.special.ndtri(u.double().clamp(EDGE, 1 - EDGE))
    return z


def _log_normal(z: Tensor) -> Tensor:
    """ln of the normal density, without its constant: (n,)."""
    return -z.square().sum(1) / 2


def optimise(
    module: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    n_steps: int,
    rate: float,
    seed: int,
) -> None:
    """Adam with half a cosine, and the running mean of the parameters in the end."""
    optimizer = AveragedAdam(module)
    rng = random_stream(seed, "optimise", 0)
    with optimizer.stepping():
        for step in range(n_steps):
            decay = 0.5 * (1 + math.cos(math.pi * step / n_steps))
            optimizer.step(loss(rng), rate * min(1, (step + 1) / 50) * decay)


class PaidPoints:
    """Rounds of points, to be drawn in proportion to their weights."""

    def __init__(self, rounds: Sequence[TrainingBatch]) -> None:
        self.batch = joined(list(rounds))
        # Each round is a sample of the integrand by itself: it counts with its effective number.
        weights = [channel_weight(batch).abs() / batch.fraction for batch in rounds]
        shares = [len(w) * effective_sample_size(w) * w / w.sum() for w in weights]
        self._edges = torch.cat(shares).cumsum(0)

    def draw(self, n: int, rng: torch.Generator) -> Tensor:
        """The indices of n points."""
        at = torch.rand(n, generator=rng, dtype=torch.float64) * self._edges[-1]
        return torch.searchsorted(self._edges, at).clamp(max=len(self._edges) - 1)


def match(points: PaidPoints, grid: VegasGrid, settings: Settings, seed: int) -> ContinuousFlow:
    """A continuous flow that has learned from points."""
    batch, n = points.batch, settings.batch_size
    z_1 = quantiles(grid.inverse(batch.r, batch.channel)[0]).float()
    velocity = Velocity(grid.n_dim, grid.n_channels, settings.width, random_stream(seed, "v", 0))

    def loss(rng: torch.Generator) -> Tensor:
        index = points.draw(n, rng)
        # Times that are spread evenly make the loss less noisy.
        t = (torch.arange(n) + torch.rand(n, generator=rng)) / n
        z_0, end = torch.randn(n, grid.n_dim, generator=rng), z_1[index]
        v, _ = velocity(z_0 + t[:, None] * (end - z_0), t, batch.channel[index])
        error: Tensor = v - (end - z_0)
        return error.square().sum(1).mean()

    optimise(velocity, loss, settings.matching_steps, settings.learning_rate, seed)
    return ContinuousFlow(velocity.requires_grad_(False), grid)


@dataclass(frozen=True)
class Lesson:
    """Samples of a teacher."""

    u: Tensor
    r: Tensor
    channel: Tensor
    log_q: Tensor


def density_loss(student: SamplerModule, lesson: Lesson, index: Tensor) -> Tensor:
    """The mean square difference of the log-densities."""
    log_q = student.log_prob(lesson.r[index], lesson.channel[index])
    return (log_q - lesson.log_q[index]).square().mean()


def map_loss(student: SamplerModule, lesson: Lesson, index: Tensor) -> Tensor:
    """The mean square difference of the maps: that of arXiv:2506.01158, from r back to u."""
    u, _ = student.inverse(lesson.r[index], lesson.channel[index])
    return (u - lesson.u[index]).square().sum(1).mean()


DISTILLATIONS = {"map": map_loss, "density": density_loss}


class KeptGrid(GridLearner):
    """A grid that keeps the points that it is adapted on."""

    def __init__(self, integrand: Integrand[Evaluation], card: Card) -> None:
        super().__init__(integrand.n_channels, integrand.n_dim, card.vegas)
        self.kept: list[TrainingBatch] = []

    def learn(self, batch: TrainingBatch) -> str:
        self.kept.append(batch)
        return super().learn(batch)


class KeptFlow(SamplerLearner):
    """A flow that keeps the points that it is trained on."""

    def __init__(self, sampler: SamplerModule, fractions: Tensor, card: Card, seed: int) -> None:
        super().__init__(sampler, fractions, card.flow, seed, card.run.overweight_budget)
        self.kept: list[TrainingBatch] = []

    def learn(self, batch: TrainingBatch) -> str:
        self.kept.append(batch)
        return super().learn(batch)


class Experiment:
    """One integrand and one seed; each result has all the CPU seconds and calls that led to it."""

    def __init__(self, integrand: Integrand[Evaluation], card: Card, settings: Settings) -> None:
        self.integrand, self.card, self.settings = integrand, card, settings
        self.seed = card.run.seed
        self.rows: dict[str, Row] = {}

    def run(self) -> dict[str, Row]:
        started = time.process_time()
        learner = KeptGrid(self.integrand, self.card)
        teach(learner, self.integrand, self.seed, SilentProgress())
        grid, fractions = learner.grid, learner.fractions
        vegas_cpu_s = time.process_time() - started
        self._judge("VEGAS", grid, fractions, learner.n_calls, vegas_cpu_s)

        # Half of the calls for points to match, half to train on after that.
        half = self.card.flow.n_steps // 2
        first = self._train(start(grid, self.card), fractions, half, 1, self.seed)
        calls = learner.n_calls + first.n_calls
        cpu_s = vegas_cpu_s + first.cpu_s
        self._judge("flow, half the calls", first.sampler, first.fractions, calls, cpu_s)

        began = time.process_time()
        points = PaidPoints([*learner.kept, *first.kept])
        teacher = match(points, grid, self.settings, self.seed)
        before, cpu_s = cpu_s, cpu_s + time.process_time() - began
        self._judge("continuous flow", teacher, first.fractions, calls, cpu_s)

        # What the points teach a coupling flow without a teacher.
        fitted, took = self._fit(start(grid, self.card), points)
        self._judge("fitted to the points", fitted, first.fractions, calls, before + took)
        tuned = self._train(fitted, first.fractions, half, 1, self.seed + 100)
        all_calls, all_cpu_s = calls + tuned.n_calls, before + took + tuned.cpu_s
        title = "fitted to the points, tuned"
        self._judge(title, tuned.sampler, tuned.fractions, all_calls, all_cpu_s)

        began = time.process_time()
        lesson = self._lesson(teacher, first.fractions)
        cpu_s += time.process_time() - began
        for name, loss in DISTILLATIONS.items():
            student, took = self._distil(start(grid, self.card), lesson, loss)
            title = f"distilled by its {name}"
            self._judge(title, student, first.fractions, calls, cpu_s + took)
            tuned = self._train(student, first.fractions, half, 1, self.seed + 100)
            all_calls, all_cpu_s = calls + tuned.n_calls, cpu_s + took + tuned.cpu_s
            self._judge(f"{title}, tuned", tuned.sampler, tuned.fractions, all_calls, all_cpu_s)

        usual = self._train(start(grid, self.card), fractions, 2 * half, 1, self.seed)
        calls, took = learner.n_calls + usual.n_calls, vegas_cpu_s + usual.cpu_s
        self._judge("flow", usual.sampler, usual.fractions, calls, took)
        # More steps on as many points, for the CPU time that the other way took.
        more = max(1.0, (all_cpu_s - vegas_cpu_s) / usual.cpu_s)
        longer = self._train(start(grid, self.card), fractions, 2 * half, more, self.seed)
        calls, took = learner.n_calls + longer.n_calls, vegas_cpu_s + longer.cpu_s
        self._judge("flow, same CPU time", longer.sampler, longer.fractions, calls, took)
        return self.rows

    def _train(
        self, flow: SamplerModule, fractions: Tensor, n_steps: int, more: float, seed: int
    ) -> Trained:
        """The usual training, with so many times the steps on as many points."""
        card = self.card.flow
        settings = replace(
            card,
            n_steps=round(more * n_steps),
            reuse=card.reuse * more,
        )
        began = time.process_time()
        learner = KeptFlow(flow, fractions, replace(self.card, flow=settings), seed)
        teach(learner, self.integrand, seed, SilentProgress())
        return Trained(
            sampler=flow,
            fractions=learner.finish().fractions,
            kept=learner.kept,
            n_calls=learner.n_calls,
            cpu_s=time.process_time() - began,
        )

    def _lesson(self, teacher: ContinuousFlow, fractions: Tensor) -> Lesson:
        rng = random_stream(self.seed, "lesson", 0)
        channel = torch.multinomial(fractions, N_PAIRS, replacement=True, generator=rng)
        u = torch.rand(N_PAIRS, teacher.n_dim, generator=rng, dtype=torch.float64)
        r, log_jac = teacher.forward(u, channel)
        return Lesson(u=u, r=r, channel=channel, log_q=-log_jac)

    def _distil(
        self,
        student: SamplerModule,
        lesson: Lesson,
        loss_of: Callable[[SamplerModule, Lesson, Tensor], Tensor],
    ) -> tuple[SamplerModule, float]:
        """A student of samples of its teacher, and the CPU seconds."""
        began = time.process_time()

        def loss(rng: torch.Generator) -> Tensor:
            index = torch.randint(N_PAIRS, (self.settings.batch_size,), generator=rng)
            return loss_of(student, lesson, index)

        rate = self.card.flow.learning_rate
        optimise(student, loss, self.settings.student_steps, rate, self.seed)
        return student, time.process_time() - began

    def _fit(self, flow: SamplerModule, points: PaidPoints) -> tuple[SamplerModule, float]:
        """A flow of the largest likelihood of the points, and the CPU seconds."""
        began = time.process_time()
        batch = points.batch

        def loss(rng: torch.Generator) -> Tensor:
            index = points.draw(self.settings.batch_size, rng)
            return -flow.log_prob(batch.r[index], batch.channel[index]).mean()

        n_steps, rate = 2 * self.settings.student_steps, self.card.flow.learning_rate
        optimise(flow, loss, n_steps, rate, self.seed)
        return flow, time.process_time() - began

    def _judge(
        self, title: str, sampler: Sampler, fractions: Tensor, n_calls: int, cpu_s: float
    ) -> None:
        proposal = Proposal(sampler=sampler, fractions=fractions)
        rng = random_stream(self.seed, "speed", 0)
        channel = torch.multinomial(fractions, 4 * TILE, replacement=True, generator=rng)
        began = time.process_time()
        with torch.no_grad():
            sampler.sample(channel, rng)
        us = 1e6 * (time.process_time() - began) / len(channel)
        points = fresh(self.integrand, proposal, N_PAIRS, self.seed + 1000)
        cost = {"cpu_s": cpu_s, "n_calls": n_calls, "us_per_point": us}
        weight = channel_weight(points)
        integral = weight / points.fraction
        pull = {"integral": float(integral.mean()), "error": float(integral.std()) / N_PAIRS**0.5}
        self.rows[title] = {**figures(weight, points), **cost, **pull}
        print(f"  {title:32}{row_text(self.rows[title])}", flush=True)


@dataclass(frozen=True)
class Trained:
    """What training left."""

    sampler: SamplerModule
    fractions: Tensor
    kept: list[TrainingBatch]
    n_calls: int
    cpu_s: float


def start(grid: VegasGrid, card: Card) -> SamplerModule:
    """An untrained coupling flow."""
    return start_sampler("flow", grid, card, random_stream(card.run.seed, "initialise", 0))


def row_text(row: Row) -> str:
    return (
        f"eps_uw {row['eps_uw']:.3f} (1 %: {row['eps_uw_1_percent']:.3f})  ESS {row['ess']:.3f}  "
        f"{row['n_calls'] / 1e3:.0f}k calls  {row['cpu_s']:.1f} CPU-s  "
        f"{row['us_per_point']:.1f} us/point  {row['integral']:.5g} ± {row['error']:.2g}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--of", nargs="+", default=["ridge", "gg_to_ttg"])
    parser.add_argument("--steps", type=int, default=400, help="of the usual training")
    parser.add_argument("--matching-steps", type=int, default=2000)
    parser.add_argument("--student-steps", type=int, default=400)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the card")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(
        width=options.width,
        matching_steps=options.matching_steps,
        student_steps=options.student_steps,
    )
    found: dict[str, list[dict[str, Row]]] = {}
    for name in options.of:
        overrides = [f"flow.n_steps={options.steps}", "vegas.n_points=25000", *options.set]
        integrand, card = load(name, overrides)
        for seed in options.seeds:
            print(f"{name}, seed {seed}", flush=True)
            seeded = replace(card, run=replace(card.run, seed=seed))
            rows = Experiment(integrand, seeded, settings).run()
            found.setdefault(name, []).append(rows)
            if options.json:
                options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
