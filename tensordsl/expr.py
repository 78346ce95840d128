"""The nodes of an expression: a closed set, immutable and interned, so that equal means identical.

A node knows its shape, its children, the symbols in it, and a digest that orders nodes the same way in every process.
What can be *done* with an expression (add, differentiate, print, evaluate) is looked up in the table `operations`,
which the rooms above fill; this room knows no operator.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import blake2b
from inspect import signature
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, TypeVar, cast
from weakref import WeakSet, WeakValueDictionary

import numpy as np

from tensordsl.dims import AnySize, Dim, Shape, check_name, check_size, product
from tensordsl.dims import operations as operations
from tensordsl.errors import TensorDSLError, UnsupportedError, show_shape
from tensordsl.labels import Groups

if TYPE_CHECKING:
    from tensordsl.functions.record import ElementwiseRecord, PrimitiveRecord

Number = int | Fraction | float | complex
Operation = Callable[..., Any]
F = TypeVar("F", bound=Callable[..., Any])

array_functions: dict[Any, Operation] = {}  # NumPy's functions and ufuncs, and ours of the same meaning


def operation(name: str) -> Callable[[F], F]:
    """Register what an expression does for the method or operator `name`."""

    def register(function: F) -> F:
        operations[name] = function
        return function

    return register


class Liftable:
    """What a function applied entry by entry passes through: index notation lifts functions over its indices.

    Operators between an expression and such an operand are the operand's affair.
    """

    __slots__ = ()

    def lift(self, function: Operation, arguments: tuple[Any, ...]) -> Any:
        raise NotImplementedError


class NoAttributeError(UnsupportedError, AttributeError):
    """An attribute of NumPy's arrays that an expression has not, in our words; `hasattr` knows it."""


def _binary(name: str, a: object, b: object) -> Expr:
    if isinstance(a, Liftable) or isinstance(b, Liftable):
        return cast(Expr, NotImplemented)  # Python then asks the other operand
    return _expr(name, a, b)


def _expr(name: str, *arguments: object, **options: object) -> Expr:
    found: Expr = operations[name](*arguments, **options)
    return found


