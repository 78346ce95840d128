"""What is known of an expression: symmetric, positive, orthogonal; as declared, and as follows from that."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tensordsl.contraction import add_terms, contract, is_flat, is_structured, number_of, reoriented
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Primitive, Sum, Symbol
from tensordsl.labels import Groups, flat, singles

KNOWN = 1 << 14  # answers that are remembered

# What follows from a property that is declared.
IMPLIED = {
    "positive_definite": {"symmetric", "invertible"},
    "diagonal": {"symmetric", "lower", "upper"},
    "orthogonal": {"invertible"},
}
POSITIVE_FUNCTIONS = frozenset({"exp", "sigmoid", "softplus", "cosh"})
NOT_NEGATIVE_FUNCTIONS = frozenset({"abs", "relu"})
NOT_NEGATIVE_MATRIX_FUNCTIONS = frozenset({"norm", "nuclear_norm"})


def implied(properties: Iterable[str]) -> frozenset[str]:
    """Declared properties, with what follows from them."""
    return frozenset(properties).union(*[IMPLIED.get(name, frozenset()) for name in properties])


def has(node: Expr, name: str) -> bool:
    """Whether a symbol was declared to be so, or that follows from what was declared."""
    return isinstance(node, Symbol) and name in node.properties


def is_matrix(node: Expr) -> bool:
    return node.ndim == 2 and node.shape[0] == node.shape[1]


@lru_cache(maxsize=KNOWN)
def is_symmetric(node: Expr) -> bool:
    """Whether a matrix is its own transpose whatever its symbols are."""
    if not is_matrix(node):
        return False
    if isinstance(node, Symbol):
        return "symmetric" in node.properties
    if isinstance(node, Constant):
        return bool((node.array == node.array.T).all())
    if isinstance(node, Primitive):
        return node.record.symmetric and all(map(is_symmetric, node.children))
    if isinstance(node, Elementwise):
        return all(map(is_symmetric, node.children))
    if not isinstance(node, Contraction | Sum):
        return False
    turned = contract(1, [(node, ((0,), (1,)))], ((1,), (0,)), dict(enumerate(node.shape)))
    if turned is node or node in turned.children:  # a sum too long to be looked into stays what it is
        return turned is node
    return oriented(turned) is oriented(node)


def oriented(node: Expr) -> Expr:
    """The node with the axes of its symmetric factors in one order, so that x @ S and S @ x are one object.

    Ends, as the factors stay the same, and their order is that of the canonical form.
    """
    if isinstance(node, Sum):
        terms = [oriented(term) for term in node.terms]
        return node if tuple(terms) == node.terms else add_terms(terms, node.shape)
    if not isinstance(node, Contraction):
        return node
    symmetric = frozenset(factor for factor in node.factors if is_symmetric(factor))
    found = reoriented(node, symmetric) if symmetric else node
    for place, factor in enumerate(node.factors):
        for axes in interchangeable(factor):
            slots = [swapped(s, axes) if p == place else s for p, s in enumerate(node.slots)]
            operands = list(zip(node.factors, slots, strict=True))
            other = contract(node.coefficient, operands, node.output, dict(enumerate(node.sizes)))
            found = min(found, other, key=lambda either: either.order)
    return found


def swapped(groups: Groups, axes: tuple[int, int]) -> Groups:
    """The labels of axes with two of the axes exchanged."""
    order = list(range(len(groups)))
    order[axes[0]], order[axes[1]] = axes[::-1]
    return tuple(groups[place] for place in order)


@lru_cache(maxsize=KNOWN)
def interchangeable(node: Expr) -> tuple[tuple[int, int], ...]:
    """The pairs of axes of a sum of three axes or more that may be exchanged, as in T[i,j,k] + T[i,k,j]."""
    if not isinstance(node, Sum) or not 3 <= node.ndim <= 4 or not is_flat(node):
        return ()
    labels = singles(range(node.ndim))
    sizes = dict(enumerate(node.shape))
    pairs = [(a, b) for a in range(node.ndim) for b in range(a) if node.shape[a] == node.shape[b]]
    exchanged = [(pair, contract(1, [(node, labels)], swapped(labels, pair), sizes)) for pair in pairs]
    return tuple(pair for pair, other in exchanged if oriented(other) is node)


@lru_cache(maxsize=KNOWN)
def is_positive(node: Expr) -> bool:
    """Whether every entry is above zero, for real data, whatever the symbols are that are not declared."""
    value = number_of(node)
    if value is not None:
        return not isinstance(value, complex) and value > 0
    if isinstance(node, Symbol):
        return "positive" in node.properties
    if isinstance(node, Constant):
        return node.array.dtype.kind in "iuf" and bool((node.array > 0).all())
    if isinstance(node, Elementwise):
        name = node.record.name
        return name in POSITIVE_FUNCTIONS or (name in ("sqrt", "power", "abs") and is_positive(node.children[0]))
    if isinstance(node, Primitive):
        return node.record.name == "det" and has(node.children[0], "positive_definite")
    if isinstance(node, Contraction):
        real = not isinstance(node.coefficient, complex) and node.coefficient > 0
        return real and not is_structured(node) and all(map(is_positive, node.factors))
    if isinstance(node, Sum):
        return any(map(is_positive, node.terms)) and all(is_positive(t) or is_not_negative(t) for t in node.terms)
    return False


@lru_cache(maxsize=KNOWN)
def is_not_negative(node: Expr) -> bool:
    """Whether no entry is below zero: squares, sums of them, absolute values, norms."""
    if is_positive(node):
        return True
    if isinstance(node, Elementwise):
        return node.record.name in NOT_NEGATIVE_FUNCTIONS or node.record.truth
    if isinstance(node, Primitive):
        return node.record.name in NOT_NEGATIVE_MATRIX_FUNCTIONS
    if isinstance(node, Sum):
        return all(map(is_not_negative, node.terms))
    if not isinstance(node, Contraction) or isinstance(node.coefficient, complex) or node.coefficient < 0:
        return False
    left = list(zip(node.factors, node.slots, strict=True))
    while left:
        factor = left.pop()
        if factor in left:
            left.remove(factor)
        elif not is_not_negative(factor[0]):
            return False
    return True


def is_orthogonal(node: Expr) -> bool:
    return has(node, "orthogonal")


@lru_cache(maxsize=KNOWN)
def is_positive_definite(node: Expr) -> bool:
    """Whether vᵀ A v is above zero for every vector: declared, or a sum of such and of Gram matrices."""
    if isinstance(node, Symbol):
        return "positive_definite" in node.properties
    if isinstance(node, Primitive):
        return node.record.name == "inv" and is_positive_definite(node.children[0])
    if isinstance(node, Sum):
        definite = [is_positive_definite(term) for term in node.terms]
        return any(definite) and all(d or is_gram(t) for d, t in zip(definite, node.terms, strict=True))
    if not isinstance(node, Contraction) or not is_matrix(node):
        return False
    if isinstance(node.coefficient, complex) or node.coefficient <= 0:
        return False
    if node.output == ((0,), (0,)):  # a diagonal
        return all(map(is_positive, node.factors))
    matrices = [factor for factor, slots in zip(node.factors, node.slots, strict=True) if flat(slots)]
    scalars = [factor for factor in node.factors if factor not in matrices]
    return len(matrices) == 1 and is_positive_definite(matrices[0]) and all(map(is_positive, scalars))


def is_gram(node: Expr) -> bool:
    """Whether a matrix is Σ_m w_m F_mi F_mj with weights that are not negative, so that vᵀ A v is not negative."""
    if not isinstance(node, Contraction) or not is_matrix(node) or node.output != ((0,), (1,)):
        return False
    left = [(factor, flat(slots)) for factor, slots in zip(node.factors, node.slots, strict=True)]
    rows = [operand for operand in left if 0 in operand[1]]
    columns = [operand for operand in left if 1 in operand[1]]
    if len(rows) != 1 or len(columns) != 1 or rows[0][0] is not columns[0][0]:
        return False
    if tuple(1 if label == 0 else label for label in rows[0][1]) != columns[0][1]:
        return False
    weights = [
        (factor, slots) for factor, slots in zip(node.factors, node.slots, strict=True) if not {0, 1} & {*flat(slots)}
    ]
    summed = dict.fromkeys(label for label in rows[0][1] if label != 0)
    if any(label not in summed for _, slots in weights for label in flat(slots)):
        return False
    sizes = {label: node.sizes[label] for label in summed}
    return is_not_negative(contract(node.coefficient, weights, singles(summed), sizes))
