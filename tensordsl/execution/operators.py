"""`output="operator"`: the `LinearOperator` of a matrix whose entries are never formed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tensordsl.contraction import contract
from tensordsl.dims import evaluate as size_value
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Primitive, Sum, Symbol
from tensordsl.graph import rebuild, topological
from tensordsl.rewrites.rewriting import with_children

Compile = Callable[[Sequence[Expr]], Callable[..., Any]]  # from expressions to a function that gives a tuple


def operator_maker(
    node: Expr, names: Sequence[str], compiled: Compile
) -> Callable[[Mapping[str, Any], Mapping[str, int]], Any]:
    """A function from data to the `LinearOperator` of a matrix expression, whose entries are never formed.

    Products with the operator are contractions with a vector, so its structure joins them; factors that do not depend
    on the vector are computed once, when the operator is made.
    """
    rows, columns = node.shape
    free = next(name for name in ("v", *(f"v{n}" for n in range(len(names) + 1))) if name not in names)
    numbers: list[Any] = [
        part.array if isinstance(part, Constant) else part.coefficient
        for part in topological([node])
        if isinstance(part, Constant) or (isinstance(part, Contraction) and isinstance(part.coefficient, complex))
    ]
    vector, adjoint = Symbol(free, (columns,)), Symbol(free, (rows,))
    forward = contract(1, [(node, ((0,), (1,))), (vector, ((1,),))], ((0,),), {0: rows, 1: columns})
    backward = contract(1, [(node, ((0,), (1,))), (adjoint, ((0,),))], ((1,),), {0: rows, 1: columns})
    (forward, backward), fixed = hoist([forward, backward], (vector, adjoint))
    before = compiled(tuple(fixed.values())) if fixed else None
    after = [compiled((forward,)), compiled((backward,))]

    def make(data: Mapping[str, Any], sizes: Mapping[str, int]) -> Any:
        from scipy.sparse.linalg import LinearOperator  # scipy is heavy, and needed here alone

        given = dict(data)
        dims = {name: size for name, size in sizes.items() if name not in given}
        if before is not None:
            values = before(**{**given, **dims})
            given.update({s.name: v for s, v in zip(fixed, values, strict=True)})
        shape = (size_value(rows, sizes), size_value(columns, sizes))
        dtype = np.result_type(*given.values(), *numbers, np.float32)

        def matvec(v: Any) -> Any:
            return after[0](**{**given, **dims, free: np.asarray(v).reshape(-1)})[0]

        def rmatvec(w: Any) -> Any:
            return np.conj(after[1](**{**given, **dims, free: np.conj(np.asarray(w).reshape(-1))})[0])

        return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=dtype)

    return make


def hoist(roots: Sequence[Expr], varying: Sequence[Symbol]) -> tuple[list[Expr], dict[Symbol, Expr]]:
    """The roots with a symbol in place of each inner value that does not vary and costs something, and those values."""
    fixed: dict[Symbol, Expr] = {}

    def change(node: Expr, children: tuple[Expr, ...]) -> Expr:
        if not node.symbols or not node.symbols.isdisjoint(varying):
            return with_children(node, children)
        if isinstance(node, Elementwise | Primitive | Sum):
            symbol = Symbol(f"_fixed_{node.digest}", node.shape)
            fixed[symbol] = node
            return symbol
        return with_children(node, children)

    found = [rebuild(root, change) for root in roots]
    used = frozenset().union(*[root.symbols for root in found])
    return found, {symbol: node for symbol, node in fixed.items() if symbol in used}
