"""Cards: what is generated, as frozen dataclasses, one a section of a TOML file.

The only file that knows key names. A value out of range is an error that names the key, what it got
and what it expected; `mlgen.card_files` reads and writes the files.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mlgen.cut_cards import CutsCard, require
from mlgen.surrogate_cards import SurrogateCard


def _positive(value: float) -> bool:
    return math.isfinite(value) and value > 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessCard:
    """`[process]`: what collides and what comes out."""

    name: str
    """A name for files and plots."""
    definition: str
    """`p p > e+ e- j`: particles as MadGraph writes them, p and j = g u d s c and antiquarks, l+ l-. `QED=2` or `QCD=0` at its end bounds a coupling order from above; without, the QED order is the lowest one."""
    multiparticles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Further names for several particles: `{ e = ["e+", "e-"] }`."""

    def __post_init__(self) -> None:
        is_file_name = Path(self.name).name == self.name not in ("", "..")
        require(is_file_name, "process.name", self.name, "a name for files, without a slash")
        require(">" in self.definition, "process.definition", self.definition, "`a b > c d ...`")


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelCard:
    """`[model]`: inputs of the Standard Model in the (alpha(MZ), G_F, MZ) scheme.

    The defaults are those of MadGraph's `sm`: four massless quarks, diagonal CKM matrix.
    """

    inverse_alpha_em: float = 132.507
    """1 / alpha at the Z mass."""
    fermi_constant_per_gev2: float = 1.16639e-5
    z_mass_gev: float = 91.188
    z_width_gev: float = 2.441404
    w_width_gev: float = 2.0476
    top_mass_gev: float = 173.0
    top_width_gev: float = 1.4915
    bottom_mass_gev: float = 4.7
    tau_mass_gev: float = 1.777
    higgs_mass_gev: float = 125.0
    higgs_width_gev: float = 0.006382339
    ufo_folder: str = ""
    """A model in the Universal FeynRules Output, used instead of the Standard Model; its matrix elements come from pyamplicol."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Of a UFO model: external parameters by their names there, where not the model's own values."""

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            value = getattr(self, item.name)
            if isinstance(value, float):
                require(_positive(value), f"model.{item.name}", value, "a positive number")
        ratio = math.sqrt(8) * math.pi / self.inverse_alpha_em
        ratio /= self.fermi_constant_per_gev2 * self.z_mass_gev**2
        expected = "a mass in GeV for which M_W² = M_Z²/2 [1 + sqrt(1 - sqrt(8) pi alpha / (G_F M_Z²))] is real"
        require(ratio < 1, "model.z_mass_gev", self.z_mass_gev, expected)


@dataclass(frozen=True, kw_only=True, slots=True)
class BeamCard:
    """`[beams]`: two beams, head on."""

    particles: tuple[str, str]
    """`["p", "p"]` or `["e+", "e-"]`; the first moves along +z."""
    energies_gev: tuple[float, float]
    """Energy of each beam, GeV."""

    def __post_init__(self) -> None:
        for energy in self.energies_gev:
            require(_positive(energy), "beams.energies_gev", energy, "positive energies in GeV")


