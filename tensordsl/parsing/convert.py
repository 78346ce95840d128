"""Lark's tree to ours, children first and without recursion; what the dialects share."""

from __future__ import annotations

from typing import Any

from tensordsl.dims import check_name
from tensordsl.errors import ParseError
from tensordsl.notation import tree as t

LONGEST_NUMBER = 400  # digits of a whole number
SIGNS = {"⊙": "∘", "·": "*"}


class Convert:
    """The text of Python's operators and of mathematics."""

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
                span = None if node.meta.empty else (node.meta.start_pos, node.meta.end_pos)
                try:
                    done[id(node)] = self.placed(getattr(self, "make_" + node.data)(items), span)
                except ParseError as error:
                    vars(error).setdefault("span", span)
                    raise
            else:
                stack.append((node, True))
                stack.extend((child, False) for child in node.children)
        return done[id(root)]  # type: ignore[no-any-return]

    def settled(self, root: Any, tree: t.Tree) -> t.Tree:
        """The tree, once what its parts mean for one another is known."""
        return tree

    def check(self, tree: t.Tree) -> None:
        """Refuse what may be read in two ways."""

    def placed(self, made: Any, span: tuple[int, int] | None) -> Any:
        """What was made, with its place in the text."""
        if isinstance(made, t.Tree) and made.span is None:
            object.__setattr__(made, "span", span)  # which makes no difference to what is equal
        return made

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
            sign = self.operator(str(operator))
            span = t.spanned(items[0], factor)
            if isinstance(result, t.Product) and result.operator == sign and result is not items[0]:
                result = t.Product(sign, (*result.factors, factor), span=span)
            else:
                result = t.Product(sign, (result, factor), span=span)
        return result

    def operator(self, sign: str) -> str:
        return SIGNS.get(sign, sign)

    def make_signed(self, items: list[Any]) -> Any:
        return items[1] if str(items[0]) == "+" else t.Negative(items[1])

    def make_power(self, items: list[Any]) -> Any:
        return t.Power(items[0], items[1])

    def make_transpose(self, items: list[Any]) -> Any:
        return t.Transpose(items[0], str(items[1]) == ".T")

    def make_inverse(self, items: list[Any]) -> Any:
        inverse = t.Call("inv", (items[0],))
        return inverse if str(items[1]) == "⁻¹" else t.Transpose(inverse)

    def make_subscript(self, items: list[Any]) -> Any:
        return t.Subscript(items[0], tuple(item for item in items[1:] if item is not None))

    def make_plain_key(self, items: list[Any]) -> Any:
        return items[0]

    def make_slice_key(self, items: list[Any]) -> Any:
        return t.Slice(*(items + [None] * 3)[:3])

    def make_number(self, items: list[Any]) -> Any:
        return number_of_text(str(items[0]))

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


def number_of_text(text: str) -> t.Number:
    if text.endswith("j"):
        return t.Number(complex(text))
    if text.isdigit() and len(text) > LONGEST_NUMBER:
        raise ParseError(f"A whole number of {len(text)} digits is more than can be computed with.")
    return t.Number(int(text) if text.isdigit() else float(text))
