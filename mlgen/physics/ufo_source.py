"""The Python of a UFO folder, read without running it.

A model in the Universal FeynRules Output (arXiv:1108.2040) is a Python package that makes objects:
particles, parameters, couplings, vertices. What such files consist of is read here from their syntax
tree: assignments, calls of the constructors, and the loops of hand-written models. Anything else is
an error, so that no code of a folder ever runs.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import operator
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from mlgen.errors import ModelError

KINDS = ("Particle", "Parameter", "Coupling", "Vertex", "Lorentz", "CouplingOrder", "Function")

_MODULES = {
    "parameters",
    "particles",
    "couplings",
    "lorentz",
    "vertices",
    "coupling_orders",
    "function_library",
}
_CALLABLE: dict[str, Callable[..., Any]] = {
    "range": range, "list": list, "tuple": tuple, "set": set, "sorted": sorted, "len": len,
    "str": str, "int": int, "float": float, "enumerate": enumerate, "zip": zip,
}  # fmt: skip
_ITERTOOLS: dict[str, Callable[..., Any]] = {
    "product": itertools.product,
    "permutations": itertools.permutations,
    "combinations": itertools.combinations,
    "combinations_with_replacement": itertools.combinations_with_replacement,
}
_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Mod: operator.mod,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARED: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
    ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b, ast.NotIn: lambda a, b: a not in b,
}  # fmt: skip


class UfoObject:
    """What a constructor of a UFO file was called with."""

    def __init__(self, kind: str, fields: dict[str, Any]) -> None:
        self.kind = kind
        self.fields = fields

    def __getitem__(self, field: str) -> Any:
        return self.fields[field]

    def get(self, field: str, default: Any = None) -> Any:
        """A field, or the default where the file leaves it out."""
        return self.fields.get(field, default)


def read_ufo_objects(folder: Path) -> dict[str, list[UfoObject]]:
    """All objects that the files of a UFO folder make, by their kind, in their order.

    Raises:
        ModelError: a file is not there, or holds what is not read.
    """
    package = _Package(folder)
    for module in ("particles", "parameters", "couplings", "vertices"):
        package.module(module)
    for module in ("coupling_orders", "function_library"):
        if (folder / f"{module}.py").exists():
            package.module(module)
    return package.made


class _Package:
    """The modules of a folder that were read so far, and the objects that they made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, list[UfoObject]] = {kind: [] for kind in KINDS}
        self._modules: dict[str, dict[str, Any]] = {}

    def module(self, name: str) -> dict[str, Any]:
        """The names that a module defines."""
        if name not in self._modules:
            path = self.folder / f"{name}.py"
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (OSError, SyntaxError, ValueError) as error:
                raise ModelError(
                    f"model.ufo_folder = {str(self.folder)!r}: expected a readable {path.name} "
                    f"({error})"
                ) from error
            self._modules[name] = {}
            _Reader(self, path, self._modules[name]).read(tree.body)
        return self._modules[name]

    def make(self, kind: str, fields: dict[str, Any]) -> UfoObject:
        """What a constructor does."""
        made = UfoObject(kind, fields)
        self.made[kind].append(made)
        return made

    def make_anti(self, particle: UfoObject) -> UfoObject:
        """What `particle.anti()` does."""
        colour = particle["color"]
        return self.make(
            "Particle",
            {
                **particle.fields,
                "pdg_code": -particle["pdg_code"],
                "name": particle["antiname"],
                "antiname": particle["name"],
                "color": colour if colour in (1, 8) else -colour,
                "charge": -particle["charge"],
            },
        )


class _NextItem(Exception):
    """A loop goes on with its next item."""


