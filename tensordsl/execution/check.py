"""`check_derivative`: a derivative beside a numerical one that knows nothing of its rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from typing import Any

import numpy as np

from tensordsl.calculus import jacobian
from tensordsl.dims import Dim, whole
from tensordsl.dims import evaluate as size_value
from tensordsl.errors import DerivativeError, UnsupportedError
from tensordsl.execution.compiled import compile as compile_function
from tensordsl.expr import Expr, Symbol, brief
from tensordsl.functions.convert import as_expr

Array = np.ndarray[Any, Any]
STEP = 6e-6  # about the cube root of the rounding error, which balances it against the error of the difference


def check_derivative(
    F: object,
    x: Symbol,
    data: Mapping[Any, Any] | None = None,
    *,
    rtol: float = 1e-5,
    seed: int = 0,
    derivative: Expr | None = None,
) -> float:
    """Compare ∂F/∂x with central differences, and give the largest difference found, relative to the largest entry.

    The numerical derivative is (F(x + h e_k) - F(x - h e_k)) / 2h, which no rule of this library enters. Where x was
    declared symmetric, diagonal, triangular or orthogonal, it is moved among such matrices: by e_kl + e_lk, or along
    x exp(h (e_kl - e_lk)).
    Without `data`, every symbol gets random entries between 0.5 and 1.5 (square matrices with a heavier diagonal, so
    that they are invertible), with the properties that were declared, and every dimension a size of its own.
    `derivative` is the one checked, if not ours.

    Raises `DerivativeError` where the two differ by more than `rtol`, `UnsupportedError` unless x is a symbol of F.

    >>> import tensordsl as td
    >>> x = td.vector("x", 3)
    >>> td.check_derivative(td.sum(x**3), x) < 1e-8
    True
    """
    node = as_expr(F)
    derivative = None if derivative is None else as_expr(derivative)
    if data is not None and not isinstance(data, Mapping):
        raise UnsupportedError(f"The data of a check are a mapping, {{x: ...}}, not a {type(data).__name__}.")
    if not isinstance(rtol, int | float):
        raise UnsupportedError(f"A check with rtol={rtol!r}: expected the relative gap that is allowed, a number.")
    if whole(seed) is None or seed < 0:
        raise UnsupportedError(f"A check with seed={seed!r}: expected a whole number that is not negative.")
    if not isinstance(x, Symbol):
        raise UnsupportedError(f"A derivative is checked with respect to a symbol, not {x!r}.")
    ours = jacobian(node, x) if derivative is None else derivative
    values, sizes = sample([node, ours], x, seed) if data is None else (_by_symbol(node, x, data), {})
    if any(np.iscomplexobj(value) for value in values.values()):
        raise UnsupportedError("A derivative is checked in real variables; the data are complex. Give real data.")
    f = compile_function(node)
    point = np.array(values[x], dtype=np.result_type(np.asarray(values[x]), np.float64))
    others: dict[Any, Any] = {s: v for s, v in values.items() if s != x}
    found = np.asarray(compile_function(ours)({**others, x: point}, **sizes))
    if np.iscomplexobj(found) or np.iscomplexobj(f({**others, x: point}, **sizes)):
        raise UnsupportedError(f"{brief(node)} has complex values; a derivative is checked for real ones only.")
    wanted = (*np.shape(f({**others, x: point}, **sizes)), *point.shape)
    if found.shape != wanted:
        raise DerivativeError(
            f"The derivative of {brief(node)} by {x.name} has the shape {found.shape}; expected {wanted}."
        )
    by_rule, numerical = np.zeros(wanted), np.zeros(wanted)
    for place, tangent, moved in directions(x, point):
        step = STEP * max(1.0, float(abs(point[place])))
        ends = [np.asarray(f({**others, x: moved(sign * step)}, **sizes), dtype=float) for sign in (1, -1)]
        entry: Any = (..., *place)
        numerical[entry] = (ends[0] - ends[1]) / (2 * step)
        by_rule[entry] = found[entry] if tangent is None else np.tensordot(found, tangent, point.ndim)
    found = by_rule
    scale = max(1.0, float(np.max(np.abs(numerical), initial=0.0)))
    gap = np.abs(found - numerical)
    worst = float(np.max(gap, initial=0.0)) / scale
    if not worst <= rtol:
        at = np.unravel_index(int(np.argmax(np.nan_to_num(gap, nan=np.inf))), gap.shape)
        raise DerivativeError(
            f"The derivative of {brief(node)} by {x.name} differs from a central difference: at the entry "
            f"{tuple(int(i) for i in at)} it is {found[at]!s}, the difference {numerical[at]!s}, a relative gap of "
            f"{worst:.2g} where {rtol:.2g} is allowed. Near a kink or a pole no numerical derivative holds: give data "
            "away from it, as check_derivative(F, x, {x: ...})."
        )
    return worst


def _by_symbol(node: Expr, x: Symbol, data: Mapping[Any, Any]) -> dict[Symbol, Any]:
    by_name = {key.name if isinstance(key, Symbol) else key: value for key, value in data.items()}
    symbols = node.symbols | {x}
    missing = sorted(s.name for s in symbols if s.name not in by_name)
    if missing:
        raise UnsupportedError(
            f"There is no data for {', '.join(missing)}, which the check needs. Give an array for "
            "each symbol, or none at all."
        )
    return {s: np.asarray(by_name[s.name]) for s in symbols}


def sample(nodes: list[Expr], x: Symbol, seed: int) -> tuple[dict[Symbol, Any], dict[str, int]]:
    """Random data for the symbols, each dimension with a size of its own so that a transposed answer shows."""
    rng = np.random.default_rng(seed)
    symbols = sorted({s for node in [*nodes, x] for s in node.symbols}, key=lambda s: s.name)
    # Tall rather than wide, so that XᵀX has an inverse: m by n, m > n.
    height = {d.name: 0 for node in [*nodes, x] for d in node.dims}
    for symbol in symbols:
        for size, way in ((symbol.shape[0], 1), (symbol.shape[1], -1)) if symbol.ndim == 2 else ():
            if isinstance(size, Dim):
                height[size.name] += way
    dims = sorted(height, key=lambda name: (-height[name], name))
    sizes = {name: len(dims) + 1 - place for place, name in enumerate(dims)}
    values: dict[Symbol, Any] = {}
    for symbol in symbols:
        shape = tuple(size_value(size, sizes) for size in symbol.shape)
        values[symbol] = declared_array(rng.uniform(0.5, 1.5, shape), symbol.properties)
    return values, sizes


def declared_array(array: Array, properties: Set[str]) -> Array:
    """Positive data made into what was declared; square matrices are invertible."""
    if array.ndim < 2 or array.shape[-1] != array.shape[-2]:
        return array
    one = np.eye(array.shape[-1])
    array = array + 2 * one
    if "orthogonal" in properties:
        return np.asarray(np.linalg.qr(array)[0])
    if "positive_definite" in properties:
        return np.asarray(array @ array.T)
    if "symmetric" in properties:
        array = (array + array.T) / 2
    if "lower" in properties:
        array = np.tril(array)
    return np.triu(array) if "upper" in properties else array


def directions(x: Symbol, point: Array) -> Iterator[tuple[tuple[int, ...], Array | None, Callable[[float], Array]]]:
    """The ways in which x may move: the entry that stands for each, its tangent (None: that entry alone), its curve."""
    properties = x.properties
    for place in np.ndindex(point.shape):
        row, column = place[-2:] if len(place) > 1 else (0, 0)
        mirrored = (*place[:-2], column, row)
        if (row < column and "lower" in properties) or (row > column and "upper" in properties):
            continue
        unit = np.zeros(point.shape)
        unit[place] = 1
        if "orthogonal" in properties:
            if row < column:
                spin = unit - unit.T
                yield place, point @ spin, partial(turned, point, spin)
        elif "symmetric" in properties and row != column:
            if row < column:
                unit[mirrored] = 1
                yield place, unit, partial(shifted, point, unit)
        else:
            yield place, None, partial(shifted, point, unit)


def shifted(point: Array, tangent: Array, step: float) -> Array:
    return point + step * tangent


def turned(point: Array, spin: Array, step: float) -> Array:
    """Cayley's rotation, which agrees with exp(h Ω) to the order h²."""
    one = np.eye(len(spin))
    return np.asarray(point @ np.linalg.solve(one - step / 2 * spin, one + step / 2 * spin))
