"""Evaluation of a pyamplicol artifact by its native runtime, in as many processes as wanted.

pyamplicol 1.0.1: importing its Python package imports Symbolica, which unlicensed lets one
process per user run and aborts any second one. Its extension module needs neither, so it is
loaded by its path.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mlgen.errors import MatrixElementError, MissingExtra

Array = npt.NDArray[np.float64]


def package_folder() -> Path:
    """Where pyamplicol is installed, found without importing it.

    Raises:
        MissingExtra: it is not installed.
    """
    found = importlib.util.find_spec("pyamplicol")
    if found is None or not found.submodule_search_locations:
        raise MissingExtra(
            "pyamplicol is not installed: pip install 'mlgen-hep[amplitudes]', or, for the "
            'processes that it knows, set matrix_element.provider = "closed_form"'
        )
    return Path(found.submodule_search_locations[0])


@cache
def _native_module(folder: Path) -> Any:
    candidates = [
        folder / f"_rusticol{suffix}" for suffix in importlib.machinery.EXTENSION_SUFFIXES
    ]
    for path in candidates:
        found = importlib.util.spec_from_file_location("_rusticol", path)
        if path.exists() and found is not None and found.loader is not None:
            module = importlib.util.module_from_spec(found)
            found.loader.exec_module(module)
            return module
    raise MatrixElementError(
        f"pyamplicol in {folder} has no native runtime: expected one of "
        + ", ".join(path.name for path in candidates)
    )


@cache
def _load(
    artifact: Path, process: str, parameters: tuple[tuple[str, float], ...], stamp: _Stamp
) -> Any:
    """The native runtime of a process, loaded once.

    pyamplicol 1.0.1 never gives the memory of a runtime back: thousands of maps for a process with
    six legs, of which Linux lets a program have 65530.
    """
    return _native_module(package_folder()).Runtime.load(
        artifact, process=process, model_parameters=dict(parameters), mute_warnings=True
    )


_Stamp = tuple[tuple[str, int, int], ...]
"""Names, sizes and times of files."""


def _stamp(artifact: Path) -> _Stamp:
    """What changes where an artifact does."""
    files = sorted(path for path in artifact.rglob("*") if path.is_file())
    stats = ((str(path.relative_to(artifact)), path.stat()) for path in files)
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)


def _explain(process: str, artifact: Path, error: str) -> str:
    if "Cannot allocate memory" in error:
        return (
            f"the matrix element of {process} cannot be loaded: this program holds as many others "
            "as the system lets it (vm.max_map_count); run again in a new one"
        )
    return (
        f"the matrix element of {process} cannot be loaded ({error}): delete {artifact} "
        "and run again to have it made anew"
    )


class ProcessRuntime:
    """One process of an artifact. Not to be called by two threads at a time."""

    def __init__(
        self, artifact: Path, process: str, pdg_ids: Sequence[int], parameters: Mapping[str, float]
    ) -> None:
        """Load a process.

        Args:
            artifact: its folder.
            process: `u u~ > e+ e- g`.
            pdg_ids: (n_ext,), the order in which momenta will come.
            parameters: the model's external parameters by their names there.

        Raises:
            MissingExtra: pyamplicol is not installed.
            MatrixElementError: the artifact is damaged, or holds something else.
        """
        self._process = process
        native = _native_module(package_folder())
        self._errors = (native.RusticolError, ValueError)
        try:
            self._runtime = _load(artifact, process, tuple(parameters.items()), _stamp(artifact))
            physics = self._runtime.physics
        except self._errors as error:
            raise MatrixElementError(_explain(process, artifact, str(error))) from error
        found = [particle.pdg_id for particle in physics.external_particles]
        if found != list(pdg_ids):
            raise MatrixElementError(
                f"{artifact} has the legs {found} for {process}: expected {list(pdg_ids)}"
            )
        self._nonzero = [c for c in physics.helicities if not c.structural_zero]
        self.helicities: tuple[tuple[int, ...], ...] = tuple(tuple(c.values) for c in self._nonzero)
        """The configurations that do not vanish identically: (n_helicities, n_ext)."""
        self.colour_words: tuple[tuple[int, ...], ...] = tuple(
            tuple(flow.word) for flow in physics.color_flows
        )
        """The flows of a leading-colour artifact; empty for full colour."""

    def set_parameters(self, parameters: Mapping[str, float]) -> None:
        """Change external parameters of the model."""
        self._call(self._runtime.set_model_parameters, dict(parameters))

    def totals(self, momenta: Array) -> Array:
        """|M|² (n,), summed over helicities and flows, at the momenta (n, n_ext, 4), GeV."""
        return np.array(self._call(self._runtime.evaluate, _buffer(momenta)), dtype=np.float64)

    def by_helicity(self, momenta: Array) -> Array:
        """|M|² of each of `helicities`, summed over flows: (n, n_helicities)."""
        ids = [configuration.id for configuration in self._nonzero]
        resolved = self._call(self._runtime.evaluate_resolved, _buffer(momenta), helicities=ids)
        values: Array = np.array(resolved.values, dtype=np.float64)
        return np.asarray(values.sum(axis=2), dtype=np.float64)

    def one_helicity(self, momenta: Array, helicity: int) -> Array:
        """|M|² (n,) of one of `helicities`, an index, summed over flows.

        In g g > t t~ g g it costs a twentieth of `totals`; two of them at once cost twice as much
        as `totals`.
        """
        ids = [self._nonzero[helicity].id]
        values = self._call(self._runtime.evaluate, _buffer(momenta), helicities=ids)
        return np.array(values, dtype=np.float64)

    def by_flow(self, momenta: Array, helicity: int | None) -> Array:
        """|M|² of each of `colour_words`, (n, n_words), of one of `helicities`; None sums over them."""
        ids = None if helicity is None else [self._nonzero[helicity].id]
        resolved = self._call(self._runtime.evaluate_resolved, _buffer(momenta), helicities=ids)
        values: Array = np.array(resolved.values, dtype=np.float64)
        return np.asarray(values.sum(axis=1), dtype=np.float64)

    def _call(self, function: Callable[..., Any], *arguments: Any, **selectors: Any) -> Any:
        try:
            return function(*arguments, **selectors)
        except self._errors as error:
            raise MatrixElementError(f"the matrix element of {self._process}: {error}") from error


def _buffer(momenta: Array) -> Array:
    # pyamplicol 1.0.1 takes C-ordered float64 buffers without conversion; an array in
    # another order is misread without an error.
    return np.ascontiguousarray(momenta, dtype=np.float64)
