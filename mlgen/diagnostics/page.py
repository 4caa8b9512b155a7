"""Pages of HTML that need nothing but themselves.

Plots are inline SVG and styles inline CSS, without scripts and without anything loaded from
elsewhere; every text that came from a card is escaped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from mlgen.diagnostics.rounding import with_error


@dataclass(frozen=True, slots=True)
class PageFigure:
    """A plot with what is said below it."""

    svg: Markup
    title: str
    text: str
    warning: bool = False


def render_page(
    template: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """The page that a template of this room makes, as HTML.

    Args:
        template: a file beside this one, that extends `page.html.j2`.
        context: what it names; `title` among them.
        filters: beside `duration` and `size`.
    """
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        loader=FunctionLoader(_source),
    )
    environment.filters.update(duration=duration, size=size, **(filters or {}))
    return environment.get_template(template).render(context)


def _source(template: str) -> str:
    return resources.files("mlgen.diagnostics").joinpath(template).read_text(encoding="utf-8")


def percent(value: float, error: float) -> str:
    """A share and its error: `(40.0 ± 0.4)%`."""
    return f"({with_error(100 * value, 100 * error)})%"


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def size(n_bytes: int) -> str:
    """Bytes in powers of 1000, as file managers show them."""
    scaled = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if scaled < 1000:
            return f"{scaled:.3g} {unit}"
        scaled /= 1000
    return f"{scaled:.3g} GB"
