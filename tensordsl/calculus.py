"""What users call to differentiate: gradients, Jacobians, Hessians, products with them, differentials.

An expression is simplified before it is differentiated, and the derivative before it is returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tensordsl.contraction import add_terms, contract, number
from tensordsl.derivatives import pull_back, push_forward
from tensordsl.dims import AnySize
from tensordsl.errors import ShapeError, TensorDSLError, UnsupportedError, describe, show_shape
from tensordsl.expr import Expr, Primitive, Symbol, brief
from tensordsl.facts import has
from tensordsl.functions.convert import as_expr, plain
from tensordsl.functions.elementwise import half
from tensordsl.functions.multilinear import frobenius, transpose
from tensordsl.functions.operators import add, subtract
from tensordsl.graph import topological
from tensordsl.labels import singles
from tensordsl.rewrites.rewriting import simplified

LINEAR = frozenset({"symmetric", "diagonal", "lower", "upper"})  # properties that a differential has as well
CONVENTIONS = ("unconstrained", "symmetric", "vech")

Variables = Symbol | Sequence[Symbol]


def _variables(x: object, what: str) -> tuple[tuple[Symbol, ...], bool]:
    """The symbols to differentiate by, and whether they were given as a tuple."""
    several = isinstance(x, tuple | list)
    found = tuple(x) if isinstance(x, tuple | list) else (x,)
    for item in found:
        if not isinstance(item, Symbol):
            given = f"{brief(item)}, an expression" if isinstance(item, Expr) else f"{item!r} ({type(item).__name__})"
            raise UnsupportedError(
                f"{what} is with respect to symbols, such as x = td.vector('x', k), or a tuple of "
                f"them; given was {given}."
            )
    if not found:
        raise UnsupportedError(f"{what} needs at least one symbol.")
    return found, several


def _scalar(f: object, what: str, other: str) -> Expr:
    node = as_expr(f)
    if node.ndim:
        rows = describe([(brief(node), node.shape, True)])
        raise ShapeError(f"{what} is of a scalar, shape (); given was\n{rows}\nUse {other}, or sum the entries first.")
    return node


def _direction(v: object, symbol: Expr, what: str) -> Expr:
    node = as_expr(v)
    if node.shape != symbol.shape:
        rows = describe([(brief(symbol), symbol.shape, False), (brief(node), node.shape, True)])
        raise ShapeError(
            f"{what}: a direction has the shape of what it stands for.\n{rows}\nGive one of shape "
            f"{show_shape(symbol.shape)}."
        )
    return node


def _matched(v: object, count: int, several: bool, what: str) -> tuple[object, ...]:
    given = tuple(v) if several and isinstance(v, tuple | list) else (v,)
    if len(given) != count:
        raise ShapeError(f"{what}: {count} symbols need a tuple of {count} directions, given were {len(given)}.")
    return given


def prepared(node: Expr) -> Expr:
    """What is differentiated: simplified by algebra alone, since what is declared of a matrix does not hold nearby."""
    return simplified([node], "algebra")[0]


def finished(found: Sequence[Expr]) -> list[Expr]:
    """Derivatives as they are returned: simplified, also by what is declared."""
    return simplified(found, "algebra", "declared")


def _jacobians(node: Expr, variables: Sequence[Symbol]) -> list[Expr]:
    node = prepared(node)
    if len(variables) == 1 and not variables[0].ndim:  # one number moves: a forward sweep is all that it takes
        return [push_forward(node, {variables[0]: number(1)})]
    labels = singles(range(node.ndim))
    seed = contract(1, [], (*labels, *labels), dict(enumerate(node.shape)))
    return pull_back(node, seed, node.shape, variables)


def _conventional(node: Expr, variables: Sequence[Symbol], axes: Sequence[int], convention: str) -> Expr:
    """A derivative by symmetric matrices in a convention; each variable's axes begin at its place in `axes`."""
    if convention == "unconstrained":
        return node
    for variable, axis in zip(variables, axes, strict=True):
        if has(variable, "symmetric"):
            order = list(range(node.ndim))
            order[axis], order[axis + 1] = axis + 1, axis
            both = add(node, transpose(node, order))
            if convention == "symmetric":
                node = half(both)
                continue
            labels = [*range(axis + 1), axis, *range(axis + 2, node.ndim)]
            sizes: dict[int, AnySize] = {place: size for place, size in enumerate(node.shape) if place != axis + 1}
            node = subtract(both, contract(1, [(node, singles(labels))], singles(labels), sizes))
    return node


