"""The laws, each written once; an implementation is tested by calling one of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mlgen.campaign.worker import Task
from mlgen.campaign.workers import Workers
from mlgen.core import Amplitude, OneHelicity, PhaseSpace, PhaseSpacePoints, Sampler
from mlgen.phasespace.angles import AngleMap, Parent
from mlgen.phasespace.invariants import RangeMap
from mlgen.physics.kinematics import mass_squared


def check_sampler_is_a_map(sampler: Sampler, seed: int, tolerance: float = 1e-9) -> None:
    """A sampler inverts, keeps to the unit cube, and its log_jac is autograd's."""
    rng = torch.Generator().manual_seed(seed)
    for channel_index in range(sampler.n_channels):
        u = torch.rand(32, sampler.n_dim, generator=rng, dtype=torch.float64)
        channel = torch.full((32,), channel_index)
        r, log_jac = sampler.forward(u, channel)
        assert r.dtype == torch.float64
        assert log_jac.dtype == torch.float64
        assert bool(((r >= 0) & (r <= 1)).all())
        u_back, log_jac_back = sampler.inverse(r, channel)
        torch.testing.assert_close(u_back, u, rtol=0, atol=tolerance)
        torch.testing.assert_close(log_jac_back, -log_jac, rtol=0, atol=100 * tolerance)
        for i in range(4):

            def one_point(point: Tensor, at: Tensor = channel[i : i + 1]) -> Tensor:
                return sampler.forward(point[None], at)[0][0]

            jacobian = torch.autograd.functional.jacobian(one_point, u[i])  # type: ignore[no-untyped-call]  # torch leaves it untyped
            log_det = torch.linalg.slogdet(jacobian).logabsdet
            torch.testing.assert_close(log_det, log_jac[i], rtol=0, atol=100 * tolerance)


def check_density_is_normalised(sampler: Sampler, channel_index: int, seed: int) -> None:
    """The mean of q(r) over uniform r is 1 within 5 standard deviations, themselves below 5 %."""
    rng = torch.Generator().manual_seed(seed)
    r = torch.rand(200_000, sampler.n_dim, generator=rng, dtype=torch.float64)
    with torch.no_grad():
        q = sampler.log_prob(r, torch.full((len(r),), channel_index)).exp()
    error = float(q.std()) / len(r) ** 0.5
    assert error < 0.05, f"error {error:.3f} is too large to tell"
    assert abs(float(q.mean()) - 1) < 5 * error, f"norm {float(q.mean()):.4f} +- {error:.4f}"


def boost_and_rotate(momenta: Tensor, seed: int) -> Tensor:
    """The momenta (n, n_ext, 4) in another frame: one random proper Lorentz transformation."""
    rng = torch.Generator().manual_seed(seed)
    beta = torch.randn(3, generator=rng, dtype=torch.float64)
    beta = 0.6 * beta / beta.norm()
    gamma = 1 / (1 - beta @ beta).sqrt()
    boost = torch.eye(4, dtype=torch.float64)
    boost[0, 0] = gamma
    boost[0, 1:] = boost[1:, 0] = -gamma * beta
    boost[1:, 1:] += (gamma - 1) * torch.outer(beta, beta) / (beta @ beta)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=rng, dtype=torch.float64))
    rotation = torch.eye(4, dtype=torch.float64)
    rotation[1:, 1:] = q * torch.linalg.det(q).sign()
    return momenta @ (rotation @ boost).T


def check_amplitude_is_lorentz_invariant(
    amplitude: Amplitude, momenta: Tensor, group: int, rtol: float = 1e-8
) -> None:
    """|M|² is the same in every frame."""
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    there = amplitude(boost_and_rotate(momenta, seed=4), alpha_s, group).value
    here = amplitude(momenta, alpha_s, group).value
    torch.testing.assert_close(there, here, rtol=rtol, atol=0)


def check_estimate(value: float, error: float, expected: float, max_relative_error: float) -> None:
    """An estimate lies within 5 of its errors of the expected value, and the error is small enough."""
    relative_error = error / abs(expected)
    assert relative_error < max_relative_error, f"error {relative_error:.2g} is too large to tell"
    pull = (value - expected) / error
    assert abs(pull) < 5, f"pull {pull:.1f}: {value:.6g} +- {error:.2g}, expected {expected:.6g}"


