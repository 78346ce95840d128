"""The NumPy dialect: a tree to an expression, one node after the other, with index notation. Nothing is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from difflib import get_close_matches
from inspect import Parameter, signature
from itertools import pairwise, zip_longest
from typing import Any

from tensordsl.contraction import contract
from tensordsl.dims import AnySize, Dim, Size, product, solve
from tensordsl.errors import ParseError, ShapeError, TensorDSLError, show_shape
from tensordsl.expr import Expr, Liftable, Select, symbol
from tensordsl.functions import multilinear as m
from tensordsl.functions import operators
from tensordsl.functions.convert import as_expr, basis, constant, identity, ones
from tensordsl.functions.indices import Index, Indexed, Term, as_indexed
from tensordsl.functions.linalg import slogdet
from tensordsl.functions.record import elementwise_records, functions
from tensordsl.functions.spectral import eigh
from tensordsl.labels import singles
from tensordsl.notation import tree as t
from tensordsl.notation.literals import Literals, is_data
from tensordsl.selections import gathered

UNKNOWN = "_size"  # dimensions that are still to be solved for are called _size0, _size1, ...
SHORT = {"tr": "trace", "eye": "identity", "I": "identity", "otimes": "kron"}
COMPARISONS = {
    ">": "greater",
    "<": "less",
    ">=": "greater_equal",
    "<=": "less_equal",
    "==": "equal",
    "!=": "not_equal",
}
OF_TWO: Mapping[str, Callable[..., tuple[Expr, Expr]]] = {"slogdet": slogdet, "eigh": eigh}
ROWS = "Data that are the rows of a matrix X make X w, one number for each row."
DERIVATIVES = ("grad", "jacobian", "hessian", "derivative", "differential", "jacobian_matrix", "jvp", "vjp", "hvp")
# Parameters of functions that are no expressions but numbers, sizes, texts or truth values. One list for all
# functions: a new function that keeps to NumPy's names is read without a word here.
OPTIONS = frozenset((
    "axis", "axes", "axis1", "axis2", "keepdims", "ord", "ddof", "correction", "shape",
    "newshape", "size", "sizes", "position", "n", "N", "k",
    "M", "order", "offset", "power", "lower", "hermitian", "rcond", "shift", "repeats",
    "source", "destination", "indices_or_sections",
))  # fmt: skip


class Builder(Literals):
    """The NumPy dialect, with index notation."""

    open_sizes = (
        "The text does not say every size: write I(k) for the identity of size k, K(m, n) for a "
        "commutation matrix, [i:k] after the arrow for an index of size k."
    )

    def __init__(
        self,
        symbols: Mapping[str, Expr],
        known: Mapping[str, AnySize],
        infer: bool,
        positions: Mapping[str, Dim] | None = None,
        scalars: Set[str] = frozenset(),
    ) -> None:
        self.symbols = dict(symbols)
        self.known = known
        self.infer = infer
        self.inferred: dict[str, int] = {}  # the order of each symbol that was not declared
        self.positions = dict(positions or {})  # names that are sizes wherever they stand, even in brackets
        self.scalars = scalars  # names that have turned out to be numbers
        self.count = 0
        self.indices: set[str] = set()
        self.equations: list[tuple[AnySize, AnySize]] = []  # sizes that must turn out equal
        self.dims = {d.name: d for s in symbols.values() for d in s.dims} | self.positions

    def unknown(self) -> AnySize:
        name = f"{UNKNOWN}{self.count}"
        self.count += 1
        return self.known.get(name, Dim(name))

    def finish(self, tree: t.Tree) -> Expr:
        self.dims = {name: Dim(name) for name in t.sizes(tree)} | self.dims
        self.indices = t.indices(tree)
        self.positions = {n: size for n, size in self.positions.items() if n not in t.axes(tree)}
        value = self.value(tree)
        if isinstance(value, Indexed):
            value = value.tensor()
        for a, b in self.equations:
            if a != b:
                raise ShapeError(f"A group of indices of the size {a} stands on an axis of the size {b}.", (a, b))
        return as_expr(value)

    # --- values ---------------------------------------------------------------------------------------------------

    def value(self, tree: t.Tree) -> Any:
        """The value of a tree; an error remembers where the innermost tree at fault stands in the text."""
        span = tree.span
        try:
            match tree:
                case t.Number(value):
                    return value
                case t.Name(name):
                    return self.name(name)
                case t.Sum(terms):
                    total: Any = None
                    for sign, term in terms:
                        value = self.operand(term)
                        span = t.spanned(terms[0][1], term)
                        if total is None:
                            total = value if sign > 0 else self.negative(value)
                        else:
                            total = self.add(total, value) if sign > 0 else self.add(total, self.negative(value))
                    return total
                case t.Negative(operand):
                    return self.negative(self.operand(operand))
                case t.Product(operator, factors):
                    result = self.operand(factors[0])
                    for factor in factors[1:]:
                        value = self.operand(factor)
                        span = t.spanned(factors[0], factor)
                        result = self.product(operator, result, value)
                    self.multiplied(factors, result)
                    return result
                case t.Power(base, exponent, entrywise):
                    return self.power(self.operand(base), self.operand(exponent), entrywise)
                case t.Comparison(operator, left, right):
                    name = COMPARISONS[operator]
                    if name not in functions:
                        raise ParseError(f"{operator} has no meaning for expressions here; known are > < >= <=.")
                    return self.entrywise(name, self.operand(left), self.operand(right))
                case t.Transpose(operand, dotted):
                    return self.transposed(self.operand(operand), dotted)
                case t.Call(function, arguments, options, entrywise):
                    if entrywise:
                        return self.of_entries(function, arguments)
                    return self.call(function, arguments, dict(options))
                case t.Subscript(t.Call(function, arguments), (t.Number(int() as place),)) if (
                    function in OF_TWO and place in (0, 1)
                ):
                    return self.column(OF_TWO[function](*map(self.operand, arguments))[place])
                case t.Subscript(base, keys):
                    return self.subscript(base, keys)
                case t.Arrow(body, axes):
                    return self.arrow(body, axes)
                case t.SumOver(over, body):
                    whole = self.sized(as_indexed(self.operand(body)), [over])
                    return whole.sum_over([Index(name) for name in over.indices])
                case t.Items():
                    return self.listed(tree)
                case t.Text(value):
                    raise ParseError(f'The text "{value}" stands where an expression is expected.')
            raise ParseError(f"A {type(tree).__name__} cannot stand here.")
        except TensorDSLError as error:
            if span is not None:
                vars(error).setdefault("span", span)
            raise

    def operand(self, tree: t.Tree) -> Any:
        """A value to compute with: sizes and lists become expressions."""
        value = self.value(tree)
        return value if isinstance(value, Indexed) else as_expr(value)

    def name(self, name: str) -> Any:
        if name in self.symbols:
            return self.symbols[name]
        if name in self.dims:
            return self.dims[name]
        if name in functions:
            raise ParseError(f"{name} is a function: call it, as in {name}(x).")
        if name in ("inf", "nan"):
            return float(name)
        special = self.special(name)
        if special is not None:
            return special
        if self.infer:
            order = 0 if name in self.scalars else 2 if name[0].isupper() else 1
            self.inferred[name] = order
            self.symbols[name] = symbol(name, *(self.unknown() for _ in range(order)))
            return self.symbols[name]
        have = ", ".join(f"{s}={show_shape(e.shape)}" for s, e in self.symbols.items()) or "none"
        raise ParseError(
            f"The name {name!r} is not known; known symbols are {have}. "
            f"Give its shape, as in td.parse(text, {name}=(k,))."
        )

    def column(self, value: Any) -> Any:
        """A vector as the dialect has it."""
        return value

    def special(self, name: str) -> Any:
        return None

    def listed(self, tree: t.Items) -> Any:
        return self.items(tree)

    def entrywise(self, name: str, *values: Any, **options: Any) -> Any:
        return functions[name](*values, **options)

    def of_entries(self, function: str, arguments: tuple[t.Tree, ...]) -> Any:
        """A function that is said to go entry by entry."""
        if function not in elementwise_records:
            raise ParseError(f"The function {function!r} is not one of numbers, to be taken of each entry.")
        return self.entrywise(function, *map(self.operand, arguments))

    def transposed(self, node: Any, dotted: bool) -> Any:
        if isinstance(node, Indexed):
            raise ParseError(
                "An indexed term such as x_i is a number, and has no transpose: write its indices in another order. "
                f"{ROWS}"
            )
        if node.ndim == 1 and not dotted:
            raise ParseError(
                "ᵀ of a vector is matrix notation, in which vectors are columns: parse with dialect='matrix', "
                "or write outer(x, y) and x @ y."
            )
        return m.transpose(node)

    def power(self, base: Any, exponent: Any, entrywise: bool) -> Any:
        return self.entrywise("power", base, exponent)

    def negative(self, value: Any) -> Any:
        return -value if isinstance(value, Indexed) else operators.multiply(-1, value)

    def add(self, a: Any, b: Any) -> Any:
        return as_indexed(a) + b if isinstance(b, Indexed) else a + b

    def product(self, operator: str, a: Any, b: Any) -> Any:
        if operator == "/":
            return self.entrywise("divide", a, b)
        if isinstance(a, Indexed) or isinstance(b, Indexed):
            if operator not in ("*", "∘"):
                raise ParseError(
                    f"The product {operator} does not go with index notation: write * and name the indices."
                )
            return as_indexed(a) * as_indexed(b)
        products: Mapping[str, Callable[[Any, Any], Any]] = {
            "*": operators.multiply,
            "∘": operators.multiply,
            "@": operators.matmul,
            "⊗": m.kron,
        }
        return products[operator](a, b)

    def multiplied(self, factors: Sequence[t.Tree], product: Any) -> None:
        """Doubt a product, once it is made."""

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        name = SHORT.get(function, function)
        if function in OF_TWO:
            raise ParseError(f"{function} gives two values: take one of them, as in {function}(A)[1].")
        if function in DERIVATIVES:
            raise ParseError(
                f"Derivatives are not written in a text: parse the function, and take td.{function} of it."
            )
        if function in ("δ", "delta") or name not in functions:
            close = get_close_matches(function, functions, 1)
            near = f" Did you mean {close[0]!r}?" if close else ""
            raise ParseError(
                f"The function {function!r} is not known.{near} Known are those that dir(td) lists, such as exp, sum, "
                "norm, trace, inv, logdet, kron and vec, and those added by td.elementwise and td.primitive."
            )
        try:
            if name == "einsum":
                return self.einsum(arguments, options)
            if name in ("identity", "ones", "zeros", "basis", "commutation"):
                sizes = arguments[0].items if isinstance(arguments[0], t.Items) else arguments
                return functions[name](*(self.number(size) for size in sizes))
            if name == "unvec":
                vector, shape = arguments
                return self.unvec(self.operand(vector), tuple(self.number(s) for s in self.entries(shape)))
            if name == "constant":
                return constant(
                    self.items(arguments[0]).array if isinstance(arguments[0], t.Items) else self.value(arguments[0])
                )
            values, chosen = self.given(functions[name], arguments, options)
            if name == "block":
                align(values[0])
            return self.apply(name, values, chosen)
        except IndexError:
            raise ParseError(f"{function}(...) needs an argument.") from None
        except TypeError as error:
            words = str(error).partition(") ")[2] or str(error)
            raise ParseError(f"{function}(...) does not take these arguments: {words}.") from None
        except ValueError as error:
            if isinstance(error, TensorDSLError):
                raise
            raise ParseError(f"{function}(...) does not take these arguments: {error}.") from None

    def given(
        self, function: Callable[..., Any], arguments: Sequence[t.Tree], options: Mapping[str, t.Tree]
    ) -> tuple[list[Any], dict[str, Any]]:
        """Arguments as values: what a function calls an axis, a shape, an order, ... is no expression."""
        parameters = list(signature(function).parameters.values())
        names = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
        repeated = names[-1] if names and parameters[len(names) - 1].kind is Parameter.VAR_POSITIONAL else ""
        names += [repeated] * (len(arguments) - len(names))
        values = [self.given_as(name, tree) for name, tree in zip(names, arguments, strict=False)]
        known = {p.name for p in parameters}
        return values, {
            key: self.given_as(key, tree) if key in known else self.option(tree) for key, tree in options.items()
        }

    def given_as(self, name: str, tree: t.Tree) -> Any:
        return self.option(tree) if name in OPTIONS else self.argument(tree)

    def argument(self, tree: t.Tree) -> Any:
        """An expression, or a list of expressions, as of what is stacked; a list of numbers is a constant."""
        if isinstance(tree, t.Items) and not is_data(tree):
            values = [self.argument(item) for item in tree.items]
            return [v.tensor() if isinstance(v, Indexed) and not v.sizes() else v for v in values]
        if tree == t.Name("None") and "None" not in self.symbols:
            return None
        return self.operand(tree)

    def apply(self, name: str, values: list[Any], options: Mapping[str, Any]) -> Any:
        if name == "sum" and values and isinstance(values[0], Liftable):
            raise ParseError("A sum in index notation names its indices: sum[j](A[i,j]*x[j]).")
        return functions[name](*values, **options)

    def unvec(self, vector: Any, shape: tuple[AnySize, ...]) -> Any:
        return m.unvec(vector, shape)

    def einsum(self, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        if not arguments or not isinstance(arguments[0], t.Text):
            raise ParseError('einsum begins with its subscripts, as in einsum("ij,j->i", A, x).')
        subscripts = arguments[0].value
        operands = [
            self.einsum_operand(tree, term)
            for tree, term in zip(arguments[1:], subscripts.partition("->")[0].split(","), strict=False)
        ]
        if len(operands) < len(arguments) - 1:
            operands += [self.operand(tree) for tree in arguments[1 + len(operands) :]]
        return m.einsum(subscripts, *operands, **{name: self.number(size) for name, size in options.items()})

    def einsum_operand(self, tree: t.Tree, term: str) -> Any:
        return self.operand(tree)

    # --- index notation -------------------------------------------------------------------------------------------

    def subscript(self, base: t.Tree, keys: tuple[t.Tree, ...]) -> Any:
        if isinstance(base, t.Name) and base.name in ("δ", "delta") and base.name not in self.symbols:
            return self.delta(keys)
        value = self.indexable(base, keys)
        if any(is_group(key) for key in keys):
            value, keys = self.opened(value, keys)
        return value[tuple(self.key(key) for key in keys)]

    def indexable(self, base: t.Tree, keys: tuple[t.Tree, ...]) -> Any:
        """What is indexed; a symbol that is to be inferred has as many axes as it is given indices."""
        match base:
            case t.Name(name) if (
                self.infer
                and name not in (self.symbols.keys() | self.dims.keys())
                and all(isinstance(key, t.Name) and key.name != "None" for key in keys)
            ):
                self.inferred[name] = 2  # it is not to be tried as a scalar
                self.symbols[name] = symbol(name, *(self.unknown() for _ in keys))
        value = self.operand(base)
        if isinstance(value, Indexed):
            raise ParseError("A subscript cannot follow an indexed term.")
        return value

    def opened(self, value: Expr, keys: tuple[t.Tree, ...]) -> tuple[Expr, tuple[t.Tree, ...]]:
        """An axis indexed by a group, `v[(j,i)]`, as an axis for each index; their sizes are to be solved for."""
        if len(keys) != value.ndim:
            raise ParseError(f"A tensor of {value.ndim} axes takes as many indices, not {len(keys)}.")
        sizes: dict[int, AnySize] = {}
        slots: list[tuple[int, ...]] = []
        opened: list[t.Tree] = []
        for key, size in zip(keys, value.shape, strict=True):
            items = key.items if isinstance(key, t.Items) and key.round else (key,)
            extents = [self.unknown() for _ in items] if is_group(key) else [size]
            if is_group(key):
                self.equations.append((product(extents), size))
            slots.append(tuple(range(len(sizes), len(sizes) + len(items))))
            sizes.update({len(sizes) + place: extent for place, extent in enumerate(extents)})
            opened += items
        node = contract(1, [(value, tuple(slots))], singles(range(len(sizes))), sizes)
        return node, tuple(opened)

    def key(self, key: t.Tree) -> Any:
        match key:
            case t.Name("None"):
                return None
            case t.Name(name) if name in self.positions:
                return self.positions[name]
            case t.Name(name):
                return Index(name)
            case t.Items(items, True):
                return tuple(self.key(item) for item in items)
            case t.Items() if is_data(key):
                return self.items(key).array
            case t.Slice(start, stop, step):
                parts = [None if p is None else self.number(p) for p in (start, stop, step)]
                return slice(*parts)
        return self.number(key)

    def delta(self, keys: tuple[t.Tree, ...]) -> Indexed:
        """δ[i,k]; δ[i,2*r+1] is the entry of the matrix that takes a slice."""
        if len(keys) != 2:
            raise ParseError("δ has two indices: δ[i,k].")
        plain, moving = keys if isinstance(keys[0], t.Name) else keys[::-1]
        if isinstance(moving, t.Subscript) and isinstance(moving.base, t.Items) and isinstance(plain, t.Name):
            places = [int(place) for place in self.items(moving.base).array]  # δ[j,[0,2,2][i]] takes listed places
            (row,) = moving.keys
            return Indexed([Term(gathered(self.unknown(), places), (Index(row.name), Index(plain.name)))])  # type: ignore[attr-defined]
        (first, zero, one), second = self.affine(plain), self.affine(moving)
        if first is None or (zero, one) != (0, 1):
            raise ParseError("One index of δ is plain, as in δ[i,2*j+1].")
        name, start, step = second
        size = self.unknown()
        if name is None:
            return Indexed([Term(basis(size, start), (first,))])
        if isinstance(moving, t.Name):  # δ[i,j + 0] is no plain δ: it takes the first entries of a longer axis
            return Indexed([Term(identity(size), (first, name))])
        return Indexed([Term(Select(size, start, step, self.unknown()), (name, first))])

    def affine(self, key: t.Tree) -> tuple[Index | None, AnySize, int]:
        """An index with its offset and step: 2*r + 1 is (r, 1, 2)."""
        if isinstance(key, t.Name):
            return Index(key.name), 0, 1
        index, start, step = None, 0, 1
        for added, term in key.terms if isinstance(key, t.Sum) else ((1, key),):
            sign, size = (-added, term.operand) if isinstance(term, t.Negative) else (added, term)
            factors = size.factors if isinstance(size, t.Product) and size.operator == "*" else (size,)
            names = [
                f.name for f in factors if isinstance(f, t.Name) and (f.name in self.indices or f.name not in self.dims)
            ]
            if names and index is None:
                index, step = Index(names[0]), sign
                for factor in factors:
                    step = step if factor == t.Name(names[0]) else step * self.number(factor)
            else:
                start = start + self.number(size) * sign
        return index, start, step

    def arrow(self, body: t.Tree, axes: tuple[t.Axis, ...]) -> Expr:
        names: list[Any] = []
        for axis in axes:
            indices = tuple(Index(name) for name in axis.indices)
            names.append(indices if axis.grouped else indices[0])
        return self.sized(as_indexed(self.operand(body)), axes).tensor(*names)

    def sized(self, value: Indexed, axes: Sequence[t.Axis]) -> Indexed:
        """The terms with the indices that are written with a size: each is one more factor of ones in every term."""
        terms = list(value.terms)
        for axis in axes:
            for name, size in zip(axis.indices, axis.sizes, strict=True):
                if size is not None:
                    here = Indexed([Term(ones(self.number(size)), (Index(name),))])
                    terms = [(Indexed([term]) * here).whole() for term in terms]
        return Indexed(terms)


def unknowns(*sizes: AnySize) -> set[str]:
    """The dimensions in sizes that are still to be solved for."""
    return {name for size in sizes if isinstance(size, Size) for name in size.names if name.startswith(UNKNOWN)}


def align(rows: Any) -> None:
    """Blocks below one another get one width, those beside one another one height, where a size is still unknown.

    Without this, A and B above C and D would be as wide together as these, but each of any width. A number fills its
    block, and blocks whose sizes are all declared may lie otherwise.
    """
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return
    matrices = [[entry if isinstance(entry, Expr) and entry.ndim == 2 else None for entry in row] for row in rows]
    for lines, axis in ((matrices, 0), (zip_longest(*matrices), 1)):
        for line in lines:
            sizes = [entry.shape[axis] for entry in line if entry is not None and entry.shape != (1, 1)]
            for a, b in pairwise(sizes):
                if a != b and solve(a, b, unknowns(a, b)):
                    raise ShapeError(f"The blocks of a matrix lie in rows and columns: {a} is not {b}.", (a, b))


def is_group(key: t.Tree) -> bool:
    """Whether a key is a group of indices, `v[(j,i)]`, not a list of positions, `x[[0, 2]]`."""
    return isinstance(key, t.Items) and key.round