class Expr:
    """An expression: what users hold. Two equal expressions are one object, and `==` says whether they are.

    Shapes are tuples of sizes, each a whole number or symbolic. Values carry no units: each is a plain number.
    In the formulas of this library an index that the left side does not name is summed, and δ[i,j] is 1 where i = j,
    else 0. Operators and methods have NumPy's names and meanings. `bool(e)` and `iter(e)` raise `TypeError`.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x = td.vector("x", k)
    >>> x + x == 2 * x
    True
    >>> x.shape, x.ndim, sorted(s.name for s in (x * 2).symbols)
    ((k,), 1, ['x'])
    """

    __slots__ = ("__weakref__", "children", "depth", "digest", "extent", "shape", "symbols")
    __array_priority__ = 1000.0
    rank: ClassVar[int] = 0  # the order of kinds, for sorting

    children: tuple[Expr, ...]
    shape: Shape
    symbols: frozenset[Symbol]
    digest: str
    depth: int
    extent: int  # the nodes of its text, where what is shared is written again

    def _settle(self, shape: Shape, children: tuple[Expr, ...], identity: tuple[object, ...]) -> None:
        self.shape = shape
        self.children = children
        text = "\0".join([type(self).__name__, *map(str, identity), *[child.digest for child in children]])
        self.digest = blake2b(text.encode(), digest_size=12).hexdigest()
        symbols: frozenset[Symbol] = frozenset()
        for child in children:
            if not child.symbols <= symbols:
                symbols = child.symbols if symbols <= child.symbols else symbols | child.symbols
        self.symbols = symbols
        self.depth = 1 + max((child.depth for child in children), default=0)
        self.extent = min(1 + sum(child.extent for child in children), 10**9)

    @property
    def order(self) -> tuple[int, str, str]:
        """A key that sorts nodes the same way in every process."""
        return (self.rank, self.title, self.digest)

    @property
    def title(self) -> str:
        return ""

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> AnySize:
        """The number of entries, whole or symbolic; in arithmetic it is a number."""
        return product(self.shape)

    @property
    def dims(self) -> frozenset[Dim]:
        """The symbolic dimensions that the sizes of this expression and of its symbols are made of."""
        shapes = [self.shape, *(symbol.shape for symbol in self.symbols)]
        return frozenset(
            Dim(name) for shape in shapes for size in shape if not isinstance(size, int) for name in size.names
        )

    # Equality is identity, inherited from object: nodes are interned.

    def __copy__(self) -> Expr:
        return self

    def __deepcopy__(self, memo: object) -> Expr:
        return self

    def __bool__(self) -> bool:
        raise TypeError(
            "An expression has no truth value before it is evaluated; "
            "compare two expressions with ==, or evaluate one first."
        )

    def __iter__(self) -> Iterator[Expr]:
        raise TypeError("An expression is not iterable; take entries by index, as in x[0].")

    def __contains__(self, item: object) -> bool:
        raise TypeError("`in` does not apply to an expression before it is evaluated.")

    def __len__(self) -> int:
        raise TypeError("An expression has a shape, which may be symbolic, but no len(): use e.shape[0].")

    def __float__(self) -> float:
        raise TypeError("An expression is no number before it is evaluated: use e.evaluate(...).")

    def __array__(self, dtype: Any = None, copy: Any = None) -> NoReturn:
        raise UnsupportedError(
            f"{brief(self)} of shape {show_shape(self.shape)} is no array of numbers before it is evaluated, and does "
            "not fit into one: put expressions together with np.stack, np.concatenate or np.block, or use "
            "e.evaluate(...)."
        )

    if not TYPE_CHECKING:  # so that attributes that are none are still found out by type checkers

        def __getattr__(self, name: str) -> NoReturn:
            if name.startswith("__") or not hasattr(np.ndarray, name):
                raise NoAttributeError(f"An expression has no attribute {name!r}.")
            raise NoAttributeError(
                f"An expression has no {name!r}, which NumPy's arrays have: it does not change, and it has no values "
                "until it is evaluated. Write it with what dir(td.Expr) shows, or use it on e.evaluate(...)."
            )

    def __add__(self, other: object) -> Expr:
        return _binary("add", self, other)

    def __radd__(self, other: object) -> Expr:
        return _binary("add", other, self)

    def __sub__(self, other: object) -> Expr:
        return _binary("subtract", self, other)

    def __rsub__(self, other: object) -> Expr:
        return _binary("subtract", other, self)

    def __mul__(self, other: object) -> Expr:
        return _binary("multiply", self, other)

    def __rmul__(self, other: object) -> Expr:
        return _binary("multiply", other, self)

    def __truediv__(self, other: object) -> Expr:
        return _binary("divide", self, other)

    def __rtruediv__(self, other: object) -> Expr:
        return _binary("divide", other, self)

    def __pow__(self, other: object) -> Expr:
        return _binary("power", self, other)

    def __rpow__(self, other: object) -> Expr:
        return _binary("power", other, self)

    def __matmul__(self, other: object) -> Expr:
        return _binary("matmul", self, other)

    def __rmatmul__(self, other: object) -> Expr:
        return _binary("matmul", other, self)

    def __neg__(self) -> Expr:
        return _expr("negative", self)

    def __pos__(self) -> Expr:
        return self

    def __abs__(self) -> Expr:
        return _expr("abs", self)

    def __gt__(self, other: object) -> Expr:
        return _binary("greater", self, other)

    def __lt__(self, other: object) -> Expr:
        return _binary("less", self, other)

    def __ge__(self, other: object) -> Expr:
        return _binary("greater_equal", self, other)

    def __le__(self, other: object) -> Expr:
        return _binary("less_equal", self, other)

    def __and__(self, other: object) -> Expr:
        return _binary("and", self, other)

    def __rand__(self, other: object) -> Expr:
        return _binary("and", other, self)

    def __or__(self, other: object) -> Expr:
        return _binary("or", self, other)

    def __ror__(self, other: object) -> Expr:
        return _binary("or", other, self)

    def __invert__(self) -> Expr:
        return _expr("not", self)

    def __getitem__(self, key: object) -> Any:
        return operations["getitem"](self, key)

    @property
    def T(self) -> Expr:
        """The axes in reverse order: out[j,i] = A[i,j]."""
        return _expr("transpose", self)

    def transpose(self, *axes: int) -> Expr:
        """The axes in the order given; in reverse order when none is."""
        return _expr("transpose", self, axes or None)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expr:
        """The sum over `axis`, over all axes when None; see `td.sum`."""
        return _expr("sum", self, axis=axis, keepdims=keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expr:
        """The mean over `axis`, over all axes when None; see `td.mean`."""
        return _expr("mean", self, axis=axis, keepdims=keepdims)

    def prod(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expr:
        """The product over `axis`, over all axes when None; see `td.prod`."""
        return _expr("prod", self, axis=axis, keepdims=keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expr:
        """The largest entry over `axis`, over all axes when None; see `td.max`."""
        return _expr("max", self, axis=axis, keepdims=keepdims)

    def min(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Expr:
        """The smallest entry over `axis`, over all axes when None; see `td.min`."""
        return _expr("min", self, axis=axis, keepdims=keepdims)

    def var(self, axis: int | tuple[int, ...] | None = None, ddof: int = 0, keepdims: bool = False) -> Expr:
        """The variance over `axis`, over all axes when None; see `td.var`."""
        return _expr("var", self, axis=axis, ddof=ddof, keepdims=keepdims)

    def std(self, axis: int | tuple[int, ...] | None = None, ddof: int = 0, keepdims: bool = False) -> Expr:
        """The standard deviation over `axis`, over all axes when None; see `td.std`."""
        return _expr("std", self, axis=axis, ddof=ddof, keepdims=keepdims)

    def reshape(self, *shape: Any, order: str = "C") -> Expr:
        """The entries in another shape; see `td.reshape`."""
        return _expr("reshape", self, shape[0] if len(shape) == 1 else shape, order=order)

    def ravel(self, order: str = "C") -> Expr:
        """All entries as a vector; see `td.ravel`."""
        return _expr("ravel", self, order=order)

    flatten = ravel

    def swapaxes(self, axis1: int, axis2: int) -> Expr:
        """Two axes exchanged; see `td.swapaxes`."""
        return _expr("swapaxes", self, axis1, axis2)

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Expr:
        """Without the axes of size one; see `td.squeeze`."""
        return _expr("squeeze", self, axis)

    @property
    def mT(self) -> Expr:
        """Each matrix of a stack transposed: out[...,j,i] = A[...,i,j]."""
        return _expr("swapaxes", self, -1, -2)

    def clip(self, min: object = None, max: object = None) -> Expr:
        """The entries kept between two bounds; see `td.clip`."""
        return _expr("clip", self, min, max)

    def cumsum(self, axis: int | None = None) -> Expr:
        """The running sums along `axis`, of all entries in their order when None."""
        return _expr("cumsum", self, axis)

    def take(self, indices: Any, axis: int | None = None) -> Expr:
        """The entries at a list of places along `axis`, among all entries in their order when None."""
        return _expr("take", self, indices, axis)

    def repeat(self, repeats: int, axis: int | None = None) -> Expr:
        """Each entry several times along `axis`, of all entries in their order when None."""
        return _expr("repeat", self, repeats, axis)

    def copy(self, order: str = "C") -> Expr:
        """The expression itself, since expressions do not change."""
        return self

    def astype(self, dtype: Any) -> Expr:
        """The expression itself: it is of real numbers. Raises `UnsupportedError` for another type than a float."""
        return _expr("astype", self, dtype)

    def dot(self, other: object) -> Expr:
        """NumPy's dot product; see `td.dot`."""
        return _expr("dot", self, other)

    def trace(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
        """The sum of a diagonal, A[i,i]; see `td.trace`."""
        return _expr("trace", self, offset, axis1, axis2)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expr:
        """A diagonal of a matrix, out[i] = A[i,i]; see `td.diagonal`."""
        return _expr("diagonal", self, offset, axis1, axis2)

    def to_string(self, form: str = "index", ascii: bool = False, kept: int | None = None) -> str:
        """The expression as text, in one of the forms index, cases, slices, matrix, einsum.

        index    einsum's convention: what the arrow does not name is summed over its term
        cases    an entry, by which of its indices coincide
        slices   the matrix at one entry of the trailing axes, with basis vectors; `kept` leading axes stay open
        matrix   products of matrices, `@ ∘ ⊗ ᵀ`; vectors are columns
        einsum   the program that would run, with its costs

        `ascii=True` writes `delta`, `kron` and `.T`. Raises `UnsupportedError` for another form.

        >>> import tensordsl as td
        >>> k = td.dim("k")
        >>> A, x = td.matrix("A", k, k), td.vector("x", k)
        >>> (A.T @ x).to_string(), (A.T @ x).to_string("matrix"), (A.T @ x).to_string("matrix", ascii=True)
        ('A[j,i]*x[j] -> [i]', 'Aᵀ @ x', 'A.T @ x')
        """
        return str(operations["to_string"](self, form, ascii=ascii, kept=kept))

    def to_latex(self, form: str = "index", kept: int | None = None) -> str:
        """The expression in LaTeX, in the forms that `to_string` has.

        >>> import tensordsl as td
        >>> A, x = td.matrix("A", 3, 3), td.vector("x", 3)
        >>> print((A.T @ x).to_latex("matrix"))
        A^{\\top} x
        """
        return str(operations["to_latex"](self, form, kept=kept))

    def to_python(self, name: str = "f") -> str:
        """The source of one function, called `name`, that computes the expression with NumPy alone.

        >>> import tensordsl as td
        >>> A, x = td.matrix("A", 3, 3), td.vector("x", 3)
        >>> print((A @ x).to_python("product"))
        import numpy as np
        <BLANKLINE>
        <BLANKLINE>
        def product(A, x):
            t0 = A @ x
            return t0
        <BLANKLINE>
        """
        return str(operations["to_python"](self, name))

    def to_dot(self) -> str:
        """The graph of the expression in the language of graphviz."""
        return str(operations["to_dot"](self))

    def evaluate(self, data: Mapping[Any, Any] | None = None, /, **named: Any) -> Any:
        """The value, given an array for each symbol: `e.evaluate(x=..., A=...)` or `e.evaluate({x: ..., A: ...})`.

        Data of symbols that e has lost (a Hessian without its x) is ignored; a size that no array fixes is given by
        name. Raises `BindError` for data that is missing or ill-shaped, naming what was expected.

        >>> import tensordsl as td
        >>> k = td.dim("k")
        >>> x = td.vector("x", k)
        >>> (2 * x).evaluate(x=[1.0, 2.0])
        array([2., 4.])
        >>> td.identity(k).evaluate(k=2)
        array([[1., 0.],
               [0., 1.]])
        """
        return operations["evaluate"](self, data, **named)

    def __str__(self) -> str:
        return self.to_string("index")

    def __repr__(self) -> str:
        text = brief(self, 200)
        return f"<{text} : {show_shape(self.shape)}>"

    def _repr_latex_(self) -> str:
        return f"$\\displaystyle {self.to_latex()}$"

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or kwargs or ufunc not in array_functions:
            extra = f".{method}" if method != "__call__" else ""
            raise _unknown(f"{ufunc.__name__}{extra}" + (f" with {', '.join(kwargs)}=" if kwargs else ""))
        return array_functions[ufunc](*inputs)

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        """The functions of this library under the names of the Array API standard, for code written with `xp.`."""
        return operations["array_namespace"]()

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func not in array_functions:
            raise _unknown(func.__name__)
        try:
            return array_functions[func](*args, **kwargs)
        except TypeError as error:
            words = str(error).partition(") ")[2] or str(error)
            known = ", ".join(signature(array_functions[func]).parameters)
            raise UnsupportedError(
                f"np.{func.__name__} of an expression does not take these arguments: {words}. It takes ({known})."
            ) from None


def _unknown(name: str) -> UnsupportedError:
    return UnsupportedError(
        f"np.{name} has no meaning for an expression here. Write it with functions that have, or make one of it with "
        f"td.elementwise or td.primitive. Known: {', '.join(sorted({f.__name__ for f in array_functions}))}."
    )


_interned: WeakValueDictionary[tuple[object, ...], Expr] = WeakValueDictionary()
declared: dict[str, WeakSet[Symbol]] = {}  # the symbols of each name: data may be given for one that was lost
N = TypeVar("N", bound=Expr)


def interned(
    cls: type[N], shape: Shape, children: tuple[Expr, ...], identity: tuple[object, ...], **fields: object
) -> N:
    """The one node of a kind with these children and this identity, made where there is none yet."""
    key = (cls, identity, children)
    found = _interned.get(key)
    if found is None:
        found = object.__new__(cls)
        for name, value in fields.items():
            setattr(found, name, value)
        found._settle(shape, children, identity)
        _interned[key] = found
    return cast(N, found)


class Symbol(Expr):
    """A named tensor, with what its user knows of it: symmetric, positive, ..."""

    __slots__ = ("name", "properties")
    rank = 1
    name: str
    properties: frozenset[str]

    def __new__(cls, name: str, shape: Shape, properties: frozenset[str] = frozenset()) -> Symbol:
        name = check_name(name, "a symbol", "td.vector('x', k)")
        known = [tuple(sorted(properties))] if properties else []
        found = interned(cls, shape, (), (name, shape, *known), name=name, properties=properties)
        if not found.symbols:
            found.symbols = frozenset([found])
            declared.setdefault(name, WeakSet()).add(found)
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        return Symbol, (self.name, self.shape, self.properties)

    @property
    def title(self) -> str:
        return self.name


class Constant(Expr):
    """An array of numbers."""

    __slots__ = ("array",)
    rank = 3
    array: np.ndarray[Any, Any]

    def __new__(cls, array: np.ndarray[Any, Any]) -> Constant:
        held = array.copy()
        held.flags.writeable = False
        content = blake2b(np.ascontiguousarray(held).tobytes(), digest_size=16).hexdigest()
        return interned(cls, tuple(held.shape), (), (content, held.dtype.str, held.shape), array=held)

    def __reduce__(self) -> tuple[Any, ...]:
        return Constant, (self.array,)


@dataclass(frozen=True)
class Pattern:
    """Positions that a matrix of `size` rows and columns has by its structure; `routines` knows how to compute them."""

    name: str
    size: AnySize


class Select(Expr):
    """The matrix S with S[r, start + step*r] = 1 that takes a slice; with no `length` the basis vector e_start.

    With `positions`, S[r, positions[r]] = 1: it gathers entries by a list of places, or by a pattern.

    A slice of x is a contraction with such a matrix, so slicing needs no rule of its own anywhere but at the end,
    where a program turns the contraction into a view of the array.
    """

    __slots__ = ("axis_size", "length", "positions", "start", "step")
    rank = 4
    start: AnySize
    step: int
    length: AnySize | None
    axis_size: AnySize
    positions: tuple[int, ...] | Pattern | None

    def __new__(
        cls,
        size: AnySize,
        start: AnySize,
        step: int = 1,
        length: AnySize | None = None,
        positions: tuple[int, ...] | Pattern | None = None,
    ) -> Select:
        shape = (size,) if length is None else (length, size)
        identity = (size, start, step, length, *([] if positions is None else [positions]))
        return interned(
            cls, shape, (), identity, axis_size=size, start=start, step=step, length=length, positions=positions
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Select, (self.axis_size, self.start, self.step, self.length, self.positions)

    @property
    def title(self) -> str:
        return self.positions.name if isinstance(self.positions, Pattern) else ""


class Contraction(Expr):
    """A coefficient times a product of factors whose axes carry labels, summed over the labels not in the output.

    An output label may repeat (a Kronecker delta) or be in no factor (ones), and an axis may be a group of labels.
    Made by `tensordsl.contraction.contract`, which brings it to canonical form; never directly.
    """

    __slots__ = ("coefficient", "output", "sizes", "slots")
    rank = 6
    coefficient: Number
    slots: tuple[Groups, ...]
    output: Groups
    sizes: tuple[AnySize, ...]

    def __new__(
        cls,
        coefficient: Number,
        factors: tuple[Expr, ...],
        slots: tuple[Groups, ...],
        output: Groups,
        sizes: tuple[AnySize, ...],
        shape: Shape,
    ) -> Contraction:
        identity = (repr(coefficient), slots, output, sizes)
        fields = {"coefficient": coefficient, "slots": slots, "output": output, "sizes": sizes}
        return interned(cls, shape, factors, identity, **fields)

    def __reduce__(self) -> tuple[Any, ...]:
        return Contraction, (self.coefficient, self.children, self.slots, self.output, self.sizes, self.shape)

    @property
    def factors(self) -> tuple[Expr, ...]:
        return self.children


class Sum(Expr):
    """A sum of two or more terms of one shape. Made by `tensordsl.contraction.add_terms`, never directly."""

    __slots__ = ()
    rank = 7

    def __new__(cls, terms: tuple[Expr, ...]) -> Sum:
        return interned(cls, terms[0].shape, terms, ())

    def __reduce__(self) -> tuple[Any, ...]:
        return Sum, (self.children,)

    @property
    def terms(self) -> tuple[Expr, ...]:
        return self.children


def _identity(record: ElementwiseRecord | PrimitiveRecord) -> tuple[object, ...]:
    return (record.name, record.version) if record.version else (record.name,)


class Elementwise(Expr):
    """A function applied entry by entry to arguments of one shape."""

    __slots__ = ("record",)
    rank = 5
    record: ElementwiseRecord

    def __new__(cls, record: ElementwiseRecord, arguments: tuple[Expr, ...]) -> Elementwise:
        return interned(cls, arguments[0].shape, arguments, _identity(record), record=record)

    def __reduce__(self) -> tuple[Any, ...]:
        return Elementwise, (self.record, self.children)

    @property
    def title(self) -> str:
        return self.record.name


class Primitive(Expr):
    """A function of whole matrices, such as the inverse."""

    __slots__ = ("record",)
    rank = 5
    record: PrimitiveRecord

    def __new__(cls, record: PrimitiveRecord, arguments: tuple[Expr, ...]) -> Primitive:
        shape = record.shape(*[argument.shape for argument in arguments])
        return interned(cls, shape, arguments, _identity(record), record=record)

    def __reduce__(self) -> tuple[Any, ...]:
        return Primitive, (self.record, self.children)

    @property
    def title(self) -> str:
        return self.record.name


def brief(node: Expr, width: int = 48) -> str:
    """The text of an expression for a message: short, and never an error of its own."""
    if node.depth > 30 or node.extent > 300:
        return f"an expression of shape {show_shape(node.shape)}, {node.depth} operations deep"
    try:
        text = str(node)
    except TensorDSLError:
        return f"an expression of shape {show_shape(node.shape)}"
    return text if len(text) <= width else text[: width - 1] + "…"


def symbol(name: str, *shape: AnySize) -> Symbol:
    """A symbol after its sizes are checked."""
    return Symbol(name, tuple(check_size(size) for size in shape))