def check_pulls(pulls: Tensor) -> None:
    """The pulls (n,) of independent estimates have mean 0 and width 1: no bias, and honest errors."""
    n = len(pulls)
    assert n >= 200, f"{n} pulls are too few to tell"
    mean, width = float(pulls.mean()), float(pulls.std())
    assert abs(mean) < 5 / n**0.5, f"mean pull {mean:.2f}"
    assert abs(width - 1) < 5 / (2 * n) ** 0.5, f"width {width:.2f} of the pulls"


def check_frequencies(counts: Tensor, shares: Tensor) -> None:
    """Counts (k,) are what shares (k,), up to a factor, lead to: by chi-squared, each at least 5 expected.

    What has no share never occurs.
    """
    expected = counts.sum() * shares / shares.sum()
    possible = expected > 0
    assert not bool(counts[~possible].any()), "something impossible occurred"
    assert float(expected[possible].min()) >= 5, "too few to tell"
    chi2 = float(((counts - expected).square() / expected)[possible].sum())
    n_free = int(possible.sum()) - 1
    limit = n_free + 5 * (2 * n_free) ** 0.5 + 10
    assert chi2 < limit, f"chi2 {chi2:.1f} for {n_free} degrees of freedom"


def check_range_map(range_map: RangeMap, low: float, high: float, tolerance: float = 1e-9) -> None:
    """A range map rises, inverts and keeps to its range; log_jac is autograd's."""
    r = torch.linspace(0, 1, 101, dtype=torch.float64)
    ends = torch.full_like(r, low), torch.full_like(r, high)
    value, log_jac = range_map.forward(r, *ends)
    assert bool(((value >= low) & (value <= high)).all())
    assert bool((value.diff() > 0).all())
    r_back, log_jac_back = range_map.inverse(value, *ends)
    torch.testing.assert_close(r_back, r, rtol=0, atol=tolerance)
    torch.testing.assert_close(log_jac_back, -log_jac, rtol=0, atol=100 * tolerance)
    # The ends themselves: far from a narrow peak rounding keeps a value from reaching them.
    for end, expected in zip(ends, (0.0, 1.0), strict=True):
        assert abs(float(range_map.inverse(end, *ends)[0][0]) - expected) < tolerance
    # Not at the ends, where values are clamped to the range.
    r = r[1:-1].requires_grad_()
    value, log_jac = range_map.forward(r, ends[0][1:-1], ends[1][1:-1])
    (slope,) = torch.autograd.grad(value.sum(), r)
    torch.testing.assert_close(slope.log(), log_jac.detach(), rtol=0, atol=100 * tolerance)


def check_phase_space(
    phase_space: PhaseSpace,
    channel_index: int,
    sqrt_s: float,
    masses: Sequence[float],
    min_share: float = 1.0,
) -> None:
    """A channel conserves momentum, puts its legs on their mass shells, inverts, and has the right Jacobian.

    Args:
        sqrt_s: energy of the beams, GeV.
        masses: of the final legs, GeV.
        min_share: how many of the points there must be at least; the others have log_jac = -inf.
    """
    rng = torch.Generator().manual_seed(channel_index)
    r = torch.rand(2000, phase_space.n_dim + phase_space.n_flat, generator=rng, dtype=torch.float64)
    channel = torch.full((len(r),), channel_index)
    points = phase_space.forward(r, channel)
    exists = points.log_jac > -torch.inf
    assert not bool(points.log_jac.isnan().any())
    assert float(exists.double().mean()) >= min_share
    r, points = r[exists], points.select(exists)
    momenta, x = points.momenta, points.x

    energy = momenta[:, :2, 0].sum(1)
    lost = (momenta[:, :2].sum(1) - momenta[:, 2:].sum(1)).abs().amax(1)
    assert float((lost / energy).max()) < 1e-11
    expected = momenta.new_tensor([0.0, 0.0, *(m**2 for m in masses)])
    off_shell = (mass_squared(momenta) - expected).abs() / momenta[..., 0].square()
    assert float(off_shell.max()) < 1e-14
    assert bool((momenta[..., 0] > 0).all())
    assert bool(((x > 0) & (x <= 1)).all())
    s_hat = 4 * momenta[:, 0, 0] * momenta[:, 1, 0]
    torch.testing.assert_close(x.prod(1) * sqrt_s**2, s_hat, rtol=1e-9, atol=0)
    assert float(momenta[:, :2, 1:3].abs().max()) == 0

    r_back, log_jac_back = phase_space.inverse(points)
    _check_nearly_equal(r_back, r, 1e-9)
    _check_nearly_equal(log_jac_back[:, None], -points.log_jac[:, None], 1e-8)
    log_det = _log_momentum_jacobian(phase_space, r, points, sqrt_s)
    _check_nearly_equal(log_det[:, None], points.log_jac[:, None], 1e-8)


