"""What a matrix-element provider is asked for, and how providers are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from mlgen.core import Progress, ResolvedAmplitude, SubprocessGroup
from mlgen.errors import CardError, MissingExtra, UnsupportedProcess
from mlgen.physics.model import Model


@dataclass(frozen=True, kw_only=True, slots=True)
class AmplitudeRequest:
    """The groups of a process, each to be computed for its first flavour assignment."""

    groups: tuple[SubprocessGroup, ...]
    model: Model
    cache_folder: Path
    """Where a provider may keep what is slow to make."""
    function: str = ""
    """`module:function`, for the provider `python`."""
    library: str = ""
    """A shared library, for the provider `umami`."""


AmplitudeProvider = Callable[[AmplitudeRequest, Progress], ResolvedAmplitude]
"""Raises `UnsupportedProcess` where it does not serve the process, `MissingExtra` where it is not installed."""

AUTO_ORDER = ("closed_form", "pyamplicol")
"""What `provider = "auto"` tries, in this order."""


def provider_names() -> tuple[str, ...]:
    """The registered providers: the entry points of the group `mlgen.amplitudes`."""
    return tuple(sorted(entry_points(group="mlgen.amplitudes").names))


def provide(
    name: str, request: AmplitudeRequest, progress: Progress
) -> tuple[str, ResolvedAmplitude]:
    """The amplitude of a process, and the name of the provider that made it.

    Args:
        name: a registered provider, or `auto` for the first one of `AUTO_ORDER` that serves
            the process.

    Raises:
        CardError: no such provider.
        UnsupportedProcess, MissingExtra: the provider, or with `auto` every one, declines.
    """
    if name != "auto":
        found = entry_points(group="mlgen.amplitudes", name=name)
        if not found:
            known = ", ".join(("auto", *provider_names()))
            raise CardError(f"matrix_element.provider = {name!r}: expected one of {known}")
        provider: AmplitudeProvider = next(iter(found)).load()
        return name, provider(request, progress)
    declined = []
    for candidate in AUTO_ORDER:
        try:
            return provide(candidate, request, progress)
        except (UnsupportedProcess, MissingExtra) as error:
            declined.append(f"{candidate}: {error}")
    raise UnsupportedProcess("no provider serves this process: " + "; ".join(declined))
