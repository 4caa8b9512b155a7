"""The command that learns a matrix element."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mlgen.card_files import find_card, read_card
from mlgen.commands.process import importing_for_good, interruptible
from mlgen.commands.sampling import Debug, Sampler, Seed, Settings, overrides_of


def surrogate_command(
    card: Annotated[str, typer.Argument(help="A card: a TOML file, or a name from `mlgen list`.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="A new or empty folder. [runs/NAME, NAME-2, ...]"),
    ] = None,
    points: Annotated[
        int, typer.Option("--points", help="To learn from, of all subprocess groups together.")
    ] = 100_000,
    tests: Annotated[
        int, typer.Option("--tests", help="Other points, that the report is made of.")
    ] = 100_000,
    method: Annotated[
        str | None,
        typer.Option(
            help="gaussian, mixture, bayesian, repulsive or evidential. [card: surrogate.method]"
        ),
    ] = None,
    curve: Annotated[
        bool, typer.Option("--curve/--no-curve", help="Learn from fewer points, too.")
    ] = True,
    onnx: Annotated[
        bool, typer.Option("--onnx", help="Write an ONNX file of each subprocess group.")
    ] = False,
    seed: Seed = None,
    sampler: Sampler = None,
    settings: Settings = None,
    debug: Debug = False,
) -> None:
    """Learn a matrix element with its uncertainty, and report how well it is known.

    The points are those that the sampler of the card draws. NAME.surrogate.zip holds what was learned:
    `mlgen.load_surrogate` makes an amplitude of it. surrogate.html shows deviations, pulls, coverage and
    what two-stage unweighting gains. In a run, `--set run.surrogate=auto` does all of this by itself.

    Examples:

      mlgen surrogate uux_to_zggg --points 100000 --onnx

      mlgen surrogate gg_to_ttgg --method repulsive --no-curve -o learned
    """
    with importing_for_good():
        from mlgen import api, show
        from mlgen.diagnostics.progress import RichProgress
        from mlgen.jobs.surrogate_job import SurrogateOrder

    overrides = [*(settings or []), *overrides_of({"seed": seed, "sampler": sampler})]
    if method is not None:
        overrides.append(f"surrogate.method={method}")
    order = SurrogateOrder(n_points=points, n_test=tests, with_curve=curve, with_onnx=onnx)
    with interruptible():
        result = api.learn_surrogate(
            read_card(find_card(card), overrides),
            output,
            order,
            progress=RichProgress(Console(stderr=True)),
        )
    typer.echo(show.show_surrogate(result.record, result.folder))