def _check_nearly_equal(got: Tensor, expected: Tensor, tolerance: float) -> None:
    """Close everywhere, and within a tolerance but for one row in 200.

    A soft leg among hard ones, or hard ones that nearly cancel in an invariant, leave few digits of
    a variable in the momenta.
    """
    off = (got - expected).abs().amax(1)
    assert float((off > tolerance).double().mean()) <= 0.005, f"{off.quantile(0.99):.1e} at 99 %"
    assert float(off.max()) < 1e5 * tolerance, f"{off.max():.1e} at most"


def _log_momentum_jacobian(
    phase_space: PhaseSpace, r: Tensor, points: PhaseSpacePoints, sqrt_s: float
) -> Tensor:
    """ln |dx1 dx2 dPhi_n / dr| from the derivatives of the momenta alone, (n,).

    dPhi_n = (2 pi)^4 delta^4(P - sum p) prod d³p / [(2 pi)³ 2E]. Where the fractions are free,
    dx1 dx2 = 2/s dE dp_z of the total, and all but two components of the last leg are coordinates.
    Where they are not, the energy fixes one component of the last leg but one as well.
    """
    r = r.detach().requires_grad_()
    momenta = phase_space.forward(r, points.channel).momenta[:, 2:]
    n_final = momenta.shape[1]
    hadronic = r.shape[1] == 3 * n_final - 2
    n_leading = 3 * n_final - 3 if hadronic else 3 * n_final - 4
    free = [*range(n_leading), *([3 * n_final - 1] if hadronic else [])]
    coordinates = momenta[..., 1:].flatten(1).unbind(1)
    rows = [torch.autograd.grad(coordinates[i].sum(), r, retain_graph=True)[0] for i in free]
    log_det: Tensor = torch.linalg.slogdet(torch.stack(rows, dim=1)).logabsdet
    energy, pz = points.momenta[:, 2:, 0], points.momenta[:, 2:, 3]
    log_measure = 4 * math.log(2 * math.pi) - (2 * (2 * math.pi) ** 3 * energy).log().sum(1)
    if hadronic:
        return log_det + log_measure + math.log(2 / sqrt_s**2)
    velocity = pz / energy
    return log_det + log_measure - (velocity[:, -2] - velocity[:, -1]).abs().log()


def massless_volume(s: float, n_final: int) -> float:
    """The volume of massless phase space with its (2 pi)^(4-3n), GeV^(2n-4).

    (pi/2)^(n-1) s^(n-2) / [Gamma(n) Gamma(n-1)] times those: Kleiss, Stirling and Ellis,
    Comput. Phys. Commun. 40 (1986) 359.
    """
    volume = (math.pi / 2) ** (n_final - 1) * s ** (n_final - 2)
    volume /= math.gamma(n_final) * math.gamma(n_final - 1)
    return volume * (2 * math.pi) ** (4 - 3 * n_final)


def check_integral(
    phase_space: PhaseSpace,
    function: Callable[[PhaseSpacePoints], Tensor],
    expected: float,
    n_points: int,
    channel_index: int = 0,
    max_relative_error: float = 0.01,
) -> None:
    """The mean of a function times the Jacobian is its integral over dx1 dx2 dPhi_n."""
    points = _random_points(phase_space, torch.full((n_points,), channel_index))[1]
    value = function(points) * points.log_jac.exp()
    error = float(value.std()) / n_points**0.5
    check_estimate(float(value.mean()), error, expected, max_relative_error)


def check_phase_space_volume(
    phase_space: PhaseSpace,
    channel_index: int,
    expected: float,
    n_points: int = 100_000,
    max_relative_error: float = 0.003,
) -> None:
    """At a fixed energy the mean Jacobian of a channel is the volume of phase space.

    Args:
        expected: with (2 pi)^(4-3n), GeV^(2n-4), times the number of orientations.
    """
    points = _random_points(phase_space, torch.full((n_points,), channel_index))[1]
    weight = points.log_jac.exp()
    mean = float(weight.mean())
    if float((weight - mean).abs().max()) < 1e-10 * mean:
        assert abs(mean / expected - 1) < 1e-10, f"constant weight {mean:.12g}: {expected:.12g}"
        return
    check_estimate(mean, float(weight.std()) / n_points**0.5, expected, max_relative_error)


