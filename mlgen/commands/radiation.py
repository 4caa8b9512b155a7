"""Commands on jet radiation: `mlgen radiation ...`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlgen.commands.process import importing_for_good, interruptible
from mlgen.commands.sampling import Debug

if TYPE_CHECKING:
    from mlgen.campaign.jet_file import StoredJets

radiation_app = typer.Typer(
    name="radiation",
    help="Jet radiation, learned: data to learn from, training, and its control.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


def _n_cores() -> int:
    """Of those that this process may use; 1 where several processes are not supported."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


@radiation_app.command("data")
def data_command(
    n_events: Annotated[
        int | None,
        typer.Option("-n", "--n-events", help="How many. [100000, or all of the event file]"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The new file, NAME.jets.zip. [./radiation.jets.zip]"),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Rules every random number.")] = 1,
    event_file: Annotated[
        Path | None,
        typer.Option("--events", help="Shower this event file; else Pythia makes Z > mu+ mu-."),
    ] = None,
    level: Annotated[
        str,
        typer.Option(
            help="partons; hadrons: two times as long; full: with the underlying event, twenty times."
        ),
    ] = "partons",
    energy: Annotated[
        float, typer.Option("--energy", help="Of both protons together, GeV.")
    ] = 13_000.0,
    mass: Annotated[
        tuple[float, float],
        typer.Option("--mass", metavar="LOW HIGH", help="Range of the mass of the pair, GeV."),
    ] = (81.0, 101.0),
    radius: Annotated[float, typer.Option("--radius", help="Of anti-kt jets.")] = 0.4,
    pt_min: Annotated[float, typer.Option("--pt-min", help="Of jets, GeV.")] = 20.0,
    eta_max: Annotated[float, typer.Option("--eta-max", help="Of jets.")] = 5.0,
    pythia: Annotated[
        list[str] | None,
        typer.Option(
            metavar="'KEY = VALUE'",
            help="A further setting of Pythia's, e.g. --pythia 'SpaceShower:alphaSvalue = 0.12'. Repeatable.",
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option("--workers", help="Processes. [one for each core]")
    ] = None,
    debug: Debug = False,
) -> None:
    """Make lepton pairs with jets to learn from: Pythia's Z > mu+ mu-, or showers of an event file.

    The pair comes first, then all jets in falling pt, from all particles but muons, neutrinos and the pair
    itself; a jet near a lepton is kept. Leptons radiate no photons. The events are the same
    whatever the number of workers. Uses Pythia (arXiv:2203.11601) and FastJet (arXiv:1111.6097).

    Examples:

      mlgen radiation data -n 1000000 -o zjets.jets.zip

      mlgen radiation data --events runs/pp_to_eej/events.lhe.gz -o eej.jets.zip
    """
    with importing_for_good():
        from mlgen.campaign.jet_file import SUFFIX
        from mlgen.campaign.run_folder import new_file
        from mlgen.campaign.workers import local_workers
        from mlgen.diagnostics.progress import RichProgress
        from mlgen.jobs.radiation_data import JetOrder, make_radiation_data
        from mlgen.radiation.cluster import JetDefinition
        from mlgen.radiation.pythia_data import PythiaSettings

    settings = PythiaSettings(
        level=level,  # type: ignore[arg-type]  # checked there
        energy_gev=energy,
        mass_range_gev=mass,
        extra=tuple(pythia or ()),
        jets=JetDefinition(radius=radius, pt_min_gev=pt_min, abs_eta_max=eta_max),
    )
    order = JetOrder(settings=settings, seed=seed, n_events=n_events, event_file=event_file)
    path = new_file(output, "radiation", SUFFIX)
    progress = RichProgress(Console(stderr=True))
    n_workers = _n_cores() if workers is None else workers
    with interruptible(), local_workers(n_workers) as crew:
        stored = make_radiation_data(path, order, crew, progress)
    typer.echo(_summary(stored, path))


def _summary(stored: StoredJets, path: Path) -> str:
    """For people."""
    origin, counts = stored.origin, stored.events.n_jets.bincount().tolist()
    n = len(stored.events)
    lines = [
        f"{path}: {n:,} events, {path.stat().st_size / 1e6:.1f} MB",
        f"cross section {origin.cross_section_pb:.5g} +- {origin.cross_section_error_pb:.2g} pb",
    ]
    for n_jets, count in enumerate(counts):
        lines.append(f"{n_jets:3} jets  {count:10,}  {count / n:9.4%}")
    if origin.n_failed:
        lines.append(f"Pythia gave up on {origin.n_failed:,} events")
    return "\n".join(lines)
