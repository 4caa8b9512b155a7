"""The laws, each written once; an implementation is tested by calling one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from mlgen.core import Amplitude, Sampler


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

            jacobian = torch.autograd.functional.jacobian(one_point, u[i])
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
