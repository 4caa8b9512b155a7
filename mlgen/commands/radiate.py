"""Commands that learn jet radiation, and add it to events."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console

from mlgen.commands.process import importing_for_good, interruptible
from mlgen.commands.sampling import Debug
from mlgen.errors import CardError

if TYPE_CHECKING:
    from mlgen.jobs.radiation_job import RadiateResult


def train_radiation_command(
    jets: Annotated[Path, typer.Argument(help="A file of jets, from `mlgen radiation data`.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="The new model, NAME.radiation.zip. [./radiation.radiation.zip]"
        ),
    ] = None,
    n_max: Annotated[
        int, typer.Option("--n-max", help="Of each event so many jets are learned from.")
    ] = 4,
    variant: Annotated[
        str,
        typer.Option(help="How more jets are prepared for: plain, truncated, bootstrap, override."),
    ] = "truncated",
    n_events: Annotated[
        int | None, typer.Option("-n", "--n-events", help="The first so many of the file. [all]")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option(help="How often each event is seen. [4 million over their number, 4 to 16]"),
    ] = None,
    channels: Annotated[int, typer.Option(help="Width of the transformers.")] = 48,
    blocks: Annotated[int, typer.Option(help="Blocks of each of the two transformers.")] = 2,
    members: Annotated[
        int, typer.Option(help="Networks, whose scatter is an uncertainty of each event.")
    ] = 4,
    bayesian: Annotated[
        str, typer.Option(help="Layers whose weights are distributions: none, last or all.")
    ] = "none",
    small: Annotated[
        bool, typer.Option("--small", help="Store the networks in half precision.")
    ] = False,
    seed: Annotated[int, typer.Option("--seed", help="Rules every random number.")] = 1,
    debug: Debug = False,
) -> None:
    """Learn jet radiation: how many jets follow a hard object, and where they go.

    An autoregressive transformer (arXiv:2412.12074) with an exact likelihood. `mlgen radiate` draws from
    it, also more jets than it was trained on. If it was stopped, the same command goes on with the
    network that was not finished.

    Example:

      mlgen radiation train zjets.jets.zip --n-max 4 -o zjets.radiation.zip
    """
    with importing_for_good():
        from mlgen.campaign.radiation_file import SUFFIX
        from mlgen.campaign.run_folder import new_file
        from mlgen.diagnostics.progress import RichProgress
        from mlgen.jobs.radiation_job import RadiationOrder, train_radiation
        from mlgen.radiation.settings import NetworkSettings, TrainingSettings

    path = new_file(output, "radiation", SUFFIX)
    order = RadiationOrder(
        jets=jets,
        network=NetworkSettings(
            n_channels=channels, n_blocks=blocks, variational=_variational(bayesian)
        ),
        training=TrainingSettings(variant=variant, n_max=n_max, n_epochs=epochs, n_members=members),
        seed=seed,
        n_events=n_events,
        is_small=small,
    )
    with interruptible():
        stored = train_radiation(path, order, RichProgress(Console(stderr=True)))
    size = path.stat().st_size / 1e6
    typer.echo(
        f"{path}: {size:.2f} MB, from {stored.origin.n_events:,} events with up to {n_max} jets, in "
        f"{stored.origin.cpu_s:.0f} CPU seconds"
    )


def control_command(
    jets: Annotated[Path, typer.Argument(help="True events: a file of jets.")],
    model: Annotated[Path, typer.Option("--model", help="NAME.radiation.zip.")],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o", "--output", help="A new or empty folder. [runs/control, control-2, ...]"
        ),
    ] = None,
    n_events: Annotated[
        int | None,
        typer.Option("-n", "--n-events", help="True events. [all that were not learned from]"),
    ] = None,
    max_jets: Annotated[
        int, typer.Option("--max-jets", help="An event that has so many gets no more.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Rules every random number.")] = 1,
    debug: Debug = False,
) -> None:
    """Compare what a model draws with true events: multiplicities, spectra, a classifier.

    The model draws jets for the hard objects of the true events. control.html shows the comparison,
    control.json has its numbers.

    Example:

      mlgen radiation control z.jets.zip --model z.radiation.zip -o control
    """
    with importing_for_good():
        from mlgen import show
        from mlgen.campaign.run_folder import new_folder, sole_use
        from mlgen.diagnostics.progress import RichProgress
        from mlgen.jobs.radiation_control import control_model

    folder = new_folder(output, "control")
    progress = RichProgress(Console(stderr=True))
    with interruptible(), sole_use(folder):
        record = control_model(folder, jets, model, n_events, seed, max_jets, progress)
    typer.echo(show.show_control(record, folder))


def radiate_command(
    events: Annotated[
        Path, typer.Argument(help="Events of a hard process: .lhe, .lhe.gz, .lheh5.")
    ],
    model: Annotated[
        Path, typer.Option("--model", help="NAME.radiation.zip, from `mlgen radiation train`.")
    ],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The new file: .lhe, .lhe.gz or .lheh5.")
    ],
    max_jets: Annotated[
        int, typer.Option("--max-jets", help="An event that has so many gets no more.")
    ] = 10,
    seed: Annotated[int, typer.Option("--seed", help="Rules every random number.")] = 1,
    debug: Debug = False,
) -> None:
    """Add jets to the events of a hard process, drawn from a learned model.

    The colourless part of each event, a Z or its leptons, stays what it is but for its recoil; partons
    become the first jets. Jets have neither flavour nor colour: the events are not to be
    showered. If the model has several members, each gives every event a further weight.

    Examples:

      mlgen radiate runs/pp_to_z/events.lhe.gz --model z.radiation.zip -o zjets.lhe.gz

      mlgen radiate runs/pp_to_zj/events.lhe.gz --model z.radiation.zip -o zjets.lhe.gz
    """
    with importing_for_good():
        from mlgen.diagnostics.progress import RichProgress
        from mlgen.jobs.radiation_job import radiate

    with interruptible():
        progress = RichProgress(Console(stderr=True))
        result = radiate(events, model, output, seed=seed, max_jets=max_jets, progress=progress)
    typer.echo(_radiated(result))


def _radiated(result: RadiateResult) -> str:
    lines = [f"{result.path}: {result.n_events:,} events"]
    for n_jets, count in enumerate(result.n_jets):
        beyond = "  (more than the model has seen)" if n_jets > result.n_max else ""
        lines.append(f"{n_jets:3} jets  {count:10,}  {count / result.n_events:9.4%}{beyond}")
    if result.n_redrawn:
        lines.append(f"{result.n_redrawn:,} events were beyond the beams, and drawn again")
    return "\n".join(lines)


_LAYERS: dict[str, Literal["none", "last", "all"]] = {"none": "none", "last": "last", "all": "all"}


def _variational(text: str) -> Literal["none", "last", "all"]:
    if text not in _LAYERS:
        raise CardError(f"--bayesian {text}: expected one of {', '.join(_LAYERS)}")
    return _LAYERS[text]
