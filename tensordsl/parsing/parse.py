"""Text to tree: bounded in length and depth, with a caret under what cannot be read."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from tensordsl.dims import Dim, check_name
from tensordsl.errors import ParseError, TensorDSLError, UnsupportedError, mark
from tensordsl.expr import Expr, symbol
from tensordsl.notation import tree as t
from tensordsl.notation.build import build
from tensordsl.parsing.grammar import GRAMMAR

LONGEST = 100_000  # characters
DEEPEST = 120  # levels of nesting
DIALECTS = ("numpy", "matrix")


def parse(text: str, /, *, dialect: str = "numpy", infer: bool = False, **symbols: Any) -> Expr:
    """Text to an expression: `td.parse("A * outer(x, x)", A=(k, k), x=(k,))`; a value is a shape or a symbol.

    `dialect="numpy"` has Python's operators, the names of this library with and without `linalg.`, and index notation,
    `"A[i,j]*x[j] -> [i]"`; `dialect="matrix"` is matrix notation as it is printed, its vectors columns. With `infer`,
    names without a shape get one from their use: an upper-case name is a matrix, a lower-case name a vector.

    Raises `ParseError`, with a caret, for a text that is no expression; nothing in a text is ever evaluated.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> td.parse("A[i,j]*x[j] -> [i]", A=(k, k), x=(k,)) == td.matrix("A", k, k) @ td.vector("x", k)
    True
    """
    if dialect not in DIALECTS:
        raise UnsupportedError(f"The dialect {dialect!r} is unknown; known are {', '.join(map(repr, DIALECTS))}.")
    known = {name: declared(name, value) for name, value in symbols.items()}
    tree = parse_tree(text)
    try:
        return build(tree, known, dialect, infer)
    except TensorDSLError as error:
        shown = text if len(text) <= 300 else text[:299] + "…"
        if shown in str(error):
            raise
        placed = _place(text, str(error))
        error.args = (f"{error}\nin the text\n{placed or '    ' + shown}",)
        raise


def declared(name: str, value: Any) -> Expr:
    """A symbol from its shape; an expression as it is."""
    if isinstance(value, Expr):
        return value
    shape = value if isinstance(value, tuple | list) else (value,)
    return symbol(name, *(Dim(size) if isinstance(size, str) else size for size in shape))


def _place(text: str, message: str) -> str | None:
    """The text with a caret under the name that a message quotes."""
    quoted = message.split("'")
    found = re.search(rf"(?<!\w){re.escape(quoted[1])}(?!\w)", text) if len(quoted) > 2 and quoted[1] else None
    return mark(text, *found.span()) if found else None


@cache
def _parser() -> Any:
    import lark

    return lark.Lark(GRAMMAR, parser="lalr", maybe_placeholders=True, propagate_positions=False)


def parse_tree(text: str) -> t.Tree:
    """The tree of a text."""
    if not isinstance(text, str):
        raise ParseError(f"A text is expected, not {text!r} ({type(text).__name__}).")
    if not text.strip():
        raise ParseError("The text is empty: expected an expression, such as 'A * outer(x, x)'.")
    if len(text) > LONGEST:
        raise ParseError(
            f"The text has {len(text)} characters; {LONGEST} are read at the most. Split the expression, "
            "and combine the parts in Python."
        )
    level = 0
    for place, character in enumerate(text):
        level += (character in "([") - (character in ")]")
        if level > DEEPEST:
            raise ParseError(
                f"The text is nested deeper than {DEEPEST} levels here:\n{mark(text, place)}\n"
                "Give the inner parts names, and combine them in Python."
            )
    import lark

    try:
        parsed = _parser().parse(text)
    except lark.exceptions.UnexpectedEOF:
        raise ParseError(
            f"The text ends too early:\n{mark(text, len(text))}\n"
            "Something is missing here, such as a closing bracket or an operand."
        ) from None
    except lark.exceptions.UnexpectedToken as error:
        if error.token.type == "$END":
            raise ParseError(
                f"The text ends too early:\n{mark(text, len(text))}\n"
                "Something is missing here, such as a closing bracket or an operand."
            ) from None
        start = error.token.start_pos or 0
        raise ParseError(
            f"The text cannot be read here:\n{mark(text, start, start + len(error.token))}\n"
            "Expected is an operator, an operand or a closing bracket; write products with * or "
            "@."
        ) from None
    except lark.exceptions.UnexpectedCharacters as error:
        raise ParseError(
            f"The text cannot be read here:\n{mark(text, error.pos_in_stream or 0)}\n"
            "An expression is made of names, numbers, + - * / ** @ ∘ ⊗ ᵀ, brackets and known functions; "
            "attributes other than .T do not exist in it."
        ) from None
    tree = _Convert().convert(parsed)
    if t.depth(tree, DEEPEST * 4) > DEEPEST * 4:
        raise ParseError(
            f"The text is nested deeper than {DEEPEST * 4} operations. Give the inner parts names, and "
            "combine them in Python."
        )
    return tree


class _Convert:
    """Lark's tree to ours, children first and without recursion."""

    def convert(self, root: Any) -> t.Tree:
        import lark

        done: dict[int, Any] = {}
        stack: list[tuple[Any, bool]] = [(root, False)]
        while stack:
            node, ready = stack.pop()
            if not isinstance(node, lark.Tree):
                continue
            if ready:
                items = [done[id(c)] if isinstance(c, lark.Tree) else c for c in node.children]
                done[id(node)] = getattr(self, "make_" + node.data)(items)
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in node.children)
        return done[id(root)]  # type: ignore[no-any-return]

    def make_start(self, items: list[Any]) -> Any:
        return items[0]

    def make_arrow(self, items: list[Any]) -> Any:
        return t.Arrow(items[0], tuple(axis for axis in items[1:] if axis is not None))

    def make_index(self, items: list[Any]) -> Any:
        return str(items[0]), items[1]

    def make_single(self, items: list[Any]) -> Any:
        return t.Axis((items[0][0],), (items[0][1],), False)

    def make_group(self, items: list[Any]) -> Any:
        indices = [item for item in items if item is not None]
        return t.Axis(tuple(i[0] for i in indices), tuple(i[1] for i in indices), True)

    def make_compare(self, items: list[Any]) -> Any:
        return t.Comparison(str(items[1]), items[0], items[2])

    def make_sum(self, items: list[Any]) -> Any:
        terms, sign = [], 1
        for item in items:
            if item is None:
                continue
            if isinstance(item, t.Tree):
                terms.append((sign, item))
                sign = 1
            else:
                sign = 1 if str(item) == "+" else -1
        if len(terms) == 1:
            return terms[0][1] if terms[0][0] > 0 else t.Negative(terms[0][1])
        return t.Sum(tuple(terms))

    def make_product(self, items: list[Any]) -> Any:
        result = items[0]
        for operator, factor in zip(items[1::2], items[2::2], strict=True):
            sign = {"⊙": "∘", "·": "*"}.get(str(operator), str(operator))
            if isinstance(result, t.Product) and result.operator == sign and result is not items[0]:
                result = t.Product(sign, (*result.factors, factor))
            else:
                result = t.Product(sign, (result, factor))
        return result

    def make_signed(self, items: list[Any]) -> Any:
        return items[1] if str(items[0]) == "+" else t.Negative(items[1])

    def make_power(self, items: list[Any]) -> Any:
        return t.Power(items[0], items[1])

    def make_transpose(self, items: list[Any]) -> Any:
        return t.Transpose(items[0], str(items[1]) == ".T")

    def make_subscript(self, items: list[Any]) -> Any:
        return t.Subscript(items[0], tuple(item for item in items[1:] if item is not None))

    def make_plain_key(self, items: list[Any]) -> Any:
        return items[0]

    def make_slice_key(self, items: list[Any]) -> Any:
        return t.Slice(*(items + [None] * 3)[:3])

    def make_number(self, items: list[Any]) -> Any:
        text = str(items[0])
        if text.endswith("j"):
            return t.Number(complex(text))
        if text.isdigit() and len(text) > 400:
            raise ParseError(f"A whole number of {len(text)} digits is more than can be computed with.")
        return t.Number(int(text) if text.isdigit() else float(text))

    def make_name(self, items: list[Any]) -> Any:
        name = str(items[0])
        return t.Name(name if name == "δ" else check_name(name, "anything", "x"))

    def make_text(self, items: list[Any]) -> Any:
        return t.Text(str(items[0])[1:-1])

    def make_call(self, items: list[Any]) -> Any:
        name = str(items[0])[:-1].strip()
        for prefix in ("np.", "td.", "linalg."):
            name = name.removeprefix(prefix)
        positional = tuple(a for a in items[1:] if isinstance(a, t.Tree))
        options = tuple(a for a in items[1:] if isinstance(a, tuple))
        return t.Call(name, positional, options)

    def make_option(self, items: list[Any]) -> Any:
        return str(items[0]), items[1]

    def make_positional(self, items: list[Any]) -> Any:
        return items[0]

    def make_sum_over(self, items: list[Any]) -> Any:
        _, *indices, body = items
        return t.SumOver(t.Axis(tuple(i[0] for i in indices), tuple(i[1] for i in indices), False), body)

    def make_tuple(self, items: list[Any]) -> Any:
        return t.Items(tuple(item for item in items if item is not None), True)

    def make_list(self, items: list[Any]) -> Any:
        return t.Items(tuple(item for item in items if item is not None))
