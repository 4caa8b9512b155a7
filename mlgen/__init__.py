"""mlgen: learned sampling between matrix elements and Les Houches events.

    import mlgen
    result = mlgen.run("pp_to_eej", n_events=10_000)

`mlgen.core` has the types that everything meets in; `mlgen.api` what scripts call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlgen.api import RunResult, compare, integrate, run

__version__ = "0.1.0.dev0"

__all__ = ["RunResult", "__version__", "compare", "integrate", "run"]


def __getattr__(name: str) -> object:
    # Late, so that `mlgen --help` and a matrix-element subprocess do not wait for torch.
    if name in ("RunResult", "compare", "integrate", "run"):
        from mlgen import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