class _Reader:
    """Reads the statements and expressions of one file."""

    def __init__(self, package: _Package, path: Path, names: dict[str, Any]) -> None:
        self.package = package
        self.path = path
        self.names = names

    def refuse(self, node: ast.AST) -> ModelError:
        """The error for what is not read."""
        line = getattr(node, "lineno", "?")
        return ModelError(
            f"model.ufo_folder = {str(self.package.folder)!r}: {self.path.name}, line {line}: "
            f"{ast.unparse(node)[:60]!r}: expected what UFO files consist of; other code is not run"
        )

    def read(self, statements: Iterable[ast.stmt]) -> None:
        """Take in statements, in their order."""
        for statement in statements:
            self._read_statement(statement)

    def _read_statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.ImportFrom):
            self._import(node)
        elif isinstance(node, (ast.Import, ast.Try, ast.Pass, ast.Global)):
            pass  # cmath, itertools; form factors that may be missing: nothing of it is called
        elif isinstance(node, ast.Assign):
            value = self.value(node.value)
            for target in node.targets:
                self._bind(target, value)
        elif isinstance(node, ast.For) and not node.orelse:
            for item in self.value(node.iter):
                self._bind(node.target, item)
                with contextlib.suppress(_NextItem):
                    self.read(node.body)
        elif isinstance(node, ast.Continue):
            raise _NextItem
        elif isinstance(node, ast.If):
            self.read(node.body if self.value(node.test) else node.orelse)
        elif isinstance(node, ast.Expr):
            self.value(node.value)
        else:
            raise self.refuse(node)

    def _import(self, node: ast.ImportFrom) -> None:
        for alias in node.names:
            bound = alias.asname or alias.name
            if alias.name in _MODULES and not (node.module or "").strip("."):
                self.names[bound] = self.package.module(alias.name)
            elif (node.module or "").split(".")[-1] in _MODULES - {"function_library"}:
                module = self.package.module((node.module or "").split(".")[-1])
                self.names |= module if alias.name == "*" else {bound: module[alias.name]}

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
        elif isinstance(target, ast.Tuple):
            for inner, item in zip(target.elts, value, strict=True):
                self._bind(inner, item)
        elif isinstance(target, ast.Subscript):
            self.value(target.value)[self.value(target.slice)] = value
        elif isinstance(target, ast.Attribute):
            pass  # `P.x.loop_particles = ...`: what only loops need
        else:
            raise self.refuse(target)

    def value(self, node: ast.expr) -> Any:
        """What an expression stands for."""
        try:
            return self._value(node)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise self.refuse(node) from error

    def _value(self, node: ast.expr) -> Any:
        match node:
            case ast.Constant():
                return node.value
            case ast.Name():
                return self.names[node.id]
            case ast.Attribute():
                owner = self._value(node.value)
                return owner[node.attr]
            case ast.Call():
                return self._call(node)
            case ast.List() | ast.Tuple() | ast.Set():
                kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
                return kind(self._items(node.elts))
            case ast.Dict():
                keys = [self._value(key) for key in node.keys if key is not None]
                return dict(zip(keys, map(self._value, node.values), strict=True))
            case ast.ListComp() | ast.GeneratorExp() | ast.SetComp():
                return list(self._comprehension(node.elt, node.generators))
            case ast.Subscript():
                return self._value(node.value)[self._value(node.slice)]
            case ast.BinOp():
                return _BINARY[type(node.op)](self._value(node.left), self._value(node.right))
            case ast.UnaryOp(op=ast.USub()):
                return -self._value(node.operand)
            case ast.UnaryOp(op=ast.Not()):
                return not self._value(node.operand)
            case ast.Compare(ops=[how], comparators=[right]):
                return _COMPARED[type(how)](self._value(node.left), self._value(right))
            case ast.IfExp():
                return self._value(node.body if self._value(node.test) else node.orelse)
        raise self.refuse(node)

    def _items(self, nodes: Iterable[ast.expr]) -> list[Any]:
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items += self._value(node.value)
            else:
                items.append(self._value(node))
        return items

    def _comprehension(
        self, element: ast.expr, generators: list[ast.comprehension]
    ) -> Iterable[Any]:
        if not generators:
            yield self._value(element)
            return
        first, *others = generators
        for item in self._value(first.iter):
            self._bind(first.target, item)
            if all(self._value(test) for test in first.ifs):
                yield from self._comprehension(element, others)

    def _call(self, node: ast.Call) -> Any:
        positional = self._items(node.args)
        match node.func:
            case ast.Name(id="globals"):
                return self.names
            case ast.Name(id="getattr"):
                return positional[0][positional[1]]
            case ast.Name(id=name) if name in KINDS and not positional:
                fields = {k.arg: self._value(k.value) for k in node.keywords if k.arg is not None}
                return self.package.make(name, fields)
            case ast.Name(id=name) if name in _CALLABLE and not node.keywords:
                return _CALLABLE[name](*positional)
            case ast.Attribute(value=ast.Name(id="itertools"), attr=name):
                repeat = {str(k.arg): self._value(k.value) for k in node.keywords}
                return _ITERTOOLS[name](*positional, **repeat)
            case ast.Attribute(attr="append") if not node.keywords:
                return self._value(node.func.value).append(*positional)
            case ast.Attribute(attr="anti") if not positional:
                return self.package.make_anti(self._value(node.func.value))
            case ast.Attribute(value=ast.Constant(value=str(text)), attr="join"):
                return text.join(*positional)
        raise self.refuse(node)
