"""What stands below a symbol in LaTeX: indices, positions, sizes, axes, or the rest of a name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

from tensordsl.errors import ParseError
from tensordsl.functions.record import elementwise_records
from tensordsl.notation import tree as t

INDICES = frozenset("ijklmnpqrs")
WORDS = frozenset(("min", "lin", "in", "sim", "is"))  # what is made of such letters and stands below all the same


@dataclass(frozen=True)
class Bounded:
    """`i=1` below a sum."""

    name: str
    start: t.Tree


def split(keys: Sequence[Any]) -> tuple[Any, ...]:
    """The indices of `A_{ij}`, which stand side by side, or are separated by commas."""
    match tuple(keys):
        case (t.Product("@", factors),) if all(isinstance(f, t.Name | t.Number) for f in factors):
            return factors
    return tuple(keys)


def sizes_of(keys: Sequence[t.Tree]) -> tuple[t.Tree, ...]:
    """The sizes of I_n, I_{n \\times n}, K_{m, n}."""
    if len(keys) == 1 and isinstance(keys[0], t.Product) and keys[0].operator == "×":
        keys = keys[0].factors
    return tuple(multiplied(key) for key in keys)


def multiplied(tree: Any) -> t.Tree:
    """A position or size, whose factors stand side by side."""
    match tree:
        case t.Product("@" | "·" | "×" | "*", factors):
            return t.Product("*", tuple(multiplied(factor) for factor in factors))
        case t.Sum(terms):
            return t.Sum(tuple((sign, multiplied(term)) for sign, term in terms))
        case t.Negative(operand):
            return t.Negative(multiplied(operand))
        case t.Slice(start, stop, step):
            return t.Slice(*(None if part is None else multiplied(part) for part in (start, stop, step)))
    return tree  # type: ignore[no-any-return]


def suffix(key: t.Tree) -> str:
    """A subscript as part of a name."""
    match key:
        case t.Name("*" | "**" as stars):
            return "star" * len(stars)
        case t.Name(name):
            return name
        case t.Number(int() as value):
            return str(value)
        case t.Product("@", factors):
            return "".join(suffix(factor) for factor in factors)
    raise ParseError(
        "The subscript of a name is letters and digits: write h_{old} in place of h_{t-1}. An index stands below a "
        "declared symbol."
    )


def letters(key: t.Tree) -> tuple[str, ...]:
    """The letters of a subscript, each alone: `ij`, but not the word `max`."""
    return tuple(part.name for part in split((key,)) if isinstance(part, t.Name))


def is_index(keys: Sequence[t.Tree]) -> bool:
    """Whether all that stands below a name may be indices: letters from the middle of the alphabet, and positions."""
    parts = split(keys)
    names = [part.name for part in parts if isinstance(part, t.Name)]
    plain = all(isinstance(part, t.Name | t.Number) for part in parts)
    return plain and bool(names) and set(names) <= INDICES and "".join(names) not in WORDS


def paired(tree: t.Tree, named: Set[str]) -> set[str]:
    """The letters that stand below two factors of a term, which sums over them; none below what is used as a whole, and
    none that are `named` as indices elsewhere.

    Where such a letter may as well be part of names, as in `A_k B_k`, this asks.
    """
    whole = {name for part in t.walk(tree) if is_of_wholes(part) for name in t.free_indices(part)}
    bodies = [tree, *(part.body for part in t.walk(tree) if isinstance(part, t.Arrow))]
    terms = [term for body in bodies for term in t.terms(body)]
    counts = [
        {n: c for n, c in t.free_indices(term).items() if c > 1 and n in INDICES - whole - named} for term in terms
    ]
    for name, count in ((name, count) for found in counts for name, count in found.items()):
        alone = {
            part.base.name
            for part in t.walk(tree)
            if isinstance(part, t.Subscript) and isinstance(part.base, t.Name) and part.keys == (t.Name(name),)
        }
        if count > 2 or any(base[0].isupper() for base in alone):
            raise ParseError(
                rf"The letter {name!r} below may be an index that is summed, or part of names: write \sum_{name}, or "
                f"declare the names, as in td.parse(text, ..., {min(alone, default='x')}_{name}=...)."
            )
    return {name for found in counts for name in found}


def is_of_wholes(tree: t.Tree) -> bool:
    """Whether a tree takes its operand whole, so that what stands below a name in it is no index of an entry."""
    if isinstance(tree, t.Call):
        return tree.function not in elementwise_records and tree.function != "bars"
    return isinstance(tree, t.Transpose) or (isinstance(tree, t.Power) and isinstance(tree.exponent, t.Negative))


def names_of(axis: t.Tree) -> Iterator[str]:
    match axis:
        case t.Name(name):
            yield name
        case t.Items(items, True):
            for item in items:
                yield from names_of(item)


def has_size(axis: t.Tree) -> bool:
    """Whether an index is written with the size of its axis, as in `i<k`, or an axis has no index, as in `()`."""
    return isinstance(axis, t.Comparison) or (
        isinstance(axis, t.Items) and (not axis.items or any(map(has_size, axis.items)))
    )


def axis_of(axis: t.Tree) -> t.Axis:
    """An axis below the brackets of a tensor: `i`, `i<k`, `(i, j)`."""
    match axis:
        case t.Name(name):
            return t.Axis((name,), (None,), False)
        case t.Comparison("<", t.Name(name), size):
            return t.Axis((name,), (multiplied(size),), False)
        case t.Items(items, True):
            return replace(joined([axis_of(item) for item in items]), grouped=True)
    raise ParseError(r"Below the brackets of a tensor stand its indices: \left[A_{ij} x_j\right]_{i}.")


def joined(axes: Sequence[t.Axis]) -> t.Axis:
    return t.Axis(tuple(n for axis in axes for n in axis.indices), tuple(s for axis in axes for s in axis.sizes), False)
