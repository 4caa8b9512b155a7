"""The formulas of a UFO model, as text, and their values."""

from __future__ import annotations

import ast
import cmath
import operator
from collections.abc import Callable, Mapping
from functools import lru_cache

from mlgen.errors import ModelError

Functions = Mapping[str, tuple[tuple[str, ...], str]]
"""A model's own functions: the names of their arguments, and their formulas."""

_FUNCTIONS: dict[str, Callable[..., complex]] = {
    "complex": complex,
    "abs": abs,
    "complexconjugate": lambda z: complex(z).conjugate(),
    "re": lambda z: complex(z).real,
    "im": lambda z: complex(z).imag,
    "sec": lambda z: 1 / cmath.cos(z),
    "csc": lambda z: 1 / cmath.sin(z),
    "cot": lambda z: 1 / cmath.tan(z),
    "asec": lambda z: cmath.acos(1 / z),
    "acsc": lambda z: cmath.asin(1 / z),
    "arg": cmath.phase,
    "theta_function": lambda x, y, z: y if complex(x).real > 0 else z,
    "cond": lambda condition, zero, other: zero if condition == 0 else other,
    "reglog": lambda z: cmath.log(z) if z else 0.0,
}
_CMATH: dict[str, Callable[..., complex]] = {
    name: getattr(cmath, name)
    for name in (
        "sqrt", "exp", "log", "log10", "sin", "cos", "tan", "asin", "acos", "atan",
        "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "phase",
    )
}  # fmt: skip
_BINARY: dict[type[ast.operator], Callable[[complex, complex], complex]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_ORDERED: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}


@lru_cache(maxsize=65536)
def _parsed(formula: str) -> ast.expr:
    try:
        return ast.parse(formula.strip(), mode="eval").body
    except SyntaxError as error:
        raise ModelError(f"{formula!r}: expected a formula ({error})") from error


def evaluate(formula: str, value_of: Callable[[str], complex], functions: Functions) -> complex:
    """The value of a formula: Python's arithmetic, cmath, and the functions that UFO adds.

    Args:
        formula: as in `parameters.py` and `couplings.py`.
        value_of: the value of a name; raises LookupError where there is none.
        functions: the model's own.

    Raises:
        ModelError: it is no such formula, or has no value.
    """
    try:
        return _value(_parsed(formula), value_of, functions)
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ModelError(f"{formula!r}: expected a formula with a value ({error})") from error


def _value(node: ast.expr, value_of: Callable[[str], complex], functions: Functions) -> complex:
    def inner(part: ast.expr) -> complex:
        return _value(part, value_of, functions)

    match node:
        case ast.Constant(value=int() | float() | complex() as number):
            return number
        case ast.Name():
            return value_of(node.id)
        case ast.Attribute(value=ast.Name(id="cmath" | "math"), attr="pi"):
            return cmath.pi
        case ast.Attribute(value=ast.Name(id="cmath" | "math"), attr="e"):
            return cmath.e
        case ast.Attribute(attr="real"):
            return complex(inner(node.value)).real
        case ast.Attribute(attr="imag"):
            return complex(inner(node.value)).imag
        case ast.UnaryOp(op=ast.USub()):
            return -inner(node.operand)
        case ast.UnaryOp(op=ast.UAdd()):
            return inner(node.operand)
        case ast.BinOp():
            return _BINARY[type(node.op)](inner(node.left), inner(node.right))
        case ast.IfExp():
            return inner(node.body if inner(node.test) else node.orelse)
        case ast.BoolOp():
            values = [bool(inner(part)) for part in node.values]
            return all(values) if isinstance(node.op, ast.And) else any(values)
        case ast.Compare(ops=[how], comparators=[right]):
            left_value, right_value = inner(node.left), inner(right)
            if isinstance(how, (ast.Eq, ast.NotEq)):
                return (left_value == right_value) == isinstance(how, ast.Eq)
            return _ORDERED[type(how)](complex(left_value).real, complex(right_value).real)
        case ast.Call(keywords=[]):
            return _call(node, inner, functions)
    raise ModelError(f"{ast.unparse(node)!r}: expected a part of a formula")


def _call(node: ast.Call, inner: Callable[[ast.expr], complex], functions: Functions) -> complex:
    match node.func:
        case ast.Attribute(value=ast.Name(id="cmath" | "math"), attr=name):
            return _CMATH[name](*map(inner, node.args))
        case ast.Attribute(attr="conjugate"):
            return complex(inner(node.func.value)).conjugate()
        case ast.Name(id=name) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*map(inner, node.args))
        case ast.Name(id=name) if name in functions:
            arguments, formula = functions[name]
            values = dict(zip(arguments, map(inner, node.args), strict=True))
            return evaluate(formula, values.__getitem__, functions)
        case ast.Name(id=name):
            # Inside a function library, those of cmath go without its name.
            return _CMATH[name](*map(inner, node.args))
    raise ModelError(f"{ast.unparse(node)!r}: expected a function")
