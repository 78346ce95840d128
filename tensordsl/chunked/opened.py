"""`td.open`: a structured store as a value that is read when it is asked for something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensordsl.chunked.binding import bind_sources
from tensordsl.chunked.computing import budget_of, computed
from tensordsl.chunked.nodes import Node
from tensordsl.chunked.planning import MEMORY
from tensordsl.chunked.sources import Source, source_of
from tensordsl.chunked.storing import FORMAT
from tensordsl.contraction import add_terms, contract
from tensordsl.dims import Dim
from tensordsl.errors import BindError, ShapeError, UnsupportedError, show_shape
from tensordsl.execution.factored import Factored
from tensordsl.expr import Expr, Number, Select, Symbol
from tensordsl.functions.convert import as_expr
from tensordsl.functions.multilinear import frobenius, tensordot
from tensordsl.labels import Groups, Label


class Stored:
    """A structured value in a store: what `td.open` gives.

    It is an `expression` in the arrays of its cores, and `data`, where they lie. Whatever is asked of it (a slice, a
    product with an array, a sum) is an expression of that, computed tile by tile within `memory`; no entry that is
    zero by structure is ever made or read. What is larger than memory goes to another store:
    `td.store(J.expression[:, :5], J.data, "slice.zarr")`.
    """

    __array_ufunc__ = None  # so that `array @ value` comes here

    def __init__(self, expression: Expr, data: Mapping[str, Source], dtype: np.dtype[Any], memory: int) -> None:
        self.expression = expression
        self.data = dict(data)
        self.dtype = dtype
        self._memory = memory

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value."""
        return tuple(int(size) for size in self.expression.shape)  # type: ignore[arg-type]

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the cores."""
        return sum(source.nbytes for source in self.data.values())

    def __repr__(self) -> str:
        return f"<stored value {show_shape(self.shape)} {self.dtype}: {self.expression}>"

    def compute(self, e: Expr, data: Mapping[Any, Any] | None = None) -> Factored:
        """The structured value of an expression in this one's, which may have data of its own."""
        return self._computed(e, data or {})

    def _computed(self, e: Expr, data: Mapping[Any, Any], dense: bool = False) -> Factored:
        sources, sizes = bind_sources([e], {**self.data, **data})
        return computed(e, sources, sizes, self._memory, dense)

    def _dense(self, e: Expr, data: Mapping[Any, Any] | None = None) -> Any:
        return self._computed(e, data or {}, dense=True).todense()

    def __getitem__(self, key: Any) -> Any:
        """Entries, as of a NumPy array."""
        return self._dense(self.expression[key])

    def __matmul__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Expr) else self.tensordot(other)

    def __rmatmul__(self, other: Any) -> Any:
        if isinstance(other, Expr):
            return NotImplemented
        symbol, source = self._other(other)
        self._check(source.shape, self.shape, 1, source.shape)
        return self._dense(tensordot(symbol, self.expression, 1), {symbol: source})

    def tensordot(self, other: Any, axes: int = 1) -> Any:
        """The product with an array or a path of one, the last `axes` axes summed with the first of the array."""
        symbol, source = self._other(other)
        self._check(self.shape, source.shape, axes, source.shape)
        return self._dense(tensordot(self.expression, symbol, axes), {symbol: source})

    def sum(self, axis: int | tuple[int, ...] | None = None) -> Any:
        """The sum of all entries, or along axes."""
        return self._dense(self.expression.sum(axis=axis))

    def norm(self) -> Any:
        """The Frobenius norm."""
        if self.dtype.kind == "c":  # nothing here is conjugated
            value = self.tocoo()
            value.sum_duplicates()
            return np.linalg.norm(value.data)
        return np.sqrt(self._dense(frobenius(self.expression, self.expression)))

    def todense(self) -> Any:
        """All entries as a NumPy array."""
        return self._dense(self.expression)

    def factored(self) -> Factored:
        """The value with its cores in memory, which solves and becomes sparse."""
        return self.compute(self.expression)

    def tocoo(self) -> Any:
        """The entries that structure leaves as a `scipy.sparse.coo_array`."""
        return self.factored().tocoo()

    def _other(self, other: Any) -> tuple[Symbol, Source]:
        source = source_of("other", other)
        return Symbol("_other", tuple(source.shape)), source

    def _check(self, first: Sequence[int], last: Sequence[int], axes: int, other: Sequence[int]) -> None:
        if axes > min(len(first), len(last)) or tuple(first[len(first) - axes :]) != tuple(last[:axes]):
            raise ShapeError(
                f"The last {axes} of shape {show_shape(tuple(first))} cannot be summed with the first of shape "
                f"{show_shape(tuple(last))}. Give sizes that are equal."
            )


