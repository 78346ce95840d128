"""The dialects of linear algebra, MATLAB's and LaTeX's: vectors are columns, a 1×1 matrix is a number, powers repeat
the matrix product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import pi
from typing import Any

from tensordsl.contraction import number_of
from tensordsl.dims import AnySize, Shape
from tensordsl.errors import ParseError, ShapeError
from tensordsl.expr import Expr
from tensordsl.functions import operators
from tensordsl.functions.convert import as_expr, constant, identity, mismatch, ones
from tensordsl.functions.indices import Index, Indexed, as_indexed
from tensordsl.functions.multilinear import transpose
from tensordsl.functions.record import elementwise_records, functions
from tensordsl.notation import tree as t
from tensordsl.notation.builder import ROWS, Builder, align, is_group
from tensordsl.notation.matrix import MatrixBuilder
from tensordsl.notation.render import GREEK, GREEK_LETTERS, OF_WHOLE_MATRICES

HIGHEST = 64  # the largest exponent of a matrix power
OF_MATRICES = frozenset(("trace", "det", "logdet", "inv", "transpose"))


class NeedsScalar(Exception):
    """A symbol whose order was to be inferred stands where only a number can; `build` starts again."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def likely_scalar(name: str) -> tuple[bool, ...]:
    """The order in which undeclared names are tried as numbers: Greek letters and a, b, c, d, n, s, t first."""
    base = name.partition("_")[0]
    return base not in GREEK and base not in GREEK_LETTERS and base not in "abcdnst", len(name) > 1