@dataclass(frozen=True, kw_only=True, slots=True)
class PdfCard:
    """`[pdf]`: the parton densities of hadron beams."""

    set: str = "NNPDF23_lo_as_0130_qed"
    """Name of an LHAPDF6 grid, sought in LHAPDF_DATA_PATH and in pythia8mc's data folder."""
    member: int = 0
    """0: the central one."""
    lhapdf_id: int = 247000
    """LHAPDF id of the set, which is that of its member 0; event files name the member's own."""

    def __post_init__(self) -> None:
        require(self.member >= 0, "pdf.member", self.member, "a member number from 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlphaSCard:
    """`[alpha_s]`: the strong coupling and its running."""

    at_z_mass: float = 0.130
    """alpha_s at the reference scale."""
    reference_scale_gev: float = 91.188
    loops: int = 2
    """1 or 2: order of the beta function."""
    charm_threshold_gev: float = 1.3
    bottom_threshold_gev: float = 4.7
    top_threshold_gev: float | None = None
    """None: five flavours at every higher scale."""

    def __post_init__(self) -> None:
        require(0 < self.at_z_mass < 1, "alpha_s.at_z_mass", self.at_z_mass, "a value in (0, 1)")
        require(self.loops in (1, 2), "alpha_s.loops", self.loops, "1 or 2")
        scale = self.reference_scale_gev
        require(_positive(scale), "alpha_s.reference_scale_gev", scale, "a positive scale in GeV")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScalesCard:
    """`[scales]`: renormalisation and factorisation scales."""

    choice: Literal[
        "fixed", "half_ht", "ht", "transverse_mass", "transverse_energy", "sqrt_s_hat"
    ] = "fixed"
    """`fixed`; the sum of the transverse masses of the final state (`ht`) or half of it; the transverse mass of the system of all colourless particles, or, where there are none, the geometric mean of those of the final particles; the sum of the transverse energies E sin(theta); the partonic centre-of-mass energy. In MadGraph's numbers, `transverse_energy` is 1, `ht` 2, `half_ht` 3, `sqrt_s_hat` 4; its default, -1, is a scale from clustering, which is not offered here."""
    mu_r_gev: float = 91.188
    """Of `fixed`: the renormalisation scale, where alpha_s is taken."""
    mu_f_gev: float = 91.188
    """Of `fixed`: the factorisation scale, where densities are taken."""
    factor: float = 1.0
    """Multiplies both scales."""

    def __post_init__(self) -> None:
        for name in ("mu_r_gev", "mu_f_gev"):
            value = getattr(self, name)
            require(_positive(value), f"scales.{name}", value, "a positive scale in GeV")
        require(_positive(self.factor), "scales.factor", self.factor, "a positive number")


@dataclass(frozen=True, kw_only=True, slots=True)
class WeightsCard:
    """`[weights]`: further weights of each event, beside its own."""

    scale_variations: bool = False
    """Seven points: both scales times 1/2, 1 and 2, but for the two that differ by four; for lepton beams the three of mu_r."""
    pdf_members: tuple[int, ...] = ()
    """Members of `pdf.set` to reweight to; alpha_s stays that of the card."""

    def __post_init__(self) -> None:
        for member in self.pdf_members:
            require(member >= 0, "weights.pdf_members", member, "member numbers from 0")


@dataclass(frozen=True, kw_only=True, slots=True)
class PhaseSpaceCard:
    """`[phase_space]`: how random numbers become momenta."""

    maps: Literal["diagrams", "rambo"] = "diagrams"
    """`diagrams`: channels from the process's Feynman diagrams; `rambo`: one flat map, slow to converge, for comparison."""
    prior: Literal["auto", "densities", "propagators"] = "auto"
    """What shares the integrand among the channels of a group: the densities of their maps, or their propagators; `auto`: densities for up to ten channels."""
    learned_weights: bool = False
    """Whether a trained sampler learns shares of its own, beginning with those of the prior: about a tenth more events for a point, for as much more time."""
    drop_below: float = 0.0
    """Channels with a smaller share of the cross section than this are dropped once the grid is adapted, and the others of their group take over; the largest of each group stays. 0: none is dropped."""

    def __post_init__(self) -> None:
        below = self.drop_below
        require(0 <= below <= 0.1, "phase_space.drop_below", below, "a fraction in [0, 0.1]")


@dataclass(frozen=True, kw_only=True, slots=True)
class MatrixElementCard:
    """`[matrix_element]`: who computes |M|²."""

    provider: str = "auto"
    """`closed_form`, `pyamplicol`, `python`, `umami`, any registered provider, or `auto`: the first that can."""
    function: str = ""
    """Of `python`: `module:function` that is called with the momenta."""
    library: str = ""
    """Of `umami`: the shared library."""
    cache_folder: str = ""
    """Where made matrix elements are kept; empty: the user's cache folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class VegasCard:
    """`[vegas]`: the adaptive grid."""

    n_bins: int = 128
    """Bins of each dimension."""
    n_iterations: int = 10
    n_points: int = 0
    """Points of an iteration, all channels together; 1000 for each channel that is not negligible where that is more. 0: 10,000 to 50,000, as many as suit the events that are asked for."""
    damping: float = 0.7
    """alpha of hep-ph/0211140: 0 leaves the grid as it is."""

    def __post_init__(self) -> None:
        require(self.n_bins >= 2, "vegas.n_bins", self.n_bins, "at least 2")
        require(self.n_iterations >= 1, "vegas.n_iterations", self.n_iterations, "at least 1")
        few = self.n_points == 0 or self.n_points >= 100
        require(few, "vegas.n_points", self.n_points, "0, or at least 100")
        require(self.damping >= 0, "vegas.damping", self.damping, "zero or a positive number")


@dataclass(frozen=True, kw_only=True, slots=True)
class FlowCard:
    """`[flow]`: the rational-quadratic coupling flow and its training."""

    n_blocks: int = 0
    """Coupling blocks; 0: as few as let each dimension see each other one, twice over."""
    n_bins: int = 10
    """Bins of each spline."""
    n_layers: int = 2
    """Hidden layers of each block's network."""
    n_hidden: int = 32
    """Width of a hidden layer."""
    start_from: str = ""
    """A sampler pack (`NAME.mlgen.zip`) whose trained sampler training begins from, of a process with as many dimensions and channels; empty: training begins from the adapted grid."""
    loss: Literal["renyi", "stratified_variance", "variance", "kullback_leibler"] = "renyi"
    """What training minimises; `renyi`: a divergence whose order rises, so that the largest weights count more and more."""
    renyi_order: float = 12.0
    """Order of the divergence that training ends with: 1 Kullback-Leibler, 2 variance, larger: the largest weights."""
    batch_size: int = 2048
    """Points of an optimizer step, those outside the cuts counted."""
    n_steps: int = 1200
    """Optimizer steps."""
    reuse: float = 4.0
    """How many steps use a point, on average: `n_steps` times `batch_size` over `reuse` points are drawn."""
    kept_rounds: int = 8
    """Steps use the points of so many rounds, of 16 steps each, before them; in proportion more where `reuse` is above 4, as rounds have fewer points then."""
    offline: float = 0.0
    """The share of the training, at its end, that draws no new points and uses those that are kept."""
    learning_rate: float = 3e-3
    """The largest one; it rises at the beginning, and falls in the second half."""
    patience: int = 24
    """Training comes to its end where the points of so many rounds were no better than those before, with as many more as of `kept_rounds`; 0: it does not."""

    def __post_init__(self) -> None:
        require(self.n_blocks >= 0, "flow.n_blocks", self.n_blocks, "zero or a positive number")
        for name in ("n_bins", "n_layers", "n_hidden", "batch_size", "n_steps", "kept_rounds"):
            value = getattr(self, name)
            require(value >= 1, f"flow.{name}", value, "at least 1")
        order = self.renyi_order
        require(1 <= order < math.inf, "flow.renyi_order", order, "a number from 1")
        require(self.patience >= 0, "flow.patience", self.patience, "zero or a positive number")
        require(0 <= self.offline < 1, "flow.offline", self.offline, "a fraction in [0, 1)")
        require(1 <= self.reuse < math.inf, "flow.reuse", self.reuse, "a number from 1")
        rate = self.learning_rate
        require(_positive(rate), "flow.learning_rate", rate, "a positive number")


@dataclass(frozen=True, kw_only=True, slots=True)
class RunCard:
    """`[run]`: how much, with which sampler, from which seed."""

    n_events: int = 10_000
    """How many events to write, exactly."""
    seed: int = 1
    """Rules every random number."""
    sampler: str = "auto"
    """`vegas`, `flow`, any registered sampler, or `auto`: the one that is cheaper by measurement."""
    surrogate: Literal["never", "auto", "always"] = "never"
    """Whether a learned |M|² chooses the points at which the matrix element is computed; `auto`: where that is cheaper by measurement. The events are exact either way."""
    weighted: bool = False
    """Write the points inside the cuts with their weights instead of unweighting."""
    chunk_size: int = 16_384
    """Points of a chunk, the unit of work and of random streams."""
    n_estimate: int = 0
    """Fresh points for the cross section, the efficiency and w_max of each sampler; 0: 65,536 to 262,144, as many as suit the events that are asked for."""
    overweight_budget: float = 0.001
    """t of eps_uw(N, t): the share of the cross section that w_max may leave as overweight; a large one, 0.3 say, leaves the events partially unweighted: more of them, with weights that spread."""
    format: str = "lhe.gz"
    """Of the event file: `lhe`, `lhe.gz`, `lheh5` or any registered one."""
    max_points: int = 0
    """Give up after so many points; 0: a hundred times what the efficiency predicts."""

    def __post_init__(self) -> None:
        for name, least in (("n_events", 1), ("chunk_size", 1), ("n_estimate", 0)):
            value = getattr(self, name)
            require(value >= least, f"run.{name}", value, f"at least {least}")
        require(self.seed >= 0, "run.seed", self.seed, "zero or a positive number")
        budget = self.overweight_budget
        require(0 <= budget < 1, "run.overweight_budget", budget, "a fraction in [0, 1)")
        impossible = self.weighted and self.surrogate == "always"
        wanted = "`never` or `auto` with run.weighted: each weight needs its matrix element"
        require(not impossible, "run.surrogate", self.surrogate, wanted)
        require(
            self.max_points >= 0, "run.max_points", self.max_points, "zero or a positive number"
        )


class SamplingCard(Protocol):
    """The sections that samplers and integration read, of a card or of settings without a process."""

    @property
    def vegas(self) -> VegasCard: ...

    @property
    def flow(self) -> FlowCard: ...

    @property
    def run(self) -> RunCard: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class Card:
    """A whole card, one field a section."""

    process: ProcessCard
    beams: BeamCard
    model: ModelCard = field(default_factory=ModelCard)
    pdf: PdfCard = field(default_factory=PdfCard)
    alpha_s: AlphaSCard = field(default_factory=AlphaSCard)
    scales: ScalesCard = field(default_factory=ScalesCard)
    cuts: CutsCard = field(default_factory=CutsCard)
    weights: WeightsCard = field(default_factory=WeightsCard)
    phase_space: PhaseSpaceCard = field(default_factory=PhaseSpaceCard)
    matrix_element: MatrixElementCard = field(default_factory=MatrixElementCard)
    vegas: VegasCard = field(default_factory=VegasCard)
    flow: FlowCard = field(default_factory=FlowCard)
    surrogate: SurrogateCard = field(default_factory=SurrogateCard)
    run: RunCard = field(default_factory=RunCard)
