"""MATLAB's notation: its operators, its functions with the meaning they have there, positions and dimensions from one.

A function of this library that MATLAB does not have keeps its meaning; one that goes by axes counted from zero is
refused, and one that MATLAB has too is in the table `meanings` wherever the two differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from math import inf, log
from typing import Any

from tensordsl.dims import AnySize, Size
from tensordsl.errors import ParseError
from tensordsl.expr import Expr, symbol
from tensordsl.functions import multilinear as m
from tensordsl.functions import operators
from tensordsl.functions.convert import as_expr, identity, mismatch, ones, zeros
from tensordsl.functions.record import functions
from tensordsl.notation import tree as t
from tensordsl.notation.linear import LinearBuilder, block, number

SAME = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan", "atan2": "arctan2",
    "atanh": "arctanh", "blkdiag": "block_diag", "gammaln": "lgamma",
    "psi": "digamma", "times": "multiply", "plus": "add", "minus": "subtract", "rdivide": "divide", "tr": "trace",
    "ctranspose": "transpose", "mtimes": "matmul",
}  # fmt: skip
REFUSED = {
    "cumsum": "write tril(ones(n))*x for the sums of the first entries",
    "eig": "write eigvalsh(A) for the eigenvalues of a symmetric matrix, in ascending order",
    "length": "write numel(x) for a vector, size(A,1) or size(A,2) for a matrix",
    "logm": "write logdet(A) for log|det A|, log(A) for the logarithm of each entry",
    "svd": "write norm(A) for the largest singular value, norm(A,'fro') for the root of the sum of their squares",
}
BY_AXIS = {"axis", "axes", "axis1", "axis2", "source", "destination", "position"}
ALL = t.Slice(None, None, None)
EMPTY = t.Call("rows", ())
Meaning = Callable[["MatlabBuilder", str, Sequence[t.Tree]], Any]
meanings: dict[str, Meaning] = {}


def meaning(*names: str) -> Callable[[Meaning], Meaning]:
    """Register what functions are in MATLAB."""

    def register(function: Meaning) -> Meaning:
        meanings.update(dict.fromkeys(names, function))
        return function

    return register


class MatlabBuilder(LinearBuilder):
    """MATLAB's operators: `*` and `/` are of matrices, a dot before an operator makes it go entry by entry."""

    open_sizes = (
        "The text does not say every size: write eye(k) for the identity of size k, ones(k, m) in place of matrix(1), "
        "ones(k, 1) in place of vector(1)."
    )
    entrywise_power = "Write .^ for the power of each entry."
    end: AnySize | None = None  # how long the axis is whose position is read

    def special(self, name: str) -> Any:
        return identity(self.unknown()) if name == "eye" else super().special(name)

    def name(self, name: str) -> Any:
        if name == "eye" and name not in self.symbols:
            return self.special(name)
        return super().name({"Inf": "inf", "NaN": "nan"}.get(name, name) if name not in self.symbols else name)

    def product(self, operator: str, a: Any, b: Any) -> Any:
        if operator == "\\":
            if not a.ndim:
                return self.entrywise("divide", b, a)
            return number(self.column(functions["solve"](square(a, r"A\b", "pinv(A)*b, or .\\ for each entry"), b)))
        if operator == "//":  # MATLAB's /, as ./ is the division of entries
            if b.ndim == 0 or b.shape == (1, 1):
                return self.entrywise("divide", a, number(b))
            if a.ndim == 0:
                raise mismatch("A number is divided by a matrix.", [(a, False), (b, True)], "Write ./ or inv(A).")
            return super().product("@", a, functions["inv"](square(b, "b/A", "b./A for each entry, or b*pinv(A)")))
        return super().product(operator, a, b)

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        name = SAME.get(function, function)
        if name in REFUSED:
            raise ParseError(f"{name} is not read here: {REFUSED[name]}.")
        if name in meanings:
            if not arguments and name not in ("ones", "zeros", "rows"):
                raise ParseError(f"{name}(...) needs an argument.")
            return meanings[name](self, name, arguments)
        if name in functions and BY_AXIS.intersection(list(signature(functions[name]).parameters)[: len(arguments)]):
            raise ParseError(
                f"{function} counts axes and positions from 0 and is no function of MATLAB: write it with MATLAB's "
                "own, which count from 1, or parse with dialect='matrix'."
            )
        if name not in functions and self.infer and arguments and all(map(is_position, arguments)):
            if len(arguments) > 1 and name not in self.symbols:
                self.inferred[name] = len(arguments)
                self.symbols[name] = symbol(name, *(self.unknown() for _ in arguments))
            return self.subscript(t.Name(name), arguments)
        if any(isinstance(argument, t.Slice | t.Text) for argument in arguments):
            raise ParseError(f"{function}(...) is no symbol: a range or a text does not go into it.")
        return super().call(name, arguments, options)

    # --- positions ------------------------------------------------------------------------------------------------

    def subscript(self, base: t.Tree, keys: tuple[t.Tree, ...]) -> Any:
        """`A(2,:)` is a row, `A(:,2)` a column, and one position counts down the columns."""
        value = self.column(self.operand(base))
        if value.ndim == 0:
            raise ParseError("A number has no positions: write * for a product.")
        if keys == (ALL,):
            return self.column(m.vec(value))
        if len(keys) == 1:
            lying = value.ndim == 2 and value.shape[0] == 1
            standing = self.is_column(value)
            flat = value if standing or lying else self.column(m.vec(value))
            place = self.place(keys[0], flat.shape[int(lying)])
            taken = flat[(slice(None), *place) if lying else place]
            return number(taken if standing or lying else m.transpose(taken))
        if len(keys) != value.ndim:
            raise ParseError(f"A tensor of {value.ndim} axes takes as many positions, not {len(keys)}.")
        places = [part for key, size in zip(keys, value.shape, strict=True) for part in self.place(key, size)]
        return number(value[tuple(places)])

    def place(self, key: t.Tree, size: AnySize) -> tuple[Any, ...]:
        """Positions of MATLAB, from one, on an axis, as positions from zero; the axis stays, be it of one entry."""
        self.end = size
        try:
            match key:
                case t.Slice(None, None, None):
                    return (slice(None),)
                case t.Slice(start, stop, step):
                    return (self.range(start or t.Number(1), stop or t.Name("end"), step or t.Number(1)),)
                case t.Call("rows", (t.Items(items),)):
                    return ([self.position(item, size) for item in items],)
            return self.position(key, size), None
        finally:
            self.end = None

    def position(self, key: t.Tree, size: AnySize) -> AnySize:
        place = self.number(key)
        if isinstance(place, int) and (place < 1 or (isinstance(size, int) and place > size)):
            raise ParseError(
                f"There is no position {place}: positions count from 1 in MATLAB's notation, here to {size}."
            )
        return place - 1

    def range(self, start: t.Tree, stop: t.Tree, step: t.Tree) -> slice:
        first, last, stride = self.number(start), self.number(stop), self.number(step)
        if any(isinstance(place, int) and place < 1 for place in (first, last)):
            raise ParseError("Positions count from 1 in MATLAB's notation: write x(1:3) for the first three entries.")
        if isinstance(stride, Size) or stride == 0:
            raise ParseError("The step of a range is a whole number, and not 0.")
        if stride > 0:
            return slice(first - 1, last, stride)
        return slice(first - 1, None if last == 1 else last - 2, stride)

    def number(self, tree: t.Tree) -> AnySize:
        try:
            return super().number(tree)
        except ParseError as error:
            if self.end is None:
                raise
            raise ParseError(
                "In brackets behind a symbol stand positions, such as 2, 1:3, end or [1 3]; write * for a product."
            ) from error

    def size_of(self, tree: t.Tree) -> Any:
        return self.end if tree == t.Name("end") and self.end is not None else super().size_of(tree)

    # --- what the functions share ---------------------------------------------------------------------------------

    def matrix(self, tree: t.Tree) -> Expr:
        """An argument with two axes at least: a number is a 1×1 matrix."""
        value: Expr = as_expr(self.operand(tree))
        return value if value.ndim else operators.expand_dims(operators.expand_dims(value, 0), 0)

    def flat(self, value: Expr) -> Expr:
        """A column or a row as a vector."""
        if value.ndim == 2 and value.shape[0] == 1 and value.shape[1] != 1:
            value = m.transpose(value)
        vector: Expr = self.vector(value)
        return vector


