"""The cases form: what an entry is, by which of its indices coincide, every overlap spelled out.

Each term of a sum is non-zero where the indices that share a label are equal: a partition of the indices. The joins of
these partitions are the cases; in each, the terms whose partition is finer all contribute, and are added there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tensordsl.contraction import add_terms, as_operands, contract, is_zero
from tensordsl.dims import AnySize
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Expr, Sum
from tensordsl.labels import Groups, flat, singles
from tensordsl.notation import tree as t
from tensordsl.notation.render import render
from tensordsl.printing.index import IndexPrinter, name_axes, name_sizes
from tensordsl.printing.names import index_names
from tensordsl.rewrites.factors import distributed

Partition = tuple[int, ...]  # for each index, the first index that it equals
LIMIT = 400  # cases; more are not a text that anybody reads


class Case(NamedTuple):
    """The value of an entry and the condition under which it is that."""

    value: t.Tree
    equal: tuple[tuple[str, ...], ...]  # indices that coincide
    different: tuple[tuple[tuple[str, str], ...], ...]  # pairs that are not all equal, for each larger case


def normal(labels: Sequence[int]) -> Partition:
    first: dict[int, int] = {}
    return tuple(first.setdefault(label, place) for place, label in enumerate(labels))


def join(a: Partition, b: Partition) -> Partition:
    """The finest partition coarser than both."""
    found = list(a)
    for place, head in enumerate(b):
        one, other = found[place], found[head]
        if one != other:
            low, high = min(one, other), max(one, other)
            found = [low if value == high else value for value in found]
    return normal(found)


def finer(a: Partition, b: Partition) -> bool:
    return join(a, b) == b


def cases(node: Expr) -> list[Case]:
    """The cases, the most coincidences first; entries in none of them are zero."""
    node = distributed(node)
    axes = name_axes(node, index_names(node))
    names = [name for axis in axes for name in axis]
    sizes = name_sizes(node, axes)
    printer = IndexPrinter(node, axes)
    groups: Groups = regions(axes)
    live = {place: sizes[name] for place, name in enumerate(names)}
    whole: list[tuple[Expr, Partition]] = []
    for term in node.terms if isinstance(node, Sum) else (node,):
        if is_zero(term):
            continue
        parts = as_operands(term)
        alike = printer.fits(parts, axes) and len(flat(parts[2])) == len(names)
        opened = contract(1, [(term, groups)], singles(range(len(names))), live)
        whole.append(
            (
                opened,
                normal(flat(as_operands(opened)[2]))
                if alike and len(flat(as_operands(opened)[2])) == len(names)
                else tuple(range(len(names))),
            )
        )
    found = {partition for _, partition in whole}
    waiting = list(found)
    while waiting:
        one = waiting.pop()
        for other in list(found):
            both = join(one, other)
            if both not in found:
                found.add(both)
                waiting.append(both)
                if len(found) > LIMIT:
                    raise UnsupportedError(f"The expression has more than {LIMIT} cases; use the index form.")
    ordered = sorted(found, key=lambda p: (len(set(p)), p))
    return [case(partition, whole, ordered, names, live, printer) for partition in ordered]


def regions(axes: Sequence[tuple[str, ...]]) -> Groups:
    place, found = 0, []
    for axis in axes:
        found.append(tuple(range(place, place + len(axis))))
        place += len(axis)
    return tuple(found)


def case(
    partition: Partition,
    whole: Sequence[tuple[Expr, Partition]],
    ordered: Sequence[Partition],
    names: Sequence[str],
    sizes: dict[int, AnySize],
    printer: IndexPrinter,
) -> Case:
    heads = sorted(set(partition))
    live = {head: sizes[head] for head in heads}
    restricted = [
        contract(1, [(term, singles(partition))], singles(heads), live) for term, own in whole if finer(own, partition)
    ]
    value = add_terms(restricted, tuple(live.values()))
    axes = [(names[head],) for head in heads]
    tree = printer.body(value, axes, frozenset(names), inside=True)  # no arrow says what is summed
    equal = tuple(
        tuple(names[p] for p, h in enumerate(partition) if h == head) for head in heads if partition.count(head) > 1
    )
    above = [other for other in ordered if other != partition and finer(partition, other)]
    least = [one for one in above if not any(other != one and finer(other, one) for other in above)]
    different = tuple(tuple((names[h], names[other[h]]) for h in heads if other[h] != h) for other in least)
    return Case(tree, equal, different)


def condition(found: Case, style: str) -> str:
    """`i = k ≠ j`."""
    tokens = {
        "unicode": (" = ", " ≠ ", " and ", "not "),
        "ascii": (" = ", " != ", " and ", "not "),
        "latex": (" = ", r" \neq ", r" \text{ and } ", r"\text{not }"),
    }[style]
    equals, differs, both, negation = tokens
    if len(found.equal) == 1 and len(found.different) == 1 and len(found.different[0]) == 1:
        (block,), ((a, b),) = found.equal, found.different[0]
        if a in block or b in block:
            return equals.join(block) + differs + (b if a in block else a)
    parts = [equals.join(block) for block in found.equal]
    for pairs in found.different:
        ordered = [(b, a) for a, b in pairs]
        if len(pairs) == 1:
            parts.append(differs.join(ordered[0]))
        else:
            parts.append(f"{negation}({both.join(equals.join(pair) for pair in ordered)})")
    return both.join(parts) if len(parts) <= 2 else ", ".join(parts)


def cases_text(node: Expr, style: str) -> str:
    """The cases as lines, or as LaTeX cases."""
    found = cases(node)
    rows = [(render(c.value, style), condition(c, style)) for c in found]
    everywhere = any(not c.equal and not c.different for c in found)
    open_case = any(not c.equal for c in found)
    if not node.ndim or not rows or (everywhere and len(rows) == 1):
        names = [name for axis in name_axes(node, index_names(node)) for name in axis]
        body = rows[0][0] if rows else "0"
        if style == "latex":
            return body if not names else rf"{body} \quad \text{{for all }} {', '.join(names)}"
        return body if not names else f"{body}  for all {', '.join(names)}"
    if not open_case:
        rows.append(("0", ""))
    if style == "latex":
        lines = [
            rf"{value} & \text{{where }} {words} \\" if words else rf"{value} & \text{{otherwise}}"
            for value, words in rows
        ]
        return "\\begin{cases}\n" + "\n".join(lines) + "\n\\end{cases}"
    width = max(len(value) for value, _ in rows)
    return "\n".join(
        f"{value:<{width}}  where {words}" if words else f"{value:<{width}}  otherwise" for value, words in rows
    )
