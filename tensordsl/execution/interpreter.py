"""Programs on arrays of other libraries: each instruction becomes a function of arrays, by the labels of its kernel.

The functions are planned once for a namespace, a device, and shapes. What they do is in the Array API standard, and
changes no array but one that the program made.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensordsl.dims import evaluate
from tensordsl.errors import BindError, TensorDSLError
from tensordsl.execution.adapter import Names
from tensordsl.execution.namespaces import Space
from tensordsl.execution.running import of_a_matrix
from tensordsl.execution.steps import Run, Site, step
from tensordsl.expr import Expr
from tensordsl.program.build import build
from tensordsl.program.instructions import Program, Register

# What libraries raise where they cannot compute something, running out of memory included.
FAILURES = (TypeError, ValueError, ArithmeticError, RuntimeError, LookupError, AttributeError, MemoryError)


@dataclass(frozen=True)
class Step:
    """One instruction as a function of arrays, and the names that are of no use after it."""

    target: str
    run: Run
    operands: tuple[str, ...]
    dying: tuple[str, ...]


def interpreted(
    space: Space, expressions: Sequence[Expr], sizes: Mapping[str, int], arrays: Sequence[Any], single: bool
) -> Run:
    """The function that computes some expressions of arrays like these; one value where `single`, else a tuple."""
    program = build(expressions, sizes)
    with space.lasting():
        names = variables(program)
        held, steps = planned(space, program, names, [*arrays, *(sizes[name] for name in program.parameters)])
    outputs = [output.name for output in program.outputs if isinstance(output, Register)]

    def run(*arrays: Any) -> Any:
        values = {**held, **dict(zip(names, arrays, strict=False))}
        for each in steps:
            values[each.target] = each.run(*[values[name] for name in each.operands])
            for name in each.dying:
                del values[name]
        found = tuple(values[name] for name in outputs)
        return found[0] if single else found

    return guarded(space, run)


def guarded(space: Space, run: Run) -> Run:
    """The function with the errors of the library in our words."""

    def guard(*arrays: Any) -> Any:
        try:
            return run(*arrays)
        except TensorDSLError:
            raise
        except FAILURES as error:
            if "LinAlgError" in type(error).__name__:  # each library has its own
                raise BindError(of_a_matrix(error)) from error
            kinds = ", ".join(str(array.dtype) for array in arrays)
            raise BindError(
                f"{space.name} cannot compute this with data of the types {kinds or 'none'}: "
                f"{str(error).rstrip('.')}. Give floating-point data, or NumPy arrays."
            ) from error

    return guard


def variables(program: Program) -> list[str]:
    """What the source calls its arguments, and then the dimensions that it is given."""
    function = ast.parse(program.source).body[-1]
    assert isinstance(function, ast.FunctionDef)
    return [argument.arg for argument in function.args.args]


def planned(
    space: Space, program: Program, names: Sequence[str], given: Sequence[Any]
) -> tuple[dict[str, Any], list[Step]]:
    """The constants of a program as arrays, and its steps."""
    found: dict[str, Any] = dict(zip(names, given, strict=True))
    exec("\n".join(program.preamble), {}, found)  # noqa: S102 - lines like `k = A.shape[0]`, made by us
    dims = {name: value for name, value in found.items() if isinstance(value, int)}
    face = Names(space)
    own = {name: face.routine(routine) for name, routine in program.routines.items()}
    known, numpy = {"np": face, **dims, **own}, {"np": np, **dims, **program.routines}
    held = {name: space.array(np.asarray(array)) for name, array in program.constants.items()}
    made = {*names[: len(program.arguments)], *held}
    steps: list[Step] = []
    last = {
        register.name: place
        for place, instruction in enumerate(program.instructions)
        for register in (*instruction.targets, *instruction.operands)
    }
    kept = {output.name for output in program.outputs if isinstance(output, Register)}
    for place, instruction in enumerate(program.instructions):
        shape = tuple(evaluate(size, program.sizes) for size in instruction.target.sizes)
        site = Site(space, known, numpy, shape)
        operands = tuple(register.name for register in instruction.operands)
        made.add(instruction.target.name)
        held.update({name: site.read(name) for name in operands if name not in made})  # numbers, by what they say
        dying = tuple(name for name in {*operands, instruction.target.name} if last[name] == place and name not in kept)
        steps.append(Step(instruction.target.name, step(instruction.kernel, site), operands, dying))
    return held, steps
