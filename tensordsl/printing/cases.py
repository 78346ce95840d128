"""The cases form: what an entry is, by which of its indices coincide, every overlap spelled out.

Each term of a sum is non-zero where the indices that share a label are equal: a partition of the indices. The joins of
these partitions are the cases; in each, the terms whose partition is finer all contribute, and are added there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from tensordsl.contraction import add_terms, as_operands, contract, is_structured, is_zero, zero
from tensordsl.dims import AnySize
from tensordsl.errors import UnsupportedError
from tensordsl.expr import Contraction, Elementwise, Expr, Primitive, Sum
from tensordsl.functions.record import functions
from tensordsl.graph import rebuild
from tensordsl.labels import Groups, Label, flat, singles
from tensordsl.notation import tree as t
from tensordsl.notation.render import render
from tensordsl.printing.index import IndexPrinter, name_axes, name_sizes, used_indices
from tensordsl.printing.names import clashing, index_names
from tensordsl.printing.readable import readable
from tensordsl.rewrites.factors import distributed
from tensordsl.rewrites.rewriting import with_children

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


class Cases(NamedTuple):
    """The cases, the most coincidences first, and the indices with their sizes; entries in no case are zero."""

    found: list[Case]
    sizes: dict[str, AnySize]


def cases(node: Expr, taken: frozenset[str] = frozenset()) -> Cases:
    """The cases of a tensor; no index has one of the names that are `taken`."""
    node = distributed(rebuild(node, _split))
    axes = name_axes(node, index_names(node, taken))
    names = [name for axis in axes for name in axis]
    sizes = name_sizes(node, axes)
    printer = IndexPrinter(node, axes, taken)
    live = {place: sizes[name] for place, name in enumerate(names)}
    apart = tuple(range(len(names)))
    whole: list[tuple[Expr, Partition]] = []
    found: set[Partition] = set()
    for term in node.terms if isinstance(node, Sum) else (node,):
        if is_zero(term):
            continue
        parts = as_operands(term)
        alike = printer.fits(parts, axes) and len(flat(parts[2])) == len(names)
        opened = contract(1, [(term, regions(axes))], singles(apart), live)
        output = flat(as_operands(opened)[2])
        own = normal(output) if alike and len(output) == len(names) else apart
        whole.append((opened, own))
        found |= {own, *(join(own, merged(apart, blocks)) for blocks in coincidences(opened, apart))}
    ordered = sorted(joins(found), key=lambda p: (len(set(p)), p))
    rows = [case(partition, whole, ordered, names, live, printer) for partition in ordered]
    trees = [row.value for row in rows]
    more = clashing(trees, set(names).union(*map(used_indices, trees), *map(t.axes, trees)), node, taken)
    return cases(node, taken | more) if more else Cases(rows, {name: sizes[name] for name in names})


def joins(found: set[Partition]) -> set[Partition]:
    """Partitions, and all that they make where several hold at once."""
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
    return found


def merged(apart: Partition, places: Sequence[tuple[int, ...]]) -> Partition:
    """Indices of which those at the places of each block coincide."""
    found = apart
    for block in places:
        found = join(found, tuple(block[0] if place in block else place for place in apart))
    return found


# --- δ within functions and brackets ------------------------------------------------------------------------------


def _split(node: Expr, children: tuple[Expr, ...]) -> Expr:
    """A node with no δ on an index that it sums over: Σ_k A_ik (B_kj + δ_kj) → Σ_k A_ik B_kj + A_ij.

    Whole arguments of functions of matrices, which show no entries, are left as they are. Ends, as each sum that is
    multiplied out is in no term any more.
    """
    if isinstance(node, Primitive):
        return node
    made = node if children == node.children else with_children(node, children)
    if not isinstance(made, Contraction):
        return made
    _, operands, output, sizes = as_operands(made)
    kept = set(flat(output))
    for place, (factor, slots) in enumerate(operands):
        if isinstance(factor, Sum) and not kept.issuperset(flat(slots)) and any(map(is_structured, factor.terms)):
            structured = [term for term in factor.terms if is_structured(term)]
            rest = [term for term in factor.terms if not is_structured(term)]
            parts = [*structured, *([add_terms(rest, factor.shape)] if rest else [])]
            others = operands[:place] + operands[place + 1 :]
            terms = [contract(made.coefficient, [*others, (part, slots)], output, sizes) for part in parts]
            return rebuild(add_terms(terms, made.shape), _split)
    return made


def coincidences(node: Expr, indices: Sequence[int]) -> set[tuple[tuple[int, ...], ...]]:
    """What each δ of a node asks for: blocks of its `indices`, one for each axis, that coincide."""
    found: set[tuple[tuple[int, ...], ...]] = set()
    if isinstance(node, Elementwise | Sum):
        for child in node.children:
            found |= coincidences(child, indices)
    elif isinstance(node, Contraction) and is_ungrouped(node):
        named: dict[Label, list[int]] = {}
        for (label,), index in zip(node.output, indices, strict=True):
            named.setdefault(label, []).append(index)
        blocks = tuple(tuple(own) for own in named.values() if len(own) > 1)
        found |= {blocks} if blocks else set()
        for factor, slots in zip(node.factors, node.slots, strict=True):
            if set(flat(slots)) <= named.keys():
                found |= coincidences(factor, [named[label][0] for (label,) in slots])
    return found


def decided(node: Expr, indices: Sequence[int], sizes: Mapping[int, AnySize]) -> Expr:
    """A node at its `indices`, of which those of one number coincide and all others differ: δ is one or zero wherever
    it stands. The axes of what is returned are those numbers, in order."""
    heads = sorted(set(indices))
    live = {head: sizes[head] for head in heads}
    if isinstance(node, Elementwise) and node.ndim:
        return functions[node.record.name](*(decided(child, indices, sizes) for child in node.children))  # type: ignore[no-any-return]
    if isinstance(node, Sum):
        return add_terms([decided(term, indices, sizes) for term in node.terms], tuple(live.values()))
    if not isinstance(node, Contraction) or not is_ungrouped(node):
        return contract(1, [(node, singles(indices))], singles(heads), live)
    named: dict[Label, int] = {}
    for (label,), index in zip(node.output, indices, strict=True):
        if named.setdefault(label, index) != index:
            return zero(tuple(live.values()))
    fresh = {label: len(sizes) + label for label in range(len(node.sizes)) if label not in named}
    operands: list[tuple[Expr, Groups]] = []
    for factor, slots in zip(node.factors, node.slots, strict=True):
        own = [named.get(label, -1) for label in flat(slots)]
        if -1 in own:
            operands.append((factor, singles((named | fresh)[label] for label in flat(slots))))
        else:
            operands.append((decided(factor, own, sizes), singles(sorted(set(own)))))
    summed = {place: node.sizes[label] for label, place in fresh.items()}
    return contract(node.coefficient, operands, singles(heads), {**live, **summed})


def is_ungrouped(node: Contraction) -> bool:
    return all(len(group) == 1 for groups in (node.output, *node.slots) for group in groups)


# --- texts --------------------------------------------------------------------------------------------------------


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
    terms = [decided(term, partition, sizes) for term, own in whole if finer(own, partition)]
    value = readable(add_terms(terms, tuple(live.values())))
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
    every, sizes = cases(node)
    found = [c for c in every if c.value != t.Number(0)]  # the others are among what is 0 otherwise
    rows = [(render(c.value, style), condition(c, style)) for c in found]
    everywhere = any(not c.equal and not c.different for c in found)
    open_case = len(found) == len(every) and any(not c.equal for c in found)
    if not node.ndim or not rows or (everywhere and len(rows) == 1):
        body = rows[0][0] if rows else "0"
        if style == "latex":
            return body if not sizes else rf"{body} \quad \text{{for all }} {', '.join(sizes)}"
        return body if not sizes else f"{body}  for all {', '.join(sizes)}"
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
