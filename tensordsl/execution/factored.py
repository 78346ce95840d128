"""Structured values: the cores of a tensor and the labels around them, as they are, with what can be done to them.

A structured value is an expression in its cores. What is computed from one (its entries, products with arrays, its
sparse forms) is a compiled function of the cores, planned once for each structure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tensordsl.contraction import add_terms, contract
from tensordsl.dims import AnySize, Dim, evaluate
from tensordsl.errors import ShapeError, UnsupportedError, show_shape
from tensordsl.execution.layout import Layout, lay_out
from tensordsl.execution.pattern import Entries, Rows, coordinates, rows_of
from tensordsl.expr import Expr, Number, Symbol
from tensordsl.labels import Groups, Label, flat, singles

Function = Callable[..., Any]
Compile = Callable[[Expr], Function]  # an expression to a function of arrays by name

LETTERS = "ijklmnpqrstuvwxyzabcdefgh"


class FactoredTerm(NamedTuple):
    """One term of a structured value: `coefficient` times the product of its `cores`, spread over the `output`.

    out[output] = coefficient * sum over the labels not in output of prod_c cores[c][labels[c]]

    `labels` are those of the axes of each core, `output` those of each axis of the value, the slowest first. A label
    that stands twice in the output is a δ, one that stands in no core is ones. `scatter` says of a label of the output
    which places of its axis the rows of a selection go to.
    """

    cores: tuple[np.ndarray[Any, Any], ...]
    labels: tuple[tuple[Label, ...], ...]
    output: Groups
    coefficient: Number
    scatter: Mapping[Label, Any]

    @property
    def core(self) -> np.ndarray[Any, Any] | None:
        """The product of the cores as one array, its axes their labels in the order of the output; None for none."""
        if len(self.cores) < 2:
            return self.cores[0] if self.cores else None
        rows = [row for _, row in self.scatter.values()]
        bound = set(flat(self.labels))
        kept = [label for label in dict.fromkeys((*flat(self.output), *rows)) if label in bound]
        operands = [part for pair in zip(self.cores, self.labels, strict=True) for part in pair]
        return np.asarray(np.einsum(*operands, kept, optimize=True))


class Structure:
    """All of a structured value but its numbers. What is found out about it is kept for the values that share it."""

    def __init__(self, shape: tuple[int, ...], layouts: Sequence[Layout], compile: Compile) -> None:
        self.shape = shape
        self.layouts = tuple(layouts)
        self.compile = compile
        self._products: dict[object, Function] = {}
        shapes = {
            place: tuple(layout.sizes[label] for label in labels)
            for layout in self.layouts
            for place, labels in zip(layout.cores, layout.slots, strict=True)
        }
        self.cores = tuple(Symbol(f"_core{place}", shapes[place]) for place in sorted(shapes))

    @cached_property
    def terms(self) -> tuple[Expr, ...]:
        """The terms as expressions in the cores."""
        return tuple(contract(t.coefficient, t.operands(self.cores), t.output, t.sizes) for t in self.layouts)

    @cached_property
    def dense(self) -> Function:
        """The entries."""
        return self.compile(add_terms(self.terms, self.shape))

    @cached_property
    def transposed(self) -> Structure:
        """The structure of the value with its axes in reverse."""
        turned = Structure(self.shape[::-1], [t.turned() for t in self.layouts], self.compile)
        turned.__dict__["transposed"] = self
        return turned

    @cached_property
    def numbers(self) -> tuple[complex, ...]:
        """What the dtype of a value hangs on beside its cores."""
        bare = [layout.coefficient for layout in self.layouts if not layout.cores]
        return tuple(n if isinstance(n, complex) or (isinstance(n, int) and abs(n) < 2**63) else float(n) for n in bare)

    def product(self, ndim: int, axes: int, left: bool) -> Function:
        """The products with an array of `ndim` axes, of which `axes` are summed over: the first ones, or the last."""
        key = (ndim, axes, left)
        if key not in self._products:
            order = len(self.shape)
            mine = list(range(order))
            free = list(range(order, order + ndim - axes))
            labels = [*free, *mine[:axes]] if left else [*mine[order - axes :], *free]
            output = [*free, *mine[axes:]] if left else [*mine[: order - axes], *free]
            sizes: dict[Label, AnySize] = dict(enumerate(self.shape))
            sizes.update({label: Dim(f"_free{label}") for label in free})
            other = Symbol("_other", tuple(sizes[label] for label in labels))
            found = [
                contract(1, [(t, singles(mine)), (other, singles(labels))], singles(output), sizes) for t in self.terms
            ]
            shape = tuple(sizes[label] for label in output)
            self._products[key] = self.compile(add_terms(found, shape))
        return self._products[key]

    @cached_property
    def whole(self) -> tuple[Function | None, ...]:
        """For each term of several cores, the function that multiplies them out."""
        return tuple(self._whole(layout) for layout in self.layouts)

    def _whole(self, layout: Layout) -> Function | None:
        if len(layout.cores) < 2:
            return None
        sizes = {label: layout.sizes[label] for label in flat(layout.slots)}
        return self.compile(contract(1, layout.dense(self.cores), singles(layout.bound), sizes))

    @cached_property
    def coordinates(self) -> tuple[Any, ...]:
        """The place of each entry along each axis, as a COO array has them."""
        return coordinates(self.layouts, self.shape)

    @cached_property
    def rows(self) -> Rows:
        """The pattern of a CSR array, and where in it the entries of each term go."""
        return rows_of(self.layouts, (self.shape[0], self.shape[1]))


class Factored:
    """A structured value: what `td.compile(e, output="factored")` gives.

    It holds the `terms` of a tensor, dense cores and the labels around them, and no entry that is zero by structure.
    A derivative with deltas, a Kronecker product and a product of two thin matrices are kept by their factors.

    `F @ b` and `b @ F` are arrays, as `np.tensordot(F, b, 1)` and `np.tensordot(b, F, 1)` of the dense value: the last
    axis of the one is summed with the first of the other. For matrices and vectors that is NumPy's `@`.
    `F.tensordot(b, axes)` sums over more axes. `F.T` has the axes in reverse; `todense`, `tocoo` and `tocsr` give the
    entries; `solve` inverts where the structure makes that cheap.

    >>> import numpy as np, tensordsl as td
    >>> k = td.dim("k")
    >>> A, x = td.matrix("A", k, k), td.vector("x", k)
    >>> f = td.compile(td.jacobian(A * td.outer(x, x), x), output="factored")
    >>> J = f(A=np.ones((100, 100)), x=np.arange(100.0))
    >>> J
    <Factored (100, 100, 100) float64, 156.25 KiB of 7.63 MiB
        C0[i,j] -> [i,j,i]
        C1[i,j] -> [i,j,j]>
    >>> (J @ np.ones(100)).shape, J.nbytes, J.todense().nbytes
    ((100, 100), 160000, 8000000)
    """

    __array_ufunc__ = None  # so that `array @ value` comes here
    __slots__ = ("_cores", "_structure", "dtype")

    def __init__(self, structure: Structure, cores: Sequence[Any]) -> None:
        self._structure = structure
        self._cores = tuple(cores)
        bare = [] if self._cores else [np.float64]
        self.dtype: np.dtype[Any] = np.result_type(*self._cores, *structure.numbers, *bare)

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the value that is meant."""
        return self._structure.shape

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of entries, zeros and all."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the cores, which is what is held in memory."""
        return sum(core.nbytes for core in self._cores)

    @property
    def terms(self) -> tuple[FactoredTerm, ...]:
        """The terms, whose sum the value is; see `FactoredTerm` for what each holds."""
        return tuple(
            FactoredTerm(tuple(self._cores[place] for place in t.cores), t.slots, t.output, t.coefficient, t.scatter)
            for t in self._structure.layouts
        )

    def __repr__(self) -> str:
        held, whole = size_text(self.nbytes), size_text(self.size * self.dtype.itemsize)
        lines = [f"<Factored {show_shape(self.shape)} {self.dtype}, {held} of {whole}"]
        lines += [f"    {text_of(layout)}" for layout in self._structure.layouts] or ["    0"]
        return "\n".join(lines) + ">"

    # --- its entries ----------------------------------------------------------------------------------------------

    def todense(self, out: Any = None) -> Any:
        """The entries as a NumPy array, written into `out` where that is given.

        Raises `ShapeError` where `out` has another shape.
        """
        value = self._call(self._structure.dense)
        if out is None:
            return value
        if np.shape(out) != self.shape:
            raise ShapeError(
                f"out has the shape {show_shape(np.shape(out))}; expected {show_shape(self.shape)}, that of the value."
            )
        np.copyto(out, value)
        return out

    toarray = todense

    def tocoo(self) -> Any:
        """The entries that structure leaves as a `scipy.sparse.coo_array`, coordinates read off the labels.

        Where several terms have an entry in one place it is there as often; `sum_duplicates()` adds them. The
        coordinates are those of all values of one structure, and read-only. Raises `ShapeError` for a scalar.
        """
        from scipy.sparse import coo_array  # scipy is heavy, and needed here alone

        if not self.ndim:
            raise ShapeError("A scalar has no sparse form; its value is value.todense().")
        data = np.empty(len(self._structure.coordinates[0]), self.dtype)
        start = 0
        for entries in self._entries():
            entries.write(data[start : start + entries.total])
            start += entries.total
        return coo_array((data, self._structure.coordinates), shape=self.shape)

    def tocsr(self) -> Any:
        """The entries that structure leaves of a matrix as a `scipy.sparse.csr_array` in canonical form.

        Rows are sorted and no place stands twice. The pattern is found once, from the labels, for all values of one
        structure, which share it read-only: later calls compute values alone. Raises `ShapeError` unless the value is
        a matrix.

        >>> import numpy as np, tensordsl as td
        >>> x = td.vector("x", 3)
        >>> D = td.compile(td.diag(x) + td.identity(3), output="factored")(x=np.arange(3.0)).tocsr()
        >>> D.indices, D.data
        (array([0, 1, 2], dtype=int32), array([1., 2., 3.]))
        """
        from scipy.sparse import csr_array  # scipy is heavy, and needed here alone

        if self.ndim != 2:
            raise ShapeError(
                f"tocsr takes a matrix; this value has the shape {show_shape(self.shape)}. Use tocoo(), or "
                "td.jacobian_matrix(F, x) for a derivative of higher order."
            )
        rows = self._structure.rows
        found = csr_array((rows.values(self._entries(), self.dtype), rows.indices, rows.indptr), shape=self.shape)
        found.has_canonical_format = True
        return found

    def _entries(self) -> list[Entries]:
        """The entries of each term, one axis for each label along which it has some."""
        found = []
        for layout, multiplied in zip(self._structure.layouts, self._structure.whole, strict=True):
            if multiplied is not None:
                core, labels = self._call(multiplied), layout.bound
            elif layout.cores:
                core, labels = self._cores[layout.cores[0]], layout.slots[0]
            else:
                core, labels = np.asarray(layout.coefficient, self.dtype), ()
            found.append(Entries(core, labels, layout))
        return found

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        raise UnsupportedError(
            f"NumPy would need all {self.size} entries of this structured value of shape {show_shape(self.shape)}, "
            f"{size_text(self.size * self.dtype.itemsize)}. Give value.todense() where they fit in memory."
        )

    # --- linear algebra -------------------------------------------------------------------------------------------

    @property
    def T(self) -> Factored:
        """The value with its axes in reverse, as of a NumPy array; the cores are shared."""
        return Factored(self._structure.transposed, self._cores)

    def __matmul__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Expr | Factored) else self.tensordot(other)

    def __rmatmul__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, Expr | Factored) else self._product(other, 1, left=True)

    def tensordot(self, other: Any, axes: int = 1) -> Any:
        """The product with an array, the last `axes` axes of the value summed with the first of the array.

        out[i..,l..] = F[i..,j..] * b[j..,l..]; a Hessian of shape (n, r, n, r) times a step of shape (n, r) is
        `H.tensordot(step, 2)`. No entry that is zero by structure is multiplied. Raises `ShapeError` where the sizes
        differ.
        """
        return self._product(other, axes, left=False)

    def _product(self, other: Any, axes: int, left: bool) -> Any:
        array = np.asarray(other)
        cut = array.ndim - axes if left else self.ndim - axes
        (first, last) = (array.shape, self.shape) if left else (self.shape, array.shape)
        if cut < 0 or first[cut:] != last[:axes]:
            raise ShapeError(
                f"The last {'axis' if axes == 1 else f'{axes} axes'} of shape {show_shape(first)} cannot be summed "
                f"with the first of shape {show_shape(last)}; {'the array' if left else 'the value'} stands on the "
                "left. Give sizes that are equal, or transpose one with .T."
            )
        if not self._structure.layouts:  # zero: nothing in it shows the sizes of the array
            return np.zeros((*first[:cut], *last[axes:]), np.result_type(self.dtype, array.dtype))
        return self._call(self._structure.product(array.ndim, axes, left), other=array)

    def _call(self, function: Function, **more: Any) -> Any:
        """What a function of the cores gives, in the dtype that the value has, or has together with the others."""
        named = {symbol.name: core for symbol, core in zip(self._structure.cores, self._cores, strict=True)}
        found = function(**named, **{f"_{name}": array for name, array in more.items()})
        dtype = np.result_type(self.dtype, *(array.dtype for array in more.values()))
        return found if found.dtype == dtype else found.astype(dtype)


