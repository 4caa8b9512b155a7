from __future__ import annotations

import math
from collections.abc import Callable
from typing import get_type_hints

import pytest
import torch

from mlgen.cards import ScalesCard
from mlgen.core import SubprocessGroup
from mlgen.physics.leg_cuts import STANDARD_KINDS, ParticleKinds
from mlgen.physics.scales import DYNAMICAL_SCALES, CardScales

TTG = (21, 21, 6, -6, 21)
TOPS_AND_JET = torch.tensor(
    [
        [
            [500.0, 0.0, 0.0, 500.0],
            [400.0, 0.0, 0.0, -400.0],
            [math.sqrt(173**2 + 50**2 + 10**2), 30.0, 40.0, 10.0],
            [math.sqrt(173**2 + 30**2 + 70**2), -30.0, 0.0, 70.0],
            [math.hypot(40.0, 20.0), 0.0, -40.0, 20.0],
        ]
    ],
    dtype=torch.float64,
)
H_T = math.hypot(173, 50) + math.hypot(173, 30) + 40


def scales_of(choice: str, *pdg_ids: int, kinds: ParticleKinds = STANDARD_KINDS) -> CardScales:
    group = SubprocessGroup(name="a process", pdg_ids=(pdg_ids or TTG,))
    card = ScalesCard(choice=choice)  # type: ignore[arg-type]  # a name of the card's list
    return CardScales(card, [group], kinds)


def value(choice: str, momenta: torch.Tensor, *pdg_ids: int) -> float:
    mu_r, mu_f = scales_of(choice, *pdg_ids)(momenta, 0)
    assert torch.equal(mu_r, mu_f)
    return float(mu_r)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("ht", H_T),
        ("half_ht", H_T / 2),
        ("transverse_mass", (math.hypot(173, 50) * math.hypot(173, 30) * 40) ** (1 / 3)),
        (
            "transverse_energy",
            math.hypot(173, 50, 10) * 50 / math.hypot(50, 10)
            + math.hypot(173, 30, 70) * 30 / math.hypot(30, 70)
            + 40,
        ),
        ("sqrt_s_hat", math.sqrt(4 * 500 * 400)),
    ],
)
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_a_dynamical_scale_is_what_its_definition_says(
    choice: str, expected: float, factor: float
) -> None:
    assert value(choice, TOPS_AND_JET) == pytest.approx(expected, rel=1e-14)
    card = ScalesCard(choice=choice, factor=factor, mu_r_gev=1.0)  # type: ignore[arg-type]  # as above
    scaled, _ = CardScales(card, [SubprocessGroup(name="", pdg_ids=(TTG,))])(TOPS_AND_JET, 0)
    assert float(scaled) == pytest.approx(factor * expected, rel=1e-14)


def test_every_choice_of_the_card_is_there() -> None:
    choices = get_type_hints(ScalesCard)["choice"].__args__
    assert {"fixed", *DYNAMICAL_SCALES} == set(choices)


def test_the_transverse_mass_of_a_lepton_pair_is_that_of_the_boson() -> None:
    # A Z of 91.188 GeV with a transverse momentum of 30 GeV, at any rapidity, and what recoils.
    for y in (0.0, 1.3):
        m_t = math.hypot(91.188, 30.0)
        boson = [m_t * math.cosh(y), 30.0, 0.0, m_t * math.sinh(y)]
        along = 12.5
        first = [p / 2 + d for p, d in zip(boson, (0.0, 0.0, along, 0.0), strict=True)]
        second = [p / 2 - d for p, d in zip(boson, (0.0, 0.0, along, 0.0), strict=True)]
        beams = [[1.0, 0, 0, 1.0], [1.0, 0, 0, -1.0]]
        momenta = torch.tensor(
            [[*beams, first, second, [30.0, -30.0, 0.0, 0.0]]], dtype=torch.float64
        )
        for leptons in ((-11, 11), (-11, 12), (22, 22), (25, 23)):
            got = value("transverse_mass", momenta, 2, -2, *leptons, 21)
            assert got == pytest.approx(m_t, rel=1e-12)


def test_a_model_says_what_carries_colour() -> None:
    heavy = ParticleKinds(coloured=STANDARD_KINDS.coloured | {9000001})
    ids = (21, 21, 9000001, -6, 21)
    mu, _ = scales_of("transverse_mass", *ids, kinds=heavy)(TOPS_AND_JET, 0)
    assert float(mu) == pytest.approx(value("transverse_mass", TOPS_AND_JET), rel=1e-14)
    alone, _ = scales_of("transverse_mass", *ids)(TOPS_AND_JET, 0)
    assert float(alone) == pytest.approx(math.hypot(173, 50), rel=1e-12)