def _check_convention(convention: str, variables: Sequence[Symbol], what: str) -> None:
    if not isinstance(convention, str) or convention not in CONVENTIONS:
        raise UnsupportedError(
            f"{what}: the convention {convention!r} is unknown; known are {', '.join(map(repr, CONVENTIONS))}."
        )
    if convention != "unconstrained" and not any(has(variable, "symmetric") for variable in variables):
        names = ", ".join(variable.name for variable in variables)
        raise UnsupportedError(
            f"{what}: the convention {convention!r} is for symmetric matrices; {names} was not declared to be one. "
            "Give symmetric=True where it is declared."
        )


def grad(f: object, x: Variables, convention: str = "unconstrained") -> Any:
    """The gradient of a scalar: g[i] = ∂f/∂x[i], of the shape of x; a tuple for a tuple of symbols.

    By a matrix that was declared symmetric, published answers differ by what is varied. `convention="unconstrained"`
    varies each entry by itself, G[i,j] = ∂f/∂X[i,j]; `"symmetric"` is the gradient among symmetric matrices,
    (G + Gᵀ)/2; `"vech"` varies the distinct entries, X[i,j] and X[j,i] together: G + Gᵀ - I∘G (Minka, Old and New
    Matrix Algebra; Cookbook 138). They agree on the diagonal; all say the same of f.

    Raises `ShapeError` unless f is a scalar, `UnsupportedError` for another convention, or where no symbol is
    symmetric. Rule: the reverse sweep over the local Jacobians.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> print(td.grad(x @ A @ x, x))
    (A[i,j] + A[j,i])*x[j] -> [i]
    >>> S = td.matrix("S", k, k, symmetric=True)
    >>> for convention in ("unconstrained", "symmetric", "vech"):
    ...     print(td.grad(td.logdet(S), S, convention).to_string("matrix"))
    inv(S)
    inv(S)
    2*inv(S) - diag(diag(inv(S)))
    """
    variables, several = _variables(x, "The gradient")
    _check_convention(convention, variables, "The gradient")
    found = _jacobians(_scalar(f, "The gradient", "td.jacobian(F, x)"), variables)
    found = finished([_conventional(g, [v], [0], convention) for g, v in zip(found, variables, strict=True)])
    return tuple(found) if several else found[0]


def jacobian(F: object, x: Variables, convention: str = "unconstrained") -> Any:
    """The Jacobian J[i..,k..] = ∂F[i..]/∂x[k..], of shape F.shape + x.shape; a tuple for a tuple of symbols.

    `convention` says how a symmetric matrix is varied, as in `td.grad`. Raises `UnsupportedError` unless x is a
    symbol or a tuple of them. Rule: the reverse sweep from the identity, which is labels only.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> print(td.jacobian(A * td.outer(x, x), x))
    A[i,j]*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]
    """
    variables, several = _variables(x, "The Jacobian")
    _check_convention(convention, variables, "The Jacobian")
    node = as_expr(F)
    found = _jacobians(node, variables)
    found = finished([_conventional(g, [v], [node.ndim], convention) for g, v in zip(found, variables, strict=True)])
    return tuple(found) if several else found[0]