class LinearBuilder(MatrixBuilder):
    """What MATLAB and LaTeX share."""

    def name(self, name: str) -> Any:
        if name == "pi" and name not in self.symbols and name not in self.dims:
            return pi
        return super().name(name)

    def product(self, operator: str, a: Any, b: Any) -> Any:
        if operator == "@":
            self.check_orders(a, b)
            a, b = number(a), number(b)
            return number(super().product(operator, a, b))
        return super().product(operator, a, b)

    def check_orders(self, a: Expr, b: Expr) -> None:
        """A column can only be multiplied by a row: an inferred one that is not must be a number."""
        if not self.is_column(a) or b.ndim != 2 or b.shape[0] == 1:
            return
        found = self.vectors(a)
        if found:
            raise NeedsScalar(min(found, key=likely_scalar))

    def multiplied(self, factors: Sequence[t.Tree], product: Any) -> None:
        """Between xᵀ and x stands a matrix: where it came out a vector, as in xᵀ exp(A t) x, t must be a number."""
        if not self.is_column(product) or product.shape[0] == 1 or len(factors) < 3 or isinstance(factors[1], t.Name):
            return
        if factors[0] == t.Transpose(factors[-1]):
            inside = {name for factor in factors[1:-1] for name in t.names(factor)}
            found = [name for name, order in self.inferred.items() if order == 1 and name in inside]
            if found:
                raise NeedsScalar(min(found, key=likely_scalar))

    def add(self, a: Any, b: Any) -> Any:
        """A number added to every entry of a vector is rare: an inferred vector there is a number too."""
        for term, other in ((a, b), (b, a)) if isinstance(a, Expr) and isinstance(b, Expr) else ():
            if self.strict and number(term).ndim and number(other).ndim == 0 and number_of(number(other)) is None:
                raise ParseError("A number is added to every entry of a vector.")
            if number(other).ndim == 0 and number_of(number(other)) is None and self.is_column(term):
                found = [n for n in self.vectors(term) if self.symbols[n].shape[0] == term.shape[0]]
                if found and not any(self.symbols[n] in other.symbols for n in found):  # but x - mean(x) has a vector
                    raise NeedsScalar(min(found, key=likely_scalar))
        return super().add(a, b)

    strict = False  # whether no number is added to vectors, as where names are tried as numbers

    def doubt_short_vectors(self, tree: t.Tree) -> None:
        """A vector that could only have one entry, as x in the trace of x, is a number, unless it is transposed."""
        short = [name for name, order in self.inferred.items() if order == 1 and self.symbols[name].shape == (1,)]
        turned = transposed_in(tree)
        for name in short:
            if name in turned:
                raise ShapeError(f"The vector {name} can only have one entry here: give its shape, as in {name}=(k,).")
            raise NeedsScalar(name)

    def doubt_columns(self, rows: list[list[Expr]]) -> None:
        """Columns do not fill a matrix of several rows and columns, as sin t and cos t do: they are made of numbers."""
        entries = [entry for row in rows for entry in row if entry.ndim]
        if len(rows) > 1 and len(rows[0]) > 1 and all(self.is_column(entry) for entry in entries):
            found = sorted({name for entry in entries for name in self.vectors(entry)}, key=likely_scalar)
            if found:
                raise NeedsScalar(found[0])

    def vectors(self, node: Expr) -> list[str]:
        """The symbols of an expression that were taken for vectors."""
        return [n for n, order in self.inferred.items() if order == 1 and self.symbols[n] in node.symbols]

    def transposed(self, node: Any, dotted: bool) -> Any:
        return node if isinstance(node, Expr) and node.ndim == 0 else super().transposed(node, dotted)

    def power(self, base: Any, exponent: Any, entrywise: bool) -> Any:
        if entrywise and number_of(as_expr(exponent)) == Fraction(1, 2):
            return self.entrywise("sqrt", base)
        if entrywise or isinstance(base, Indexed) or isinstance(exponent, Indexed):
            return self.entrywise("power", base, exponent)
        if exponent.ndim:
            self.ask_for_numbers(exponent)
            raise ParseError(f"An exponent is a number. {self.entrywise_power}")
        if base.ndim == 0:
            return self.entrywise("power", base, exponent)
        if self.is_column(base) and base.shape[0] != 1:
            raise mismatch("A vector has no power.", [(self.vector(base), True)], self.entrywise_power)
        whole = number_of(exponent)
        if whole in (0.5, -0.5) and "sqrtm" in functions:
            return functions["sqrtm"](base if whole == 0.5 else functions["inv"](base))
        if not isinstance(whole, int):
            raise ParseError(f"The power of a matrix has a whole exponent. {self.entrywise_power}")
        return matrix_power(base, whole)

    entrywise_power = ""

    def ask_for_numbers(self, value: Expr, shape: Shape | None = None) -> None:
        """Where a value can only be a number, the names it is made of are; or those that give it its `shape`."""
        names = {symbol.name for symbol in value.symbols if shape is None or not set(shape).isdisjoint(symbol.shape)}
        found = [name for name in self.inferred if name in names and self.symbols[name].ndim]
        if found:
            raise NeedsScalar(min(found, key=likely_scalar))

    def apply(self, name: str, values: list[Any], options: Mapping[str, Any]) -> Any:
        if any(isinstance(value, Indexed) for value in values):
            if name not in elementwise_records:
                raise ParseError(f"{name} takes a whole matrix or vector, not an indexed term.")
            return functions[name](*values, **options)
        if name in OF_MATRICES and as_expr(values[0]).ndim == 0:
            self.ask_for_matrices(name, as_expr(values[0]))
            values = [operators.expand_dims(operators.expand_dims(values[0], 0), 0)]
        if name == "norm" and as_expr(values[0]).ndim == 0:
            return functions["abs"](values[0])
        result = super().apply(name, values, options)
        return number(result) if name in OF_MATRICES else result

    def ask_for_matrices(self, function: str, value: Expr) -> None:
        """The trace of bare names says that they are matrices, and not that they are numbers."""
        names = {symbol.name for symbol in value.symbols}
        if names and names <= self.scalars & self.inferred.keys():
            name = min(names)
            raise ParseError(
                f"{function} is of a matrix, and {name} is not declared to be one: give its shape, as in {name}=(k, k)."
            )

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        if function == "ones" and not arguments:
            return ones(self.unknown(), 1)
        return super().call(function, arguments, options)

    def column(self, value: Any) -> Any:
        return value if isinstance(value, Indexed) else super().column(value)

    def entrywise(self, name: str, *values: Any, **options: Any) -> Any:
        if any(isinstance(value, Indexed) for value in values):
            return functions[name](*values, **options)
        return super().entrywise(name, *values, **options)