def open(path: Any, *, memory: int | str = MEMORY) -> Stored:
    """A structured store, as `td.store` writes it, as a value that is read when it is asked for something.

    `path` is what the target of `td.store` was: a path, a URL, or a store or a group of zarr. Raises `BindError` for
    a store that is not there, not complete, or of another kind.

    >>> import tempfile, numpy as np, tensordsl as td
    >>> x = td.vector("x", 3)
    >>> target = tempfile.mkdtemp() + "/H.zarr"
    >>> _ = td.store(td.hessian(td.sum(x**3), x), {"x": np.arange(3.0)}, target)
    >>> td.open(target) @ np.ones(3)
    array([ 0.,  6., 12.])
    """
    place = Node.of(path)
    found = place.opened("r")
    if found is None:
        raise BindError(f"There is no store at {str(place)!r}.")
    held = dict(found.attrs).get("tensordsl")
    if not isinstance(held, dict) or "terms" not in held:
        raise BindError(
            f"{str(place)!r} is no structured store of this library. A dense one is an array of zarr: "
            "zarr.open_array(path)."
        )
    if held["version"] != FORMAT:
        raise UnsupportedError(f"{str(place)!r} has the format {held['version']}; this version reads {FORMAT}.")
    if not held.get("complete"):
        raise BindError(f"{str(place)!r} is not complete: its run was cut off. Take it up by the same td.store.")
    names = sorted({core["array"] for term in held["terms"] for core in term["cores"]})
    data = {name: source_of(name, (place / name).array) for name in names}
    cores = {name: Symbol(name, tuple(source.shape)) for name, source in data.items()}
    ways = [way for term in held["terms"] for way in term["scatter"].values() if "positions" in way]
    lists = {way["positions"]: tuple(map(int, found[way["positions"]][...])) for way in ways}
    terms = [_term(term, cores, lists) for term in held["terms"]]
    expression = add_terms(terms, tuple(held["shape"]))
    return Stored(as_expr(expression), data, np.dtype(held["dtype"]), budget_of(memory))


def _term(said: Mapping[str, Any], cores: Mapping[str, Symbol], lists: Mapping[str, tuple[int, ...]]) -> Expr:
    labels: dict[str, Label] = {name: place for place, name in enumerate(said["sizes"])}
    sizes: dict[Label, int | Dim] = {labels[name]: size for name, size in said["sizes"].items()}
    number = said["coefficient"]
    coefficient: Number = complex(*number) if isinstance(number, list) else number
    operands: list[tuple[Expr, Groups]] = [
        (cores[core["array"]], tuple((labels[la],) for la in core["labels"])) for core in said["cores"]
    ]
    for column, way in said["scatter"].items():
        size, row = said["sizes"][column], way["row"]
        if "positions" in way:
            select = Select(size, 0, 1, said["sizes"][row], lists[way["positions"]])
        else:
            select = Select(size, way["start"], way["step"], None if row is None else said["sizes"][row])
        operands.append((select, tuple((labels[la],) for la in ((column,) if row is None else (row, column)))))
    output = tuple(tuple(labels[la] for la in group) for group in said["output"])
    return contract(coefficient, operands, output, sizes)
