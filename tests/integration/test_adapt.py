from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from torch import Tensor

from mlgen.cards import VegasCard
from mlgen.core import Evaluation, random_stream
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import GenerationError
from mlgen.events.unweighting import effective_sample_size
from mlgen.integration.adapt import MIN_POINTS, MIN_SHARE, adapt_grid, share_of_points
from mlgen.integration.estimate import ChannelSums
from mlgen.integration.proposal import Proposal, channel_weight, draw
from mlgen.samplers.vegas import VegasGrid
from tests.integration.toys import Toy, nothing, peaks
from tests.laws import check_estimate

CARD = VegasCard(n_points=6000, n_iterations=6, n_bins=32)


def adapted(toy: Toy, seed: int = 1) -> tuple[VegasGrid, Tensor, int]:
    return adapt_grid(toy, CARD, seed, SilentProgress())


def test_the_integral_on_an_adapted_grid_is_the_true_one() -> None:
    toy = peaks()
    grid, fractions, _ = adapted(toy)
    batch, _ = draw(
        toy, Proposal(sampler=grid, fractions=fractions), 50_000, random_stream(2, "x", 0)
    )
    sums = ChannelSums.of(batch, 3)
    check_estimate(sums.mean, sums.error, toy.integral, max_relative_error=0.002)
    for c in range(3):
        check_estimate(
            float(sums.means[c]), float(sums.variances[c].sqrt()), toy.integrals[c], 0.01
        )


def test_adaptation_raises_the_effective_sample_size() -> None:
    toy = peaks()
    grid, fractions, _ = adapted(toy)
    uniform = VegasGrid.uniform(3, 2, 32)
    even = torch.full((3,), 1 / 3, dtype=torch.float64)
    sizes = []
    for sampler, shares in ((uniform, even), (grid, fractions)):
        proposal = Proposal(sampler=sampler, fractions=shares)
        batch, _ = draw(toy, proposal, 20_000, random_stream(2, "x", 0))
        sizes.append(effective_sample_size(channel_weight(batch) / batch.fraction))
    assert sizes[0] < 0.3
    assert sizes[1] > 0.9


def test_calls_are_counted_and_each_iteration_has_as_many_points_as_the_card_says() -> None:
    toy = peaks()
    _, _, n_calls = adapted(toy)
    assert toy.sizes == [6000] * 6
    assert 0 < n_calls <= 36_000


@dataclass(frozen=True, kw_only=True)
class ManyPeaks:
    """A peak in each of many channels, of different places, widths and sizes; it counts its points.

    The function is the size times the product over the columns of 1 / (w (1 + (r - c)² / w²)).
    """

    centre: Tensor
    """(n_channels, n_dim)."""
    width: Tensor
    """(n_channels, n_dim)."""
    size: Tensor
    """(n_channels,)."""
    n_points: list[list[int]] = field(default_factory=list)
    """Of each channel, in each call so far."""
    n_flat: int = 0

    @classmethod
    def of(cls, n_channels: int, seed: int, n_dim: int = 5) -> ManyPeaks:
        """Sizes span four orders of magnitude."""
        rng = torch.Generator().manual_seed(seed)
        centre, width = torch.rand(2, n_channels, n_dim, generator=rng, dtype=torch.float64)
        size = 10 ** -torch.linspace(0, 4, n_channels, dtype=torch.float64)
        return cls(centre=centre, width=0.03 + 0.3 * width, size=size)

    @property
    def n_channels(self) -> int:
        return len(self.size)

    @property
    def n_dim(self) -> int:
        return self.centre.shape[1]

    @property
    def integral(self) -> float:
        upper, lower = (1 - self.centre) / self.width, self.centre / self.width
        return float((self.size * (upper.atan() + lower.atan()).prod(1)).sum())

    def __call__(self, r: Tensor, channel: Tensor) -> Evaluation:
        self.n_points.append(channel.bincount(minlength=self.n_channels).tolist())
        centre, width = self.centre[channel], self.width[channel]
        peaks = 1 / (width * (1 + ((r - centre) / width).square()))
        return Evaluation(value=self.size[channel] * peaks.prod(1), n_calls=len(r))


