"""Trees to text, in Unicode, ASCII or LaTeX, with one precedence table for all of them."""

from __future__ import annotations

import re
from collections.abc import Sequence, Set
from dataclasses import fields, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any, ClassVar

from tensordsl.errors import UnsupportedError
from tensordsl.functions.record import elementwise_records, primitive_records
from tensordsl.notation import tree as t

# How tightly each kind of tree holds together; a child is put in parentheses where it holds less than its place asks.
COMPARISON, SUM, PRODUCT, NEGATIVE, POWER, POSTFIX, ATOM = range(1, 8)

SPACED = {"@", "∘", "⊗"}
# In mathematics these are, of a matrix, functions of the whole of it; of each entry, they are written with a ∘.
OF_WHOLE_MATRICES = {"exp": "expm", "log": "logm", "sqrt": "sqrtm"}
IDENTITIES = (t.Name("I"), t.Call("I", (t.Number(3),)), t.Call("identity", (t.Number(3),)))  # beside them, [x]_×
NAMES = (
    "alpha",
    "beta",
    "gamma",
    "delta",
    "epsilon",
    "zeta",
    "eta",
    "theta",
    "iota",
    "kappa",
    "lambda",
    "mu",
    "nu",
    "xi",
    "pi",
    "rho",
    "sigma",
    "tau",
    "upsilon",
    "phi",
    "chi",
    "psi",
    "omega",
    "Gamma",
    "Delta",
    "Theta",
    "Lambda",
    "Xi",
    "Pi",
    "Sigma",
    "Upsilon",
    "Phi",
    "Psi",
    "Omega",
)
GREEK = frozenset(NAMES)
GREEK_LETTERS = dict(zip("αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΥΦΨΩ", NAMES, strict=True))


def render(tree: t.Tree, style: str = "unicode", indexed: bool = False) -> str:
    """The text of a tree; `style` is unicode, ascii or latex.

    In LaTeX, the sums of an `indexed` tree are written out where an index stands once in a term: there a reader would
    take it for a free one.
    """
    if style not in ("unicode", "ascii", "latex"):
        raise UnsupportedError(f"The style {style!r} is unknown; known are 'unicode', 'ascii' and 'latex'.")
    if style == "latex" and indexed:
        tree = summed(tree, frozenset())
    renderer = Latex(indexed) if style == "latex" else Plain(ascii=style == "ascii")
    return renderer.at(tree, 0)


def summed(tree: t.Tree, named: Set[str]) -> t.Tree:
    """A tree with its sums over indices that stand once written out."""
    match tree:
        case t.Arrow(body, axes):
            return t.Arrow(summed(body, {name for axis in axes for name in axis.indices}), axes)
        case t.Sum(terms):
            return t.Sum(tuple((sign, summed(term, named)) for sign, term in terms))
        case t.Negative(operand):
            return t.Negative(summed(operand, named))
    tree = within(tree)
    free = {name: count for name, count in t.free_indices(tree).items() if name not in named}
    if 1 not in free.values():
        return tree
    return t.SumOver(t.Axis(tuple(free), (None,) * len(free), False), tree)


def within(value: Any) -> Any:
    """The tensors inside a tree with their sums written out."""
    if isinstance(value, t.Arrow):
        return summed(value, frozenset())
    if isinstance(value, t.Tree):
        return replace(value, **{part.name: within(getattr(value, part.name)) for part in fields(value)})
    return tuple(map(within, value)) if isinstance(value, tuple) else value


def is_product(tree: t.Tree) -> bool:
    """Whether a tree is written as a product or a quotient."""
    return isinstance(tree, t.Product) or (isinstance(tree, t.Number) and isinstance(tree.value, Fraction))


