"""The tree of a text. Parsers make it, printers make it; it is rendered to a text or built into an expression."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction


@dataclass(frozen=True)
class Tree:
    """A node of a text; `span` is where it stands there, which makes no difference to what it means."""

    span: tuple[int, int] | None = field(default=None, compare=False, repr=False, kw_only=True)


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
    """Factors joined by one operator, from the left: `*`, `/`, `@`, `∘` (Hadamard) or `⊗` (Kronecker).

    Texts of other dialects have `//` and `\\` too, MATLAB's divisions by a matrix, and `·` and `×`, LaTeX's products
    whose meaning depends on what is multiplied.
    """

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
    entrywise: bool = False  # of each entry, where the function of a whole matrix is another: exp^∘(A) in LaTeX


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


def fields_of(tree: Tree) -> tuple[str, ...]:
    """The names of what a tree is made of, all but its span; `fields` takes longer than the rest of a walk."""
    return tree.__match_args__


def mapped(tree: Tree, change: Callable[[Tree], Tree]) -> Tree:
    """The tree with `change` applied to each of its children."""

    def inside(value: object) -> object:
        if isinstance(value, Tree):
            return change(value)
        return tuple(map(inside, value)) if isinstance(value, tuple) else value

    return replace(tree, **{name: inside(getattr(tree, name)) for name in fields_of(tree)})  # type: ignore[arg-type]


def children(tree: Tree) -> Iterator[Tree]:
    for name in fields_of(tree):
        yield from _trees(getattr(tree, name))


def spanned(first: Tree, last: Tree) -> tuple[int, int] | None:
    """Where the text from one tree to another stands."""
    return None if first.span is None or last.span is None else (first.span[0], last.span[1])


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
    keys = [key for part in walk(tree) if isinstance(part, Subscript) for key in part.keys]
    return axes(tree) | {key.name for key in keys if isinstance(key, Name)}


def axes(tree: Tree) -> set[str]:
    """The names after an arrow, or of a sum: indices for certain."""
    return {name for part in walk(tree) if isinstance(part, Axis) for name in part.indices}


def walk(tree: Tree) -> Iterator[Tree]:
    stack = [tree]
    while stack:
        node = stack.pop()
        yield node
        stack += children(node)


def names(tree: Tree) -> set[str]:
    return {part.name for part in walk(tree) if isinstance(part, Name)}


def terms(tree: Tree) -> Iterator[Tree]:
    """The terms of a sum, without their signs."""
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, Sum):
            stack += [term for _, term in reversed(node.terms)]
        elif isinstance(node, Negative):
            stack.append(node.operand)
        else:
            yield node


def free_indices(tree: Tree, bound: frozenset[str] = frozenset()) -> dict[str, int]:
    """The indices that are not summed or named within a tree, and how often each stands in a product at the most."""
    parts: list[dict[str, int]] = []
    match tree:
        case Sum(terms):
            parts = [free_indices(term, bound) for _, term in terms]
            return {name: max(part.get(name, 0) for part in parts) for part in parts for name in part}
        case Subscript(base, keys):
            bare = [item for key in keys for item in (key.items if isinstance(key, Items) else (key,))]
            names = [key.name for key in bare if isinstance(key, Name)]  # k - 1 is a position
            parts = [free_indices(base, bound), *({name: 1} for name in names if name not in bound)]
        case SumOver(over, body):
            return free_indices(body, bound | set(over.indices))
        case Arrow():
            return {}  # what it does not name is summed within
        case _:
            parts = [free_indices(child, bound) for child in children(tree)]
    return {name: sum(part.get(name, 0) for part in parts) for part in parts for name in part}


def depth(tree: Tree, limit: int) -> int:
    """The depth of a tree, as far as `limit`; iterative, so that no text can exhaust the stack."""
    level, deepest = [tree], 0
    while level and deepest <= limit:
        deepest += 1
        level = [child for node in level for child in children(node)]
    return deepest


def product(operator: str, factors: Sequence[Tree]) -> Tree:
    return factors[0] if len(factors) == 1 else Product(operator, tuple(factors))