class LatexBuilder(LinearBuilder):
    """Mathematics as it is set: juxtaposition multiplies, indices may stand below, shapes must be equal to be added."""

    open_sizes = (
        r"The text does not say every size: write I_k for the identity of size k, \mathbf{1}_k for a vector of ones, "
        r"\left[...\right]_{i<k} and \sum_{i<k} for an index of size k."
    )
    entrywise_power = r"Write x^{\circ 2} for the power of each entry."

    def finish(self, tree: t.Tree) -> Expr:
        if isinstance(tree, t.Arrow):  # its axes are written out, so that a column stays one
            self.columns = False
            return Builder.finish(self, tree)
        return super().finish(tree)

    def add(self, a: Any, b: Any) -> Any:
        a, b = closed(a), closed(b)
        if not isinstance(a, Indexed) and not isinstance(b, Indexed):
            a, b = self.together("add", a, b)
        return super().add(self.beside(a, b), self.beside(b, a))

    def together(self, what: str, a: Any, b: Any) -> tuple[Any, Any]:
        """Two operands of one shape, or one of them a number: nothing is repeated to fit, as it would be in NumPy."""
        a, b = (number(v) if isinstance(v, Expr) else v for v in (a, b))
        for term, other in ((a, b), (b, a)) if what == "add" else ():
            if is_whole(term) and not other.ndim and number_of(other) is None:  # N log(2 pi) beside a number
                self.ask_for_numbers(term, term.shape)
        if a.ndim == b.ndim == 2 and a.shape != b.shape:
            axis = 0 if a.shape[0] != b.shape[0] else 1
            raise mismatch(
                f"Cannot {what}: the shapes differ.",
                [(a, False), (b, True)],
                r"Transpose one with ^\top, or repeat a vector with x \mathbf{1}^\top.",
                (a.shape[axis], b.shape[axis]),
                ((a, axis), (b, axis)),
            )
        return a, b

    def product(self, operator: str, a: Any, b: Any) -> Any:
        if isinstance(a, Indexed) or isinstance(b, Indexed):
            if operator == "/":
                return self.entrywise("divide", a, b)
            if operator == "⊗":
                raise ParseError(r"\otimes does not go with index notation: write the indices side by side.")
            return as_indexed(self.beside(a, b)) * as_indexed(self.beside(b, a))
        if operator in ("∘", "/"):
            a, b = self.together("multiply entry by entry" if operator == "∘" else "divide entry by entry", a, b)
            return super().product(operator, a, b)
        if operator == "*" and a.ndim and b.ndim:
            raise ParseError(
                r"A * B may be any product: write A B for that of matrices, A \circ B for that of entries, and "
                r"\langle A, B \rangle for the inner product."
            )
        if operator == "·" and self.is_column(a) and self.is_column(b):
            return super().product("@", transpose(a), b)
        if operator == "×" and a.ndim and b.ndim:
            if not (self.is_column(a) and self.is_column(b)) or "cross" not in functions:
                raise ParseError(
                    r"\times is the product of numbers, and the cross product of two vectors of three entries; write "
                    r"matrices side by side, A B, and \otimes or \circ for their other products."
                )
            return self.column(functions["cross"](self.vector(a), self.vector(b)))
        return super().product("@" if operator in ("·", "×", "*") else operator, a, b)

    def beside(self, value: Any, other: Any) -> Any:
        """An operand beside an indexed term is one as well, or a number: so is an inferred name that stands alone."""
        value = number(value)
        if not isinstance(other, Indexed) or isinstance(value, Indexed) or not value.ndim:
            return value
        found = self.vectors(value) if self.is_column(value) and len(value.symbols) == 1 else []
        if found:
            raise NeedsScalar(found[0])
        raise mismatch(
            "This stands without indices beside an indexed term such as x_i, which is a number.",
            [(value, True)],
            rf"Write an index below each, as in \mu_j. {ROWS} Their differences from \mu are the rows of "
            r"X - \mathbf{1} \mu^\top.",
        )

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        match function, arguments:
            case "bars", (inner,):
                value = self.operand(inner)
                if isinstance(value, Indexed) or number(value).ndim == 0:
                    return self.entrywise("abs", value)
                if self.is_column(value):
                    raise mismatch(
                        "|x| of a vector may mean its norm or the absolute value of each entry.",
                        [(self.vector(value), True)],
                        r"Write \|x\| for the norm, \operatorname{abs}(x) for the entries.",
                    )
                return self.apply("det", [value], {})
            case "log", (t.Call("bars", (inner,)),):  # the logarithm of a determinant, which may overflow by itself
                value = self.operand(inner)
                if is_whole(value):
                    return self.apply("logdet", [value], {})
            case (("exp" | "log" | "sqrt"), (inner,)) if not options:
                value = self.operand(inner)
                return self.of_whole(function, value) if is_whole(value) else self.entrywise(function, value)
            case (("maximum" | "minimum"), (_,)):  # LaTeX has one word for the largest of two and of all
                return super().call(function[:3], arguments, options)
            case "langle", (left, right):  # the inner product of vectors, or of matrices
                return as_expr(functions["sum"](self.product("∘", self.operand(left), self.operand(right))))
            case (("E" | "Var" | "Cov" | "Pr" | "P"), _) if function not in functions:
                raise ParseError(
                    rf"The {function} of random variables is not read: write the mean of data, as in "
                    r"\operatorname{mean}(x), or the integral where it has been worked out."
                )
            case "basis", (position,):
                return self.column(functions["basis"](self.unknown(), self.number(position)))
            case "rows", rows:
                return block(self, [self.entries(row) for row in rows])
        return super().call(function, arguments, options)

    def of_whole(self, name: str, matrix: Expr) -> Any:
        """A function of a matrix: that of the whole, as of its eigenvalues, not that of each entry."""
        each = rf"\{name}^{{\circ}}(A)" if name != "sqrt" else r"A^{\circ 1/2}"
        if OF_WHOLE_MATRICES[name] not in functions:
            raise ParseError(
                rf"\{name} of a matrix is that of the whole, which has no rule here: write {each} for that "
                r"of each entry, \log\det A for that of the determinant."
            )
        if matrix.shape[0] != matrix.shape[1]:
            raise mismatch(
                rf"\{name} of a matrix is that of the whole, which is square.",
                [(matrix, True)],
                f"Write {each} for that of each entry.",
                (matrix.shape[0], matrix.shape[1]),
            )
        return functions[OF_WHOLE_MATRICES[name]](matrix)

    def subscript(self, base: t.Tree, keys: tuple[t.Tree, ...]) -> Any:
        if base == t.Name("δ"):
            return self.delta(keys)
        value = self.column(self.indexable(base, keys))
        if any(is_group(key) for key in keys):
            value, keys = self.opened(self.vector(value) if len(keys) == 1 else value, keys)
        found = tuple(self.key(key) for key in keys)
        if len(found) == 1 and self.is_column(value):
            value = self.vector(value)
        entry = value[found]
        return entry if isinstance(entry, Indexed) else self.column(entry)

    def key(self, key: t.Tree) -> Any:
        """Here a name below is an index, unless it was declared as a position."""
        return Index(key.name) if isinstance(key, t.Name) and key.name not in self.positions else super().key(key)

    def arrow(self, body: t.Tree, axes: tuple[t.Axis, ...]) -> Any:
        tensor = super().arrow(body, axes)
        return self.column(tensor) if self.columns else tensor

    columns = True


