"""The source of a function entry by entry as single calls of NumPy's ufuncs, each of which can write into an array."""

from __future__ import annotations

import ast
from functools import lru_cache
from typing import NamedTuple

import numpy as np

OPERATORS = {
    ast.Add: "add",
    ast.Sub: "subtract",
    ast.Mult: "multiply",
    ast.Div: "divide",
    ast.Pow: "power",
    ast.USub: "negative",
}

Argument = int | str  # the place of an operand, operands first and then the results of steps, or the source of a number


class Step(NamedTuple):
    """One call of a ufunc."""

    name: str
    arguments: tuple[Argument, ...]


@lru_cache(maxsize=256)
def steps(template: str, arity: int) -> tuple[Step, ...]:
    """The calls that a template is made of, the last its value; none where not all of it are ufuncs of numbers.

    >>> steps("np.log1p(np.exp(-{0}))", 1)
    (Step(name='negative', arguments=(0,)), Step(name='exp', arguments=(1,)), Step(name='log1p', arguments=(2,)))
    """
    found: list[Step] = []

    def visit(node: ast.expr) -> Argument | None:
        match node:
            case ast.Name(id=name) if name.startswith("_operand"):
                return int(name.removeprefix("_operand"))
            case ast.Constant(value=int() | float()):
                return repr(node.value)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return call("negative", [operand])
            case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
                return call(OPERATORS[type(op)], [left, right])
            case ast.Call(func=ast.Attribute(value=ast.Name(id="np"), attr=name), args=arguments, keywords=[]):
                return call(name, arguments) if isinstance(getattr(np, name, None), np.ufunc) else None
        return None

    def call(name: str, nodes: list[ast.expr]) -> Argument | None:
        arguments = [visit(node) for node in nodes]
        places = [argument for argument in arguments if argument is not None]
        if len(places) < len(arguments) or not any(isinstance(argument, int) for argument in places):
            return None
        step = Step(name, tuple(places))
        if step not in found:
            found.append(step)
        return arity + found.index(step)

    text = template.format(*(f"_operand{place}" for place in range(arity)))
    return tuple(found) if visit(ast.parse(text, mode="eval").body) is not None else ()
