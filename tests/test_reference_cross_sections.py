"""Cross sections of the cards against other generators and integrations: tests/reference/xsec.json."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from mlgen.amplitudes.pyamplicol import ArtifactChecks
from mlgen.amplitudes.pyamplicol_artifacts import ArtifactCache
from mlgen.build import build
from mlgen.campaign.step_clock import StepClock
from mlgen.card_files import find_card, read_card
from mlgen.diagnostics.progress import SilentProgress
from mlgen.integration.aids import Aids
from mlgen.integration.integrator import integrate
from mlgen.physics.model import StandardModel
from tests.amplitudes.pyamplicol_requests import OTHER_ELEMENTS
from tests.integration.lepton_pairs import XSEC, MuonPairs
from tests.laws import check_estimate

CARDS = {
    "ee_mumu_500": ("ee_to_mumu", 100_000),
    "ee_uuxg_500": ("ee_to_uug", 1_200_000),
    "gg_gg": ("pp_to_jj", 400_000),
    "gg_ttx": ("gg_to_tt", 300_000),
    "gg_ttxg": ("gg_to_ttg", 200_000),
    "pp_epem": ("pp_to_ee", 300_000),
    "pp_epemj": ("pp_to_eej", 700_000),
    "pp_ttx": ("pp_to_tt", 300_000),
    "uux_epemg": ("uux_to_eeg", 500_000),
}
"""The card of each run, and how many points its precision takes. Of p p > t t~ j, the gluonic part
is here; `benchmarks/processes.py` runs all of it."""
DEFINITIONS = {"gg_gg": "g g > g g"}
"""Where the run is a part of what the card stands for."""
MADE = ("gg_gg", "gg_ttx", "pp_ttx", "gg_ttxg")
"""Those whose matrix elements pyamplicol makes."""
RUNS = [run for run in XSEC["runs"] if run["name"] in CARDS]
INTEGRATIONS = [
    (name, value, error)
    for name, (value, error) in (
        (name, found)
        for name, found in XSEC["independent_integrations"].items()
        if isinstance(found, list)
    )
] + [
    (name, found["value"], found["err"])
    for name, found in XSEC["independent_crosschecks_pb"].items()
    if isinstance(found, dict)
]


@pytest.fixture(scope="session")
def matrix_elements(artifact_cache: Path) -> Path:
    """A cache that holds the matrix elements of two-to-two processes, those of one kind in one artifact.

    What other tests make of them is not made again.
    """
    full = [OTHER_ELEMENTS[tag] for tag in ("uux_ttx", "gg_gg", "gg_ttx")]
    leading = [replace(OTHER_ELEMENTS[tag], colour="lc") for tag in ("gg_gg", "gg_ttx")]
    cache = ArtifactCache(artifact_cache)
    checks = ArtifactChecks(StandardModel(), cache)
    cache.prepare([*full, *leading], checks, SilentProgress())
    return artifact_cache


@cache
def cross_section(card_name: str, n_points: int, *overrides: str) -> tuple[float, float]:
    """Our cross section and its error, pb, from fresh points of an adapted grid."""
    settings = ("run.sampler=vegas", "vegas.n_points=20_000", f"run.n_estimate={n_points}")
    card = read_card(find_card(card_name), (*settings, *overrides))
    process = build(card, SilentProgress())
    sums = integrate(
        process.integrand, card, Aids(progress=SilentProgress(), clock=StepClock())
    ).chosen.measured.sums
    return sums.mean, sums.error


def cross_section_of(name: str, request: pytest.FixtureRequest) -> tuple[float, float]:
    """That of a reference run; what it needs of pyamplicol is made when it is asked for."""
    card, n_points = CARDS[name]
    overrides = []
    if name in DEFINITIONS:
        overrides.append(f"process.definition='{DEFINITIONS[name]}'")
    if name in MADE:
        folder = request.getfixturevalue("matrix_elements")
        overrides.append(f"matrix_element.cache_folder={folder}")
    return cross_section(card, n_points, *overrides)


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
    "run", XSEC["runs"], ids=[f"{run['name']}-{run['run']}" for run in XSEC["runs"]]
)
def test_the_card_has_the_beams_scales_and_cuts_of_its_run(run: dict[str, Any]) -> None:
    card = read_card(find_card(CARDS.get(run["name"], ("pp_to_ttj", 0))[0]))
    definition = DEFINITIONS.get(run["name"], card.process.definition)
    assert definition == run["process"]
    energies = tuple(float(run["beams"][key]) for key in ("ebeam1", "ebeam2"))
    assert card.beams.energies_gev == energies
    assert card.beams.particles == (("p", "p") if run["beams"]["lpp1"] == "1" else ("e+", "e-"))
    assert card.alpha_s.at_z_mass == (0.130 if run["beams"]["lpp1"] == "1" else 0.118)
    assert card.scales.choice == "fixed"
    assert card.scales.mu_r_gev == float(run["scales"]["scale"])
    assert card.scales.mu_f_gev == float(run["scales"]["dsqrt_q2fact1"])
    cuts = card.cuts
    ours = {
        "ptj": cuts.jets.pt_min_gev,
        "etaj": cuts.jets.abs_eta_max,
        "ptl": cuts.leptons.pt_min_gev,
        "etal": cuts.leptons.abs_eta_max,
        "drll": cuts.lepton_lepton.delta_r_min,
        "drjl": cuts.jet_lepton.delta_r_min,
        "mmll": cuts.lepton_lepton.mass_min_gev,
        "drjj": cuts.jet_jet.delta_r_min,
        "mmjj": cuts.jet_jet.mass_min_gev,
    }
    theirs = {key: float(value) for key, value in run["cuts"].items()}
    if run["name"] == "gg_gg":  # two jets that are back to back are at least pi apart
        theirs["drjj"] = ours["drjj"]
    assert {key: -1.0 if ours[key] == math.inf else ours[key] for key in theirs} == theirs


@pytest.mark.parametrize("run", RUNS, ids=[f"{run['name']}-{run['run']}" for run in RUNS])
def test_the_cross_section_is_that_of_madgraph(
    run: dict[str, Any], request: pytest.FixtureRequest
) -> None:
    sigma, error = run["sigma_pb"], run["sigma_err_pb"]
    # Half of theirs, or what is small beside the slack.
    max_error = max(0.5 * error / sigma, 0.001)
    ours = cross_section_of(run["name"], request)
    check_agreement(ours, (sigma, error), slack=0.003, max_error=max_error)


@pytest.mark.parametrize(
    ("name", "sigma", "error"),
    INTEGRATIONS,
    ids=[f"{name}-{error}" for name, _, error in INTEGRATIONS],
)
def test_the_cross_section_is_that_of_an_independent_integration(
    name: str, sigma: float, error: float, request: pytest.FixtureRequest
) -> None:
    check_agreement(cross_section_of(name, request), (sigma, error), slack=0.001)


def test_the_cross_section_of_muon_pairs_is_that_of_the_textbook() -> None:
    ours = cross_section("ee_to_mumu", 100_000)
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


@pytest.mark.parametrize(
    "shift", ["model.top_mass_gev=173.5", "alpha_s.at_z_mass=0.1305", "scales.mu_f_gev=200.0"]
)
def test_the_comparison_of_top_pairs_notices_a_shifted_parameter(
    shift: str, matrix_elements: Path
) -> None:
    folder = f"matrix_element.cache_folder={matrix_elements}"
    shifted = cross_section("pp_to_tt", 150_000, folder, shift)
    value, error = XSEC["independent_integrations"]["pp_ttx"]
    with pytest.raises(AssertionError, match="pb are allowed"):
        check_agreement(shifted, (value, error), slack=0.001, max_error=0.002)
