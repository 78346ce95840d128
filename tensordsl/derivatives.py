"""Derivatives: one local Jacobian for each kind of node, and the two sweeps that join them.

A local Jacobian is a contraction, never an array: a product of factors whose labels carry every δ. A reverse sweep
joins it with the adjoint of the node, a forward sweep with the differential of the argument, so that jacobian, grad,
vjp, jvp, hvp and differential follow from the same rule. Adjoints join as any contractions do, so the order in which a
chain is accumulated (forward, reverse, mixed) is left to the contraction path.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from tensordsl.contraction import Operand, add_terms, contract, is_zero, zero
from tensordsl.dims import AnySize, Shape
from tensordsl.errors import ShapeError, TensorDSLError, UnsupportedError, describe, show_shape
from tensordsl.expr import Contraction, Elementwise, Expr, Number, Primitive, Sum, Symbol, brief
from tensordsl.functions.convert import as_expr, plain
from tensordsl.functions.multilinear import transpose
from tensordsl.graph import topological
from tensordsl.labels import Groups, Label, flat, singles

Variables = Symbol | Sequence[Symbol]


class LocalJacobian(NamedTuple):
    """∂node/∂child as the parts of a contraction: `out` labels the axes of the node, `into` those of the child."""

    coefficient: Number
    operands: list[Operand]
    out: Groups
    into: Groups
    sizes: dict[Label, AnySize]


def local_jacobian(node: Expr, place: int) -> LocalJacobian | None:
    """The rule of each kind of node for its argument at `place`; None where the derivative is zero.

    Contraction: c Π F → the other factors. Sum: the identity. Elementwise: f′ on shared labels. Primitive: its
    record's.
    """
    if isinstance(node, Contraction):
        others = [Operand(f, s) for p, (f, s) in enumerate(zip(node.factors, node.slots, strict=True)) if p != place]
        return LocalJacobian(node.coefficient, others, node.output, node.slots[place], dict(enumerate(node.sizes)))
    if isinstance(node, Sum):
        labels = plain(node)
        return LocalJacobian(1, [], labels, labels, dict(enumerate(node.shape)))
    if isinstance(node, Elementwise):
        slope = node.record.derivative(node, *node.children)[place]
        if slope is None or is_zero(slope):
            return None
        labels = plain(node)
        return LocalJacobian(1, [Operand(slope, labels)], labels, labels, dict(enumerate(node.shape)))
    if isinstance(node, Primitive) and node.record.jacobian is not None:
        jacobian = node.record.jacobian(node, place)
        labels = plain(jacobian)
        return LocalJacobian(
            1, [Operand(jacobian, labels)], labels[: node.ndim], labels[node.ndim :], dict(enumerate(jacobian.shape))
        )
    raise UnsupportedError(f"There is no rule for the derivative of a {type(node).__name__} node.")


def _offset(groups: Groups, by: int) -> Groups:
    return tuple(tuple(label + by for label in group) for group in groups)


def _chain(
    local: LocalJacobian, tensor: Expr, extra: Shape, forward: bool, shared: frozenset[Expr] = frozenset()
) -> Expr:
    """Join a local Jacobian with an adjoint (axes: extra, then the node's) or a differential (the child's, extra)."""
    here = len(extra)
    free = singles(range(here))
    sizes: dict[Label, AnySize] = dict(enumerate(extra))
    sizes.update({label + here: size for label, size in local.sizes.items()})
    out, into = _offset(local.out, here), _offset(local.into, here)
    operands = [Operand(node, _offset(slots, here)) for node, slots in local.operands]
    slots, output = ((*into, *free), (*out, *free)) if forward else ((*free, *out), (*free, *into))
    return contract(local.coefficient, [*operands, Operand(tensor, slots)], output, sizes, shared)


def pull_back(root: Expr, seed: Expr, extra: Shape, variables: Sequence[Symbol]) -> list[Expr]:
    """The reverse sweep: from an adjoint of `root` (axes: extra, then root's) to the adjoints of the variables."""
    wanted = frozenset(variables)
    order = topological([root], lambda node: not wanted.isdisjoint(node.symbols))
    adjoints: dict[Expr, list[Expr]] = {root: [seed]}
    results: dict[Expr, Expr] = {}
    for node in reversed(order):
        adjoint = add_terms(adjoints.pop(node, []), (*extra, *node.shape))
        if node in wanted:
            results[node] = adjoint
            continue
        if is_zero(adjoint):
            continue
        active = [place for place, child in enumerate(node.children) if not wanted.isdisjoint(child.symbols)]
        # An adjoint that is summed and used several times is computed once, not joined into each use.
        several = (
            len(active) > 1 and isinstance(adjoint, Contraction) and len(adjoint.sizes) > len(set(flat(adjoint.output)))
        )
        shared = frozenset([adjoint]) if several else frozenset()
        for place in active:
            if isinstance(node, Primitive) and node.record.pull is not None:
                adjoints.setdefault(node.children[place], []).append(node.record.pull(node, place, adjoint))
                continue
            local = local_jacobian(node, place)
            if local is not None:
                adjoints.setdefault(node.children[place], []).append(_chain(local, adjoint, extra, False, shared))
    return [results.get(variable, zero((*extra, *variable.shape))) for variable in variables]


def push_forward(root: Expr, directions: dict[Expr, Expr]) -> Expr:
    """The forward sweep: from a differential for each variable to the differential of `root`, of its shape."""
    wanted = frozenset(directions)
    tangents: dict[Expr, Expr] = {}
    for node in topological([root], lambda node: not wanted.isdisjoint(node.symbols)):
        if node in wanted:
            tangents[node] = directions[node]
            continue
        terms = []
        for place, child in enumerate(node.children):
            if child in tangents and not is_zero(tangents[child]):
                if isinstance(node, Primitive) and node.record.push is not None:
                    terms.append(node.record.push(node, place, tangents[child]))
                    continue
                local = local_jacobian(node, place)
                if local is not None:
                    terms.append(_chain(local, tangents[child], (), True))
        tangents[node] = add_terms(terms, node.shape)
    return tangents.get(root, zero(root.shape))


# --- what users call ----------------------------------------------------------------------------------------------


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


def _jacobians(node: Expr, variables: Sequence[Symbol]) -> list[Expr]:
    labels = singles(range(node.ndim))
    seed = contract(1, [], (*labels, *labels), dict(enumerate(node.shape)))
    return pull_back(node, seed, node.shape, variables)


def grad(f: object, x: Variables) -> Any:
    """The gradient of a scalar: g[i] = ∂f/∂x[i], of the shape of x; a tuple for a tuple of symbols.

    Raises `ShapeError` unless f is a scalar. Rule: the reverse sweep over the local Jacobians.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> print(td.grad(x @ A @ x, x))
    A[i,j]*x[j] + A[j,i]*x[j] -> [i]
    """
    variables, several = _variables(x, "The gradient")
    found = _jacobians(_scalar(f, "The gradient", "td.jacobian(F, x)"), variables)
    return tuple(found) if several else found[0]


def jacobian(F: object, x: Variables) -> Any:
    """The Jacobian J[i..,k..] = ∂F[i..]/∂x[k..], of shape F.shape + x.shape; a tuple for a tuple of symbols.

    Raises `UnsupportedError` unless x is a symbol or a tuple of them. Rule: the reverse sweep from the identity, which
    is labels only.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> print(td.jacobian(A * td.outer(x, x), x))
    A[i,j]*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]
    """
    variables, several = _variables(x, "The Jacobian")
    found = _jacobians(as_expr(F), variables)
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
    return node


def hessian(f: object, x: Variables, y: Variables | None = None) -> Any:
    """The Hessian H[i..,j..] = ∂²f/∂x[i..]∂y[j..] of a scalar (y = x when not given), of shape x.shape + y.shape.

    For tuples of symbols a tuple of tuples, one row for each symbol of x. Raises `ShapeError` unless f is a scalar.

    >>> import tensordsl as td
    >>> x, A = td.vector("x", 3), td.matrix("A", 3, 3)
    >>> td.hessian(x @ A @ x, x) == A + A.T
    True
    """
    rows, many_rows = _variables(x, "The Hessian")
    columns, many_columns = (rows, many_rows) if y is None else _variables(y, "The Hessian")
    gradients = _jacobians(_scalar(f, "The Hessian", "td.derivative(F, x, order=2)"), rows)
    blocks = [tuple(_jacobians(g, columns)) for g in gradients]
    entries = [block if many_columns else block[0] for block in blocks]
    return tuple(entries) if many_rows else entries[0]


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
    return push_forward(as_expr(F), {s: _direction(d, s, "A jvp") for s, d in zip(variables, given, strict=True)})


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
    found = pull_back(node, _direction(w, node, "A vjp"), (), variables)
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
    found = [push_forward(g, directions) for g in gradients]
    return tuple(found) if several else found[0]


def differential(F: object, x: Variables | None = None) -> Expr:
    """The differential dF[i..] = ∂F[i..]/∂x[k..] * dx[k..] + ..., of F.shape: by all symbols of F, or by those in x.

    Its symbols dx, dA, ... are those of F with a d before them. Raises `TensorDSLError` where F has such a symbol
    already. Rule: the forward sweep.

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
        directions[variable] = Symbol("d" + variable.name, variable.shape)
    return push_forward(node, directions)


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
    if layout not in ("numerator", "denominator"):
        raise UnsupportedError(
            f"The layout {layout!r} is unknown: 'numerator' has a row for each entry of F, "
            "'denominator' is its transpose."
        )
    symbols, several = _variables(x, "A Jacobian matrix")
    if several:
        raise UnsupportedError("A Jacobian matrix is with respect to one symbol; build one for each.")
    node = as_expr(F)
    found = _jacobians(node, symbols)[0]
    rows, columns = tuple(reversed(range(node.ndim))), tuple(reversed(range(node.ndim, found.ndim)))
    matrix = contract(1, [(found, plain(found))], (rows, columns), dict(enumerate(found.shape)))
    return matrix if layout == "numerator" else transpose(matrix)
