"""The tree of a text. Parsers make it, printers make it; it is rendered to a text or built into an expression."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction


@dataclass(frozen=True)
class Tree:
    """A node of a text."""


@dataclass(frozen=True)
class Name(Tree):
    name: str


@dataclass(frozen=True)
class Number(Tree):
    value: int | float | complex | Fraction


@dataclass(frozen=True)
class Text(Tree):
    value: str


@dataclass(frozen=True)
class Items(Tree):
    """A bracketed list, as in the data of a constant, or a parenthesised tuple, as in a shape."""

    items: tuple[Tree, ...]
    round: bool = False


@dataclass(frozen=True)
class Sum(Tree):
    """Terms with their signs: +1 or -1."""

    terms: tuple[tuple[int, Tree], ...]


@dataclass(frozen=True)
class Product(Tree):
    """Factors joined by one operator, from the left: `*`, `/`, `@`, `∘` (Hadamard) or `⊗` (Kronecker)."""

    operator: str
    factors: tuple[Tree, ...]


@dataclass(frozen=True)
class Power(Tree):
    """`A**2`; `entrywise` where that is no number but a matrix or a column, whose power LaTeX writes with a ∘."""

    base: Tree
    exponent: Tree
    entrywise: bool = False


@dataclass(frozen=True)
class Negative(Tree):
    operand: Tree


@dataclass(frozen=True)
class Comparison(Tree):
    operator: str
    left: Tree
    right: Tree


@dataclass(frozen=True)
class Transpose(Tree):
    operand: Tree
    dotted: bool = False  # written .T, which NumPy allows for a vector; ᵀ of one is matrix notation


@dataclass(frozen=True)
class Call(Tree):
    function: str
    arguments: tuple[Tree, ...]
    options: tuple[tuple[str, Tree], ...] = ()


@dataclass(frozen=True)
class Slice(Tree):
    start: Tree | None
    stop: Tree | None
    step: Tree | None


@dataclass(frozen=True)
class Subscript(Tree):
    """`A[i,j]`, `x[1:3]`, `δ[i,k]`: a key may be a group of indices, `v[(j,i)]`."""

    base: Tree
    keys: tuple[Tree, ...]


@dataclass(frozen=True)
class Axis(Tree):
    """An axis after the arrow: an index, or a group of them, each with its size where no tensor shows it."""

    indices: tuple[str, ...]
    sizes: tuple[Tree | None, ...]
    grouped: bool


@dataclass(frozen=True)
class Arrow(Tree):
    """`body -> [i,j]`: the tensor with these axes; what is not named is summed over its term."""

    body: Tree
    axes: tuple[Axis, ...]


@dataclass(frozen=True)
class SumOver(Tree):
    """`sum[j](body)`; an index has its size where no tensor shows it, `sum[j:k](body)`."""

    over: Axis
    body: Tree


def children(tree: Tree) -> Iterator[Tree]:
    for field in fields(tree):
        yield from _trees(getattr(tree, field.name))


def _trees(value: object) -> Iterator[Tree]:
    if isinstance(value, Tree):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _trees(item)


def sizes(tree: Tree) -> set[str]:
    """The names that stand for sizes wherever they stand: those after a colon, and those of I, ones, einsum, ..."""
    found: set[str] = set()
    stack: list[tuple[Tree, bool]] = [(tree, False)]
    while stack:
        node, inside = stack.pop()
        if inside and isinstance(node, Name):
            found.add(node.name)
        of_sizes = isinstance(node, Call) and node.function in ("I", "K", "identity", "commutation", "ones", "zeros")
        options = {size for _, size in node.options} if isinstance(node, Call) and node.function == "einsum" else set()
        stack += [(child, inside or of_sizes or isinstance(node, Axis) or child in options) for child in children(node)]
    return found


def indices(tree: Tree) -> set[str]:
    """The names that stand for indices: those in brackets, each alone, and those after the arrow."""
    found: set[str] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Axis):
            found.update(node.indices)
        elif isinstance(node, Subscript):
            found.update(key.name for key in node.keys if isinstance(key, Name))
        stack += children(node)
    return found


def depth(tree: Tree, limit: int) -> int:
    """The depth of a tree, as far as `limit`; iterative, so that no text can exhaust the stack."""
    level, deepest = [tree], 0
    while level and deepest <= limit:
        deepest += 1
        level = [child for node in level for child in children(node)]
    return deepest


def product(operator: str, factors: Sequence[Tree]) -> Tree:
    return factors[0] if len(factors) == 1 else Product(operator, tuple(factors))
