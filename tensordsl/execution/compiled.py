"""`compile` and `evaluate`: programs planned once for each combination of shapes and dtypes, then called."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from tensordsl.contraction import contract
from tensordsl.dims import evaluate as size_value
from tensordsl.errors import BindError, ShapeError, UnsupportedError, describe, show_shape
from tensordsl.execution.binding import Bound, bind, check_sizes, needed_symbols
from tensordsl.execution.buffers import check_out, filled_by, forget, overlapping, remember, store
from tensordsl.execution.factored import Factored, structure_of
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Primitive, Sum, Symbol, brief, operation
from tensordsl.functions.convert import as_expr
from tensordsl.graph import rebuild, topological
from tensordsl.program.build import build, dimensions
from tensordsl.program.instructions import Program
from tensordsl.rewrites.rewriting import PHASES, simplified, with_children

PLANS = 128  # kept by one function, one for each combination of shapes and dtypes
OUTPUTS = ("dense", "sparse", "operator", "factored")


class CompiledFunction:
    """A function of arrays. Made by `compile`."""

    def __init__(self, expressions: Sequence[Expr], output: str, single: bool) -> None:
        self.expressions = tuple(expressions)
        self.output = output
        self._single = single
        self._symbols = needed_symbols(self.expressions)
        self._names = tuple(symbol.name for symbol in self._symbols)
        self._ready: dict[object, Callable[..., Any]] = {}
        shown = {str(size) for symbol in self._symbols for size in symbol.shape}
        self._parameters = tuple(sorted(dimensions(self.expressions) - shown))  # to be given by name, or solved for

    def __repr__(self) -> str:
        return f"<compiled {', '.join(brief(e) for e in self.expressions)} ({self.output}) of {', '.join(self._names)}>"

    def __call__(self, data: Mapping[Any, Any] | None = None, /, *, out: Any = None, **named: Any) -> Any:
        if out is not None:
            return self._into(out, data, named)
        run = None
        if data is None and len(named) == len(self._names):
            try:
                arrays = [named[name] for name in self._names]
                # Arrays of other kinds (masked ones, matrices) are looked at anew each time.
                run = self._ready.get(tuple([(a.shape, a.dtype) for a in arrays if type(a) is np.ndarray]))
            except (KeyError, AttributeError):
                run = None
        return self._first(data, named) if run is None else run(*arrays)

    def _into(self, out: Any, data: Mapping[Any, Any] | None, named: dict[str, Any]) -> Any:
        """The results in arrays of the caller. Where data are called `out`, what is given by that name is data."""
        if "out" in self._names:
            return self._first(data, {**named, "out": out})
        if self.output != "dense":
            raise UnsupportedError(f"out= takes dense results; this function has output={self.output!r}. Leave it out.")
        arrays = (out,) if self._single else tuple(out) if isinstance(out, tuple | list) else (out,)
        bound = bind(self.expressions, self._symbols, self._parameters, data, named)
        shapes = [tuple(size_value(size, bound.sizes) for size in e.shape) for e in self.expressions]
        check_out(arrays, shapes)
        key = ("out", tuple([(a.shape, a.dtype) for a in bound.arrays]), tuple(a.dtype for a in arrays), tuple(bound.sizes.items()))
        run = self._ready.get(key)
        if run is None:
            check_sizes(self.expressions, bound.sizes)
            self._make_room()
            run = self._ready[key] = self._plan_into(bound, tuple(a.dtype for a in arrays))
        run(arrays, bound.arrays)
        return out

    def _plan_into(self, bound: Bound, dtypes: tuple[Any, ...]) -> Callable[..., Any]:
        one = one_dtype(bound.arrays)
        fixed = bound.sizes
        if one is None or any(dtype.name != one for dtype in dtypes):
            run = self._plan(bound.arrays, bound.sizes)
            return lambda arrays, values: store(run(*values), arrays)
        programs = {
            stored: build(self.expressions, bound.sizes, dtype=one, stored=stored) for stored in ("into", "again")
        }
        filling, refilling = (
            guarded(loaded(program, one), tuple(fixed[name] for name in program.parameters))
            for program in programs.values()
        )
        token = object()  # of the zeros that this program leaves

        def run_into(arrays: Sequence[Any], values: Sequence[Any]) -> None:
            if any(np.may_share_memory(a, v) for a in arrays for v in values) or overlapping(arrays):
                store(self._plan(values, bound.sizes)(*values), arrays)
                return
            same = all(filled_by(array) is token for array in arrays)
            for array in arrays:
                forget(array)
            (refilling if same else filling)(*values, *arrays)
            for array in arrays:
                remember(array, token)

        return run_into

    def _make_room(self) -> None:
        if len(self._ready) >= PLANS:
            self._ready.clear()

    def _first(self, data: Mapping[Any, Any] | None, named: Mapping[str, Any]) -> Any:
        bound = bind(self.expressions, self._symbols, self._parameters, data, named)
        key: tuple[Any, ...] = tuple([(a.shape, a.dtype) for a in bound.arrays])
        if self._parameters:
            key = (key, tuple(bound.sizes[p] for p in self._parameters))
        run = self._ready.get(key)
        if run is None:
            check_sizes(self.expressions, bound.sizes)
            self._make_room()
            run = self._ready[key] = self._plan(bound.arrays, bound.sizes)
        return run(*bound.arrays)

    def _plan(self, arrays: Sequence[Any], sizes: Mapping[str, int]) -> Callable[..., Any]:
        one = one_dtype(arrays)
        if self.output == "operator":
            return self._operators(sizes)
        if self.output in ("sparse", "factored"):
            return self._structured(arrays, sizes)
        program = build(self.expressions, sizes, dtype=one)
        fixed = tuple(sizes[name] for name in program.parameters)
        function = loaded(program, one)
        run = guarded(function, fixed)
        return run if self._single or len(self.expressions) > 1 else lambda *values: (run(*values),)

    def _structured(self, arrays: Sequence[Any], sizes: Mapping[str, int]) -> Callable[..., Any]:
        """The cores of all values by one program, and around them the structures, which all calls share."""
        found = [structure_of(e, sizes, compile) for e in simplified(self.expressions, *PHASES)]
        cores = CompiledFunction([core for own, _ in found for core in own], "dense", False)
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
        makers = [operator_maker(e, self._names) for e in self.expressions]

        def run(*values: Any) -> Any:
            data = dict(zip(self._names, values, strict=True))
            made = [maker(data, sizes) for maker in makers]
            return made[0] if self._single else tuple(made)

        return run


def one_dtype(arrays: Sequence[Any]) -> str | None:
    """The floating-point type of all arrays, where they have one in which sums lose nothing on the way."""
    kinds = {array.dtype for array in arrays}
    return next(iter(kinds)).name if len(kinds) == 1 and next(iter(kinds)).kind == "f" and next(iter(kinds)).itemsize > 2 else None


def loaded(program: Program, dtype: str | None) -> Callable[..., Any]:
    """The function that a program is the source of."""
    namespace: dict[str, Any] = {"np": np, **program.routines, **program.constants}
    code = builtins.compile(program.source, "<tensordsl program>", "exec")
    exec(code, namespace)  # noqa: S102 - the program's own source, made by us
    function: Callable[..., Any] = namespace["f"]
    return with_workspace(function, program, dtype) if program.slots else function


def with_workspace(function: Callable[..., Any], program: Program, dtype: str | None) -> Callable[..., Any]:
    """The function with the arrays that it works in, which it keeps from call to call; one set for each call at a time."""
    spare: list[tuple[Any, ...]] = []

    def run(*values: Any) -> Any:
        try:
            work = spare.pop()  # a list's pop and append are whole steps, whatever other threads do
        except IndexError:
            bases = [np.empty(entries, dtype) for entries in program.bases]
            work = tuple(bases[slot.base][: prod(slot.shape)].reshape(slot.shape) for slot in program.slots)
        try:
            return function(*values, *work)
        finally:
            spare.append(work)

    return run


def guarded(function: Callable[..., Any], fixed: tuple[int, ...]) -> Callable[..., Any]:
    """The function with the errors of NumPy in our words."""

    def run(*values: Any) -> Any:
        try:
            return function(*values, *fixed)
        except np.linalg.LinAlgError as error:
            raise BindError(f"{_cause(error)} for this data ({error}). {_way_out(error)}") from None
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


def _cause(error: np.linalg.LinAlgError) -> str:
    """What a matrix is not that it has to be."""
    words = str(error)
    if "positive definite" in words:
        return "A matrix whose Cholesky factor is taken is not positive definite"
    if "converge" in words:
        return "A decomposition of a matrix is not found"
    return "A matrix that is inverted or solved with is singular"


def _way_out(error: np.linalg.LinAlgError) -> str:
    if "converge" in str(error):
        return "Check the data for entries that are not finite."
    return "Check the data, or add a small multiple of td.identity to the matrix."


# --- operators ----------------------------------------------------------------------------------------------------


def operator_maker(node: Expr, names: Sequence[str]) -> Callable[[Mapping[str, Any], Mapping[str, int]], Any]:
    """A function from data to the `LinearOperator` of a matrix expression, whose entries are never formed.

    Products with the operator are contractions with a vector, so its structure joins them; factors that do not depend
    on the vector are computed once, when the operator is made.
    """
    rows, columns = node.shape
    free = next(name for name in ("v", *(f"v{n}" for n in range(len(names) + 1))) if name not in names)
    numbers: list[Any] = [
        part.array if isinstance(part, Constant) else part.coefficient
        for part in topological([node])
        if isinstance(part, Constant) or (isinstance(part, Contraction) and isinstance(part.coefficient, complex))
    ]
    vector, adjoint = Symbol(free, (columns,)), Symbol(free, (rows,))
    forward = contract(1, [(node, ((0,), (1,))), (vector, ((1,),))], ((0,),), {0: rows, 1: columns})
    backward = contract(1, [(node, ((0,), (1,))), (adjoint, ((0,),))], ((1,),), {0: rows, 1: columns})
    (forward, backward), fixed = hoist([forward, backward], (vector, adjoint))
    before = CompiledFunction(tuple(fixed.values()), "dense", False) if fixed else None
    after = [CompiledFunction((forward,), "dense", True), CompiledFunction((backward,), "dense", True)]

    def make(data: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
        from scipy.sparse.linalg import LinearOperator  # scipy is heavy, and needed here alone

        given = dict(data)
        dims = {name: size for name, size in sizes.items() if name not in given}
        if before is not None:
            values = before(**{**given, **dims})
            given.update({s.name: v for s, v in zip(fixed, values, strict=True)})
        shape = (size_value(rows, sizes), size_value(columns, sizes))
        dtype = np.result_type(*given.values(), *numbers, np.float32)

        def matvec(v: Any) -> Any:
            return after[0](**{**given, **dims, free: np.asarray(v).reshape(-1)})

        def rmatvec(w: Any) -> Any:
            return np.conj(after[1](**{**given, **dims, free: np.conj(np.asarray(w).reshape(-1))}))

        return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=dtype)

    return make


def hoist(roots: Sequence[Expr], varying: Sequence[Symbol]) -> tuple[list[Expr], dict[Symbol, Expr]]:
    """The roots with a symbol in place of each inner value that does not vary and costs something, and those values."""
    fixed: dict[Symbol, Expr] = {}

    def change(node: Expr, children: tuple[Expr, ...]) -> Expr:
        if not node.symbols or not node.symbols.isdisjoint(varying):
            return with_children(node, children)
        if isinstance(node, Elementwise | Primitive | Sum):
            symbol = Symbol(f"_fixed_{node.digest}", node.shape)
            fixed[symbol] = node
            return symbol
        return with_children(node, children)

    found = [rebuild(root, change) for root in roots]
    used = frozenset().union(*[root.symbols for root in found])
    return found, {symbol: node for symbol, node in fixed.items() if symbol in used}


# --- what users call ----------------------------------------------------------------------------------------------


def compile(e: Any, output: str = "dense") -> CompiledFunction:
    """A function of arrays that computes an expression, or a tuple of expressions with their work shared.

    `output="sparse"` gives a `scipy.sparse.coo_array`, built from the labels; `"operator"` the
    `scipy.sparse.linalg.LinearOperator` of a matrix. The function is planned once for each combination of shapes and
    dtypes; entries that are zero by structure stay zero, whatever the data hold (0·inf and 0·nan included). An operator
    reads the arrays that it was made with each time it is applied: leave them as they are while it is in use.

    Raises `UnsupportedError` for another output, `ShapeError` for an operator that is no matrix, and, when called,
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
    return CompiledFunction(expressions, output, single)


@lru_cache(maxsize=64)
def _evaluator(e: Expr) -> CompiledFunction:
    return CompiledFunction((e,), "dense", True)


@operation("evaluate")
def evaluate(e: Expr, data: Mapping[Any, Any] | None = None, /, **named: Any) -> Any:
    """The value of an expression, an array or a number."""
    return _evaluator(e)(data, **named)
