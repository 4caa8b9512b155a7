"""The command line: a thin skin over `mlgen.api`."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from typer.exceptions import TyperException

import mlgen
from mlgen.card_files import card_names, find_card, read_card
from mlgen.commands.process import print_notes
from mlgen.commands.radiate import (
    control_command,
    radiate_command,
    train_radiation_command,
)
from mlgen.commands.radiation import radiation_app
from mlgen.commands.sampling import (
    Debug,
    generate_command,
    merge_command,
    run_command,
    train_command,
)
from mlgen.commands.surrogate import surrogate_command
from mlgen.errors import EventFileError, MissingExtra, MlgenError

INTERRUPTED = 130
UNEXPECTED = 70

app = typer.Typer(
    name="mlgen",
    help=(
        "Generate parton-level events with learned sampling, and never a wrong answer.\n\n"
        "A card says what to generate; `mlgen list` shows those that come with mlgen. "
        "A run leaves events.lhe.gz, run.json, report.html and a pack of what was learned."
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"mlgen {mlgen.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Nothing to do before a command."""


app.command("run")(run_command)
app.command("train")(train_command)
app.command("generate")(generate_command)
app.command("merge")(merge_command)
app.add_typer(radiation_app)
app.command("surrogate")(surrogate_command)
app.command("radiate")(radiate_command)
radiation_app.command("train")(train_radiation_command)
radiation_app.command("control")(control_command)


@app.command("compare")
def compare_command(
    card: Annotated[str, typer.Argument(help="A card: a TOML file, or a name from `mlgen list`.")],
    n_calls: Annotated[
        int, typer.Option("--calls", help="Matrix elements that each sampler learns from.")
    ] = 1_000_000,
    n_points: Annotated[
        int, typer.Option("--points", help="Fresh points of each: N of eps_uw(N, t).")
    ] = 100_000,
    seed: Annotated[int, typer.Option("--seed", help="Rules every random number.")] = 1,
    samplers: Annotated[
        str,
        typer.Option(
            help="Some of vegas-classic, vegas-stratified, grid, flow, madnis, with commas. [all]"
        ),
    ] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all numbers to this file.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Draw the weights into this folder.")
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Override any key of the card."),
    ] = None,
    debug: Debug = False,
) -> None:
    """Compare samplers: the vegas package, mlgen's grid and flow, madnis where it is installed.

    Each learns from the same number of matrix elements, and is judged by fresh points. Times are
    CPU seconds of one thread. docs/compare.md says how each is set up.

    Examples:

      mlgen compare pp_to_eej -o compared --json compared.json

      mlgen compare gg_to_ttg --calls 200000 --samplers vegas-classic,flow
    """
    from mlgen import api
    from mlgen.diagnostics import comparison, comparison_text
    from mlgen.diagnostics.progress import RichProgress

    wanted = comparison.ComparisonSettings(
        n_calls=n_calls,
        n_points=n_points,
        seed=seed,
        samplers=tuple(name for name in samplers.split(",") if name),
    )
    chosen = read_card(find_card(card), list(settings or []))
    found = api.compare(chosen, wanted, RichProgress(Console(stderr=True)))
    typer.echo(comparison_text.comparison_text(found))
    if json_file is not None:
        comparison.write_json(found, json_file)
    if output is not None:
        from mlgen.diagnostics.comparison_plots import write_plots

        output.mkdir(parents=True, exist_ok=True)
        for path in write_plots(found, output):
            typer.echo(path)


@app.command("list")
def list_command(debug: Debug = False) -> None:
    """Show the cards that come with mlgen."""
    names = card_names()
    width = max(map(len, names))
    for name in names:
        card = read_card(find_card(name))
        energy = sum(card.beams.energies_gev)
        typer.echo(
            f"{name:{width}}  {card.process.definition:20}  {energy:g} GeV  "
            f"{card.matrix_element.provider}"
        )


@app.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="An event file: .lhe, .lhe.gz or .lheh5.")],
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print the report as JSON; docs/event_files.md has its keys."),
    ] = False,
    debug: Debug = False,
) -> None:
    """Validate an event file: structure, kinematics, colour lines, charges, weights, counts.

    Where a run.json beside it has its checksum, that is compared too.

    Exit codes: 0 the file is good; 7 it is not.

    Examples:

      mlgen check runs/pp_to_eej/events.lhe.gz

      mlgen check events.lheh5 --json > report.json
    """
    from mlgen.events.check import check_file

    report = check_file(file)
    if as_json:
        typer.echo(json.dumps(report.to_table(), indent=2, allow_nan=False))
    else:
        from mlgen import show

        typer.echo(show.show_check(report))
    if not report.is_good:
        raise typer.Exit(EventFileError.exit_code)


@app.command("show")
def show_command(
    what: Annotated[str, typer.Argument(help="An event file, a card, a run folder or a pack.")],
    debug: Debug = False,
) -> None:
    """Summarise an event file, a card, a run folder or a pack."""
    from mlgen import show

    typer.echo(show.show(what))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line, and exit with the code of what happened."""
    sys.exit(run_arguments(sys.argv[1:] if arguments is None else arguments))


def run_arguments(arguments: Sequence[str]) -> int:
    """Run the command line on given arguments; the exit code."""
    debug = "--debug" in arguments
    try:
        code = app(list(arguments), prog_name="mlgen", standalone_mode=False)
    except TyperException as error:
        return _report(
            error, f"mlgen: {error.format_message()} (see --help)", error.exit_code, debug
        )
    except MlgenError as error:
        return _report(error, f"mlgen: {error}", error.exit_code, debug)
    except OSError as error:
        return _report(error, f"mlgen: {error}", 1, debug)
    except ImportError as error:
        text = f"mlgen: {error}: expected a complete installation: pip install 'mlgen-hep[all]'"
        return _report(error, text, MissingExtra.exit_code, debug)
    # The last line of defence: one line, never a silent success. A user's function may call sys.exit(0).
    except (Exception, SystemExit) as error:
        if isinstance(error.__context__, BrokenPipeError):  # click ends the process then
            return _report(error, "mlgen: standard output was closed", 1, debug)
        text = f"mlgen: unexpected {type(error).__name__}: {error} (--debug shows where)"
        return _report(error, text, UNEXPECTED, debug)
    if code == INTERRUPTED:
        print("mlgen: interrupted", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _report(error: Exception | SystemExit, text: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    with suppress(OSError):  # nobody reads it any more
        print(" ".join(text.split()), file=sys.stderr)
    print_notes(error)
    return code
