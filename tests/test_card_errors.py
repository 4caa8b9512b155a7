"""What a wrong card is told: the key, what it got, what was expected, and the nearest key."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlgen.card_files import read_card
from mlgen.errors import CardError
from tests.test_cards import MINIMAL


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a_card.toml"
    path.write_text(MINIMAL)
    return path


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("run.seed", "--set run.seed: expected section.key=value"),
        ("=3", "--set =3: expected section.key=value"),
        ("process.name.x=3", "--set process.name.x=3: name is a value, not a section"),
        ("run=3", "run = 3: expected a section"),
        ("cuts.jets=20.0", "cuts.jets = 20.0: expected a section"),
        ("run.n_event=3", "run.n_event: no such key; did you mean run.n_events?"),
        ("cut.jets.pt_min_gev=3", "cut: no such key; did you mean cuts?"),
        ("cuts.jets.ptmin=3", "cuts.jets.ptmin: no such key; did you mean cuts.jets.pt_min_gev?"),
        (
            "pdf.qqqqq=3",
            "pdf.qqqqq: no such key; known: set, member, lhapdf_id",
        ),
        ("run.seed=1.5", "run.seed = 1.5: expected an integer"),
        ("run.seed=", "run.seed = '': expected an integer"),
        ("run.seed=1\nrun.n_events=2", r"run.seed = '1\nrun.n_events=2': expected an integer"),
        ("run.seed=true", "run.seed = True: expected an integer"),
        ("run.weighted=1", "run.weighted = 1: expected true or false"),
        ("run.sampler=1", "run.sampler = 1: expected a text in quotes"),
        ("model.z_mass_gev=heavy", "model.z_mass_gev = 'heavy': expected a number"),
        ("model.z_mass_gev=true", "model.z_mass_gev = True: expected a number"),
        ("model.z_mass_gev=nan", "model.z_mass_gev = nan: expected a number"),
        ("model.z_mass_gev=[91.0]", "model.z_mass_gev = [91.0]: expected a number"),
        ("alpha_s.top_threshold_gev=high", "alpha_s.top_threshold_gev = 'high': expected a number"),
        (
            "scales.choice=mt",
            "scales.choice = 'mt': expected one of 'fixed', 'half_ht', 'ht', 'transverse_mass', "
            "'transverse_energy', 'sqrt_s_hat'",
        ),
        (
            "phase_space.maps=[1]",
            "phase_space.maps = [1]: expected one of 'diagrams', 'rambo'",
        ),
        ("run.surrogate=on", "run.surrogate = 'on': expected one of 'never', 'auto', 'always'"),
        ("surrogate.n_hidden=0", "surrogate.n_hidden = 0: expected at least 1"),
        ("surrogate.max_points=0", "surrogate.max_points = 0: expected at least 1"),
        (
            "surrogate.learning_rate=0",
            "surrogate.learning_rate = 0.0: expected a positive number",
        ),
        (
            "surrogate.max_cpu_s=-1",
            "surrogate.max_cpu_s = -1.0: expected a positive number, or inf",
        ),
        ("surrogate.boost=-1", "surrogate.boost = -1.0: expected 0 or more"),
        ("surrogate.batch_growth=0.5", "surrogate.batch_growth = 0.5: expected at least 1"),
        (
            "surrogate.calibration_share=0.5",
            "surrogate.calibration_share = 0.5: expected a share between 0 and 0.5",
        ),
        ("weights.pdf_members=3", "weights.pdf_members = 3: expected a list"),
        ("weights.pdf_members=all", "weights.pdf_members = 'all': expected a list"),
        ("weights.pdf_members=[1, 2.5]", "weights.pdf_members[1] = 2.5: expected an integer"),
        ("process.multiparticles=3", "process.multiparticles = 3: expected a section"),
        ("process.multiparticles.e=e+", "process.multiparticles.e = 'e+': expected a list"),
        (
            "process.multiparticles.e=[1]",
            "process.multiparticles.e[0] = 1: expected a text in quotes",
        ),
        ("model.parameters.MX=heavy", "model.parameters.MX = 'heavy': expected a number"),
        (
            "cuts.particles={pdg_ids=[6]}",
            "cuts.particles = {'pdg_ids': [6]}: expected a list",
        ),
        ("cuts.particles=[6]", "cuts.particles[0] = 6: expected a section"),
        ("cuts.particles=[{pdg_ids=6}]", "cuts.particles[0].pdg_ids = 6: expected a list"),
        ("cuts.pairs=[{first=[6]}]", "cuts.pairs[0].second: missing, and it has no default"),
        (
            "cuts.particles=[{pdg_ids=[6]}, {pdg_ids=[5], pt_min=3}]",
            "cuts.particles[1].pt_min: no such key; did you mean cuts.particles[1].pt_min_gev?",
        ),
        (
            "cuts.pairs=[{first=[6], second=[6], dr_min=3}]",
            "cuts.pairs[0].dr_min: no such key; did you mean cuts.pairs[0].delta_r_min?",
        ),
        (
            "cuts.jet_jets.delta_r_min=3",
            "cuts.jet_jets: no such key; did you mean cuts.jet_jet?",
        ),
        ("cuts.particles.pt_min_gev=3", "cuts.particles = {'pt_min_gev': 3}: expected a list"),
        ("beams.energies_gev=6500", "beams.energies_gev = 6500: expected 2 values"),
        ("beams.energies_gev=[1, 2, 3]", "beams.energies_gev = [1, 2, 3]: expected 2 values"),
        ("beams.particles=pp", "beams.particles = 'pp': expected 2 values"),
        ("beams.particles=[1, 2]", "beams.particles = 1: expected a text in quotes"),
    ],
)
def test_a_wrong_key_or_type_is_named_with_what_was_expected(
    file: Path, override: str, message: str
) -> None:
    with pytest.raises(CardError) as error:
        read_card(file, [override])
    assert str(error.value) == message
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("process.definition=p p", "process.definition = 'p p': expected `a b > c d ...`"),
        ("process.name=a/b", "process.name = 'a/b': expected a name for files, without a slash"),
        ("process.name=..", "process.name = '..': expected a name for files, without a slash"),
        ("process.name=", "process.name = '': expected a name for files, without a slash"),
        ("model.top_mass_gev=0", "model.top_mass_gev = 0.0: expected a positive number"),
        ("model.top_mass_gev=inf", "model.top_mass_gev = inf: expected a positive number"),
        ("beams.energies_gev=[1, -2]", "beams.energies_gev = -2.0: expected positive energies in"),
        ("pdf.member=-1", "pdf.member = -1: expected a member number from 0"),
        ("alpha_s.at_z_mass=1.3", "alpha_s.at_z_mass = 1.3: expected a value in (0, 1)"),
        ("alpha_s.loops=3", "alpha_s.loops = 3: expected 1 or 2"),
        ("alpha_s.reference_scale_gev=0", "expected a positive scale in GeV"),
        ("scales.mu_r_gev=-1", "scales.mu_r_gev = -1.0: expected a positive scale in GeV"),
        ("scales.mu_f_gev=inf", "scales.mu_f_gev = inf: expected a positive scale in GeV"),
        ("scales.factor=0", "scales.factor = 0.0: expected a positive number"),
        (
            "cuts.jets.pt_min_gev=-1",
            "cuts.jets.pt_min_gev = -1.0: expected zero or a positive number in GeV",
        ),
        (
            "cuts.jet_jet.delta_r_min=-1",
            "cuts.jet_jet.delta_r_min = -1.0: expected zero or a positive number",
        ),
        (
            "cuts.photons.abs_y_max=-1",
            "cuts.photons.abs_y_max = -1.0: expected zero or a positive number",
        ),
        ("cuts.event.ht_min_gev=-1", "cuts.event.ht_min_gev = -1.0: expected zero or a positive"),
        (
            "cuts.particles=[{pdg_ids=[]}]",
            "cuts.particles[0].pdg_ids = (): expected at least one PDG id, none of them 0",
        ),
        (
            "cuts.pairs=[{first=[6], second=[0]}]",
            "cuts.pairs[0].second = (0,): expected at least one PDG id, none of them 0",
        ),
        (
            "cuts.particles=[{pdg_ids=[6]}, {pdg_ids=[6], pt_min_gev=-1}]",
            "cuts.particles[1].pt_min_gev = -1.0: expected zero or a positive number in GeV",
        ),
        ("weights.pdf_members=[0, -1]", "weights.pdf_members = -1: expected member numbers from 0"),
        ("vegas.n_bins=1", "vegas.n_bins = 1: expected at least 2"),
        ("vegas.n_iterations=0", "vegas.n_iterations = 0: expected at least 1"),
        ("vegas.n_points=99", "vegas.n_points = 99: expected 0, or at least 100"),
        ("vegas.damping=-0.5", "vegas.damping = -0.5: expected zero or a positive number"),
        ("flow.n_blocks=-1", "flow.n_blocks = -1: expected zero or a positive number"),
        ("flow.batch_size=0", "flow.batch_size = 0: expected at least 1"),
        ("flow.learning_rate=0", "flow.learning_rate = 0.0: expected a positive number"),
        ("run.n_events=0", "run.n_events = 0: expected at least 1"),
        ("run.seed=-1", "run.seed = -1: expected zero or a positive number"),
        ("run.overweight_budget=1", "run.overweight_budget = 1.0: expected a fraction in [0, 1)"),
        ("run.max_points=-1", "run.max_points = -1: expected zero or a positive number"),
        ("model.z_mass_gev=20", "model.z_mass_gev = 20.0: expected a mass in GeV for which M_W²"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_was_expected(
    file: Path, override: str, message: str
) -> None:
    with pytest.raises(CardError) as error:
        read_card(file, [override])
    assert message in str(error.value)
    assert str(error.value).startswith(override.partition("=")[0])


def test_a_window_that_nothing_passes_is_refused(file: Path) -> None:
    with pytest.raises(CardError, match=r"cuts.jets.pt_max_gev = 10.0: expected more than pt_min"):
        read_card(file, ["cuts.jets.pt_min_gev=20", "cuts.jets.pt_max_gev=10"])
    with pytest.raises(CardError, match=r"mass_max_gev = 50.0: expected more than mass_min_gev"):
        read_card(
            file, ["cuts.lepton_lepton.mass_min_gev=50", "cuts.lepton_lepton.mass_max_gev=50"]
        )
    listed = "cuts.pairs=[{first=[6], second=[6], delta_r_min=3, delta_r_max=2}]"
    with pytest.raises(CardError, match=r"cuts.pairs\[0\].delta_r_max = 2.0: expected more than d"):
        read_card(file, [listed])
    with pytest.raises(CardError, match=r"ht_max_gev = 5.0: expected more than ht_min_gev = 9.0 G"):
        read_card(file, ["cuts.event.ht_min_gev=9", "cuts.event.ht_max_gev=5"])


def test_an_integer_beyond_all_numbers_is_refused(file: Path) -> None:
    with pytest.raises(CardError, match=r"model.z_mass_gev = 9+: expected a number"):
        read_card(file, [f"model.z_mass_gev={'9' * 400}"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "a_name"\n', "", "process.name: missing, and it has no default"),
        ("[process]", "[proces]", "proces: no such key; did you mean process?"),
        ("energies_gev", "energy_gev", "beams.energy_gev: no such key; did you mean"),
        (MINIMAL, "", "process: missing, and it has no default"),
        (MINIMAL, "process = 3", "process = 3: expected a section"),
    ],
)
def test_a_wrong_card_is_named_with_what_is_wrong(
    file: Path, old: str, new: str, message: str
) -> None:
    file.write_text(MINIMAL.replace(old, new))
    with pytest.raises(CardError) as error:
        read_card(file)
    assert str(error.value).startswith(message)


def test_a_file_that_is_no_card_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a_card.toml"
    with pytest.raises(CardError, match=r"a_card\.toml: cannot be read"):
        read_card(path)
    with pytest.raises(CardError, match=r"cannot be read \(Is a directory\)"):
        read_card(tmp_path)
    path.write_text("[process\nname = 3")
    with pytest.raises(CardError, match=r"a_card\.toml: not valid TOML: .*line 1"):
        read_card(path)
    path.write_bytes(b"name = '\xff\xfe'")
    with pytest.raises(CardError, match=r"a_card\.toml: not text in UTF-8"):
        read_card(path)