def slowly(choice: str, event: list[list[float]], colourless: list[int]) -> float:
    """The obvious way, an event at a time: the oracle."""

    def m_t(p: list[float]) -> float:
        mass_squared = p[0] ** 2 - p[1] ** 2 - p[2] ** 2 - p[3] ** 2
        return math.sqrt(mass_squared + p[1] ** 2 + p[2] ** 2)

    def e_t(p: list[float]) -> float:
        theta = math.atan2(math.hypot(p[1], p[2]), p[3])
        return p[0] * math.sin(theta)

    def total(legs: list[list[float]]) -> list[float]:
        return [sum(column) for column in zip(*legs, strict=True)]

    final = event[2:]
    of: dict[str, Callable[[], float]] = {
        "ht": lambda: sum(map(m_t, final)),
        "half_ht": lambda: sum(map(m_t, final)) / 2,
        "transverse_energy": lambda: sum(map(e_t, final)),
        "transverse_mass": lambda: (
            m_t(total([event[leg] for leg in colourless]))
            if colourless
            else math.prod(map(m_t, final)) ** (1 / len(final))
        ),
        "sqrt_s_hat": lambda: math.sqrt(
            2 * (event[0][0] * event[1][0] - event[0][3] * event[1][3])
        ),
    }
    return of[choice]()


@pytest.mark.parametrize("choice", DYNAMICAL_SCALES)
@pytest.mark.parametrize(
    ("pdg_ids", "colourless"), [((2, -2, 21, -11, 11, 5), [3, 4]), ((21, 21, 6, -6, 1, -1), [])]
)
def test_scales_of_a_batch_are_those_of_its_events(
    choice: str, pdg_ids: tuple[int, ...], colourless: list[int]
) -> None:
    rng = torch.Generator().manual_seed(2)
    spatial = 100 * torch.randn(200, 6, 3, generator=rng, dtype=torch.float64)
    spatial[:, :2, :2] = 0.0
    spatial[:, :2, 2] = spatial[:, :2, 2].abs() * torch.tensor([1.0, -1.0])
    masses = torch.tensor([0.0, 0.0, 173.0, 0.0, 50.0, 4.7], dtype=torch.float64)
    energy = (spatial.square().sum(-1) + masses**2).sqrt()
    momenta = torch.cat([energy[..., None], spatial], dim=-1)
    mu, _ = scales_of(choice, *pdg_ids)(momenta, 0)
    expected = momenta.new_tensor([slowly(choice, e, colourless) for e in momenta.tolist()])
    torch.testing.assert_close(mu, expected, rtol=1e-11, atol=0.0)


def test_a_particle_at_rest_has_no_transverse_energy() -> None:
    momenta = TOPS_AND_JET.clone()
    momenta[0, 2] = torch.tensor([173.0, 0.0, 0.0, 0.0])
    rest = math.hypot(173, 30, 70) * 30 / math.hypot(30, 70) + 40
    assert value("transverse_energy", momenta) == pytest.approx(rest, rel=1e-14)


def test_fixed_scales_are_those_of_the_card_for_each_event() -> None:
    card = ScalesCard(choice="fixed", mu_r_gev=173.0, mu_f_gev=91.188, factor=2.0)
    scales = CardScales(card, [SubprocessGroup(name="", pdg_ids=(TTG,))])
    mu_r, mu_f = scales(TOPS_AND_JET.expand(3, 5, 4), 0)
    assert mu_r.tolist() == [346.0] * 3
    assert mu_f.tolist() == [182.376] * 3
    assert mu_r.dtype == torch.float64


@pytest.mark.parametrize("choice", ["fixed", *DYNAMICAL_SCALES])
def test_no_events_have_no_scales(choice: str) -> None:
    mu_r, mu_f = scales_of(choice)(TOPS_AND_JET[:0], 0)
    assert len(mu_r) == len(mu_f) == 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("choice", ["fixed", *DYNAMICAL_SCALES])
def test_scales_are_the_same_on_a_cuda_device(choice: str) -> None:
    here, _ = scales_of(choice)(TOPS_AND_JET, 0)
    there, _ = scales_of(choice)(TOPS_AND_JET.cuda(), 0)
    assert there.is_cuda
    torch.testing.assert_close(there.cpu(), here, rtol=1e-13, atol=0.0)
