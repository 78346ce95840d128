"""NumPy's names over another namespace: what the functions of a program, written in NumPy, mean for its arrays.

The Array API standard names some functions otherwise, mixes no whole numbers with floating-point ones, and takes no
logarithm of whole numbers. NumPy does, and so does a `np` of this kind.
"""

from __future__ import annotations

import importlib
import inspect
import operator
from collections.abc import Callable
from contextlib import nullcontext
from types import CellType, FunctionType
from typing import Any

import numpy as np

from tensordsl.errors import UnsupportedError
from tensordsl.execution.namespaces import Space
from tensordsl.functions import routines
from tensordsl.functions.record import Routine

Function = Callable[..., Any]

STANDARD = {  # what the standard calls the functions that it names otherwise
    "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arctan2": "atan2", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "concatenate": "concat", "cumprod": "cumulative_prod", "cumsum": "cumulative_sum",
    "transpose": "permute_dims", "fabs": "abs",
}  # fmt: skip
OPERATORS: dict[str, Function] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "negative": operator.neg,
}  # fmt: skip
FLOATING = {  # of floating-point numbers, which whole ones are made first
    "exp", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "sqrt", "reciprocal", "sin", "cos", "tan", "arcsin",
    "arccos", "arctan", "arctan2", "sinh", "cosh", "tanh", "arcsinh", "arccosh", "arctanh", "hypot", "fabs",
}  # fmt: skip
ENTRYWISE = {"abs", "sign", "square", "maximum", "minimum", "floor", "ceil", "conj", "isfinite", "isnan"}
LOGICAL = {"logical_and", "logical_or", "logical_not"}

SPECIAL = {"torch": "torch.special", "jax": "jax.scipy.special", "cupy": "cupyx.scipy.special"}
EXPONENTIAL = {"torch": "torch.linalg", "jax": "jax.scipy.linalg", "cupy": "cupyx.scipy.linalg"}
BESIDE: dict[Routine, tuple[dict[str, str], tuple[str, ...]]] = {  # what SciPy has for NumPy, and others for theirs
    routines.erf: (SPECIAL, ("erf",)),
    routines.lgamma: (SPECIAL, ("gammaln",)),
    routines.digamma: (SPECIAL, ("digamma",)),
    routines.polygamma: (SPECIAL, ("polygamma",)),
    routines.expm: (EXPONENTIAL, ("expm", "matrix_exp")),
    routines.sqrtm: ({}, ()),
    routines.solve_sylvester: ({}, ()),
}


EXACT = {routines.prod_others}  # routines that compute with whole numbers as they are