def is_position(key: t.Tree) -> bool:
    """Whether an argument can only be a position."""
    match key:
        case t.Slice() | t.Number(int()) | t.Name("end"):
            return True
        case t.Sum(terms):
            return all(is_position(term) for _, term in terms)
    return False


def square(matrix: Expr, given: str, way_out: str) -> Expr:
    """A matrix that is divided by."""
    if matrix.ndim == 2 and matrix.shape[0] != matrix.shape[1]:
        raise mismatch(
            f"{given} of a matrix that is not square is a problem of least squares, which is not read.",
            [(matrix, True)],
            f"Write {way_out}.",
            (matrix.shape[0], matrix.shape[1]),
        )
    return matrix


# --- functions -----------------------------------------------------------------------------------------------------


@meaning("sum", "mean", "prod", "max", "min", "var", "std", "logsumexp", "softmax")
def reduction(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """Along the dimension named, or else the first that is longer than one: of a matrix, down each column."""
    value, rest = builder.matrix(arguments[0]), list(arguments[1:])
    options: dict[str, Any] = {}
    if name in ("max", "min") and rest:
        other = rest.pop(0)
        if other != EMPTY and not rest:
            return builder.entrywise(f"{name}imum", number(value), builder.operand(other))
        if other != EMPTY:
            raise ParseError(f"Between the matrix and the dimension stand empty brackets: {name}(A,[],1).")
    if name in ("var", "std"):
        weight = rest.pop(0) if rest else t.Number(0)
        if weight not in (EMPTY, t.Number(0), t.Number(1)):
            raise ParseError(f"{name} with weights is not read; {name}(x) divides by n - 1, {name}(x,1) by n.")
        options["ddof"] = int(weight != t.Number(1))
    if len(rest) > 1:
        raise ParseError(f"{name}(...) does not take so many arguments.")
    if rest == [t.Text("all")]:
        return functions[name](builder.column(m.vec(value))[:, 0], **options)
    lying = value.shape[0] == 1
    axis = dimension(builder, rest[0], value) if rest else int(lying)
    vector = builder.flat(value)
    if vector.ndim == 1 and axis == int(lying):
        found = functions[name](vector, **options)
        return m.transpose(builder.column(found)) if found.ndim and lying else builder.column(found)
    kept = {} if name == "softmax" else {"keepdims": True}
    return number(functions[name](value, axis=axis, **kept, **options))


def dimension(builder: MatlabBuilder, tree: t.Tree, value: Expr) -> int:
    found = None if isinstance(tree, t.Text) else builder.number(tree)
    if not isinstance(found, int) or not 1 <= found <= value.ndim:
        raise ParseError(f"A dimension is a number from 1 to {value.ndim}, or 'all': sum(A,1) adds down the columns.")
    return found - 1


@meaning("norm", "norm1", "norm2")
def norm(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """Of a vector its length, of a matrix the largest singular value; norm1 and norm2 are of vectors."""
    value = builder.flat(as_expr(builder.operand(arguments[0])))
    if name != "norm":
        if value.ndim > 1:
            raise mismatch(
                f"{name} of a matrix may mean two norms.",
                [(value, True)],
                f"Write norm(A,{name[-1]}) for that of the matrix, norm(A(:),{name[-1]}) for that of its entries.",
            )
        arguments = (*arguments, t.Number(int(name[-1])))
    if len(arguments) > 2:
        raise ParseError("norm(...) takes a vector or a matrix, and the order of the norm.")
    order = 2 if len(arguments) == 1 else norm_order(builder, arguments[1])
    if value.ndim == 0:
        return functions["abs"](value)
    if value.ndim == 1:
        return functions["norm"](value, 2 if order == "fro" else order)
    if order not in (1, 2, inf, "fro"):
        raise ParseError("The norm of a matrix is of the order 1, 2, inf or 'fro'.")
    return functions["norm"](value, order)


def norm_order(builder: MatlabBuilder, tree: t.Tree) -> Any:
    match tree:
        case t.Text("fro"):
            return "fro"
        case t.Text("inf" | "Inf") | t.Name("inf" | "Inf"):
            return inf
        case t.Negative(t.Name("inf" | "Inf")):
            return -inf
        case t.Text():
            raise ParseError("The order of a norm is a number, inf, 'inf' or 'fro'.")
    return builder.option(tree)


@meaning("ones", "zeros", "eye", "identity")
def filled(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """Of one size, square; sizes may also stand in brackets, as size(A) would give them."""
    if not arguments:
        return ones(builder.unknown(), 1) if name == "ones" else as_expr(0)
    match tuple(arguments):
        case (t.Call("rows", (t.Items(items),)),):
            arguments = items
    sizes = [builder.number(size) for size in arguments]
    rows, columns = (sizes * 2)[:2]
    if len(sizes) > 2 or (name in ("eye", "identity") and rows != columns):
        raise ParseError(f"{name}(...) takes one size, or the rows and the columns; an identity is square here.")
    if name in ("ones", "zeros"):
        return (ones if name == "ones" else zeros)(rows, columns)
    return identity(rows)


@meaning("vector", "matrix")
def spread(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """matrixcalculus.org's vector(1) and matrix(1): a number in as many entries as fit."""
    shape = (builder.unknown(), 1 if name == "vector" else builder.unknown())
    return operators.multiply(builder.operand(arguments[0]), ones(*shape))


@meaning("diag")
def diagonal(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    if len(arguments) > 1:
        raise ParseError("diag(A,k) of another diagonal than the main one is not read.")
    value = builder.flat(builder.matrix(arguments[0]))
    return builder.column(m.diag(value))


@meaning("reshape")
def reshaped(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """Down the columns, as vec; one of the sizes may be left open."""
    value, sizes = builder.matrix(arguments[0]), tuple(arguments[1:])
    match sizes:
        case (t.Call("rows", (t.Items(items),)),):
            sizes = items
    if len(sizes) != 2:
        raise ParseError("reshape takes a matrix, its rows and its columns: reshape(A,m,n) or reshape(A,[],n).")
    if sizes == (EMPTY, t.Number(1)):
        return builder.column(m.vec(value))
    if EMPTY in sizes:
        raise ParseError("The size left open in reshape(...) is that of reshape(A,[],1); write the others out.")
    rows, columns = (builder.number(size) for size in sizes)
    return m.unvec(m.vec(value), (rows, columns))


@meaning("repmat")
def repeated(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    sizes = [builder.number(size) for size in arguments[1:]]
    if len(sizes) not in (1, 2):
        raise ParseError("repmat takes a matrix, and how often it stands below and beside itself: repmat(A,m,n).")
    return m.kron(ones(*(sizes * 2)[:2]), builder.matrix(arguments[0]))


@meaning("numel", "size")
def counted(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """The number of entries, of rows, of columns."""
    value = builder.matrix(arguments[0])
    if name == "size":
        if len(arguments) != 2:
            raise ParseError("size(A) is two numbers: write size(A,1) for the rows, size(A,2) for the columns.")
        return as_expr(value.shape[dimension(builder, arguments[1], value)])
    total: AnySize = 1
    for size in value.shape:
        total = total * size
    return as_expr(total)


@meaning("dot")
def inner(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """Of vectors their inner product, of matrices that of each pair of columns."""
    if len(arguments) != 2:
        raise ParseError("dot(...) takes two vectors, or two matrices of one shape.")
    a, b = (builder.flat(builder.matrix(tree)) for tree in arguments)
    if a.ndim == b.ndim == 1:
        return m.dot(a, b)
    return number(m.sum_(builder.product("∘", a, b), axis=0, keepdims=True))


@meaning("chol")
def cholesky(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """MATLAB's factor is the upper one: R' R = A."""
    return m.transpose(functions["cholesky"](*map(builder.matrix, arguments)))


@meaning("log2", "log10")
def logarithm(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    return operators.multiply(1 / log(int(name[3:])), builder.entrywise("log", builder.operand(arguments[0])))


@meaning("squeeze")
def squeezed(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """A matrix keeps its two axes, be they of one entry."""
    return builder.operand(arguments[0])


@meaning("rows", "vertcat", "horzcat")
def written(builder: MatlabBuilder, name: str, arguments: Sequence[t.Tree]) -> Any:
    """`[1 2; 3 4]` is a constant; with expressions, the blocks of a matrix."""
    if not arguments:
        raise ParseError("Empty brackets stand in max(A,[],1) and reshape(A,[],1) alone.")
    rows = [tuple(arguments)] if name == "horzcat" else [builder.entries(row) for row in arguments]
    return block(builder, rows)
