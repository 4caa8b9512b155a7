from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path

import pytest

from mlgen.amplitudes import provider
from mlgen.amplitudes.closed_form import ClosedForm
from mlgen.amplitudes.provider import AUTO_ORDER, AmplitudeRequest, provide, provider_names
from mlgen.core import Progress, ResolvedAmplitude, SubprocessGroup
from mlgen.diagnostics.progress import SilentProgress
from mlgen.errors import CardError, MissingExtra, UnsupportedProcess
from mlgen.physics.model import StandardModel


def request_for(*pdg_ids: int) -> AmplitudeRequest:
    groups = (SubprocessGroup(name="the process", pdg_ids=(pdg_ids,)),)
    return AmplitudeRequest(groups=groups, model=StandardModel(), cache_folder=Path())


MUON_PAIRS = request_for(-11, 11, 13, -13)
TOP_PAIRS = request_for(21, 21, 6, -6)


def unsupported(request: AmplitudeRequest, progress: Progress) -> ResolvedAmplitude:
    raise UnsupportedProcess("it has no tops")


def not_installed(request: AmplitudeRequest, progress: Progress) -> ResolvedAmplitude:
    raise MissingExtra("install the extra [amplitudes]")


def broken(request: AmplitudeRequest, progress: Progress) -> ResolvedAmplitude:
    raise RuntimeError("a bug")


def users_own(request: AmplitudeRequest, progress: Progress) -> ResolvedAmplitude:
    return ClosedForm(())


def register(monkeypatch: pytest.MonkeyPatch, **functions: str) -> None:
    """Make functions of this file the only registered providers."""
    registered = EntryPoints(
        EntryPoint(name=name, value=f"{__name__}:{function}", group="mlgen.amplitudes")
        for name, function in functions.items()
    )
    monkeypatch.setattr(provider, "entry_points", registered.select)


def test_the_providers_that_come_with_mlgen_are_registered() -> None:
    assert {*AUTO_ORDER, "python", "umami"} <= set(provider_names())


def test_auto_takes_the_closed_form_where_there_is_one() -> None:
    name, amplitude = provide("auto", MUON_PAIRS, SilentProgress())
    assert name == "closed_form"
    assert isinstance(amplitude, ClosedForm)


def test_a_provider_may_be_named() -> None:
    name, amplitude = provide("closed_form", MUON_PAIRS, SilentProgress())
    assert name == "closed_form"
    assert isinstance(amplitude, ClosedForm)


def test_a_users_own_provider_is_found_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, closed_form="unsupported", mine="users_own")
    name, amplitude = provide("mine", TOP_PAIRS, SilentProgress())
    assert name == "mine"
    assert isinstance(amplitude, ClosedForm)


def test_an_unknown_name_gets_the_known_ones() -> None:
    with pytest.raises(
        CardError,
        match=r"matrix_element\.provider = 'madgraf': expected one of auto, closed_form, pyamplicol",
    ):
        provide("madgraf", MUON_PAIRS, SilentProgress())


def test_a_named_provider_that_declines_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, closed_form="users_own", pyamplicol="not_installed")
    with pytest.raises(MissingExtra, match=r"install the extra \[amplitudes\]"):
        provide("pyamplicol", MUON_PAIRS, SilentProgress())


@pytest.mark.parametrize("first", ["unsupported", "not_installed"])
def test_auto_goes_on_where_the_first_provider_declines(
    monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    register(monkeypatch, closed_form=first, pyamplicol="users_own")
    assert provide("auto", TOP_PAIRS, SilentProgress())[0] == "pyamplicol"


def test_where_all_decline_the_message_has_the_reason_of_each(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    register(monkeypatch, closed_form="unsupported", pyamplicol="not_installed")
    with pytest.raises(
        UnsupportedProcess,
        match=r"no provider serves this process: closed_form: it has no tops; "
        r"pyamplicol: install the extra \[amplitudes\]",
    ):
        provide("auto", TOP_PAIRS, SilentProgress())


def test_auto_does_not_hide_a_bug_in_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    register(monkeypatch, closed_form="broken", pyamplicol="users_own")
    with pytest.raises(RuntimeError, match="a bug"):
        provide("auto", TOP_PAIRS, SilentProgress())
