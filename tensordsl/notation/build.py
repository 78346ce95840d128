"""Trees to expressions: names looked up, sizes that the text leaves open solved for. Nothing is evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

from tensordsl.contraction import contract
from tensordsl.dims import AnySize, Dim, Size, product, solve, substitute
from tensordsl.errors import ParseError, ShapeError, TensorDSLError, show_shape
from tensordsl.expr import Contraction, Expr, Liftable, Select, symbol
from tensordsl.functions import multilinear as m
from tensordsl.functions import operators
from tensordsl.functions.convert import as_expr, basis, constant, identity, ones
from tensordsl.functions.indices import Index, Indexed, Term, as_indexed
from tensordsl.functions.record import elementwise_records, functions
from tensordsl.graph import topological
from tensordsl.labels import singles
from tensordsl.notation import tree as t

UNKNOWN = "_size"  # dimensions that are still to be solved for are called _size0, _size1, ...
ROUNDS = 400


def build(tree: t.Tree, symbols: Mapping[str, Expr], dialect: str = "numpy", infer: bool = False) -> Expr:
    """The expression of a tree.

    Sizes that no name gives (of `I`, of δ, of symbols that are to be inferred) begin as unknown dimensions. Each
    mismatch of shapes that can be solved for one of them is, and the tree is built again: the errors of the operators
    are the equations, so that no function needs a second statement of its shapes. Ends, as each round solves one.
    """
    known: dict[str, AnySize] = {}
    for _ in range(ROUNDS):
        builder = (MatrixBuilder if dialect == "matrix" else Builder)(symbols, known, infer)
        try:
            result = builder.finish(tree)
        except ShapeError as error:
            if error.sizes is None:
                raise
            a, b = (substitute(size, known) for size in error.sizes)  # type: ignore[arg-type]
            names = {n for s in (a, b) if isinstance(s, Size) for n in s.names if n.startswith(UNKNOWN)}
            found = solve(a, b, names)
            if found is None:
                raise
            name, value = found
            known = {n: substitute(v, {name: value}) for n, v in known.items()}
            known[name] = value
            continue
        left = sorted(unsolved(result)) if builder.count else []
        if left and not infer:
            raise ShapeError(
                "The text does not say every size: write I(k) for the identity of size k, K(m, n) for a "
                "commutation matrix, [i:k] after the arrow for an index of size k."
            )
        if left:
            taken = {d.name for d in result.dims}
            fresh = (n for n in ("k", "m", "n", "p", "q", *(f"k{c}" for c in range(1, 1000))) if n not in taken)
            known = {n: substitute(v, {}) for n, v in known.items()} | {n: Dim(next(fresh)) for n in left}
            known = {n: substitute(v, known) for n, v in known.items()}
            result = (MatrixBuilder if dialect == "matrix" else Builder)(symbols, known, infer).finish(tree)
        return result
    raise ParseError("The sizes of the text could not be solved for.")


def unsolved(root: Expr) -> set[str]:
    """The unknown dimensions that an expression is still made of, wherever they stand in it."""
    found: set[str] = set()
    for node in topological([root]):
        sizes = (*node.shape, *(node.sizes if isinstance(node, Contraction) else ()))
        names = {name for size in sizes if isinstance(size, Size) for name in size.names}
        found.update(name for name in names if name.startswith(UNKNOWN))
    return found


class Builder:
    """The NumPy dialect, with index notation."""

    def __init__(self, symbols: Mapping[str, Expr], known: Mapping[str, AnySize], infer: bool) -> None:
        self.symbols = dict(symbols)
        self.known = known
        self.infer = infer
        self.count = 0
        self.indices: set[str] = set()
        self.equations: list[tuple[AnySize, AnySize]] = []  # sizes that must turn out equal
        self.dims = {d.name: d for s in symbols.values() for d in s.dims}

    def unknown(self) -> AnySize:
        name = f"{UNKNOWN}{self.count}"
        self.count += 1
        return self.known.get(name, Dim(name))

    def finish(self, tree: t.Tree) -> Expr:
        self.dims = {name: Dim(name) for name in t.sizes(tree)} | self.dims
        self.indices = t.indices(tree)
        value = self.value(tree)
        if isinstance(value, Indexed):
            value = value.tensor()
        for a, b in self.equations:
            if a != b:
                raise ShapeError(f"A group of indices of the size {a} stands on an axis of the size {b}.", (a, b))
        return as_expr(value)

    # --- values ---------------------------------------------------------------------------------------------------

    def value(self, tree: t.Tree) -> Any:
        match tree:
            case t.Number(value):
                return value
            case t.Name(name):
                return self.name(name)
            case t.Sum(terms):
                total: Any = None
                for sign, term in terms:
                    value = self.operand(term)
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
                    result = self.product(operator, result, self.operand(factor))
                return result
            case t.Power(base, exponent):
                return self.entrywise("power", self.operand(base), self.operand(exponent))
            case t.Comparison(operator, left, right):
                names = {">": "greater", "<": "less", ">=": "greater_equal", "<=": "less_equal"}
                return self.entrywise(names[operator], self.operand(left), self.operand(right))
            case t.Transpose(operand, dotted):
                node = self.operand(operand)
                if node.ndim == 1 and not dotted:
                    raise ParseError(
                        "ᵀ of a vector is matrix notation, in which vectors are columns: parse with dialect='matrix', "
                        "or write outer(x, y) and x @ y."
                    )
                return m.transpose(node)
            case t.Call(function, arguments, options):
                return self.call(function, arguments, dict(options))
            case t.Subscript(base, keys):
                return self.subscript(base, keys)
            case t.Arrow(body, axes):
                return self.arrow(body, axes)
            case t.SumOver(over, body):
                whole = self.sized(as_indexed(self.operand(body)), [over])
                return whole.sum_over([Index(name) for name in over.indices])
            case t.Items():
                return self.items(tree)
            case t.Text(value):
                raise ParseError(f'The text "{value}" stands where an expression is expected.')
        raise ParseError(f"A {type(tree).__name__} cannot stand here.")

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
            rank = 2 if name[0].isupper() else 1
            self.symbols[name] = symbol(name, *(self.unknown() for _ in range(rank)))
            return self.symbols[name]
        have = ", ".join(f"{s}={show_shape(e.shape)}" for s, e in self.symbols.items()) or "none"
        raise ParseError(
            f"The name {name!r} is not known; known symbols are {have}. "
            f"Give its shape, as in td.parse(text, {name}=(k,))."
        )

    def special(self, name: str) -> Any:
        return None

    def entrywise(self, name: str, *values: Any, **options: Any) -> Any:
        return functions[name](*values, **options)

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

    def number(self, tree: t.Tree) -> AnySize:
        """A whole number or size, as in a shape or a position."""
        value = self.size_of(tree)
        if isinstance(value, Fraction) and value.denominator == 1:
            value = value.numerator
        if isinstance(value, bool) or not isinstance(value, int | Size):
            raise ParseError("A whole number or a size is expected in a shape, an axis or a position.")
        return value

    def size_of(self, tree: t.Tree) -> Any:
        match tree:
            case t.Number(value):
                return value
            case t.Name(name) if name not in self.symbols:
                return self.dims.get(name) or Dim(name)
            case t.Negative(operand):
                return self.size_of(operand) * -1
            case t.Sum(terms):
                total: Any = 0
                for sign, term in terms:
                    total = total + self.size_of(term) * sign
                return total
            case t.Product("*", factors):
                result: Any = 1
                for factor in factors:
                    result = result * self.size_of(factor)
                return result
            case t.Power(base, t.Number(int() as exponent)) if 0 <= exponent <= 16:
                return self.size_of(base) ** exponent
        raise ParseError("A size is made of whole numbers and dimensions, with + - * and **.")

    def items(self, tree: t.Items) -> Any:
        """The data of a constant."""

        def plain(item: t.Tree) -> Any:
            match item:
                case t.Items(items, _):
                    return [plain(i) for i in items]
                case t.Number(value):
                    return float(value) if isinstance(value, Fraction) else value
                case t.Negative(operand):
                    inner = plain(operand)
                    return -inner
                case t.Sum(((1, t.Number(real)), (sign, t.Number(imaginary)))):
                    return complex(real) + sign * complex(imaginary)
            raise ParseError("A list holds numbers, or lists of numbers.")

        return constant(plain(tree))

    # --- calls ----------------------------------------------------------------------------------------------------

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        name = {"tr": "trace", "eye": "identity", "I": "identity", "otimes": "kron"}.get(function, function)
        if function in ("δ", "delta") or name not in functions:
            close = get_close_matches(function, functions, 1)
            near = f" Did you mean {close[0]!r}?" if close else ""
            raise ParseError(f"The function {function!r} is not known.{near} Known are {', '.join(sorted(functions))}.")
        try:
            if name == "einsum":
                return self.einsum(arguments, options)
            if name in ("identity", "ones", "zeros", "basis", "commutation"):
                return functions[name](*(self.number(a) for a in arguments))
            if name == "unvec":
                vector, shape = arguments
                return self.unvec(self.operand(vector), tuple(self.number(s) for s in self.entries(shape)))
            if name == "constant":
                return constant(
                    self.items(arguments[0]).array if isinstance(arguments[0], t.Items) else self.value(arguments[0])
                )
            extra = {key: self.option(key, value) for key, value in options.items()}
            if name in ("transpose", "swapaxes", "sum", "mean", "tensordot") and len(arguments) > 1:
                count = 2 if name == "tensordot" else 1
                values = [self.operand(a) for a in arguments[:count]]
                rest = [self.option("axis", a) for a in arguments[count:]]
                return functions[name](*values, *rest, **extra)
            return self.apply(name, [self.operand(a) for a in arguments], extra)
        except IndexError:
            raise ParseError(f"{function}(...) needs an argument.") from None
        except TypeError as error:
            words = str(error).partition(") ")[2] or str(error)
            raise ParseError(f"{function}(...) does not take these arguments: {words}.") from None
        except ValueError as error:
            if isinstance(error, TensorDSLError):
                raise
            raise ParseError(f"{function}(...) does not take these arguments: {error}.") from None

    def apply(self, name: str, values: list[Any], options: Mapping[str, Any]) -> Any:
        if name == "sum" and values and isinstance(values[0], Liftable):
            raise ParseError("A sum in index notation names its indices: sum[j](A[i,j]*x[j]).")
        return functions[name](*values, **options)

    def unvec(self, vector: Any, shape: tuple[AnySize, ...]) -> Any:
        return m.unvec(vector, shape)

    def entries(self, tree: t.Tree) -> tuple[t.Tree, ...]:
        return tree.items if isinstance(tree, t.Items) else (tree,)

    def option(self, name: str, tree: t.Tree) -> Any:
        match tree:
            case t.Items(items, _):
                return tuple(self.option(name, item) for item in items)
            case t.Name("None"):
                return None
            case t.Name("True" | "False" as flag):
                return flag == "True"
            case t.Text(value):
                return value
        return self.number(tree)

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
        value = self.operand(base)
        if isinstance(value, Indexed):
            raise ParseError("A subscript cannot follow an indexed term.")
        if any(isinstance(key, t.Items) for key in keys):
            value, keys = self.opened(value, keys)
        return value[tuple(self.key(key) for key in keys)]

    def opened(self, value: Expr, keys: tuple[t.Tree, ...]) -> tuple[Expr, tuple[t.Tree, ...]]:
        """An axis indexed by a group, `v[(j,i)]`, as an axis for each index; their sizes are to be solved for."""
        if len(keys) != value.ndim:
            raise ParseError(f"A tensor of {value.ndim} axes takes as many indices, not {len(keys)}.")
        sizes: dict[int, AnySize] = {}
        slots: list[tuple[int, ...]] = []
        opened: list[t.Tree] = []
        for key, size in zip(keys, value.shape, strict=True):
            items = key.items if isinstance(key, t.Items) else (key,)
            extents = [self.unknown() for _ in items] if isinstance(key, t.Items) else [size]
            if isinstance(key, t.Items):
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
            case t.Name(name):
                return Index(name)
            case t.Items(items, _):
                return tuple(self.key(item) for item in items)
            case t.Slice(start, stop, step):
                parts = [None if p is None else self.number(p) for p in (start, stop, step)]
                return slice(*parts)
        return self.number(key)

    def delta(self, keys: tuple[t.Tree, ...]) -> Indexed:
        """δ[i,k]; δ[i,2*r+1] is the entry of the matrix that takes a slice."""
        if len(keys) != 2:
            raise ParseError("δ has two indices: δ[i,k].")
        plain, moving = keys if isinstance(keys[0], t.Name) else keys[::-1]
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


class MatrixBuilder(Builder):
    """The matrix dialect: vectors are columns, and every value is a matrix or a scalar."""

    def finish(self, tree: t.Tree) -> Expr:
        value = super().finish(tree)
        if not self.is_column(value):
            return value
        plain: Expr = value[0, 0] if value.shape[0] == 1 else value[:, 0]
        return plain

    def column(self, value: Any) -> Expr:
        node = as_expr(value)
        return operators.expand_dims(node, 1) if node.ndim == 1 else node

    def name(self, name: str) -> Any:
        return self.column(super().name(name))

    def special(self, name: str) -> Any:
        if name == "I":
            return identity(self.unknown())
        if name == "K":
            return m.commutation(self.unknown(), self.unknown())
        if name.startswith("e_") and name[2:].isidentifier():
            return basis(self.unknown(), Dim(name[2:]))
        return None

    def product(self, operator: str, a: Any, b: Any) -> Any:
        if operator == "@" and (a.ndim == 0 or b.ndim == 0):
            return operators.multiply(a, b)
        return super().product(operator, a, b)

    def subscript(self, base: t.Tree, keys: tuple[t.Tree, ...]) -> Any:
        value = self.operand(base)
        parts = tuple(self.key(key) for key in keys)
        if value.ndim == 2 and value.shape[1] == 1 and len(parts) == 1:
            parts = (*parts, 0) if not isinstance(parts[0], slice) else (*parts, slice(None))
            return value[parts]
        return self.column(value[parts])

    def entrywise(self, name: str, *values: Any, **options: Any) -> Any:
        """A function of columns is one of vectors."""
        if all(value.ndim == 0 or self.is_column(value) for value in values):
            return self.column(functions[name](*map(self.vector, values), **options))
        return functions[name](*values, **options)

    def is_column(self, node: Expr) -> bool:
        return node.ndim == 2 and node.shape[1] == 1

    def vector(self, node: Expr) -> Expr:
        return node[:, 0] if self.is_column(node) else node

    def key(self, key: t.Tree) -> Any:
        """There are no indices here: a name is a position."""
        return self.number(key) if isinstance(key, t.Name) and key.name != "None" else super().key(key)

    def apply(self, name: str, values: list[Any], options: Mapping[str, Any]) -> Any:
        if name == "diag":
            return self.column(m.diag(self.vector(values[0])))
        if name in elementwise_records or name in ("power", "divide", "norm"):
            return self.entrywise(name, *values, **options)
        if name in ("vec", "diagonal"):
            return self.column(functions[name](values[0]))
        if name == "kron":
            return m.kron(*values)
        return self.column(functions[name](*values, **options))

    def unvec(self, vector: Any, shape: tuple[AnySize, ...]) -> Any:
        return m.unvec(self.vector(vector), shape)

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        name = "commutation" if function == "K" else function
        return self.column(super().call(name, arguments, options))

    def einsum_operand(self, tree: t.Tree, term: str) -> Any:
        value = self.operand(tree)
        axes = len(m.axes_of_subscripts(term))
        if value.ndim == 2 and axes == 1:
            return value[:, 0]
        if value.ndim == 2 and axes == 0:
            return value[0, 0]
        if value.ndim == 0:  # a tensor of one entry is written as a scalar
            return value[(None,) * axes] if axes else value
        return value
