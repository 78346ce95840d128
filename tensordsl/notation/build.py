"""Trees to expressions: the sizes that a text leaves open, and the orders that it does not declare, solved for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from itertools import chain, combinations

from tensordsl.dims import AnySize, Dim, Size, solve, substitute
from tensordsl.errors import ParseError, ShapeError, TensorDSLError
from tensordsl.expr import Contraction, Expr
from tensordsl.graph import topological
from tensordsl.notation import tree as t
from tensordsl.notation.builder import UNKNOWN, Builder
from tensordsl.notation.linear import LatexBuilder, MatlabBuilder, NeedsScalar, likely_scalar
from tensordsl.notation.matrix import MatrixBuilder

__all__ = ["BUILDERS", "Builder", "build"]

ROUNDS = 400
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
    the vectors as possible are taken for scalars; the first error is raised where no choice of them fits.
    """
    inferred: dict[str, int] = {}
    scalars: Set[str] = frozenset()
    while True:
        try:
            return solved(tree, symbols, dialect, infer, positions, scalars, inferred)
        except NeedsScalar as found:
            scalars |= {found.name}
        except TensorDSLError as error:
            first = error
            break
    for choice in others([name for name, order in inferred.items() if order == 1 and name not in scalars]):
        try:
            return solved(tree, symbols, dialect, infer, positions, scalars | choice, {})
        except (TensorDSLError, NeedsScalar):
            continue
    raise first


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
) -> Expr:
    """The expression of a tree, its sizes solved for.

    Sizes that no name gives (of `I`, of δ, of symbols that are to be inferred) begin as unknown dimensions. Each
    mismatch of shapes that can be solved for one of them is, and the tree is built again: the errors of the operators
    are the equations, so that no function needs a second statement of its shapes. Ends, as each round solves one.
    """
    known: dict[str, AnySize] = {}
    for _ in range(ROUNDS):
        builder = BUILDERS[dialect](symbols, known, infer, positions, scalars)
        try:
            result = builder.finish(tree)
        except ShapeError as error:
            inferred.update(builder.inferred)
            if error.sizes is None:
                raise
            a, b = (substitute(size, known) for size in error.sizes)  # type: ignore[arg-type]
            names = {n for s in (a, b) if isinstance(s, Size) for n in s.names if n.startswith(UNKNOWN)}
            found = solve(a, b, names)
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
        return result
    raise ParseError("The sizes of the text could not be solved for.")


def unsolved(root: Expr) -> set[str]:
    """The unknown dimensions that an expression is still made of, wherever they stand in it."""
    found: set[str] = set()
    for node in topological([root]):
        sizes = (*node.shape, *(node.sizes if isinstance(node, Contraction) else ()))
        names = {name for size in sizes if isinstance(size, Size) for name in size.names}
        found.update(name for name in names if name.startswith(UNKNOWN))
    return found
