"""What scripts and notebooks call: a card goes in, a cross section or a folder of events comes out.

import mlgen
result = mlgen.run("pp_to_eej", n_events=10_000)
print(result.record.cross_section_pb, result.folder)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from mlgen.build import build
from mlgen.campaign.checkpoint import StoredRun
from mlgen.campaign.merge import Merged
from mlgen.campaign.merge import merge as merge_parts
from mlgen.campaign.pack import read_pack
from mlgen.campaign.run_folder import new_folder, new_pack, sole_use
from mlgen.campaign.run_record import read_settled
from mlgen.campaign.step_clock import StepClock
from mlgen.campaign.warm_start import read_warm_start
from mlgen.campaign.whole_files import checksum
from mlgen.campaign.workers import Workers, local_workers
from mlgen.card_files import card_to_toml, find_card, read_card
from mlgen.cards import Card
from mlgen.core import Progress
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError
from mlgen.integration.aids import Aids
from mlgen.integration.candidates import Integration
from mlgen.integration.domain import Domain
from mlgen.integration.function_integral import (
    FunctionIntegral,
    FunctionSettings,
    integrate_function,
)
from mlgen.integration.integrator import integrate as _integrate
from mlgen.integration.user_function import Backend, UserFunction
from mlgen.jobs.generation import card_of
from mlgen.jobs.pack_job import StoredJob, run_job
from mlgen.jobs.run import TrainResult, resume_run, resume_training, run_card, train_card
from mlgen.jobs.stages import RunResult, check_format, one_thread

if TYPE_CHECKING:
    from mlgen.diagnostics.comparison import ComparisonResult, ComparisonSettings
    from mlgen.jobs.surrogate_job import SurrogateOrder, SurrogateResult
    from mlgen.surrogates.surrogate import Surrogate


@overload
def integrate(
    card: Card | Path | str, /, *, seed: int | None = None, progress: Progress | None = None
) -> Integration: ...


@overload
def integrate(
    function: Callable[..., Any],
    /,
    n_dim: int | None = None,
    *,
    bounds: Sequence[tuple[float, float]] | None = None,
    n_values: Sequence[int] = (),
    backend: Backend = "numpy",
    settings: FunctionSettings | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> FunctionIntegral: ...


def integrate(
    what: Card | Path | str | Callable[..., Any], /, *args: Any, **kwargs: Any
) -> Integration | FunctionIntegral:
    """The cross section of a card, or the integral of a function; with the samplers that were adapted to it.

    >>> found = integrate(lambda r: r[:, 0] * r[:, 1], 2)
    >>> abs(found.value - 0.25) < 5 * found.error < 0.002
    True

    Args:
        what: a card, the path of one, or the name of one that comes with mlgen; or f(points), which
            gives n real numbers, of either sign, for points (n, n_dim), float64, all at once; with
            discrete dimensions f(points, k), with k (n, len(n_values)), int64.
        n_dim: of a function: its continuous dimensions; None: as many as there are bounds.
        bounds: of a function: lower and upper end of each of them; None: 0 and 1.
        n_values: of a function: how many values each discrete dimension has, from 0; the integral is
            summed over all combinations.
        backend: of a function: whether it is called with "numpy" arrays or "torch" tensors.
        settings: of a function: the error to reach, the sampler; None: the defaults.
        seed: overrides that of the card or of the settings.

    Raises:
        MlgenError: one of its children says what is wrong.
        Exception: what the function raises.
    """
    with one_thread():
        if isinstance(what, Card | Path | str):
            return _integrate_card(what, *args, **kwargs)
        if not callable(what):
            raise CardError(f"integrate({what!r}): expected a card or a function")
        return _integrate_function(what, *args, **kwargs)


def _integrate_card(
    card: Card | Path | str, *, seed: int | None = None, progress: Progress | None = None
) -> Integration:
    card = _chosen_card(card, None, seed)
    progress = progress or SilentProgress()
    warm = read_warm_start(card)
    integrand = build(card, progress).integrand
    start = warm.sampler_for(integrand) if warm else None
    aids = Aids(progress=progress, clock=StepClock(), start=start)
    return _integrate(integrand, card, aids)


def _integrate_function(
    function: Callable[..., Any],
    n_dim: int | None = None,
    *,
    bounds: Sequence[tuple[float, float]] | None = None,
    n_values: Sequence[int] = (),
    backend: Backend = "numpy",
    settings: FunctionSettings | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> FunctionIntegral:
    settings = settings or FunctionSettings()
    if seed is not None:
        settings = replace(settings, seed=seed)
    user = UserFunction(
        function=function,
        domain=Domain.of(n_dim, bounds, n_values),
        backend=backend,
        max_points=settings.chunk_size,
    )
    return integrate_function(user, settings, progress or SilentProgress(), StepClock())


def run(
    card: Card | Path | str,
    folder: Path | str | None = None,
    *,
    n_events: int | None = None,
    seed: int | None = None,
    workers: Workers | int = 1,
    decisions: Path | str | None = None,
    progress: Progress | None = None,
) -> RunResult:
    """Generate the events of a card into a folder: events, record, report and sampler pack.

    What is learned is stored in the folder every few seconds, and each chunk of events once it is
    made: see `resume`. The events do not depend on the number of workers.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        folder: a new or empty one; None: `runs/NAME`, or the next free `runs/NAME-2`, ...
        n_events, seed: override the card's.
        workers: processes of this machine, or workers elsewhere.
        decisions: the `run.json` of an earlier run, whose measured times decide where the card
            leaves the choice to the run; None: times are measured.

    Raises:
        MlgenError: one of its children says what is wrong; `run.json` in the folder says so too.
    """
    card = _chosen_card(card, n_events, seed)
    settled = read_settled(Path(decisions)) if decisions is not None else {}
    target = new_folder(folder, card.process.name)
    with sole_use(target), _working(workers) as crew:
        stored = StoredRun(card=card_to_toml(card), measured=settled)
        return run_card(target, card, stored, crew, progress or SilentProgress())


def train(
    card: Card | Path | str,
    path: Path | str | None = None,
    *,
    n_events: int | None = None,
    seed: int | None = None,
    decisions: Path | str | None = None,
    progress: Progress | None = None,
) -> TrainResult:
    """Learn what the events of a card are drawn from, and pack it.

    Until the pack is there, what is learned is stored in the folder `PACK.partial`: see `resume_train`.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        path: of the pack, NAME.mlgen.zip, which must not exist; None: in the working directory.
        n_events: how many the pack is wanted for; `auto` trains for many rather than for few.
        seed, decisions: as for `run`.

    Raises:
        MlgenError: one of its children says what is wrong.
    """
    card = _chosen_card(card, n_events, seed)
    settled = read_settled(Path(decisions)) if decisions is not None else {}
    target = new_pack(path, card.process.name)
    folder = new_folder(target.with_name(target.name + ".partial"), card.process.name)
    with sole_use(folder):
        stored = StoredRun(card=card_to_toml(card), measured=settled, pack=str(target.absolute()))
        return train_card(folder, card, stored, progress or SilentProgress())


def generate(
    pack: Path | str,
    folder: Path | str | None = None,
    *,
    n_events: int | None = None,
    seed: int | None = None,
    shard: tuple[int, int] | None = None,
    format: str | None = None,
    workers: Workers | int = 1,
    cache_folder: Path | str = "",
    progress: Progress | None = None,
) -> RunResult:
    """Make events from a pack, without learning anything.

    The same pack and seed give the same events; another seed gives independent ones, whose cross
    section shares the points with which the pack was measured.

    Args:
        pack: a file that `run` or `train` wrote.
        folder: as for `run`.
        n_events, seed, format: override those of the pack's card.
        shard: (number, of how many): the part of the sample that is made here; its file holds all
            events of its chunks. `merge` joins the parts.
        workers: as for `run`.
        cache_folder: of matrix elements; empty: the usual one.

    Raises:
        PackError: the pack is damaged, newer than this mlgen, or of another integrand than its
            process has here.
        MlgenError: as `run`.
    """
    path = Path(pack)
    found = read_pack(path)
    card = card_of(found)
    asked = StoredJob(
        pack=str(path.absolute()),
        pack_sha256=checksum(path),
        n_events=card.run.n_events if n_events is None else n_events,
        seed=card.run.seed if seed is None else seed,
        format=card.run.format if format is None else format,
        shard=shard,
        cache_folder=str(cache_folder),
    )
    check_format(replace(card, run=asked.run_of(card.run)))
    target = new_folder(folder, card.process.name)
    with sole_use(target), _working(workers) as crew:
        return run_job(target, asked, crew, progress or SilentProgress())


def resume(
    folder: Path | str, *, workers: Workers | int = 1, progress: Progress | None = None
) -> RunResult:
    """Go on with a run, or with the events of a pack, from what was learned, decided and made.

    The events are those that it would have made, byte for byte.

    Args:
        folder: that of `run` or `generate`.
        workers: as for `run`.

    Raises:
        CardError: nothing is there, or nothing that was interrupted.
        PackError: what was stored is damaged, of another version of mlgen, or of another integrand.
        MlgenError: as `run`.
    """
    with _working(workers) as crew:
        return resume_run(Path(folder), crew, progress or SilentProgress())


def resume_train(folder: Path | str, *, progress: Progress | None = None) -> TrainResult:
    """Go on with `train`, from what was learned and decided.

    Args:
        folder: `PACK.partial`.

    Raises:
        CardError, PackError, MlgenError: as `resume`.
    """
    return resume_training(Path(folder), progress or SilentProgress())


def merge(
    parts: Sequence[Path | str],
    output: Path | str,
    *,
    n_events: int | None = None,
    progress: Progress | None = None,
) -> Merged:
    """Join the event files of the parts of a sample into one.

    Args:
        parts: files of `generate` with `shard`, in any order.
        output: the new file; its name says its format.
        n_events: the first so many; None: as many as the sample was to have.

    Raises:
        EventFileError: a chunk is there twice, or missing; a file is damaged, or of another sample.
    """
    paths = [Path(part) for part in parts]
    return merge_parts(paths, Path(output), n_events, progress or SilentProgress())


def learn_surrogate(
    card: Card | Path | str,
    folder: Path | str | None = None,
    order: SurrogateOrder | None = None,
    *,
    seed: int | None = None,
    progress: Progress | None = None,
) -> SurrogateResult:
    """Learn the matrix element of a card with its uncertainty, and report how well it is known.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen; its section
            `[surrogate]` says how.
        folder: as for `run`.
        order: how many points, and what else is wanted; None: the defaults.

    Raises:
        MlgenError: one of its children says what is wrong.
    """
    from mlgen.jobs.surrogate_job import SurrogateOrder, make_surrogate

    card = _chosen_card(card, None, seed)
    target = new_folder(folder, card.process.name)
    with sole_use(target):
        return make_surrogate(target, card, order or SurrogateOrder(), progress or SilentProgress())


def load_surrogate(path: Path | str) -> Surrogate:
    """The learned matrix element in a file that `learn_surrogate` wrote: a `core.Amplitude`.

    Its values are approximate, with a standard deviation that is infinite where nothing like a point
    was seen: `surrogate(momenta, alpha_s, group)`, with the groups in the order of the card's process.

    Raises:
        PackError: the file is damaged, or of other groups than its card has here.
    """
    from mlgen.jobs.surrogate_job import open_surrogate

    return open_surrogate(Path(path))


def compare(
    card: Card | Path | str,
    settings: ComparisonSettings | None = None,
    progress: Progress | None = None,
) -> ComparisonResult:
    """mlgen's samplers beside the vegas package and madnis, on the integrand of a card.

    Args:
        card: a card, the path of one, or the name of one that comes with mlgen.
        settings: how much is compared; None: the defaults.

    Raises:
        MlgenError: one of its children says what is wrong.
    """
    from mlgen.diagnostics import comparison

    settings = settings or comparison.ComparisonSettings()
    comparison.check_installed(settings.samplers)
    card = _chosen_card(card, None, None)
    progress = progress or SilentProgress()
    with one_thread():
        integrand = build(card, progress).integrand
        return comparison.compare_samplers(
            integrand, card, settings, progress, card.process.definition, "pb"
        )


@contextmanager
def _working(workers: Workers | int) -> Iterator[Workers]:
    """Workers that are ended here if they were begun here."""
    if isinstance(workers, Workers):
        yield workers
        return
    with local_workers(workers) as crew:
        yield crew


def _chosen_card(card: Card | Path | str, n_events: int | None, seed: int | None) -> Card:
    if not isinstance(card, Card):
        card = read_card(find_card(card))
    run_card = card.run
    if n_events is not None:
        run_card = replace(run_card, n_events=n_events)
    if seed is not None:
        run_card = replace(run_card, seed=seed)
    return replace(card, run=run_card)