def check_hadronic_volume(
    phase_space: PhaseSpace,
    channel_index: int,
    expected: float,
    mass_window: tuple[float, float],
    max_rapidity: float = math.inf,
    n_points: int = 100_000,
    max_relative_error: float = 0.01,
) -> None:
    """The mean Jacobian in a window of x1, x2 is the integral of dx1 dx2 dPhi_n over it.

    Args:
        expected: GeV^(2n-4), times the number of orientations.
        mass_window: of sqrt(s_hat), GeV.
        max_rapidity: of the partonic system in the beams' rest frame.
    """

    def inside(points: PhaseSpacePoints) -> Tensor:
        mass = 2 * points.momenta[:, :2, 0].prod(1).sqrt()
        y = 0.5 * (points.x[:, 0] / points.x[:, 1]).log()
        chosen = (mass > mass_window[0]) & (mass < mass_window[1]) & (y.abs() < max_rapidity)
        return chosen.to(mass)

    check_integral(phase_space, inside, expected, n_points, channel_index, max_relative_error)


def check_inverts(
    phase_space: PhaseSpace,
    n_points: int,
    share: float = 1e-5,
    tolerance: float = 1e-9,
    channels: Sequence[int] | None = None,
) -> None:
    """The channels, all by default, invert, r and log_jac, within a tolerance for all but a share of the points."""
    chosen = torch.tensor(channels or range(len(phase_space.channels)))
    channel = chosen.repeat_interleave(-(-n_points // len(chosen)))
    r, points = _random_points(phase_space, channel)
    exists = points.log_jac > -torch.inf
    r, points = r[exists], points.select(exists)
    r_back, log_jac_back = phase_space.inverse(points)
    off = torch.cat([(r_back - r).abs(), (log_jac_back + points.log_jac).abs()[:, None]], dim=1)
    # A NaN is no inverse either.
    failed = ~(off <= tolerance)
    of_point = failed.any(1)
    columns = dict(enumerate(failed.sum(0).tolist()))
    assert float(of_point.double().mean()) <= share, (
        f"{int(of_point.sum())} of {len(of_point)} points are off by more than {tolerance:.0e}, "
        f"{off.max():.1e} at most; by columns, log_jac last: {columns}"
    )


def check_shares_add_up(
    phase_space: PhaseSpace,
    points: PhaseSpacePoints,
    channels: Sequence[int],
    exchanges: Sequence[Sequence[int]],
) -> None:
    """The shares of a group's channels add up to 1, so that all of an integrand is counted once.

    A channel counts for those with identical legs exchanged as well: so only the average over the
    exchanges, of which an integrand knows nothing, adds up.

    Args:
        points: of the group, whatever their channel.
        channels: all of the group.
        exchanges: all orders of the external legs (n_ext,) that identical ones allow.
    """
    momenta = torch.cat([points.momenta[:, list(legs)] for legs in exchanges])
    everywhere = points.select(torch.arange(len(points)).repeat(len(exchanges)))
    total = torch.zeros_like(everywhere.log_jac)
    for index in channels:
        channel = torch.full_like(everywhere.channel, index)
        log_prior = phase_space.log_prior(replace(everywhere, momenta=momenta, channel=channel))
        total += log_prior.exp()
    mean = total.reshape(len(exchanges), len(points)).mean(0)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0, atol=1e-9)


def check_angle_map(
    angle: AngleMap,
    parent: Parent,
    first_part: Callable[[Tensor, Tensor], Tensor],
    tolerance: float = 1e-8,
) -> None:
    """A map of r and an azimuth to directions keeps to the unit sphere, inverts, and has the right Jacobian.

    The area of the sphere is dcosθ dphi, so that |d(direction) / (dr dphi)| is the Jacobian.

    Args:
        first_part: the momentum (4, n) of the first part at r and phi.
    """
    rng = torch.Generator().manual_seed(9)
    u = torch.rand(2, len(parent.mass), generator=rng, dtype=torch.float64)
    r, phi = u[0].requires_grad_(), (2 * math.pi * u[1]).requires_grad_()
    direction, log_jac = angle.forward(r, phi, parent)
    norm = direction.detach().square().sum(0)
    torch.testing.assert_close(norm, torch.ones_like(norm), rtol=0, atol=1e-11)
    slopes = [torch.autograd.grad(d.sum(), (r, phi), retain_graph=True) for d in direction]
    by_r, by_phi = (torch.stack(columns) for columns in zip(*slopes, strict=True))
    area = torch.linalg.cross(by_r, by_phi, dim=0).square().sum(0).sqrt()
    exists = log_jac > -math.inf
    assert float(exists.double().mean()) > 0.5
    r, phi, log_jac = r.detach(), phi.detach(), log_jac.detach()
    r_back, phi_back, log_jac_back = angle.inverse(first_part(r, phi), parent)
    turn = torch.remainder(phi_back - phi + 1, 2 * math.pi) - 1
    off = torch.stack([area.log() - log_jac, r_back - r, turn, log_jac_back + log_jac], dim=1)
    _check_nearly_equal(off[exists], torch.zeros_like(off[exists]), tolerance)


def _random_points(phase_space: PhaseSpace, channel: Tensor) -> tuple[Tensor, PhaseSpacePoints]:
    """Uniform r, always the same, and the points of the given channels (n,) there."""
    rng = torch.Generator().manual_seed(7)
    # Not in float32: of its 2^24 values between 0 and 1 too many are 0, a pole of the angles.
    r = torch.rand(
        len(channel), phase_space.n_dim + phase_space.n_flat, generator=rng, dtype=torch.float64
    )
    return r, phase_space.forward(r, channel)


def check_workers(workers: Workers, squares: Task[int]) -> None:
    """Each chunk's result comes once, whatever the order; chunks are asked for one by one, in order."""
    asked: list[int] = []

    def indices() -> Iterator[int]:
        for index in range(10, 210):
            asked.append(index)
            yield index

    results = iter(workers.compute(squares, indices()))
    found = [next(results)]
    assert len(asked) < 100, "most chunks are not asked for before the first result"
    found += results
    assert sorted(found) == [(index, index**2) for index in range(10, 210)]
    assert asked == list(range(10, 210))
    assert list(workers.compute(squares, [])) == []


def check_amplitude_is_symmetric(
    amplitude: Amplitude, momenta: Tensor, legs: tuple[int, int], group: int, rtol: float = 1e-9
) -> None:
    """|M|² does not depend on which of two identical legs comes first."""
    order = list(range(momenta.shape[1]))
    order[legs[0]], order[legs[1]] = legs[1], legs[0]
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    here = amplitude(momenta, alpha_s, group)
    there = amplitude(momenta[:, order], alpha_s, group)
    torch.testing.assert_close(there.value, here.value, rtol=rtol, atol=0)
    torch.testing.assert_close(there.std, here.std, rtol=rtol, atol=0)


def check_amplitude_scales(
    amplitude: Amplitude, momenta: Tensor, qcd_order: int, group: int
) -> None:
    """|M|² and its standard deviation go as alpha_s to the given power."""
    alpha_s = torch.full((len(momenta),), 0.118, dtype=torch.float64)
    one, two = (amplitude(momenta, factor * alpha_s, group) for factor in (1, 2))
    torch.testing.assert_close(two.value, 2**qcd_order * one.value, rtol=1e-12, atol=0)
    torch.testing.assert_close(two.std, 2**qcd_order * one.std, rtol=1e-12, atol=0)


def check_single_helicities(amplitude: OneHelicity, momenta: Tensor, group: int) -> None:
    """One by one, configurations have the values of the table, and sum to |M|²; mixed ones too."""
    alpha_s = torch.full((len(momenta),), 0.13, dtype=torch.float64)
    table = amplitude.helicity_values(momenta, alpha_s, group)
    n_helicities = len(amplitude.helicities(group))
    for shift in range(n_helicities):
        helicity = (torch.arange(len(momenta)) + shift) % n_helicities
        one = amplitude.helicity_value(momenta, alpha_s, helicity, group)
        expected = table.gather(1, helicity[:, None])[:, 0]
        torch.testing.assert_close(one, expected, rtol=1e-9, atol=1e-12 * float(table.max()))
    total = amplitude(momenta, alpha_s, group).value
    torch.testing.assert_close(table.sum(1), total, rtol=1e-9, atol=0)
