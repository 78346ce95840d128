"""Structured values: the cores of a tensor and the labels around them, as they are, with what can be done to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from tensordsl.errors import BindError, ShapeError, UnsupportedError, show_shape
from tensordsl.execution.pattern import Entries
from tensordsl.execution.solve import NoSolution
from tensordsl.execution.structure import Function, Structure, text_of
from tensordsl.expr import Expr, Number
from tensordsl.labels import Groups, Label, flat


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

        An `out` that a value of the same structure filled before is written again only where entries are not zero by
        structure: leave its zeros as they are. Raises `BindError` where `out` does not fit.
        """
        if out is None:
            return self._call(self._structure.dense)
        self._structure.dense(out=out, **self._named)
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
        found = coo_array(self.shape, dtype=self.dtype)  # given the coordinates, it would look through all of them
        found.data, found.coords, found.has_canonical_format = data, self._structure.coordinates, False
        return found

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

    def solve(self, b: Any) -> Any:
        """The solution x of F x = b, where the structure makes that cheap.

        b[i..,l..] = F[i..,j..] * x[j..,l..]. The value is a square matrix, or has a shape s + s, as a Hessian does; b
        has the shape s, or more axes after it, one system for each entry. Solved by their labels are diagonals and
        blocks, Kronecker products factor by factor, the identity beside others (for the Hessian of ‖T - U Vᵀ‖² in U,
        of shape (n, r, n, r), one system of size r), and such terms together with some of low rank, by the Woodbury
        identity. A dense matrix is solved with where the cores are that large anyway.

        Raises `ShapeError` where the shapes do not fit, `BindError` for a singular value, and `UnsupportedError` where
        the structure helps in no way known here: nothing large is made behind your back.

        >>> import numpy as np, tensordsl as td
        >>> U, V, T = td.matrix("U", 400, 10), td.matrix("V", 300, 10), td.matrix("T", 400, 300)
        >>> f = td.sum((T - U @ V.T)**2)
        >>> rng = np.random.default_rng(0)
        >>> data = {s: rng.normal(size=s.shape) for s in (U, V, T)}
        >>> H = td.compile(td.hessian(f, U), output="factored")(data)
        >>> H.shape, H.nbytes
        ((400, 10, 400, 10), 800)
        >>> step = H.solve(-td.grad(f, U).evaluate(data))
        >>> bool(np.allclose(td.grad(f, U).evaluate({**data, U: data[U] + step}), 0))
        True
        """
        right, half = np.asarray(b), self.ndim // 2
        if self.ndim % 2 or not half or self.shape[:half] != self.shape[half:]:
            raise ShapeError(
                f"solve takes a value of a shape s + s, as of a square matrix; this one has {show_shape(self.shape)}."
            )
        if right.shape[:half] != self.shape[:half]:
            raise ShapeError(
                f"The right side has the shape {show_shape(right.shape)}; expected {show_shape(self.shape[:half])}, or "
                f"more axes after it, for a value of shape {show_shape(self.shape)}. Transpose it with .T."
            )
        dtype = np.result_type(self.dtype, right.dtype, np.float32)
        if not right.size:
            return np.zeros(right.shape, dtype)
        try:
            solver = self._structure.solver(right.ndim)
        except NoSolution as error:
            if error.singular:
                raise singular("its labels leave entries of the solution open") from None
            terms = "\n".join(f"    {text_of(layout)}" for layout in self._structure.layouts)
            raise UnsupportedError(
                f"The structure of this value does not make it cheap to solve with. Its terms are\n{terms}\n"
                "Solve with all its entries, np.linalg.solve(F.todense(), b) for a matrix F, or use a method that "
                "takes products F @ v alone, as in scipy.sparse.linalg."
            ) from None
        with np.errstate(divide="ignore", invalid="ignore"):  # a zero that is divided by is an error below
            found, *divisors = self._run(solver, other=right)
        if not all(np.all(divisor) for divisor in divisors):
            raise singular("an entry that is divided by is zero")
        return found if found.dtype == dtype else found.astype(dtype)

    @property
    def _named(self) -> dict[str, Any]:
        return {symbol.name: core for symbol, core in zip(self._structure.cores, self._cores, strict=True)}

    def _run(self, function: Function, **more: Any) -> Any:
        return function(**self._named, **{f"_{name}": array for name, array in more.items()})

    def _call(self, function: Function, **more: Any) -> Any:
        """What a function of the cores gives, in the dtype that the value has, or has together with the others."""
        found = self._run(function, **more)
        dtype = np.result_type(self.dtype, *(array.dtype for array in more.values()))
        return found if found.dtype == dtype else found.astype(dtype)


def singular(cause: str) -> BindError:
    return BindError(
        f"A matrix that is solved with is singular for this data: {cause}. "
        "Check the data, or add a small multiple of td.identity to the matrix."
    )


def size_text(count: int) -> str:
    """A number of bytes as a person writes it."""
    amount, units = float(count), ["KiB", "MiB", "GiB", "TiB", "PiB"]
    if count < 1024:
        return f"{count} bytes"
    while amount >= 1024 and units:
        amount, unit = amount / 1024, units.pop(0)
    return f"{amount:.2f}".rstrip("0").rstrip(".") + f" {unit}"
