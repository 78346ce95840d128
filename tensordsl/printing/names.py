"""Names for indices, trees for sizes, numbers and functions of entries, and the order in which terms are written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence, Set
from fractions import Fraction
from itertools import count

from tensordsl.contraction import Operand, add_terms, as_operands, scale, split_coefficient
from tensordsl.dims import AnySize, Size, over_one_line
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Number, Primitive, Select, Sum, Symbol
from tensordsl.graph import topological
from tensordsl.labels import flat
from tensordsl.notation import tree as t
from tensordsl.notation.render import GREEK

FROBENIUS = ("ord", t.Text("fro"))  # what NumPy means by the norm of a matrix; LaTeX says it
LETTERS = "ijklmnpqrstuvwabcdefgh"
COMPARISONS = {
    "greater": ">",
    "less": "<",
    "greater_equal": ">=",
    "less_equal": "<=",
    "equal": "==",
    "not_equal": "!=",
}
SHOWN = 64  # entries of a constant that are written out


def taken_names(node: Expr) -> frozenset[str]:
    """The names of sizes where there are positions, as in δ[i,k - 1 - j]: no index can have them."""
    selections = [part for part in topological([node]) if isinstance(part, Select)]
    taken = {dim.name for dim in node.dims} if selections else set()
    return frozenset(taken.union(*(part.start.names for part in selections if isinstance(part.start, Size))))


def clashing(trees: Iterable[t.Tree], indices: Set[str], node: Expr, taken: Set[str]) -> frozenset[str]:
    """The names of sizes that trees show, where one of them is that of an index too: sum[k](x[k])/k is to be written
    again without them. None, once these are `taken`; so whoever writes again comes to an end."""
    shown: set[str] = set()
    waiting = list(trees)
    while waiting:
        part = waiting.pop()
        if isinstance(part, t.Name):
            shown.add(part.name)
        elif isinstance(part, t.Subscript):  # an index stands there alone, or in a group of them
            keys = [item for key in part.keys for item in (key.items if isinstance(key, t.Items) else (key,))]
            waiting += [part.base, *(key for key in keys if not isinstance(key, t.Name))]
        else:
            waiting += t.children(part)
    sizes = shown & {dim.name for dim in node.dims}
    return frozenset(sizes - taken) if sizes & indices else frozenset()


def index_names(node: Expr, taken: frozenset[str] = frozenset()) -> Iterator[str]:
    """i, j, k, ..., then i1, j1, ..., without those that are taken."""
    taken = taken | taken_names(node)
    for number in count():
        yield from (name for letter in LETTERS if (name := f"{letter}{number or ''}") not in taken)


def is_differential(name: str) -> bool:
    """Whether a name is that of a small change: dx, dX, dmu, dW1."""
    return re.fullmatch(rf"d([^\W\d_]|{'|'.join(GREEK)})(\d+|_\w+)?", name) is not None


def size_tree(size: AnySize) -> t.Tree:
    """A size as a tree."""
    if isinstance(size, int):
        return t.Number(size)
    whole, divisor = over_one_line(size)
    if divisor != 1:
        return t.Product("/", (size_tree(whole), t.Number(divisor)))
    terms: list[tuple[int, t.Tree]] = []
    for monomial, coefficient in size.terms:
        powers: list[t.Tree] = [t.Name(n) if p == 1 else t.Power(t.Name(n), t.Number(p)) for n, p in monomial]
        if abs(coefficient) != 1 or not powers:
            powers.insert(0, t.Number(max(coefficient, -coefficient)))
        terms.append((1 if coefficient > 0 else -1, t.product("*", tuple(powers))))
    if len(terms) == 1:
        return terms[0][1] if terms[0][0] > 0 else t.Negative(terms[0][1])
    return t.Sum(tuple(terms))


def number_tree(value: Number) -> t.Tree:
    if not isinstance(value, complex) and value < 0:
        return t.Negative(t.Number(-value))
    return t.Number(value)


def constant_tree(node: Constant) -> t.Tree:
    """The data of a constant, as a list that parses back; a large one by its shape and digest."""
    if node.array.size > SHOWN:
        return t.Name(f"constant_{'x'.join(map(str, node.array.shape))}_{node.digest[:6]}")

    def items(values: object) -> t.Tree:
        if isinstance(values, list):
            return t.Items(tuple(items(v) for v in values))
        return number_tree(int(values) if isinstance(values, bool) else values)  # type: ignore[arg-type]

    return t.Call("constant", (items(node.array.tolist()),))


def primitive_call(node: Primitive, arguments: Iterable[t.Tree]) -> t.Tree:
    """The call of a primitive; it names its axis where the argument has others, which NumPy would reduce as well."""
    record = node.record
    stacked = node.children[0].ndim > record.axes
    options = tuple((name, t.Number(value)) for name, value in record.options) if stacked else ()
    if record.name == "nuclear_norm":
        return t.Call("norm", tuple(arguments), (("ord", t.Text("nuc")),))
    if record.name == "norm" and node.children[0].ndim == 2 and 1 not in node.children[0].shape:
        return t.Call("norm", tuple(arguments), (FROBENIUS,))
    return t.Call(record.name, tuple(arguments), options)


def softmax_argument(node: Expr) -> Expr | None:
    """x where the node is exp(x - logsumexp(x)), along the last axis."""
    if not isinstance(node, Elementwise) or node.record.name != "exp" or not isinstance(node.children[0], Sum):
        return None
    inside = node.children[0]
    for term in inside.terms:
        coefficient, body = split_coefficient(term)
        if coefficient != -1 or not isinstance(body, Contraction) or len(body.factors) != 1:
            continue
        total = body.factors[0]
        if not isinstance(total, Primitive) or total.record.name != "logsumexp":
            continue
        rest = add_terms([other for other in inside.terms if other is not term], inside.shape)
        if rest is total.children[0] and body.slots[0] == body.output[:-1] and len(body.sizes) == body.ndim:
            return rest
    return None


def kind_of(node: Expr) -> int:
    """Where a factor stands in a product: scalar symbols, other symbols and constants, functions, sums, δ."""
    if isinstance(node, Symbol | Constant):
        return 0 if node.ndim == 0 else 1
    if isinstance(node, Elementwise | Primitive | Contraction):
        return 2
    return 4 if isinstance(node, Select) else 3


def term_order(node: Expr) -> tuple[object, ...]:
    """The order of the terms of a sum: by their δ pattern, each group read the way its matrix is, then by factors."""
    _, body = split_coefficient(node)
    _, operands, output, _ = as_operands(body)
    numbers: dict[int, int] = {}
    pattern = tuple(numbers.setdefault(label, len(numbers)) for group in output for label in reversed(group))
    placed = sorted(
        (tuple(numbers.get(label, 99) for label in flat(slots)), kind_of(f), f.title, f.digest) for f, slots in operands
    )
    number = not operands  # a bare number stands first, as in 1 - x
    return (not number, pattern, [(p, title) for p, _, title, _ in placed], [d for *_, d in placed])


def ordered_terms(node: Sum) -> list[Expr]:
    return in_order(node.terms)


def in_order(terms: Sequence[Expr]) -> list[Expr]:
    """What is added, then what is subtracted."""
    return sorted(sorted(terms, key=term_order), key=is_negative)


def is_negative(node: Expr) -> bool:
    coefficient, _ = split_coefficient(node)
    return not isinstance(coefficient, complex) and coefficient < 0


def sign_and_magnitude(value: Number) -> tuple[int, Number]:
    if not isinstance(value, complex) and value < 0:
        return -1, -value
    return 1, value


def signed(coefficient: Number, operands: Sequence[Operand]) -> tuple[Number, list[Operand]]:
    """A minus sign taken into the first sum that has a term to be subtracted: c (y - x), not -c (x - y)."""
    found = list(operands)
    if isinstance(coefficient, complex) or coefficient >= 0:
        return coefficient, found
    for place, (node, slots) in enumerate(found):
        once = sum(other is node for other, _ in found) == 1  # a square has no sign to take in
        if once and isinstance(node, Sum) and any(map(is_negative, node.terms)):
            found[place] = Operand(scale(-1, node), slots)
            return -coefficient, found
    return coefficient, found


def with_number(value: Number, factors: list[t.Tree], below: list[t.Tree]) -> t.Tree:
    """A positive number times factors, over the factors `below`; a fraction puts its denominator there."""
    above, under = (value.numerator, value.denominator) if isinstance(value, Fraction) else (value, 1)
    top = t.product("*", ([t.Number(above)] if above != 1 or not factors else []) + factors)
    bottom = ([t.Number(under)] if under != 1 else []) + below
    return t.Product("/", (top, t.product("*", bottom))) if bottom else top


def halves(tree: t.Tree) -> tuple[list[t.Tree], list[t.Tree]]:
    """The factors of a scalar above the line and below it."""
    match tree:
        case t.Product("/", (top, under)):
            above, inner = halves(top)
            below = under.factors if isinstance(under, t.Product) and under.operator == "*" else (under,)
            return above, [*inner, *below]
        case t.Product("*", factors):
            parts = [halves(factor) for factor in factors]
            return [f for above, _ in parts for f in above], [f for _, below in parts for f in below]
        case t.Power(base, t.Negative(t.Number() as exponent)):
            return [], [t.Power(base, exponent)]
        case t.Number(1):
            return [], []
    return [tree], []


def elementwise_tree(node: Elementwise, arguments: tuple[t.Tree, ...], entrywise: bool = False) -> t.Tree:
    """A function of trees: operators for powers and comparisons, a call for the others."""
    if node.record.name in COMPARISONS:
        return t.Comparison(COMPARISONS[node.record.name], *arguments)
    if node.record.name == "power":
        base, exponent = arguments
        divided = "⊘" if entrywise else "/"
        match exponent:
            case t.Negative(t.Number(value) as above) if isinstance(value, int):
                below = base if value == 1 else t.Power(base, above, entrywise)
                return t.Product(divided, (t.Number(1), below))
        return t.Power(base, exponent, entrywise)
    return t.Call(node.record.name, arguments, (), entrywise and node.ndim == 2)


def signed_tree(sign: int, tree: t.Tree) -> t.Tree:
    return tree if sign > 0 else t.Negative(tree)


def counted(trees: Sequence[t.Tree], entrywise: bool = False) -> list[t.Tree]:
    """Equal factors as a power."""
    counts: dict[t.Tree, int] = {}
    for tree in trees:
        base, count = tree, 1
        if isinstance(tree, t.Power) and isinstance(tree.exponent, t.Number) and isinstance(tree.exponent.value, int):
            base, count = tree.base, tree.exponent.value
        counts[base] = counts.get(base, 0) + count
    return [tree if count == 1 else t.Power(tree, t.Number(count), entrywise) for tree, count in counts.items()]