class Renderer:
    """What the styles share: where parentheses go."""

    def at(self, tree: t.Tree, place: int) -> str:
        """The tree where its place asks for a precedence of at least `place`."""
        text, holds = self.piece(tree)
        return self.parentheses(text) if holds < place else text

    def parentheses(self, text: str) -> str:
        return f"({text})"

    def piece(self, tree: t.Tree) -> tuple[str, int]:
        raise NotImplementedError

    def signed(self, terms: Sequence[tuple[int, t.Tree]]) -> str:
        text = ""
        for given, whole in terms:
            sign, term = (-given, whole.operand) if isinstance(whole, t.Negative) else (given, whole)
            shown = self.at(term, PRODUCT)
            if not text:
                text = shown if sign > 0 else f"-{shown}"
            else:
                text += f" {'+' if sign > 0 else '-'} {shown}"
        return text


class Plain(Renderer):
    def __init__(self, ascii: bool) -> None:
        self.ascii = ascii

    def piece(self, tree: t.Tree) -> tuple[str, int]:
        match tree:
            case t.Name(name):
                return ("delta" if self.ascii and name == "δ" else name), ATOM
            case t.Number(value):
                return self.number(value)
            case t.Text(value):
                return f'"{value}"', ATOM
            case t.Items(items, round):
                inner = ", ".join(self.at(item, COMPARISON) for item in items)
                return (f"({inner}{',' * (len(items) == 1)})" if round else f"[{inner}]"), ATOM
            case t.Sum(terms):
                return self.signed(terms), SUM
            case t.Negative(operand):
                return f"-{self.at(operand, PRODUCT)}", PRODUCT if is_product(operand) else NEGATIVE
            case t.Comparison(operator, left, right):
                return f"{self.at(left, SUM)} {operator} {self.at(right, SUM)}", COMPARISON
            case t.Product(operator, factors):
                return self.product(operator, factors)
            case t.Power(base, exponent):
                return f"{self.at(base, POSTFIX)}**{self.at(exponent, NEGATIVE)}", POWER
            case t.Transpose(operand):
                return self.at(operand, POSTFIX) + (".T" if self.ascii else "ᵀ"), POSTFIX
            case t.Call(function, arguments, options):
                said = [(k, v) for k, v in options if v != t.Text("fro")]  # which is the norm of a matrix anyway
                parts = [self.at(a, 0) for a in arguments] + [f"{k}={self.at(v, 0)}" for k, v in said]
                return f"{function}({', '.join(parts)})", ATOM
            case t.Subscript(base, keys):
                return f"{self.at(base, POSTFIX)}[{','.join(self.key(key) for key in keys)}]", POSTFIX
            case t.Arrow(body, axes):
                return f"{self.at(body, 0)} -> [{','.join(self.axis(axis) for axis in axes)}]", 0
            case t.SumOver(over, body):
                return f"sum[{self.axis(over)}]({self.at(body, SUM)})", ATOM
        raise UnsupportedError(f"There is no text for a {type(tree).__name__}.")

    def number(self, value: object) -> tuple[str, int]:
        if isinstance(value, Fraction):
            return f"{value.numerator}/{value.denominator}", PRODUCT
        if isinstance(value, complex):
            return repr(value).strip("()"), SUM if value.real else ATOM
        return repr(value), ATOM if value >= 0 else NEGATIVE  # type: ignore[operator]

    def product(self, operator: str, factors: tuple[t.Tree, ...], above: bool = False) -> tuple[str, int]:
        """Factors joined by an operator; `above` a line, 2 * (A @ x)/s, a product of matrices is in parentheses."""
        if self.ascii and operator == "⊗":
            text = self.at(factors[0], 0)
            for factor in factors[1:]:
                text = f"kron({text}, {self.at(factor, 0)})"
            return text, ATOM
        sign = "*" if self.ascii and operator == "∘" else operator
        spaced = operator in SPACED or (operator == "*" and any(_has_matrix_product(f) for f in factors))
        parts = []
        for place, factor in enumerate(factors):
            first = place == 0
            inner = isinstance(factor, t.Product) and (factor.operator != operator or not first)
            if first and isinstance(factor, t.Product) and {operator, factor.operator} <= {"*", "/"}:
                inner = False
            if isinstance(factor, t.Number) and isinstance(factor.value, Fraction):
                inner = not first
            last = place == len(factors) - 1 and all(isinstance(f, t.Number) for f in factors[:-1])
            if isinstance(factor, t.Product) and operator == "*" and factor.operator == "@" and last and not above:
                inner = False  # 2 * A @ x: a number may stand before a product of matrices
            if first and operator == "/" and isinstance(factor, t.Product) and factor.operator == "*":
                parts.append(self.product("*", factor.factors, above=True)[0])
                continue
            parts.append(self.at(factor, POWER if inner or (not first and isinstance(factor, t.Negative)) else PRODUCT))
        return (f" {sign} " if spaced else sign).join(parts), PRODUCT

    def key(self, key: t.Tree) -> str:
        if isinstance(key, t.Slice):
            parts = ["" if p is None else self.at(p, 0) for p in (key.start, key.stop)]
            return ":".join([*parts, *([] if key.step is None else [self.at(key.step, 0)])])
        if isinstance(key, t.Items):
            inner = ",".join(self.at(item, 0) for item in key.items)
            return f"({inner})" if key.round else f"[{inner}]"
        return self.at(key, 0)

    def axis(self, axis: t.Axis) -> str:
        parts = [
            name if size is None else f"{name}:{self.at(size, 0)}"
            for name, size in zip(axis.indices, axis.sizes, strict=True)
        ]
        return f"({','.join(parts)})" if axis.grouped else ",".join(parts)


