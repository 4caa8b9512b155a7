"""Cross sections of the cards against other generators and integrations: tests/reference/xsec.json."""

from __future__ import annotations

import math
from functools import cache

import pytest

from mlgen.build import build
from mlgen.campaign.run_record import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.integrator import integrate
from tests.integration.lepton_pairs import XSEC, MuonPairs
from tests.laws import check_estimate

MADGRAPH = [
    (card, name, run)
    for card, name in (
        ("pp_to_eej", "pp_epemj"),
        ("pp_to_ee", "pp_epem"),
        ("ee_to_mumu", "ee_mumu_500"),
    )
    for run in XSEC["runs"]
    if run["name"] == name
]
N_POINTS = {"pp_to_eej": 700_000, "pp_to_ee": 300_000, "ee_to_mumu": 100_000}


@cache
def cross_section(card_name: str, n_points: int, *overrides: str) -> tuple[float, float]:
    """Our cross section and its error, pb, from fresh points of an adapted grid."""
    settings = ("run.sampler=vegas", f"run.n_estimate={n_points}")
    card = read_card(find_card(card_name), (*settings, *overrides))
    process = build(card, SilentProgress())
    sums = integrate(process.integrand, card, SilentProgress(), StepClock()).chosen.measured.sums
    return sums.mean, sums.error


def check_agreement(
    ours: tuple[float, float], theirs: tuple[float, float], slack: float, max_error: float = 0.001
) -> None:
    """Agreement means 3 standard deviations, of both numbers together, plus a slack.

    The slack is for what statistical errors leave out: MadEvent's are a little optimistic, and
    its interpolation of the densities differs from LHAPDF's by up to 6.5e-4.
    """
    value, error = ours
    expected, expected_error = theirs
    assert error < max_error * expected, f"error {error / expected:.2g} is too large to tell"
    allowed = 3 * math.hypot(error, expected_error) + slack * expected
    difference = value - expected
    assert abs(difference) < allowed, (
        f"{value:.6g} +- {error:.2g} pb differs by {difference:.2g} pb from {expected:.6g} +- "
        f"{expected_error:.2g} pb, where {allowed:.2g} pb are allowed"
    )


@pytest.mark.parametrize(
    ("card", "run"),
    [(c, r) for c, _, r in MADGRAPH],
    ids=[f"{n}-{r['run']}" for _, n, r in MADGRAPH],
)
def test_the_cross_section_is_that_of_madgraph(card: str, run: dict[str, float]) -> None:
    ours = cross_section(card, N_POINTS[card])
    check_agreement(ours, (run["sigma_pb"], run["sigma_err_pb"]), slack=0.003)


@pytest.mark.parametrize(("card", "name"), [("pp_to_eej", "pp_epemj"), ("pp_to_ee", "pp_epem")])
def test_the_cross_section_is_that_of_an_independent_integration(card: str, name: str) -> None:
    value, error = XSEC["independent_integrations"][name]
    check_agreement(cross_section(card, N_POINTS[card]), (value, error), slack=0.001)


def test_the_cross_section_of_muon_pairs_is_that_of_the_textbook() -> None:
    ours = cross_section("ee_to_mumu", N_POINTS["ee_to_mumu"])
    check_estimate(*ours, MuonPairs(500.0).cross_section_pb, max_relative_error=0.0003)


@pytest.mark.parametrize("sqrt_s", [60.0, 91.188, 200.0])
def test_the_cross_section_of_muon_pairs_follows_the_textbook_over_the_z_peak(
    sqrt_s: float,
) -> None:
    beams = f"beams.energies_gev=[{sqrt_s / 2}, {sqrt_s / 2}]"
    ours = cross_section("ee_to_mumu", 100_000, beams)
    check_estimate(*ours, MuonPairs(sqrt_s).cross_section_pb, max_relative_error=0.001)


def test_unequal_beams_give_the_cross_section_of_their_centre_of_mass_energy() -> None:
    ours = cross_section("ee_to_mumu", 100_000, "beams.energies_gev=[125, 500]")
    check_estimate(*ours, MuonPairs(500.0).cross_section_pb, max_relative_error=0.0003)


def test_all_flavours_of_a_group_count_without_densities_too() -> None:
    total, error = cross_section("ee_to_mumu", 50_000, "process.definition='e+ e- > j j'")
    parts = [
        cross_section("ee_to_mumu", 50_000, f"process.definition='e+ e- > {q} {q}~'")
        for q in ("u", "d", "s", "c")
    ]
    error = math.hypot(error, *(e for _, e in parts))
    check_estimate(total, error, sum(value for value, _ in parts), max_relative_error=0.001)


@pytest.mark.parametrize(
    ("shift", "name", "slack"),
    [
        ("alpha_s.at_z_mass=0.1326", "madgraph", 0.003),
        ("alpha_s.at_z_mass=0.1326", "independent", 0.001),
        ("model.inverse_alpha_em=131.2", "independent", 0.001),
        ("cuts.jets.pt_min_gev=20.4", "independent", 0.001),
        ("scales.mu_f_gev=182.376", "independent", 0.001),
    ],
)
def test_the_comparison_notices_a_shifted_parameter(shift: str, name: str, slack: float) -> None:
    shifted = cross_section("pp_to_eej", 150_000, shift)
    run = next(run for run in XSEC["runs"] if run["name"] == "pp_epemj")
    theirs = {
        "madgraph": (run["sigma_pb"], run["sigma_err_pb"]),
        "independent": tuple(XSEC["independent_integrations"]["pp_epemj"]),
    }
    with pytest.raises(AssertionError, match="pb are allowed"):
        check_agreement(shifted, theirs[name], slack, max_error=0.002)