class Names:
    """A `np` whose functions take the arrays of a space."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.linalg = LinearAlgebra(space)
        self.float64 = space.real  # floating-point numbers in no array have the precision of the data
        self.int64 = space.whole

    def __getattr__(self, name: str) -> Any:
        found = self._found(name)
        setattr(self, name, found)
        return found

    def _found(self, name: str) -> Any:
        space = self._space
        if name in OPERATORS:
            return lambda *values: OPERATORS[name](*space.together(*values))
        found = counterpart(space.xp, name, f"np.{name}", space)
        if name in LOGICAL:
            return lambda *values: found(*map(self._truth, values))
        if name in FLOATING or name in ENTRYWISE:
            return lambda *values: found(*space.arrays(*values, floating=name in FLOATING))
        return found

    def _truth(self, value: Any) -> Any:
        (value,) = self._space.arrays(value)
        return value if value.dtype == self._space.xp.bool else value != 0

    def divide(self, x: Any, y: Any) -> Any:
        x, y = self._space.together(x, y, floating=True)
        return x / y

    def power(self, x: Any, y: Any) -> Any:
        """A power; a whole exponent that is a number stays one, for libraries raise to it by products."""
        base, exponent = self._space.together(x, y)
        if not hasattr(y, "dtype"):
            base = self._space.cast(x, self._space.dtype(x, y))
        return base**exponent

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        return self._space.xp.where(self._truth(condition), *self._space.arrays(x, y))

    def positive(self, x: Any, dtype: Any) -> Any:
        return self._space.cast(x, dtype)

    def result_type(self, *values: Any) -> Any:
        """The dtype of arrays, numbers and dtypes."""
        space = self._space
        return space.dtype(*(0.0 if value is self.float64 else value for value in values))

    def asarray(self, x: Any) -> Any:
        return self._space.array(x)

    def reshape(self, x: Any, shape: int | tuple[int, ...]) -> Any:
        return self._space.xp.reshape(x, (shape,) if isinstance(shape, int) else shape)

    def errstate(self, **_: Any) -> Any:
        """Other libraries warn of no division by zero."""
        return nullcontext()

    def routine(self, routine: Routine) -> Function:
        """A function that programs call beside NumPy's, over the space."""
        if routine in (routines.lu, routines.cholesky):  # the standard has no factors: the matrix stands for its own
            return lambda a: a
        if routine in (routines.lu_solve, routines.cholesky_solve):
            return self._solve
        if routine in BESIDE:
            return self._beside(routine)
        plain = inspect.unwrap(routine)
        if isinstance(plain, np.ufunc):
            return getattr(self, plain.__name__)  # type: ignore[no-any-return]
        if not isinstance(plain, FunctionType):
            raise UnsupportedError(
                f"{routine.__name__} is no Python function, so it runs on NumPy arrays alone; the data are of "
                f"{self._space.name}. Wrap it in a function, or give NumPy arrays."
            )
        return self._over(plain, routine)

    def _solve(self, a: Any, b: Any, transposed: bool = False) -> Any:
        return self.linalg.solve(self.matrix_transpose(a) if transposed else a, b)

    def _over(self, plain: FunctionType, routine: Routine) -> Function:
        """A function written in NumPy, with this `np` in the place of NumPy."""
        space = self._space
        seen = {name: self if value is np else value for name, value in plain.__globals__.items()}
        cells = tuple(CellType(self) if cell.cell_contents is np else cell for cell in plain.__closure__ or ())
        called = FunctionType(plain.__code__, seen, routine.__name__, plain.__defaults__, cells)

        def run(*values: Any) -> Any:
            found = called(*space.together(*values, floating=routine not in EXACT))
            if not space.holds(found):
                raise UnsupportedError(
                    f"{routine.__name__} gives a {type(found).__name__} for data of {space.name}: it computes with "
                    "something else than the functions of np. Give NumPy arrays."
                )
            return found

        return run

    def _beside(self, routine: Routine) -> Function:
        """What the library has where programs on NumPy call SciPy."""
        space = self._space
        rooms, names = BESIDE[routine]
        room = importlib.import_module(rooms[space.name]) if space.name in rooms else None
        found = next((getattr(room, name) for name in names if hasattr(room, name)), None)
        if found is None:
            raise UnsupportedError(
                f"{routine.__name__} is a function of SciPy, for NumPy arrays, and {space.name} is not known to have "
                "one like it. Give the data as NumPy arrays."
            )
        return lambda *values: found(*values[:-1], *space.arrays(values[-1], floating=True))


class LinearAlgebra:
    """A `np.linalg` whose functions take the arrays of a space."""

    def __init__(self, space: Space) -> None:
        self._space = space

    def __getattr__(self, name: str) -> Function:
        space = self._space
        found = counterpart(getattr(space.xp, "linalg", None), name, f"np.linalg.{name}", space)
        return lambda *values, **options: found(*space.together(*values, floating=True), **options)

    def norm(self, x: Any, ord: Any = None, axis: Any = None) -> Any:
        (x,), xp = self._space.arrays(x, floating=True), self._space.xp
        if axis is None and ord is not None and x.ndim == 2:
            axis = (0, 1)
        if isinstance(axis, tuple):
            return xp.linalg.matrix_norm(xp.moveaxis(x, axis, (-2, -1)), ord="fro" if ord is None else ord)
        return xp.linalg.vector_norm(x, axis=axis, ord=2 if ord is None else ord)


def counterpart(room: Any, name: str, called: str, space: Space) -> Any:
    """What a namespace has for a name of NumPy's."""
    if name.startswith("__"):
        raise AttributeError(name)
    found = getattr(room, STANDARD.get(name, name), None)
    if found is None:
        raise UnsupportedError(f"{space.name} has no counterpart of {called}. Give the data as NumPy arrays.")
    return found
