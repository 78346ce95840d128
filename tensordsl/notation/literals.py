"""What a text says without computing: whole numbers and sizes, the data of constants, the options of functions."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from tensordsl.dims import AnySize, Dim, Size, over
from tensordsl.errors import ParseError
from tensordsl.expr import Expr
from tensordsl.functions.convert import constant
from tensordsl.notation import tree as t

FLAGS = {"None": None, "True": True, "False": False}


class Literals:
    """Reads what needs no more than the names of sizes."""

    symbols: dict[str, Expr]
    dims: dict[str, Dim]

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
            case t.Product("*" | "@", factors):
                result: Any = 1
                for factor in factors:
                    result = result * self.size_of(factor)
                return result
            case t.Product("/", (above, t.Number(int() as below))) if below > 0:
                return over(self.size_of(above), below)
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
                case t.Name("True" | "False" as flag):
                    return FLAGS[flag]
                case t.Name("inf" | "nan" as name):
                    return float(name)
                case t.Negative(operand):
                    inner = plain(operand)
                    return [-i for i in inner] if isinstance(inner, list) else -inner
                case t.Sum(((1, t.Number(real)), (sign, t.Number(imaginary)))):
                    return complex(real) + sign * complex(imaginary)
            raise ParseError("A list holds numbers, or lists of numbers.")

        return constant(plain(tree))

    def entries(self, tree: t.Tree) -> tuple[t.Tree, ...]:
        return tree.items if isinstance(tree, t.Items) else (tree,)

    def option(self, tree: t.Tree) -> Any:
        """The value of an option: a number or size, a text, None, True, False, or several of them."""
        match tree:
            case t.Items(items, _):
                return tuple(self.option(item) for item in items)
            case t.Name("None" | "True" | "False" as flag):
                return FLAGS[flag]
            case t.Name("inf") if "inf" not in self.dims:
                return float("inf")
            case t.Negative(t.Name("inf")) if "inf" not in self.dims:
                return -float("inf")
            case t.Text(value):
                return value
            case t.Number(float() as value):
                return value
            case t.Negative(t.Number(float() as value)):
                return -value
            case t.Product("/", (t.Number(int() as above), t.Number(int() as below))) if below:
                return Fraction(above, below)
        return self.number(tree)


def is_data(tree: t.Tree) -> bool:
    """Whether a list holds numbers only, and so is a constant."""
    stack = [tree]
    while stack:
        match stack.pop():
            case t.Items(items, _):
                stack += items
            case t.Negative(operand):
                stack.append(operand)
            case t.Sum(((1, t.Number()), (_, t.Number(complex())))) | t.Number() | t.Name("True" | "False"):
                pass
            case _:
                return False
    return True
