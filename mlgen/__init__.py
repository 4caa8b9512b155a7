"""mlgen: learned sampling between matrix elements and Les Houches events.

    import mlgen
    result = mlgen.run("pp_to_eej", n_events=10_000)

`mlgen.core` has the types that everything meets in; `mlgen.api` what scripts call.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# oneMKL, which torch multiplies with, may else round a product in one way now and in another one later
# in the same process: its guide, "Conditional Numerical Reproducibility". It is read at the first product.
os.environ.setdefault("MKL_CBWR", "AUTO")

if TYPE_CHECKING:
    from mlgen.api import (
        compare,
        generate,
        integrate,
        learn_surrogate,
        load_surrogate,
        merge,
        resume,
        run,
        train,
    )
    from mlgen.integration.ask_tell import AskTell
    from mlgen.integration.function_integral import FunctionSettings
    from mlgen.jobs.radiation_job import radiate
    from mlgen.jobs.run import TrainResult
    from mlgen.jobs.stages import RunResult

__version__ = "0.1.0.dev0"

__all__ = [
    "AskTell",
    "FunctionSettings",
    "RunResult",
    "TrainResult",
    "__version__",
    "compare",
    "generate",
    "integrate",
    "learn_surrogate",
    "load_surrogate",
    "merge",
    "radiate",
    "resume",
    "run",
    "train",
]

_HOMES = {
    "AskTell": "mlgen.integration.ask_tell",
    "FunctionSettings": "mlgen.integration.function_integral",
    "RunResult": "mlgen.jobs.stages",
    "TrainResult": "mlgen.jobs.run",
    "compare": "mlgen.api",
    "generate": "mlgen.api",
    "integrate": "mlgen.api",
    "learn_surrogate": "mlgen.api",
    "load_surrogate": "mlgen.api",
    "merge": "mlgen.api",
    "radiate": "mlgen.jobs.radiation_job",
    "resume": "mlgen.api",
    "run": "mlgen.api",
    "train": "mlgen.api",
}


def __getattr__(name: str) -> object:
    # Late, so that `mlgen --help` and a matrix-element subprocess do not wait for torch.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
