"""Commands that make events: run, train, generate, merge."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mlgen.card_files import find_card, read_card
from mlgen.commands.process import importing_for_good, interruptible
from mlgen.errors import CardError

if TYPE_CHECKING:
    from mlgen.campaign.workers import Workers
    from mlgen.core import Progress
    from mlgen.jobs.stages import RunResult

Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]
CardName = Annotated[str, typer.Argument(help="A card: a TOML file, or a name from `mlgen list`.")]
NEvents = Annotated[
    int | None, typer.Option("-n", "--n-events", help="How many events. [card: run.n_events]")
]
Folder = Annotated[
    Path | None,
    typer.Option("-o", "--output", help="A new or empty folder. [runs/NAME, NAME-2, ...]"),
]
Seed = Annotated[
    int | None, typer.Option("--seed", help="Rules every random number. [card: run.seed]")
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        help="vegas, flow, or auto: the cheaper one by measurement. [card: run.sampler]",
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--format", help="Of the event file: lhe, lhe.gz or lheh5. [card: run.format]"),
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="SECTION.KEY=VALUE",
        help="Override any key of the card, e.g. --set cuts.jets.pt_min_gev=30. Repeatable.",
    ),
]
Resume = Annotated[
    Path | None,
    typer.Option(
        "--resume", metavar="FOLDER", help="Go on with what was interrupted in this folder."
    ),
]
Decisions = Annotated[
    Path | None,
    typer.Option(
        "--decisions",
        metavar="RUN.JSON",
        help="Decide by the times that an earlier run measured, and so as that one did.",
    ),
]
NWorkers = Annotated[
    int, typer.Option("--workers", help="Processes, on this machine or as jobs of a cluster.")
]
Dask = Annotated[
    str | None,
    typer.Option("--dask", metavar="ADDRESS", help="Use the workers of this dask scheduler."),
]
Slurm = Annotated[
    bool, typer.Option("--slurm", help="Run the workers as jobs of Slurm, set up in dask's files.")
]
HTCondor = Annotated[
    bool, typer.Option("--htcondor", help="Run the workers as jobs of HTCondor, likewise.")
]


def run_command(
    card: CardName = "",
    n_events: NEvents = None,
    output: Folder = None,
    seed: Seed = None,
    sampler: Sampler = None,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="Write weighted events instead of unweighting.")
    ] = False,
    format: Format = None,
    settings: Settings = None,
    resume: Resume = None,
    decisions: Decisions = None,
    workers: NWorkers = 1,
    dask: Dask = None,
    slurm: Slurm = False,
    htcondor: HTCondor = False,
    debug: Debug = False,
) -> None:
    """Generate events: adapt VEGAS, train the flow, measure both, unweight, write.

    Exit codes: 0 all events are there; 2 the card or an option is wrong; 3 an optional library
    or data file is missing; 4 the matrix element; 5 a weight is NaN or infinite; 6 too few
    events; 7 the event file cannot be written; 8 a pack or a checkpoint; 130 interrupted.

    Examples:

      mlgen run processes/pp_to_eej.toml -n 10000

      mlgen run pp_to_ttj -n 1000000 --workers 8 --format lheh5

      mlgen run pp_to_eej --set matrix_element.provider=pyamplicol

      mlgen run --resume runs/pp_to_eej
    """
    with importing_for_good():
        from mlgen import api
        from mlgen.diagnostics.progress import RichProgress

    options = {
        "n_events": n_events,
        "seed": seed,
        "sampler": sampler,
        "weighted": weighted or None,
        "format": format,
    }
    overrides = [*(settings or []), *overrides_of(options)]
    console = Console(stderr=True)
    progress = RichProgress(console)
    with interruptible(), _crew(workers, dask, slurm, htcondor, progress) as crew:
        if resume is not None:
            _check_alone(resume, card, overrides, output, decisions)
            result = api.resume(resume, workers=crew, progress=progress)
        elif card:
            chosen = read_card(find_card(card), overrides)
            result = api.run(chosen, output, workers=crew, decisions=decisions, progress=progress)
        else:
            raise CardError("Missing argument: expected a card, or --resume FOLDER")
    _print_run(result, console)


def train_command(
    card: CardName = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="The new pack, NAME.mlgen.zip. [./NAME.mlgen.zip]"),
    ] = None,
    n_events: Annotated[
        int | None,
        typer.Option(
            "-n",
            "--n-events",
            help="How many events it is wanted for: `auto` trains for many. [card: run.n_events]",
        ),
    ] = None,
    seed: Seed = None,
    sampler: Sampler = None,
    settings: Settings = None,
    resume: Resume = None,
    decisions: Decisions = None,
    debug: Debug = False,
) -> None:
    """Learn what events are drawn from, and write it to a pack: `mlgen generate` needs nothing else.

    If it is interrupted, `mlgen train --resume PACK.partial` goes on.

    Examples:

      mlgen train pp_to_ttj -n 1000000 -o ttj.mlgen.zip

      mlgen generate ttj.mlgen.zip -n 1000000 --workers 8
    """
    with importing_for_good():
        from mlgen import api, show
        from mlgen.diagnostics.progress import RichProgress

    options = {"n_events": n_events, "seed": seed, "sampler": sampler}
    overrides = [*(settings or []), *overrides_of(options)]
    console = Console(stderr=True)
    progress = RichProgress(console)
    with interruptible():
        if resume is not None:
            _check_alone(resume, card, overrides, output, decisions)
            found = api.resume_train(resume, progress=progress)
        elif card:
            chosen = read_card(find_card(card), overrides)
            found = api.train(chosen, output, decisions=decisions, progress=progress)
        else:
            raise CardError("Missing argument: expected a card, or --resume PACK.partial")
    typer.echo(show.show_pack(found.path))
    _print_warnings(found.integration.warnings, console)


def generate_command(
    pack: Annotated[Path, typer.Argument(help="A pack that `mlgen train` or `mlgen run` wrote.")],
    n_events: NEvents = None,
    output: Folder = None,
    seed: Seed = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/K",
            help="Make part I of K of the sample; `mlgen merge` joins the parts.",
        ),
    ] = None,
    format: Format = None,
    cache: Annotated[
        Path | None, typer.Option("--cache", help="Where matrix elements lie. [the usual folder]")
    ] = None,
    workers: NWorkers = 1,
    dask: Dask = None,
    slurm: Slurm = False,
    htcondor: HTCondor = False,
    debug: Debug = False,
) -> None:
    """Make events from a pack. The same seed gives the same events, whatever makes them.

    Another seed gives independent events. If it is interrupted, `mlgen run --resume FOLDER` goes on.

    Examples:

      mlgen generate ttj.mlgen.zip -n 1000000 --workers 8 -o ttj

      mlgen generate ttj.mlgen.zip -n 1000000 --shard 2/5 -o part2
    """
    with importing_for_good():
        from mlgen.diagnostics.progress import RichProgress

    console = Console(stderr=True)
    progress = RichProgress(console)
    with interruptible(), _crew(workers, dask, slurm, htcondor, progress) as crew:
        # While this process imports, so do they.
        crew.start("mlgen.jobs.generation")
        with importing_for_good():
            from mlgen import api
        result = api.generate(
            pack,
            output,
            n_events=n_events,
            seed=seed,
            shard=_shard(shard),
            format=format,
            workers=crew,
            cache_folder=cache or "",
            progress=progress,
        )
    _print_run(result, console)


def merge_command(
    parts: Annotated[list[Path], typer.Argument(help="The event files of all parts of a sample.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="The new file: .lhe, .lhe.gz or .lheh5.")
    ],
    n_events: Annotated[
        int | None,
        typer.Option("-n", "--n-events", help="The first so many. [as the sample was to have]"),
    ] = None,
    debug: Debug = False,
) -> None:
    """Join the parts of a sample, each once and none missing, into one event file.

    Example:

      mlgen merge part*/events.lhe.gz -o events.lhe.gz
    """
    from mlgen import api, show
    from mlgen.diagnostics.progress import RichProgress

    progress = RichProgress(Console(stderr=True))
    with interruptible():
        merged = api.merge(parts, output, n_events=n_events, progress=progress)
    typer.echo(show.show_merged(merged))


@contextmanager
def _crew(
    n_workers: int, dask: str | None, slurm: bool, htcondor: bool, progress: Progress
) -> Iterator[Workers]:
    """The workers that the options ask for."""
    from mlgen.campaign.workers import local_workers

    if (dask is not None) + slurm + htcondor > 1:
        raise CardError("--dask, --slurm, --htcondor: expected one of them at most")
    if n_workers < 1:
        raise CardError(f"--workers {n_workers}: expected a positive number of processes")
    if dask is not None:
        from mlgen.campaign.cluster import dask_workers

        crew = dask_workers(dask, progress)
    elif slurm or htcondor:
        from mlgen.campaign.cluster import batch_workers

        crew = batch_workers("slurm" if slurm else "htcondor", n_workers, progress)
    else:
        crew = local_workers(n_workers)
    with crew:
        yield crew


def _check_alone(resume: Path, *others: object) -> None:
    """An interrupted run has its card already."""
    if any(others):
        raise CardError(f"--resume {resume}: expected no card and no other option beside it")


def _print_run(result: RunResult, console: Console) -> None:
    from mlgen import show

    typer.echo(show.show_run(result.record, result.folder))
    _print_warnings(result.record.warnings, console)


def _print_warnings(warnings: Sequence[str], console: Console) -> None:
    for warning in warnings:
        console.print(f"WARNING: {warning}", style="bold red", markup=False, soft_wrap=True)


def overrides_of(options: Mapping[str, object]) -> list[str]:
    """Options that were given, as `--set` has them."""
    given = {key: value for key, value in options.items() if value is not None}
    return [f"run.{key}={_toml(value)}" for key, value in given.items()]


def _toml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _shard(text: str | None) -> tuple[int, int] | None:
    """The number of a part, and of how many."""
    if text is None:
        return None
    number, _, of = text.partition("/")
    if not (number.isascii() and number.isdigit() and of.isascii() and of.isdigit()):
        raise CardError(f"--shard {text}: expected I/K, such as 2/5")
    return int(number), int(of)