def number(value: Any) -> Any:
    """A 1×1 matrix as a number."""
    return value[0, 0] if isinstance(value, Expr) and value.shape == (1, 1) else value


def closed(value: Any) -> Any:
    """An indexed term whose indices are all summed is a number."""
    return value.tensor() if isinstance(value, Indexed) and not value.sizes() else value


def transposed_in(tree: t.Tree) -> set[str]:
    """The names that are transposed, as numbers are not."""
    operands = (part.operand for part in t.walk(tree) if isinstance(part, t.Transpose))
    return {operand.name for operand in operands if isinstance(operand, t.Name)}


def is_whole(value: Any) -> bool:
    """Whether a value is a matrix, not a number, a column or a row."""
    return isinstance(value, Expr) and value.ndim == 2 and 1 not in value.shape


def matrix_power(base: Expr, exponent: int) -> Expr:
    """The product of a matrix with itself; for a negative exponent, of its inverse."""
    if abs(exponent) > HIGHEST:
        raise ParseError(f"A matrix power goes up to {HIGHEST}; give the matrix a name, and power it in Python.")
    if base.ndim != 2 or base.shape[0] != base.shape[1]:
        sizes: tuple[AnySize, AnySize] | None = (base.shape[0], base.shape[1]) if base.ndim == 2 else None
        axes = ((base, 0), (base, 1)) if base.ndim == 2 else ()
        raise mismatch("Only a square matrix has powers.", [(base, True)], "Multiply by a transpose.", sizes, axes)
    if exponent < 0:
        base = functions["inv"](base)
    result = identity(base.shape[0])
    for _ in range(abs(exponent)):
        result = operators.matmul(result, base)
    return result


def block(builder: LinearBuilder, rows: list[tuple[t.Tree, ...]]) -> Any:
    """A matrix written row by row: of numbers a constant, of expressions a block matrix."""
    if len({len(row) for row in rows}) > 1:
        counts = ", ".join(str(len(row)) for row in rows)
        raise ShapeError(f"The rows of a matrix have {counts} entries: they must have as many each.")
    values = [[as_expr(builder.operand(entry)) for entry in row] for row in rows]
    numbers = [[number_of(value) if value.ndim == 0 else None for value in row] for row in values]
    if all(value is not None for row in numbers for value in row):
        return builder.column(constant([[float(v) if isinstance(v, Fraction) else v for v in row] for row in numbers]))
    if "block" not in functions:
        raise ParseError("A matrix that is written out holds numbers.")
    builder.doubt_columns(values)
    align(values)
    return functions["block"]([[v if v.ndim else v[None, None] for v in row] for row in values])