def test_every_channel_that_matters_is_seen_enough_in_every_iteration() -> None:
    toy = ManyPeaks.of(40, seed=1)
    adapt_grid(toy, CARD, 1, SilentProgress())
    n_points = torch.tensor(toy.n_points)
    assert n_points[0].tolist() == [2 * MIN_POINTS] * 40
    matters = n_points.min(dim=0).values >= MIN_POINTS - 1
    # The peaks are alike but for their sizes: the smallest are negligible, and only they.
    assert bool(matters[:25].all())
    assert not bool(matters[35:].any())
    assert bool((n_points.sum(1) >= 2 * MIN_POINTS * matters.sum()).all())
    assert int(n_points[1:].sum(1).max()) < 2 * MIN_POINTS * 40
    assert float(n_points[-1].max()) > 2 * MIN_POINTS, "the others go where the weights spread most"


def test_a_channel_keeps_its_grid_where_few_points_see_it() -> None:
    toy = ManyPeaks.of(40, seed=1)
    grids = []
    for n_iterations in (1, 2):
        card = replace(CARD, n_iterations=n_iterations)
        grids.append(adapt_grid(toy, card, 1, SilentProgress())[0])
    few = torch.tensor(toy.n_points[-1]) < MIN_POINTS - 1
    assert 0 < int(few.sum()) < 40
    for c in range(40):
        assert torch.equal(grids[0].edges[c], grids[1].edges[c]) == bool(few[c])


def pull_of_many_channels(n_channels: int = 60) -> tuple[float, float]:
    """Pull and relative error of the integral over many channels, on fresh points."""
    toy = ManyPeaks.of(n_channels, seed=2)
    card = VegasCard(n_points=6000, n_iterations=8, n_bins=128)
    grid, fractions, _ = adapt_grid(toy, card, 1, SilentProgress())
    proposal = Proposal(sampler=grid, fractions=fractions)
    sums = ChannelSums.of(draw(toy, proposal, 60_000, random_stream(2, "x", 0))[0], n_channels)
    return (sums.mean - toy.integral) / sums.error, sums.error / toy.integral


def test_the_integral_over_many_channels_is_the_true_one() -> None:
    pull, relative_error = pull_of_many_channels()
    assert relative_error < 0.003
    assert abs(pull) < 5, f"pull {pull:.1f}"


def test_grids_refined_on_few_points_would_miss_a_part_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("mlgen.integration.adapt.MIN_POINTS", 0)
    pull, relative_error = pull_of_many_channels()
    assert relative_error < 0.01, "the error does not tell"
    assert pull < -5, f"pull {pull:.1f}"


def test_fractions_add_up_to_one_and_no_channel_starves() -> None:
    _, fractions, _ = adapted(peaks())
    assert float(fractions.sum()) == pytest.approx(1, rel=1e-12)
    assert float(fractions.min()) >= MIN_SHARE / 3
    starved = share_of_points(torch.tensor([0.0, 3.0, 1.0], dtype=torch.float64))
    assert starved.tolist() == pytest.approx(
        [MIN_SHARE / 3, 0.675 + MIN_SHARE / 3, 0.225 + MIN_SHARE / 3]
    )


@pytest.mark.parametrize(("n_channels", "share"), [(80, 0.1), (200, 0.2), (1000, 0.25)])
def test_of_many_channels_each_gets_a_thousandth_of_the_points(
    n_channels: int, share: float
) -> None:
    spread = torch.zeros(n_channels, dtype=torch.float64)
    spread[0] = 1
    fractions = share_of_points(spread)
    assert float(fractions.sum()) == pytest.approx(1, rel=1e-12)
    assert fractions[1:].tolist() == pytest.approx([share / n_channels] * (n_channels - 1))


def test_a_channel_that_is_zero_everywhere_keeps_a_grid_and_few_points() -> None:
    toy = Toy(functions=(lambda r: 3 * r[:, 0] ** 2, lambda r: 0 * r[:, 0]), integrals=(1.0, 0.0))
    grid, fractions, _ = adapted(toy)
    assert float(fractions[1]) == pytest.approx(MIN_SHARE / 2)
    torch.testing.assert_close(grid.edges[1], VegasGrid.uniform(2, 2, 32).edges[1])
    assert not torch.allclose(grid.edges[0, 0], grid.edges[1, 0])


def test_an_integrand_that_is_zero_everywhere_is_an_error() -> None:
    with pytest.raises(
        GenerationError, match="none of 6000 points passes the cuts: expected cuts that leave"
    ):
        adapted(nothing())


def test_a_seed_fixes_the_grid_and_another_seed_gives_another() -> None:
    first, again, other = (adapted(peaks(), seed) for seed in (1, 1, 2))
    assert torch.equal(first[0].edges, again[0].edges)
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0].edges, other[0].edges)