def derivative(F: object, x: Symbol, order: int = 1) -> Expr:
    """The derivative of any order: D[i..,k..,l..] = ∂ⁿF[i..]/∂x[k..]∂x[l..].., of shape F.shape + order * x.shape.

    Raises `UnsupportedError` for an order that is no whole number from 0. Rule: the Jacobian, repeated.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.derivative(td.sum(x**3), x, order=3).shape
    (3, 3, 3)
    """
    if not isinstance(order, int) or isinstance(order, bool) or order < 0:
        raise UnsupportedError(f"The order of a derivative is a whole number from 0, not {order!r}.")
    symbols, several = _variables(x, "The derivative")
    if several:
        raise UnsupportedError("A derivative of any order is by one symbol; use td.hessian for mixed ones.")
    node = as_expr(F)
    for _ in range(order):
        node = _jacobians(node, symbols)[0]
    return finished([node])[0] if order else node


def hessian(f: object, x: Variables, y: Variables | None = None, convention: str = "unconstrained") -> Any:
    """The Hessian H[i..,j..] = ∂²f/∂x[i..]∂y[j..] of a scalar (y = x when not given), of shape x.shape + y.shape.

    For tuples of symbols a tuple of tuples, one row for each symbol of x; blocks below the diagonal are those above,
    transposed, and not derived again. `convention` says how a symmetric matrix is varied, as in `td.grad`. Raises
    `ShapeError` unless f is a scalar.

    >>> import tensordsl as td
    >>> x, A = td.vector("x", 3), td.matrix("A", 3, 3)
    >>> td.hessian(x @ A @ x, x) == A + A.T
    True
    """
    rows, many_rows = _variables(x, "The Hessian")
    columns, many_columns = (rows, many_rows) if y is None else _variables(y, "The Hessian")
    _check_convention(convention, (*rows, *columns), "The Hessian")
    gradients = _jacobians(_scalar(f, "The Hessian", "td.derivative(F, x, order=2)"), rows)
    blocks: list[list[Expr]] = []
    for place, (row, gradient) in enumerate(zip(rows, gradients, strict=True)):
        mirrored = [_mirrored(blocks[other][place], rows[other].ndim) for other in range(place if y is None else 0)]
        found = _jacobians(gradient, columns[len(mirrored) :])
        found = [
            _conventional(block, [row, column], [0, row.ndim], convention)
            for block, column in zip(found, columns[len(mirrored) :], strict=True)
        ]
        blocks.append([*mirrored, *finished(found)])
    entries = [tuple(block) if many_columns else block[0] for block in blocks]
    return tuple(entries) if many_rows else entries[0]


def _mirrored(block: Expr, rows: int) -> Expr:
    """∂²f/∂y∂x from ∂²f/∂x∂y: the axes of the columns first."""
    return transpose(block, [*range(rows, block.ndim), *range(rows)])


def jvp(F: object, x: Variables, v: Any) -> Expr:
    """The Jacobian times a direction: out[i..] = ∂F[i..]/∂x[k..] * v[k..], of F.shape. No Jacobian is formed.

    Raises `ShapeError` where v has not the shape of x. Rule: the forward sweep.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, v, A = td.vector("x", k), td.vector("v", k), td.matrix("A", k, k)
    >>> print(td.jvp(A * td.outer(x, x), x, v))
    A[i,j]*(v[i]*x[j] + v[j]*x[i]) -> [i,j]
    """
    variables, several = _variables(x, "A jvp")
    given = _matched(v, len(variables), several, "A jvp")
    node = prepared(as_expr(F))
    moved: dict[Expr, Expr] = {s: _direction(d, s, "A jvp") for s, d in zip(variables, given, strict=True)}
    return finished([push_forward(node, moved)])[0]


def vjp(F: object, x: Variables, w: Any) -> Any:
    """An adjoint times the Jacobian: out[k..] = w[i..] * ∂F[i..]/∂x[k..], of x.shape. No Jacobian is formed.

    Raises `ShapeError` where w has not the shape of F. Rule: the reverse sweep.

    >>> import tensordsl as td
    >>> m, k = td.dims("m k")
    >>> x, w, A = td.vector("x", k), td.vector("w", m), td.matrix("A", m, k)
    >>> td.vjp(A @ x, x, w) == A.T @ w
    True
    """
    variables, several = _variables(x, "A vjp")
    node = as_expr(F)
    found = finished(pull_back(prepared(node), _direction(w, node, "A vjp"), (), variables))
    return tuple(found) if several else found[0]