# --- texts --------------------------------------------------------------------------------------------------------


def size_text(count: int) -> str:
    """A number of bytes as a person writes it."""
    amount, units = float(count), ["KiB", "MiB", "GiB", "TiB", "PiB"]
    if count < 1024:
        return f"{count} bytes"
    while amount >= 1024 and units:
        amount, unit = amount / 1024, units.pop(0)
    return f"{amount:.2f}".rstrip("0").rstrip(".") + f" {unit}"


def text_of(layout: Layout) -> str:
    """A term in index notation, its cores numbered: `C0[i,j] -> [i,j,i]`."""
    names: dict[Label, str] = {}
    rows = [row for _, row in layout.scatter.values() if row is not None]
    for label in (*(la for la in flat(layout.output) if la not in layout.scatter), *rows, *flat(layout.slots)):
        names.setdefault(label, LETTERS[len(names) % len(LETTERS)])

    def shown(label: Label) -> str:
        if label not in layout.scatter:
            return names[label]
        select, row = layout.scatter[label]
        if row is None:
            return str(select.start)
        if select.positions is not None:
            return f"p({names[row]})"
        step = "" if select.step == 1 else f"{select.step}*"
        return f"{select.start}+{step}{names[row]}"

    cores = [
        f"C{place}[{','.join(names[label] for label in labels)}]" if labels else f"C{place}"
        for place, labels in zip(layout.cores, layout.slots, strict=True)
    ]
    if layout.coefficient != 1 or not cores:
        cores.insert(0, str(layout.coefficient))
    axes = ["(" + " ".join(map(shown, group)) + ")" if len(group) != 1 else shown(group[0]) for group in layout.output]
    return f"{'*'.join(cores)} -> [{','.join(axes)}]"


# --- making them --------------------------------------------------------------------------------------------------


def structure_of(node: Expr, sizes: Mapping[str, int], compile: Compile) -> tuple[list[Expr], Structure]:
    """The expressions of the cores of a value, and its structure."""
    cores, layouts = lay_out(node, sizes)
    return cores, Structure(tuple(evaluate(size, sizes) for size in node.shape), layouts, compile)
