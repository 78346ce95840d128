"""Programs as functions: their source compiled, a workspace kept, the errors of NumPy in our words."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensordsl.errors import BindError
from tensordsl.program.instructions import Program


def one_dtype(arrays: Sequence[Any]) -> str | None:
    """The floating-point type of all arrays, where they have one in which sums lose nothing on the way."""
    kinds = {array.dtype for array in arrays}
    dtype = kinds.pop() if len(kinds) == 1 else None
    return dtype.name if dtype is not None and dtype.kind in "fc" and dtype.itemsize > 2 else None


def loaded(program: Program, dtype: str | None, keep: bool = True) -> Callable[..., Any]:
    """The function that a program is the source of. With `keep` it has its workspace from call to call."""
    namespace: dict[str, Any] = {"np": np, **program.routines, **program.constants}
    code = builtins.compile(program.source, "<tensordsl program>", "exec")
    exec(code, namespace)  # noqa: S102 - the program's own source, made by us
    function: Callable[..., Any] = namespace["f"]
    return with_workspace(function, program, dtype, keep) if program.slots else function


def with_workspace(function: Callable[..., Any], program: Program, dtype: str | None, keep: bool) -> Callable[..., Any]:
    """The function with the arrays that it works in: a set of its own for each call that goes on at the same time."""
    spare: list[tuple[Any, ...]] = []

    def run(*values: Any) -> Any:
        try:
            work = spare.pop()  # a list's pop and append are whole steps, whatever other threads do
        except IndexError:
            bases = [np.empty(entries, dtype) for entries in program.bases]
            work = tuple(slot.of(bases[slot.base]) for slot in program.slots)
        try:
            return function(*values, *work)
        finally:
            if keep:
                spare.append(work)

    return run


def guarded(function: Callable[..., Any], fixed: tuple[int, ...]) -> Callable[..., Any]:
    """The function with the errors of NumPy in our words."""

    def run(*values: Any) -> Any:
        try:
            return function(*values, *fixed)
        except np.linalg.LinAlgError as error:
            raise BindError(of_a_matrix(error)) from None
        except MemoryError as error:
            raise BindError(
                f"The result does not fit in memory ({error}). td.plan(...) says how large it is; output='sparse' and "
                "output='operator' hold a derivative without its zeros, td.jvp and td.vjp apply it."
            ) from None
        except (TypeError, ValueError, ArithmeticError) as error:
            kinds = ", ".join(str(getattr(value, "dtype", type(value).__name__)) for value in values)
            raise BindError(
                f"NumPy cannot compute this with data of the types {kinds or 'none'}: {error}. "
                "Give floating-point arrays, as in np.asarray(x, dtype=float)."
            ) from None

    return run


def of_a_matrix(error: Exception) -> str:
    """The error of linear algebra in our words."""
    return f"{_cause(error)} for this data ({error}). {_way_out(error)}"


def _cause(error: Exception) -> str:
    """What a matrix is not that it has to be."""
    words = str(error)
    if "positive definite" in words:
        return "A matrix whose Cholesky factor is taken is not positive definite"
    if "converge" in words:
        return "A decomposition of a matrix is not found"
    return "A matrix that is inverted or solved with is singular"


def _way_out(error: Exception) -> str:
    if "converge" in str(error):
        return "Check the data for entries that are not finite."
    return "Check the data, or add a small multiple of td.identity to the matrix."