def hvp(f: object, x: Variables, v: Any) -> Any:
    """The Hessian of a scalar times a direction: out[i..] = ∂²f/∂x[i..]∂x[j..] * v[j..], of x.shape.

    No Hessian is formed. Rule: the forward sweep over the gradient. Raises `ShapeError` unless f is a scalar and v has
    the shape of x.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, v = td.vector("x", k), td.vector("v", k)
    >>> print(td.hvp(td.sum(x**3), x, v))
    6*v[i]*x[i] -> [i]
    """
    variables, several = _variables(x, "An hvp")
    given = _matched(v, len(variables), several, "An hvp")
    gradients = _jacobians(_scalar(f, "An hvp", "td.jvp(F, x, v)"), variables)
    directions: dict[Expr, Expr] = {s: _direction(d, s, "An hvp") for s, d in zip(variables, given, strict=True)}
    found = finished([push_forward(g, directions) for g in gradients])
    return tuple(found) if several else found[0]


def differential(F: object, x: Variables | None = None) -> Expr:
    """The differential dF[i..] = ∂F[i..]/∂x[k..] * dx[k..] + ..., of F.shape: by all symbols of F, or by those in x.

    Its symbols dx, dA, ... are those of F with a d before them. Raises `TensorDSLError` where F has such a symbol
    already. Rule: the forward sweep; for a scalar function of matrices such as expm, its gradient times dx.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> print(td.differential(A * td.outer(x, x), x).to_string("matrix"))
    A ∘ (dx @ xᵀ + x @ dxᵀ)
    """
    node = as_expr(F)
    variables = sorted(node.symbols, key=lambda s: s.name) if x is None else _variables(x, "The differential")[0]
    names = {symbol.name for symbol in node.symbols}
    directions: dict[Expr, Expr] = {}
    for variable in variables:
        if "d" + variable.name in names:
            raise TensorDSLError(
                f"The differential of {variable.name} would be called d{variable.name}, which is a "
                "symbol of the expression already. Rename that symbol."
            )
        directions[variable] = Symbol("d" + variable.name, variable.shape, variable.properties & LINEAR)
    node = prepared(node)
    if not node.ndim and any(isinstance(part, Primitive) and part.record.push for part in topological([node])):
        # The differential of expm and its like is no product of matrices, the gradient of their trace is.
        gradients = pull_back(node, number(1), (), list(directions))  # type: ignore[arg-type]
        return finished([add_terms(list(map(frobenius, gradients, directions.values())), ())])[0]
    return finished([push_forward(node, directions)])[0]


def jacobian_matrix(F: object, x: Symbol, layout: str = "numerator") -> Expr:
    """∂vec F/∂(vec x)ᵀ, a matrix of (size of F) rows and (size of x) columns; `layout="denominator"` its transpose.

    M[(j,i),(l,k)] = ∂F[i,j]/∂x[k,l]: vec stacks columns, for any order the first axis runs fastest. The layouts are
    those of Magnus and Neudecker (numerator) and of its transpose. Raises `UnsupportedError` for another layout, or
    unless x is one symbol.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> print(td.jacobian_matrix(A * td.outer(x, x), x).to_string("matrix"))
    diag(vec(A)) @ (x ⊗ I + I ⊗ x)
    """
    if not isinstance(layout, str) or layout not in ("numerator", "denominator"):
        raise UnsupportedError(
            f"The layout {layout!r} is unknown: 'numerator' has a row for each entry of F, "
            "'denominator' is its transpose."
        )
    symbols, several = _variables(x, "A Jacobian matrix")
    if several:
        raise UnsupportedError("A Jacobian matrix is with respect to one symbol; build one for each.")
    node = as_expr(F)
    found = finished(_jacobians(node, symbols))[0]
    rows, columns = tuple(reversed(range(node.ndim))), tuple(reversed(range(node.ndim, found.ndim)))
    matrix = contract(1, [(found, plain(found))], (rows, columns), dict(enumerate(found.shape)))
    return finished([matrix if layout == "numerator" else transpose(matrix)])[0]
