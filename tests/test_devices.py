"""Everything runs on the device of its input: a hadronic process, from r to what multiplies |M|²."""

from __future__ import annotations

import math
from typing import Literal

import pytest
import torch
from torch import Tensor

from mlgen.card_files import find_card, read_card
from mlgen.physics.alpha_s import AlphaS
from mlgen.physics.pdf import find_set, read_grid
from mlgen.physics.scales import CardScales
from tests.phasespace.wired import uniform_r, wire_card

CARD = "pp_to_eejj"


class Weight:
    """All that a weight consists of but for |M|²."""

    def __init__(self, prior: Literal["densities", "propagators"]) -> None:
        card = read_card(find_card(CARD))
        self.wired = wire_card(CARD).with_prior(prior)
        self.cuts = self.wired.cuts
        self.scales = CardScales(card.scales, self.wired.groups)
        self.density = read_grid(find_set(card.pdf.set, card.pdf.member))
        self.coupling = AlphaS(card.alpha_s)

    def parts(self, r: Tensor, channel: Tensor) -> dict[str, Tensor]:
        """For points of one group; what comes after the cuts for those that pass."""
        phase_space = self.wired.phase_space
        points = phase_space.forward(r, channel)
        r_back, log_jac_back = phase_space.inverse(points)
        passes = self.cuts(points.momenta, 0) & (points.log_jac > -math.inf)
        chosen = points.select(passes)
        mu_r, mu_f = self.scales(chosen.momenta, 0)
        x1 = chosen.x[:, 0].contiguous()
        return {
            "momenta": points.momenta,
            "x": points.x,
            "log_jac": points.log_jac,
            "r_back": r_back,
            "log_jac_back": log_jac_back,
            "passes": passes,
            "log_prior": phase_space.log_prior(chosen),
            "mu_r": mu_r,
            "mu_f": mu_f,
            "xfx": self.density.xfx([21, 2, -2], x1, mu_f.square()),
            "alpha_s": self.coupling(mu_r.square()),
        }


def points_of_one_group() -> tuple[Tensor, Tensor]:
    wired = wire_card(CARD)
    r, channels = uniform_r(2000, wired.phase_space), wired.channels_of(0)
    return r, torch.tensor(channels)[torch.arange(2000) % len(channels)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("prior", ["densities", "propagators"])
def test_everything_runs_unchanged_on_a_cuda_tensor(
    prior: Literal["densities", "propagators"],
) -> None:
    r, channel = points_of_one_group()
    weight = Weight(prior)
    here = weight.parts(r, channel)
    there = weight.parts(r.cuda(), channel.cuda())
    for name, expected in here.items():
        assert there[name].is_cuda, name
        assert there[name].dtype == expected.dtype
        torch.testing.assert_close(there[name].cpu(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("prior", ["densities", "propagators"])
def test_no_tensor_is_made_on_the_default_device_rather_than_on_that_of_the_input(
    prior: Literal["densities", "propagators"],
) -> None:
    """What a machine without a GPU can tell: where the default is a device without numbers, they would be lost."""
    r, channel = points_of_one_group()
    weight = Weight(prior)
    expected = weight.parts(r, channel)
    with torch.device("meta"):
        got = weight.parts(r, channel)
    for name, tensor in expected.items():
        assert got[name].device.type == "cpu", name
        torch.testing.assert_close(got[name], tensor, rtol=0, atol=0, equal_nan=True)


def test_a_tensor_of_the_default_device_would_be_noticed() -> None:
    r, _ = points_of_one_group()
    with torch.device("meta"), pytest.raises(RuntimeError, match="device"):
        _ = r + torch.arange(r.shape[1])
