from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from mlgen.core import Progress
from mlgen.diagnostics.progress import RichProgress, SilentProgress


def log_and_progress(interval_s: float = 10.0) -> tuple[io.StringIO, RichProgress]:
    log = io.StringIO()
    return log, RichProgress(Console(file=log, force_terminal=False), interval_s=interval_s)


def terminal_and_progress(width: int = 100) -> tuple[io.StringIO, RichProgress]:
    screen = io.StringIO()
    console = Console(
        file=screen, force_terminal=True, width=width, _environ={"TERM": "xterm-256color"}
    )
    return screen, RichProgress(console)


def last_frame(screen: io.StringIO) -> str:
    """What stays on the screen: the text after the last erased line."""
    frame = screen.getvalue().split("\x1b[2K")[-1]
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", frame)


def test_both_satisfy_the_protocol() -> None:
    for progress in (RichProgress(Console(file=io.StringIO())), SilentProgress()):
        watched: Progress = progress
        with watched.step("adapting VEGAS", 2) as advance:
            advance(1, "")
            advance(1, "eps 7 %")


def test_a_log_has_a_line_at_the_start_and_at_the_end_of_each_step() -> None:
    log, progress = log_and_progress()
    with progress.step("adapting VEGAS", 3) as advance:
        advance(1, "")
        advance(2, "sigma = 212.1 pb")
    with progress.step("training the flow", 1) as advance:
        advance(1, "")
    assert log.getvalue().splitlines() == [
        "adapting VEGAS: started",
        "adapting VEGAS: done in 0:00, sigma = 212.1 pb",
        "training the flow: started",
        "training the flow: done in 0:00",
    ]


def test_a_log_has_no_control_characters() -> None:
    log, progress = log_and_progress(interval_s=0)
    with progress.step("a [bold]long[/bold] title " * 20, 4) as advance:
        for note in ("[red]note[/red]", "", "12 %", "last"):
            advance(1, note)
    text = log.getvalue()
    assert all(c == "\n" or c.isprintable() for c in text)
    assert "[bold]" in text
    assert "[red]note[/red]" in text
    assert len(text.splitlines()) == 6


def test_a_log_says_in_between_how_far_it_is_and_what_is_left() -> None:
    log, progress = log_and_progress(interval_s=0)
    with progress.step("generating", 4) as advance:
        advance(1, "2500 events")
    assert log.getvalue().splitlines()[1] == "generating: 25%, 0:00, 0:00 left, 2500 events"


def test_a_log_is_not_flooded() -> None:
    log, progress = log_and_progress()
    with progress.step("training", 5000) as advance:
        for _ in range(5000):
            advance(1, "loss 0.1")
    assert len(log.getvalue().splitlines()) == 2


def test_a_step_that_fails_says_so_and_lets_the_error_through() -> None:
    log, progress = log_and_progress()
    with pytest.raises(KeyError), progress.step("generating", 4):
        raise KeyError
    assert log.getvalue().splitlines()[-1] == "generating: stopped after 0:00"


def test_a_terminal_keeps_every_step_visible() -> None:
    screen, progress = terminal_and_progress()
    with progress.step("adapting VEGAS", 3) as advance:
        advance(2, "sigma = 212.1 pb")
    adapted = last_frame(screen)
    with progress.step("training the flow", 10) as advance:
        advance(10, "[loss] 0.1")
    trained = last_frame(screen)
    assert re.search(r"adapting VEGAS.*100%.*0:00.*done.*sigma = 212.1 pb", adapted)
    assert re.search(r"training the flow.*100%.*0:00.*done.*\[loss\] 0.1", trained)


def test_a_step_inside_a_step_has_its_own_bar() -> None:
    screen, progress = terminal_and_progress()
    with progress.step("outer", 2) as outer:
        outer(1, "")
        with progress.step("inner", 2) as inner:
            inner(1, "half")
    outer_line, inner_line = last_frame(screen).strip().splitlines()
    assert re.search(r"outer.*100%.*done", outer_line)
    assert re.search(r"inner.*100%.*done.*half", inner_line)


def test_a_bar_of_a_failed_step_stays_where_it_was() -> None:
    screen, progress = terminal_and_progress()

    def fail_after_a_quarter() -> None:
        with progress.step("generating", 4) as advance:
            advance(1, "")
            raise KeyError

    with pytest.raises(KeyError):
        fail_after_a_quarter()
    assert re.search(r"generating.*25%.*stopped", last_frame(screen))


def test_a_bar_fits_eighty_columns() -> None:
    screen, progress = terminal_and_progress(width=80)
    with progress.step("preparing the matrix element", 3) as advance:
        advance(1, "a note that is far too long for what is left of the line")
    lines = last_frame(screen).splitlines()
    assert all(len(line) <= 80 for line in lines)
    assert sum("preparing the matrix element" in line for line in lines) == 1


def test_silence_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with SilentProgress().step("adapting VEGAS", 3) as advance:
        advance(3, "sigma = 212.1 pb")
    assert capfd.readouterr() == ("", "")
