"""`compile` and `evaluate`: programs planned once for each combination of shapes and dtypes, then called."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import PurePath
from typing import Any

import numpy as np

from tensordsl.dims import evaluate as size_value
from tensordsl.errors import ShapeError, UnsupportedError, describe, show_shape
from tensordsl.execution.binding import Bound, bind, check_sizes, needed_symbols
from tensordsl.execution.buffers import check_out, stored
from tensordsl.execution.factored import Factored
from tensordsl.execution.interpreter import interpreted
from tensordsl.execution.namespaces import Space, foreign_key
from tensordsl.execution.operators import operator_maker
from tensordsl.execution.running import guarded, loaded, one_dtype
from tensordsl.execution.structure import structure_of
from tensordsl.expr import Expr, brief, operation, operations
from tensordsl.functions.convert import as_expr
from tensordsl.program.build import build, dimensions
from tensordsl.program.instructions import Program
from tensordsl.program.plan import byte_count
from tensordsl.rewrites.rewriting import PHASES, simplified

PLANS = 128  # kept by one function, one for each combination of shapes and dtypes
OUTPUTS = ("dense", "sparse", "operator", "factored")


class CompiledFunction:
    """A function of arrays. Made by `compile`."""

    def __init__(
        self, expressions: Sequence[Expr], output: str, single: bool, memory: int | None = None, keep: bool = True
    ) -> None:
        self.expressions = tuple(expressions)
        self.output = output
        self._single = single
        self._memory = memory  # bytes within which a plan keeps
        self._keep = keep  # whether the workspace stays between calls
        self._symbols = needed_symbols(self.expressions)
        self._names = tuple(symbol.name for symbol in self._symbols)
        self._ready: dict[object, Callable[..., Any]] = {}
        shown = {str(size) for symbol in self._symbols for size in symbol.shape}
        dims = dimensions(self.expressions)
        self._parameters = tuple(sorted(dims - shown))  # to be given by name, or solved for
        self._out_is_data = "out" in {*self._names, *dims}

    def __repr__(self) -> str:
        return f"<compiled {', '.join(brief(e) for e in self.expressions)} ({self.output}) of {', '.join(self._names)}>"

    def __call__(self, data: Mapping[Any, Any] | None = None, /, *, out: Any = None, **named: Any) -> Any:
        if out is not None:
            return self._into(out, data, named)
        if data is None:
            try:
                arrays = [named[name] for name in self._names]
                run = self._ready.get(self._quick_key(arrays, named))
            except (KeyError, AttributeError):
                run = None
            if run is not None:
                return run(*arrays)
        return self._first(data, named)

    def _quick_key(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...]:
        """What tells a call by name from others, without a look at the sizes; `AttributeError` where nothing does.

        Arrays of other kinds than NumPy's own (masked ones, matrices) are looked at anew each time.
        """
        key: tuple[Any, ...] = tuple([(a.shape, a.dtype) if type(a) is np.ndarray else foreign_key(a) for a in arrays])
        if len(named) > len(arrays):  # more is given, which may say a size
            names = self._names
            more = [
                (n, v if type(v) is int else v.shape if type(v) is np.ndarray else foreign_key(v))
                for n, v in named.items()
                if n not in names
            ]
            key = (key, tuple(more))
        return key

    def _into(self, out: Any, data: Mapping[Any, Any] | None, named: dict[str, Any]) -> Any:
        """The results in arrays of the caller. Where data or a size are called `out`, that is what the name gives."""
        if self._out_is_data:
            return self._first(data, {**named, "out": out})
        if self.output != "dense":
            raise UnsupportedError(f"out= takes dense results; this function has output={self.output!r}. Leave it out.")
        arrays = (out,) if self._single else tuple(out) if isinstance(out, tuple | list) else (out,)
        quick = self._quick_out(arrays, named) if data is None else None
        found = None if quick is None else self._ready.get(quick)
        if found is not None and all(array.flags.writeable for array in arrays):
            found(arrays, [named[name] for name in self._names])
            return out
        bound = bind(self.expressions, self._symbols, self._parameters, data, named)
        if bound.space is not None:
            raise UnsupportedError(f"out= takes NumPy arrays, and the data are of {bound.space.name}. Leave it out.")
        check_out(arrays, [tuple(size_value(size, bound.sizes) for size in e.shape) for e in self.expressions])
        dtypes = tuple([array.dtype for array in arrays])
        key = ("out", self._key(bound), dtypes)
        run = self._ready.get(key)
        if run is None:
            check_sizes(self.expressions, bound.sizes)
            one = one_dtype(bound.arrays)
            direct = one is not None and all(dtype.name == one for dtype in dtypes)
            sizes = bound.sizes  # and not the data: they would be held as long as the function is
            run = stored(lambda: self._dense(one, sizes), self._direct(one, sizes) if direct else None)
            self._remember(key, run)
        if quick is not None and quick[0] == self._quick_key(bound.arrays, named):
            self._remember(quick, run)
        run(arrays, bound.arrays)
        return out

    def _quick_out(self, arrays: Sequence[Any], named: Mapping[str, Any]) -> tuple[Any, ...] | None:
        """What tells a call with `out=` from others; None where nothing does."""
        try:
            key = self._quick_key([named[name] for name in self._names], named)
            return (key, "out", tuple([(a.shape, a.dtype) for a in arrays if type(a) is np.ndarray]), len(arrays))
        except (KeyError, AttributeError):
            return None

    def _key(self, bound: Bound) -> tuple[Any, ...]:
        shapes: tuple[Any, ...] = tuple([(a.shape, a.dtype) for a in bound.arrays])
        return (shapes, tuple(bound.sizes[p] for p in self._parameters)) if self._parameters else shapes

    def _remember(self, key: object, run: Callable[..., Any]) -> None:
        if len(self._ready) >= PLANS:
            self._ready.clear()
        self._ready[key] = run

    def _first(self, data: Mapping[Any, Any] | None, named: Mapping[str, Any]) -> Any:
        given = data if isinstance(data, Mapping) else {}
        elsewhere = whereabouts((*given.values(), *named.values()))
        if elsewhere is not None:
            evaluate_there = operations[elsewhere]
            return evaluate_there(self.expressions, self.output, self._single, self._memory, {**given, **named})
        bound = bind(self.expressions, self._symbols, self._parameters, data, named)
        key = self._key(bound)
        if bound.space is not None:
            key = (key, bound.space)
        run = self._ready.get(key)
        if run is None:
            check_sizes(self.expressions, bound.sizes)
            run = self._plan(bound.arrays, bound.sizes) if bound.space is None else self._over(bound.space, bound)
            self._remember(key, run)
        if data is None and (bound.space is not None or len(named) > len(self._names)):
            with suppress(AttributeError):
                self._remember(self._quick_key(bound.arrays, named), run)
        return run(*bound.arrays)

    def _over(self, space: Space, bound: Bound) -> Callable[..., Any]:
        """The function of arrays of another library."""
        if self.output != "dense":
            raise UnsupportedError(
                f"output={self.output!r} is made of NumPy arrays; the data are of {space.name}. Use output='dense', "
                "td.jvp and td.vjp, which form no zeros, or give NumPy arrays."
            )
        if self._memory is not None:
            raise UnsupportedError(f"memory= is for NumPy arrays, and the data are of {space.name}. Leave it out.")
        return interpreted(space, self.expressions, bound.sizes, bound.arrays, self._single)

    def _plan(self, arrays: Sequence[Any], sizes: Mapping[str, int]) -> Callable[..., Any]:
        if self.output == "operator":
            return self._operators(sizes)
        if self.output in ("sparse", "factored"):
            return self._structured(arrays, sizes)
        run = self._dense(one_dtype(arrays), sizes)
        return run if self._single or len(self.expressions) > 1 else lambda *values: (run(*values),)

    def _dense(self, dtype: str | None, sizes: Mapping[str, int]) -> Callable[..., Any]:
        """The function of a program, its results new."""
        return self._loaded(build(self.expressions, sizes, dtype=dtype, memory=self._memory), dtype, sizes)

    def _direct(self, dtype: str | None, sizes: Mapping[str, int]) -> list[Callable[..., Any]] | None:
        """The functions that store results in arrays of a dtype, which come after the data: any, and filled ones.

        None where a result is of another dtype, as truth values are, and has to be cast.
        """
        programs = [
            build(self.expressions, sizes, dtype=dtype, stored=way, memory=self._memory) for way in ("into", "again")
        ]
        if any(output.uniform is False for output in programs[0].outputs):
            return None
        return [self._loaded(program, dtype, sizes) for program in programs]

    def _loaded(self, program: Program, dtype: str | None, sizes: Mapping[str, int]) -> Callable[..., Any]:
        fixed = tuple(sizes[name] for name in program.parameters)
        return guarded(loaded(program, dtype, self._keep), fixed)

    def _structured(self, arrays: Sequence[Any], sizes: Mapping[str, int]) -> Callable[..., Any]:
        """The cores of all values by one program, and around them the structures, which all calls share."""
        found = [structure_of(e, sizes, compile) for e in simplified(self.expressions, *PHASES)]
        cores = CompiledFunction([core for own, _ in found for core in own], "dense", False, self._memory)
        places = [self._names.index(name) for name in cores._names]
        run = cores._plan([arrays[place] for place in places], sizes)

        def factored(*values: Any) -> Any:
            computed = iter(run(*[values[place] for place in places]))
            made = [Factored(structure, [next(computed) for _ in own]) for own, structure in found]
            if self.output == "sparse":
                made = [value.tocoo() for value in made]
            return made[0] if self._single else tuple(made)

        return factored

    def _operators(self, sizes: Mapping[str, int]) -> Callable[..., Any]:
        def compiled(parts: Sequence[Expr]) -> CompiledFunction:
            return CompiledFunction(parts, "dense", False, self._memory)

        makers = [operator_maker(e, self._names, compiled) for e in self.expressions]

        def run(*values: Any) -> Any:
            data = dict(zip(self._names, values, strict=True))
            made = [maker(data, sizes) for maker in makers]
            return made[0] if self._single else tuple(made)

        return run


STORES = {".npy": "npy", ".zarr": "zarr", ".h5": "hdf5", ".hdf5": "hdf5"}  # what paths of arrays end in, and are


def whereabouts(values: Collection[Any]) -> str | None:
    """The operation that computes with data that are not in memory as arrays; None for those that are."""
    rooms = {type(value).__module__ for value in values}
    tops = {room.partition(".")[0] for room in rooms}
    if "dask" in tops or any(_over_dask(value) for value in values):
        return "evaluate_lazily"
    stored = tops & {"zarr", "h5py", "pathlib"} or "tensordsl.chunked.sources" in rooms
    return "evaluate_stored" if stored or any(isinstance(value, str) and is_path(value) for value in values) else None


def is_path(text: str) -> bool:
    """Whether a text is the path of a stored array, "A.zarr" or "file.h5::A"."""
    return PurePath(text.partition("::")[0]).suffix.lower() in STORES


def _over_dask(value: Any) -> bool:
    """Whether an array of xarray holds one of dask."""
    return type(value).__module__.startswith("xarray") and getattr(value, "chunks", None) is not None


# --- what users call ----------------------------------------------------------------------------------------------


def compile(e: Any, output: str = "dense", *, memory: int | str | None = None) -> CompiledFunction:
    """A function of arrays that computes an expression, or a tuple of expressions with their work shared.

    `output="sparse"` gives a `scipy.sparse.coo_array`, built from the labels; `"operator"` the
    `scipy.sparse.linalg.LinearOperator` of a matrix; `"factored"` the structured value itself, a `td.Factored` that
    multiplies, solves and becomes sparse. The function is planned once for each combination of shapes and
    dtypes; entries that are zero by structure stay zero, whatever the data hold (0·inf and 0·nan included). An operator
    reads the arrays that it was made with each time it is applied: leave them as they are while it is in use.

    `f(..., out=buffer)` writes a dense result into an array (a tuple of arrays, for a tuple of expressions). Where the
    same function filled it before, only what is not a structural zero is written again: leave its zeros as they are.
    With `memory`, bytes or a text such as "2GiB", a plan holds no more than that at once, its result included and the
    data not. The arrays that a function works in are kept between its calls, a set for each call at the same time.

    Raises `UnsupportedError` for another output, `ShapeError` for an operator that is no matrix, and, when called,
    `PlanError` where no plan keeps within the memory,
    `BindError` for data that is missing or ill-shaped.

    >>> import numpy as np, tensordsl as td
    >>> k = td.dim("k")
    >>> x = td.vector("x", k)
    >>> f = td.compile((td.sum(x**2), td.grad(td.sum(x**2), x)))
    >>> value, gradient = f(x=np.array([1.0, 2.0]))
    >>> float(value), gradient
    (5.0, array([2., 4.]))
    """
    if not isinstance(output, str) or output not in OUTPUTS:
        raise UnsupportedError(f"The output {output!r} is unknown; known are {', '.join(map(repr, OUTPUTS))}.")
    single = not isinstance(e, tuple | list)
    expressions = [as_expr(item) for item in ([e] if single else e)]
    if not expressions:
        raise UnsupportedError("There is nothing to compile: the tuple of expressions is empty.")
    for item in expressions:
        if output == "operator" and item.ndim != 2:
            raise ShapeError(
                "output='operator' takes a matrix; given was\n"
                f"{describe([(brief(item), item.shape, True)])}\n"
                "Use td.jacobian_matrix(F, x) for a derivative of higher order."
            )
        if output == "sparse" and item.ndim == 0:
            raise ShapeError(
                f"output='sparse' takes an array; {brief(item)} is a scalar, shape {show_shape(())}. "
                "Use output='dense'."
            )
    return CompiledFunction(expressions, output, single, byte_count(memory))


@lru_cache(maxsize=64)
def _evaluator(e: Expr, memory: int | None) -> CompiledFunction:
    return CompiledFunction((e,), "dense", True, memory, keep=False)


@operation("evaluate")
def evaluate(
    e: Expr, data: Mapping[Any, Any] | None = None, /, *, memory: int | str | None = None, **named: Any
) -> Any:
    """The value of an expression, an array or a number."""
    names = {symbol.name for symbol in e.symbols} | {found.name for found in e.dims}
    if memory is not None and "memory" in names:
        named["memory"], memory = memory, None  # data by that name
    return _evaluator(e, byte_count(memory))(data, **named)
