"""Matrix elements by a Python function of the user's."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from functools import cached_property

import torch
from torch import Tensor

from mlgen.amplitudes.provider import AmplitudeRequest
from mlgen.amplitudes.unresolved import Unresolved, check_values
from mlgen.core import Progress, SubprocessGroup
from mlgen.errors import CardError, MatrixElementError

MatrixElementFunction = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Called with momenta (n, n_ext, 4) in GeV, laboratory frame, incoming first, alpha_s (n,) and
pdg_ids (n_ext,); gives |M|² (n,) as `AmplitudeValue.value` has it."""


def provide(request: AmplitudeRequest, progress: Progress) -> PythonFunction:
    """The amplitude that `matrix_element.function` names; it is found now and called later.

    Raises:
        CardError: there is no such function.
    """
    amplitude = PythonFunction(request.function, request.groups)
    with progress.step("preparing the matrix element", 1) as advance:
        find_function(request.function)
        advance(1, request.function)
    return amplitude


class PythonFunction(Unresolved):
    """|M|² by a function found by its name, so that it can be sent to other processes."""

    def __init__(self, name: str, groups: tuple[SubprocessGroup, ...]) -> None:
        super().__init__(groups)
        self._name = name

    def __reduce__(self) -> tuple[type[PythonFunction], tuple[str, tuple[SubprocessGroup, ...]]]:
        return PythonFunction, (self._name, self.groups)

    @cached_property
    def _function(self) -> MatrixElementFunction:
        return find_function(self._name)

    def value(self, momenta: Tensor, alpha_s: Tensor, group: int) -> Tensor:
        asked = self.groups[group]
        pdg_ids = torch.tensor(asked.pdg_ids[0], device=momenta.device)
        where = f"matrix_element.function {self._name} of {asked.name}"
        try:
            value = self._function(momenta, alpha_s, pdg_ids)
        except (Exception, SystemExit) as error:  # sys.exit(0) would look like a complete run
            raise MatrixElementError(f"{where} raised {error!r}") from error
        if not isinstance(value, Tensor):
            raise MatrixElementError(
                f"{where} = a {type(value).__name__}: expected a tensor of |M|², of shape "
                f"({len(momenta)},)"
            )
        check_values(value, momenta, where)
        return value.detach().to(momenta)


def find_function(name: str) -> MatrixElementFunction:
    """The function that `module:function` names.

    Raises:
        CardError: it cannot be imported, or is no function.
    """
    where = f"matrix_element.function = {name!r}"
    module_name, separator, function_name = name.partition(":")
    if not (module_name and separator and function_name):
        raise CardError(f"{where}: expected module:function")
    try:
        function = getattr(importlib.import_module(module_name), function_name)
    except (ImportError, AttributeError) as error:
        raise CardError(
            f"{where}: expected a function that Python can import, from PYTHONPATH for instance ({error})"
        ) from error
    if not callable(function):
        raise CardError(f"{where}: expected a function, not a {type(function).__name__}")
    found: MatrixElementFunction = function
    return found
