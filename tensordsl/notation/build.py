"""Trees to expressions: the sizes that a text leaves open, and the orders that it does not declare, solved for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from itertools import chain, combinations, pairwise, product
from re import sub

from tensordsl.dims import AnySize, Dim, solve, substitute
from tensordsl.errors import ParseError, ShapeError, TensorDSLError
from tensordsl.expr import Contraction, Expr, Sum
from tensordsl.functions.record import elementwise_records
from tensordsl.graph import topological
from tensordsl.notation import tree as t
from tensordsl.notation.builder import UNKNOWN, Builder, unknowns
from tensordsl.notation.linear import LatexBuilder, LinearBuilder, NeedsScalar, likely_scalar, transposed_in
from tensordsl.notation.matlab import MatlabBuilder
from tensordsl.notation.matrix import MatrixBuilder

__all__ = ["BUILDERS", "Builder", "build"]

ROUNDS = 400
COUNTS = frozenset("dkmnp")  # what is often counted
NUMBERED = frozenset("DMN")  # what is often counted, too, where it is divided by a number
READINGS = 64  # how many choices of scalars are tried for a text whose symbols are not declared
BUILDERS: Mapping[str, type[Builder]] = {
    "numpy": Builder,
    "matrix": MatrixBuilder,
    "matlab": MatlabBuilder,
    "latex": LatexBuilder,
}


def build(
    tree: t.Tree,
    symbols: Mapping[str, Expr],
    dialect: str = "numpy",
    infer: bool = False,
    positions: Mapping[str, Dim] | None = None,
) -> Expr:
    """The expression of a tree; `positions` are names that are sizes wherever they stand.

    With `infer`, a name that is not declared is a matrix or, in lower case, a vector. Where that cannot be, as few of
    the vectors as possible are taken for scalars, all of them where nothing speaks of vectors; the first error is
    raised where no choice of them fits. In the notations of linear algebra, a factor such as λ in λ xᵀx is a
    scalar too.
    """
    inferred: dict[str, int] = {}
    attempt = partial(solved, tree, symbols, dialect, infer, positions)
    scalars: Set[str] = frozenset()
    numbers = names_of_numbers(tree, symbols) if infer else frozenset()
    first: TensorDSLError | None = None
    while first is None:
        try:
            result = attempt(scalars, inferred)
        except NeedsScalar as found:
            scalars |= {found.name} | numbers
        except TensorDSLError as error:
            if scalars or not numbers:
                first = error
            scalars |= numbers
        else:
            linear = infer and issubclass(BUILDERS[dialect], LinearBuilder)
            return with_multipliers(result, attempt, scalars, multipliers(tree) if linear else [])
    turned = transposed_in(tree)
    vectors = [name for name, order in inferred.items() if order == 1 and name not in turned]
    choices = list(others([name for name in vectors if name not in scalars]))
    for reading, choice in product((attempt, partial(with_numbers, attempt)), choices):
        try:
            return reading(scalars | choice, {})
        except (TensorDSLError, NeedsScalar):
            continue
    first.args = (sub(rf"\b{UNKNOWN}\d+\b", "?", str(first)), *first.args[1:])  # sizes that the text leaves open
    raise first


def with_numbers(attempt: Callable[..., Expr], scalars: Set[str], inferred: dict[str, int]) -> Expr:
    """The expression in which these names are numbers, and those that then have to be."""
    while True:
        try:
            return attempt(scalars, inferred)
        except NeedsScalar as found:
            scalars |= {found.name}


def with_multipliers(result: Expr, attempt: Callable[..., Expr], scalars: Set[str], names: list[str]) -> Expr:
    """The expression in which the names that may well be numbers are numbers: all of them, or else each that can be."""
    likely = [name for name in names if any(name == symbol.name and symbol.ndim for symbol in result.symbols)]
    for choice in (likely, *([name] for name in likely)) if likely else ():
        try:
            result = attempt(scalars | set(choice), {}, True)
            scalars |= set(choice)
        except (TensorDSLError, NeedsScalar):
            continue
        if choice is likely:
            break
    return result


def names_of_numbers(tree: t.Tree, symbols: Mapping[str, Expr]) -> Set[str]:
    """The names of a text in which nothing speaks of vectors: no matrix, transpose or index, no function of a whole.

    They are all numbers, if one of them has to be.
    """
    names: set[str] = set()
    for part in t.walk(tree):
        match part:
            case t.Name(name) if name in symbols:
                if symbols[name].ndim:
                    return frozenset()
            case t.Name(name):
                if name[0].isupper():
                    return frozenset()
                names.add(name)
            case t.Transpose() | t.Subscript() | t.SumOver() | t.Arrow() | t.Items() | t.Product("∘" | "⊗"):
                return frozenset()
            case t.Call(function) if function not in elementwise_records:
                return frozenset()
    return names


def multipliers(tree: t.Tree) -> list[str]:
    """The names of a text that may well be numbers, such as λ in λ xᵀx, and that nothing takes for vectors.

    A transpose and a function of a whole take their operand for a vector, and a matrix what it is multiplied by.
    """
    names: dict[str, None] = {}
    vectors: set[str] = set()
    for part in t.walk(tree):
        match part:
            case t.Name(name) if name in COUNTS or not (name[0].isupper() or likely_scalar(name)[0]):
                names[name] = None
            case t.Product("/", (above, t.Number())) if NUMBERED.issuperset(t.names(above)):
                names |= dict.fromkeys(sorted(t.names(above)))  # N/2
            case t.Transpose() | t.Subscript() | t.Items() | t.Product("∘" | "⊗" | "·" | "×"):
                vectors |= t.names(part)
            case t.Call(function) if function not in elementwise_records:
                vectors |= t.names(part)
            case t.Product("@", factors):
                names_after = ((a, b.name) for a, b in pairwise(factors) if isinstance(b, t.Name))
                vectors |= {name for a, name in names_after if not (is_number(a) or name[0].isupper())}
                if len(factors) == 2 and isinstance(factors[1], t.Transpose):  # an outer product
                    vectors |= t.names(factors[0])
    return [name for name in names if name not in vectors]


def is_number(factor: t.Tree) -> bool:
    """Whether a factor may be a number: one, or a name in lower case."""
    base = factor.base if isinstance(factor, t.Power) else factor
    return isinstance(base, t.Number) or (isinstance(base, t.Name) and not base.name[0].isupper())


def others(names: list[str]) -> Iterator[Set[str]]:
    """The names that may be scalars, the fewest first."""
    likely = sorted(names, key=likely_scalar)
    counts = range(1, len(likely) + 1)
    choices = chain.from_iterable(combinations(likely, count) for count in counts)
    return (frozenset(choice) for choice, _ in zip(choices, range(READINGS), strict=False))


def solved(
    tree: t.Tree,
    symbols: Mapping[str, Expr],
    dialect: str,
    infer: bool,
    positions: Mapping[str, Dim] | None,
    scalars: Set[str],
    inferred: dict[str, int],
    strict: bool = False,
) -> Expr:
    """The expression of a tree, its sizes solved for.

    Sizes that no name gives (of `I`, of δ, of symbols that are to be inferred) begin as unknown dimensions. Each
    mismatch of shapes that can be solved for one of them is, and the tree is built again: the errors of the operators
    are the equations, so that no function needs a second statement of its shapes. Ends, as each round solves one.
    """
    known: dict[str, AnySize] = {}
    for _ in range(ROUNDS):
        builder = BUILDERS[dialect](symbols, known, infer, positions, scalars)
        if isinstance(builder, LinearBuilder):
            builder.strict = strict
        try:
            result = builder.finish(tree)
        except ShapeError as error:
            inferred.update(builder.inferred)
            found = next((root for a, b in equations(error) if (root := solve(a, b, unknowns(a, b)))), None)
            if found is None:
                raise
            name, value = found
            known = {n: substitute(v, {name: value}) for n, v in known.items()}
            known[name] = value
            continue
        except TensorDSLError:
            inferred.update(builder.inferred)
            raise
        left = sorted(unsolved(result)) if builder.count else []
        if left and not infer:
            raise ShapeError(builder.open_sizes)
        if left:
            taken = {d.name for d in result.dims}
            fresh = (n for n in ("k", "m", "n", "p", "q", *(f"k{c}" for c in range(1, 1000))) if n not in taken)
            known = {n: substitute(v, {}) for n, v in known.items()} | {n: Dim(next(fresh)) for n in left}
            known = {n: substitute(v, known) for n, v in known.items()}
            result = BUILDERS[dialect](symbols, known, infer, positions, scalars).finish(tree)
        if isinstance(builder, LinearBuilder):
            builder.doubt_short_vectors(tree)
        return result
    raise ParseError("The sizes of the text could not be solved for.")


def equations(error: ShapeError) -> Iterator[tuple[AnySize, AnySize]]:
    """The sizes that should be equal; then, of axes that are groups, the parts of the groups, each to each.

    So A and B in (Bᵀ ⊗ A) vec(X) get the sizes of X, though one equation of products does not say so.
    """
    if error.sizes is None:
        return
    yield error.sizes  # type: ignore[misc]
    left, right = [parts_of(node, axis) for node, axis in error.axes] or ((), ())  # type: ignore[arg-type]
    if len(left) == len(right):
        yield from ((a, b) for a, b in zip(left, right, strict=True) if a != b)


def parts_of(node: Expr, axis: int) -> tuple[AnySize, ...]:
    """The sizes of the labels that an axis is a group of, in a sum that of a term; its size where it is none."""
    if isinstance(node, Sum):
        terms = [term for term in node.children if isinstance(term, Contraction)]
        return max((parts_of(term, axis) for term in terms), key=len, default=(node.shape[axis],))
    if not isinstance(node, Contraction):
        return (node.shape[axis],)
    return tuple(node.sizes[label] for label in node.output[axis])


def unsolved(root: Expr) -> set[str]:
    """The unknown dimensions that an expression is still made of, wherever they stand in it."""
    found: set[str] = set()
    for node in topological([root]):
        sizes = (*node.shape, *(node.sizes if isinstance(node, Contraction) else ()))
        found |= unknowns(*sizes)
    return found