def _has_matrix_product(tree: t.Tree) -> bool:
    """Whether a product of matrices shows outside of calls and subscripts."""
    return (isinstance(tree, t.Product) and tree.operator in SPACED) or (
        not isinstance(tree, t.Call | t.Subscript) and any(_has_matrix_product(child) for child in t.children(tree))
    )


class Latex(Renderer):
    OPERATORS: ClassVar = {"*": r" \, ", "@": " ", "∘": r" \circ ", "⊗": r" \otimes ", "/": " / "}
    CALLS: ClassVar = {
        "vec": r"\operatorname{vec}",
        "diag": r"\operatorname{diag}",
        "trace": r"\operatorname{tr}",
        "tr": r"\operatorname{tr}",
        "sum": r"\operatorname{sum}",
    }

    def __init__(self, indexed: bool = False) -> None:
        self.indexed = indexed  # whether what is rendered are entries, not whole matrices

    def parentheses(self, text: str) -> str:
        tall = any(mark in text for mark in (r"\frac", r"\sum", r"\left", "^", r"\sqrt"))
        return rf"\left({text}\right)" if tall else f"({text})"

    def name(self, name: str) -> str:
        head, _, tail = name.partition("_")
        if tail and head:
            return f"{self.name(head)}_{{{', '.join(self.name(part) for part in tail.split('_'))}}}"
        if name in GREEK_LETTERS:
            return "\\" + GREEK_LETTERS[name]
        if name in GREEK:
            return "\\" + name
        if len(name) > 1 and name[0] == "d" and (len(name) == 2 or name[1:] in GREEK):
            return rf"\mathrm{{d}}{self.name(name[1:])}"
        letters = name.rstrip("0123456789")
        if letters != name and (len(letters) == 1 or letters in GREEK):
            return f"{self.name(letters)}_{{{name.removeprefix(letters)}}}"
        return name if len(name) == 1 else rf"\mathrm{{{name.replace('_', chr(92) + '_')}}}"

    def piece(self, tree: t.Tree) -> tuple[str, int]:
        match tree:
            case t.Name(name):
                return self.name(name), ATOM
            case t.Number(value):
                return self.number(value)
            case t.Text(value):
                return rf"\texttt{{{value}}}", ATOM
            case t.Items(items, round):
                inner = ", ".join(self.at(item, 0) for item in items)
                return (rf"\left({inner}\right)" if round else rf"\left[{inner}\right]"), ATOM
            case t.Sum(terms):
                return self.signed(terms), SUM
            case t.Negative(operand):
                return f"-{self.at(operand, PRODUCT)}", PRODUCT if is_product(operand) else NEGATIVE
            case t.Comparison(operator, left, right):
                if operator == "==":  # an equals sign would make an equation of it
                    return self.call("equal", (left, right), ())
                sign = {">=": r"\ge", "<=": r"\le", "!=": r"\neq"}.get(operator, operator)
                return f"{self.at(left, SUM)} {sign} {self.at(right, SUM)}", COMPARISON
            case t.Product("/", (above, below)):
                return rf"\frac{{{self.at(above, 0)}}}{{{self.at(below, 0)}}}", POSTFIX
            case t.Product(operator, factors):
                parts = []
                for place, factor in enumerate(factors):
                    own = factor.operator if isinstance(factor, t.Product) else "/"
                    matrix = operator == "*" and own == "@" and place == len(factors) - 1  # 2 \, A x, (x^⊤ A x) \, x
                    apart = own not in ("/", operator) and not matrix
                    apart = apart or (place > 0 and isinstance(factor, t.Negative))
                    parts.append(self.at(factor, POWER if apart else PRODUCT))
                return self.OPERATORS[operator].join(parts), PRODUCT
            case t.Power(base, exponent, entrywise):
                plain = isinstance(base, t.Subscript) and isinstance(base.base, t.Name)
                power = (r"\circ " if entrywise else "") + self.at(exponent, 0)
                return f"{self.at(base, 0 if plain else ATOM)}^{{{power}}}", POWER
            case t.Transpose(t.Call("inv", (operand,))):
                return rf"{self.at(operand, ATOM)}^{{-\top}}", POSTFIX
            case t.Transpose(operand):
                lettered = isinstance(operand, t.Call | t.Subscript)  # their postfix stands below, the transpose above
                return rf"{self.at(operand, POSTFIX if lettered else ATOM)}^{{\top}}", POSTFIX
            case t.Call("sqrt", (whole,), _, True):
                return self.piece(t.Power(whole, t.Number(Fraction(1, 2)), True))
            case t.Call(function, arguments, options, entrywise):
                return self.call(function, arguments, options, entrywise and function in OF_WHOLE_MATRICES)
            case t.Subscript(base, keys):
                shown = [self.key(key) for key in keys]
                # Letters stand side by side, and digits apart from digits: A_{i0} has two indices, A_{1, 0} too.
                both = [a.isalnum() and b.isalnum() for a, b in pairwise(shown)]
                short = len("".join(shown)) == len(shown) and all(both) and not re.search(r"\d\d", "".join(shown))
                head = self.at(base, ATOM)
                if isinstance(base, t.Name | t.Arrow) and "_" in head:  # TeX knows no double subscript
                    head = self.parentheses(head)
                return f"{head}_{{{('' if short else ', ').join(shown)}}}", POSTFIX
            case t.Arrow(body, axes):
                names = [self.axis(axis) for axis in axes]
                return rf"\left[{self.at(body, 0)}\right]_{{{', '.join(names)}}}", ATOM
            case t.SumOver(over, body):
                return rf"\sum_{{{self.axis(over)}}} {self.at(body, PRODUCT)}", PRODUCT
        raise UnsupportedError(f"There is no LaTeX for a {type(tree).__name__}.")

    def number(self, value: object) -> tuple[str, int]:
        if isinstance(value, Fraction):
            return rf"\frac{{{value.numerator}}}{{{value.denominator}}}", POSTFIX if value >= 0 else NEGATIVE
        if isinstance(value, complex):
            return repr(value).strip("()").replace("j", r"\mathrm{i}"), SUM
        text = repr(value)
        if "e" in text:
            mantissa, _, exponent = text.partition("e")
            text = rf"{mantissa} \cdot 10^{{{int(exponent)}}}"
        return text, ATOM if value >= 0 else NEGATIVE  # type: ignore[operator]

    def call(
        self,
        function: str,
        arguments: tuple[t.Tree, ...],
        options: tuple[tuple[str, t.Tree], ...],
        entrywise: bool = False,
    ) -> tuple[str, int]:
        if function == "inv":
            return rf"{self.at(arguments[0], ATOM)}^{{-1}}", POSTFIX
        shown = [self.at(argument, 0) for argument in arguments]
        inner = ", ".join([*shown, *(rf"{k}={self.at(v, 0)}" for k, v in options)])
        match function:
            case "sqrt":
                return rf"\sqrt{{{inner}}}", POSTFIX
            case "abs" if self.indexed or t.free_indices(arguments[0]):  # around a matrix, bars are its determinant
                return rf"\left|{inner}\right|", ATOM
            case "norm":
                return rf"\left\|{shown[0]}\right\|" + self.order(options), POSTFIX if options else ATOM
            case "cross" if not any(isinstance(a, t.Transpose) or a in IDENTITIES for a in arguments):
                return r" \times ".join(self.at(argument, POWER) for argument in arguments), SUM
            case "cross" if not any(isinstance(a, t.Transpose) for a in arguments):  # beside I, a vector is a row
                return self.call(function, tuple(a if a in IDENTITIES else t.Transpose(a) for a in arguments), options)
            case "concatenate" | "stack" | "block" if not options and (not self.indexed or function == "block"):
                return self.blocks(arguments[0]), ATOM
            case "I" | "identity":
                return f"I_{{{inner}}}", POSTFIX
            case "K" | "commutation":
                return f"K_{{{inner}}}", POSTFIX
            case "ones":
                return rf"\mathbf{{1}}_{{{inner}}}", POSTFIX
            case "zeros":
                return f"0_{{{inner}}}", POSTFIX
            case "constant":
                return inner, ATOM
            case "basis":
                return f"e_{{{shown[1]}}}", POSTFIX
        record = elementwise_records.get(function) or primitive_records.get(function)
        named = record.latex if record else rf"\operatorname{{{function}}}".replace("_", r"\_")
        return self.CALLS.get(function, named) + (r"^{\circ}" if entrywise else "") + self.parentheses(inner), ATOM

    def order(self, options: tuple[tuple[str, t.Tree], ...]) -> str:
        """The order of a norm, below it."""
        if not options:
            return ""
        match dict(options):
            case {"ord": t.Text("nuc")}:
                return "_*"
            case {"ord": t.Text("fro")}:
                return "_F"
            case {"ord": order}:
                return f"_{{{self.at(order, 0)}}}"
        return ""

    def blocks(self, items: t.Tree) -> str:
        """A matrix of blocks, or a column of them."""
        rows = items.items if isinstance(items, t.Items) else (items,)
        lines = [
            " & ".join(self.at(cell, 0) for cell in (row.items if isinstance(row, t.Items) else (row,))) for row in rows
        ]
        return r"\begin{bmatrix} " + r" \\ ".join(lines) + r" \end{bmatrix}"

    def key(self, key: t.Tree) -> str:
        if isinstance(key, t.Slice):
            parts = ["" if p is None else self.at(p, 0) for p in (key.start, key.stop)]
            return ":".join([*parts, *([] if key.step is None else [self.at(key.step, 0)])])
        if isinstance(key, t.Items):
            inner = ", ".join(self.at(item, 0) for item in key.items)
            return f"({inner})" if key.round else f"[{inner}]"
        return self.at(key, 0)

    def axis(self, axis: t.Axis) -> str:
        names = [
            self.name(name) + ("" if size is None else f"<{self.at(size, 0)}")
            for name, size in zip(axis.indices, axis.sizes, strict=True)
        ]
        return f"({', '.join(names)})" if axis.grouped else ", ".join(names)
