# ruff: noqa: PLW0108 - a lambda shows what is traced
"""NumPy's functions that are made of others: each on symbols against NumPy on arrays, with its derivative."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tensordsl as td
from tensordsl.expr import array_functions
from tensordsl.functions.numpy_names import means

rng = np.random.default_rng(11)
SIZES = {"k": 3, "m": 4}
k, m = td.dims("k m")
SHAPES: dict[str, tuple[Any, ...]] = {
    "x": (k,), "y": (k,), "z": (m,), "A": (k, k), "B": (k, m), "T": (k, m, m), "a": (), "w": (6,), "C": (4, 6),
}  # fmt: skip
DATA = {name: rng.uniform(0.3, 1.7, [SIZES.get(str(size), size) for size in shape]) for name, shape in SHAPES.items()}


def signed(x: Any) -> Any:
    return x - 1


NAMES: dict[str, Callable[..., Any]] = {
    "amax": lambda B: np.amax(B, axis=0),
    "amin": lambda B: np.amin(B),
    "fabs": lambda x: np.fabs(signed(x)),
    "float_power": lambda x, y: np.float_power(x, y),
    "linalg.matmul": lambda A, B: np.linalg.matmul(A, B),
    "linalg.tensordot": lambda A, B: np.linalg.tensordot(A, B, axes=1),
    "linalg.cross": lambda w: np.linalg.cross(w[:3], w[3:]),
    "linalg.outer": lambda x, z: np.linalg.outer(x, z),
    "ndim": lambda B: B * np.ndim(B),
    "shape": lambda B: B * np.shape(B)[1],
    "size": lambda B: B * np.size(B) + np.size(B, 0),
    "copy": lambda B: np.copy(B),
    "positive": lambda B: np.positive(B),
    "astype": lambda B: np.astype(B, float) if hasattr(np, "astype") else B,
    "zeros_like": lambda B: B + np.zeros_like(B),
    "empty_like": lambda B: B + 0 * np.empty_like(B),
    "ones_like": lambda B: B + np.ones_like(B),
    "full_like": lambda B: B * np.full_like(B, 3.0),
    "log2": lambda x: np.log2(x),
    "log10": lambda x: np.log10(x),
    "exp2": lambda x: np.exp2(x),
    "logaddexp": lambda x, B: np.logaddexp(x[:, None], B),
    "logaddexp2": lambda x, y: np.logaddexp2(x, y),
    "hypot": lambda x, y: np.hypot(x, y),
    "cbrt": lambda x: np.cbrt(x - 2),
    "deg2rad": lambda x: np.deg2rad(x),
    "radians": lambda x: np.radians(x),
    "rad2deg": lambda x: np.rad2deg(x),
    "degrees": lambda x: np.degrees(x),
    "logical_xor": lambda x, y: x * np.logical_xor(x > 1, y > 1),
    "logical_and": lambda x, y: x * np.logical_and(x > 1, y > 1),
    "logical_or": lambda x, y: x * np.logical_or(x > 1, y),
    "logical_not": lambda x: x * np.logical_not(x > 1),
    "bitwise_and": lambda x, y: np.where((x > 1) & (y > 1), x, y * y),
    "bitwise_or": lambda x, y: np.where((x > 1) | (y[::-1] > 1), x, y * y),
    "bitwise_or of a mask": lambda w: w * ((w > 1) | np.array([True, False] * 3)),
    "invert": lambda x: np.where(~(x > 1), x, x * x),
    "select": lambda x: np.select([x > 1.2, x > 0.8], [x, x * x], 3.0),
    "polyval": lambda w, x: np.polyval(w, x),
    "polyval of a list": lambda x: np.polyval([2.0, 0.0, 1.0], x),
    "any": lambda B: B[:, 0] * np.any(B > 1.5, axis=1),
    "all": lambda B: B[0] * np.all(B > 0.4, axis=0),
    "count_nonzero": lambda B: B[:, 0] * np.count_nonzero(B > 1, axis=1),
    "ptp": lambda B: np.ptp(B, axis=1),
    "average": lambda B: np.average(B),
    "average by weights": lambda B, z: np.average(B, axis=1, weights=z),
    "average by all weights": lambda A: np.average(A, axis=0, weights=A),
    "cumsum": lambda B: np.cumsum(B, axis=0),
    "cumsum of all": lambda B: np.cumsum(B),
    "x.cumsum": lambda T: T.cumsum(axis=1),
    "diff": lambda B: np.diff(B, axis=0),
    "diff twice": lambda B: np.diff(B, 2),
    "trapezoid": lambda B: np.trapezoid(B, dx=0.5),
    "trapezoid at places": lambda B, z: np.trapezoid(B, z, axis=1),
    "cov": lambda B: np.cov(B),
    "cov of columns": lambda B: np.cov(B, rowvar=False, ddof=0),
    "cov of a vector": lambda x: np.cov(x),
    "corrcoef": lambda B: np.corrcoef(B),
    "linalg.vecdot": lambda A, B: np.linalg.vecdot(A, A[:1]),
    "vstack": lambda x, A: np.vstack([x, A]),
    "hstack": lambda x, z: np.hstack([x, z]),
    "hstack of matrices": lambda A, B: np.hstack((A, B)),
    "dstack": lambda A: np.dstack([A, 2 * A]),
    "column_stack": lambda x, A: np.column_stack([x, A, x]),
    "atleast_1d": lambda a: np.atleast_1d(a),
    "atleast_2d": lambda x: np.atleast_2d(x),
    "atleast_3d": lambda B: np.atleast_3d(B),
    "append": lambda B, x: np.append(B, x),
    "append a row": lambda A, x: np.append(A, x[None], axis=0),
    "broadcast_arrays": lambda x, A: sum(np.broadcast_arrays(x, A)),
    "meshgrid": lambda x, z: np.multiply(*np.meshgrid(x, z)),
    "meshgrid ij": lambda x, z: np.multiply(*np.meshgrid(x, z, indexing="ij")),
    "split": lambda w: np.split(w, 3)[1],
    "split at places": lambda w: np.split(w, [1, 4])[1],
    "array_split": lambda w: np.array_split(w, [2])[0],
    "vsplit": lambda C: np.vsplit(C, 2)[1],
    "hsplit": lambda C: np.hsplit(C, 3)[2],
    "dsplit": lambda C: np.dsplit(C[None], 2)[1],
    "flip": lambda B: np.flip(B),
    "flip an axis": lambda B: np.flip(B, 1),
    "flipud": lambda B: np.flipud(B),
    "fliplr": lambda B: np.fliplr(B),
    "rot90": lambda B: np.rot90(B),
    "rot90 back": lambda B: np.rot90(B, -1),
    "rot90 twice": lambda B: np.rot90(B, 2),
    "roll": lambda B: np.roll(B, 1, axis=1),
    "roll back": lambda w: np.roll(w, -8),
    "roll of all": lambda C: np.roll(C, 7),
    "roll of two": lambda B: np.roll(B, (1, 2), axis=(0, 1)),
    "take": lambda w: np.take(w, [0, -1, 0]),
    "take of an axis": lambda C: np.take(C, [[0, 1], [3, 5]], axis=1),
    "x.take": lambda w: w.take([1, 2]),
    "delete": lambda w: np.delete(w, [1, 2]),
    "delete a column": lambda C: np.delete(C, 1, axis=1),
    "repeat": lambda B: np.repeat(B, 2, axis=1),
    "repeat of all": lambda B: np.repeat(B, 2),
    "x.repeat": lambda x: x.repeat(3),
    "tile": lambda B: np.tile(B, (2, 1)),
    "tile of more": lambda x: np.tile(x, (2, 2)),
    "linspace": lambda a, x: np.linspace(a, x, 5),
    "diagflat": lambda x: np.diagflat(x, 1),
    "diag above": lambda x: np.diag(x, 2),
    "diag below": lambda C: np.diag(C[:, :4], -1),
    "diagonal of axes": lambda T: np.diagonal(T, 1, 1, 2),
    "trace of axes": lambda T: np.trace(T, -1, axis1=2, axis2=1),
    "x.trace": lambda A: A.trace(offset=1),
    "x.diagonal": lambda A: A.diagonal(-1),
    "matrix_transpose": lambda T: np.linalg.matrix_transpose(T),
    "linalg.trace": lambda T: np.linalg.trace(T),
    "linalg.diagonal": lambda T: np.linalg.diagonal(T, offset=1),
    "linalg.multi_dot": lambda A, B: np.linalg.multi_dot([A, A, B]),
    "linalg.vector_norm": lambda B: np.linalg.vector_norm(B),
    "linalg.vector_norm of axes": lambda T: np.linalg.vector_norm(T, axis=(0, 2), keepdims=True, ord=3),
    "linalg.matrix_norm": lambda T: np.linalg.matrix_norm(T, ord=1),
    "x.size": lambda B: B / B.size,
    "x.copy": lambda B: B.copy(),
    "x.astype": lambda B: B.astype(np.float64),
    "x.clip": lambda x: x.clip(0.5, 1.0) + x.clip(max=0.8),
    "x.flatten": lambda B: B.flatten(),
    "x.squeeze": lambda B: B[None].squeeze(),
    "x.swapaxes": lambda T: T.swapaxes(0, 2),
    "x.std": lambda B: B.std(axis=0),
    "x.prod": lambda B: B.prod(axis=0),
    "a list of tensors": lambda x, y: np.sum(np.stack([x, y]) * [[1.0], [2.0]]),
    "a list of entries": lambda w: [w[0], w[1]] * w[2:4],
    "matvec": lambda A, x: np.matvec(A, x) if hasattr(np, "matvec") else A @ x,
    "vecmat": lambda A, x: np.vecmat(x, A) if hasattr(np, "vecmat") else x @ A,
    "vecdot": lambda A, x: np.vecdot(A, x) if hasattr(np, "vecdot") else A @ x,
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_of_numpy(name: str) -> None:
    f = NAMES[name]
    names = list(inspect.signature(f).parameters)
    data = {n: DATA[n] for n in names}
    e = td.trace_function(f, **{n: SHAPES[n] for n in names})
    wanted = np.asarray(f(**data))
    found = np.asarray(e.evaluate({s.name: data[s.name] for s in e.symbols}, **SIZES))
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-12, atol=1e-13)
    for s in e.symbols:
        if all(isinstance(size, int) or size.names <= {d.name for v in e.symbols for d in v.dims} for size in e.shape):
            assert td.check_derivative(e, s, {t.name: data[t.name] for t in e.symbols}) < 1e-6


def test_stacks_and_parts_of_symbolic_size() -> None:
    x, B = td.vector("x", k), td.matrix("B", k, m)
    assert np.vstack([x, x]).shape == (2, k)  # type: ignore[comparison-overlap]
    assert np.roll(np.roll(x, 2), -2).evaluate(x=np.arange(4.0)).tolist() == [0, 1, 2, 3]
    assert np.split(td.vector("v", 2 * k), 2)[1].shape == (k,)
    assert np.repeat(B, 3, axis=0).shape == (3 * k, m)  # type: ignore[comparison-overlap]
    assert np.flip(np.flip(B)) == B
    assert np.tile(x, 2).shape == (2 * k,)  # type: ignore[comparison-overlap]
    assert np.ndim(B) == 2
    assert np.shape(B) == (k, m)
    assert B.size == np.size(B) == k * m
    assert td.jacobian(np.cumsum(x), x) == td.tril(td.ones(k, k))


WORDS: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "astype": (lambda: X.astype(int), td.UnsupportedError, "entries are real numbers"),
    "astype of nothing": (lambda: X.astype("no type"), td.UnsupportedError, "entries are real numbers"),
    "where of one": (lambda: np.where(X > 0), td.UnsupportedError, "a condition and two branches"),
    "where of two": (lambda: td.where(X > 0, X), td.UnsupportedError, "a condition and two branches"),
    "and of numbers": (lambda: X & X, td.UnsupportedError, "& is of truth values"),
    "or of numbers": (lambda: (X > 0) | 3, td.UnsupportedError, r"\| is of truth values"),
    "not of a count": (lambda: ~td.sum(X > 0), td.UnsupportedError, "~ is of truth values"),
    "not of a multiple": (lambda: ~(2 * (X > 0)), td.UnsupportedError, "~ is of truth values"),
    "not of numbers": (lambda: ~X, td.UnsupportedError, "~ is of truth values"),
    "sort": (lambda: np.sort(X), td.UnsupportedError, "np.sort has no meaning.*td.elementwise or td.primitive"),
    "an array": (lambda: np.asarray(X), td.UnsupportedError, "no array of numbers before it is evaluated"),
    "an array of entries": (lambda: np.array([X[0], X[1]]), td.UnsupportedError, "np.stack"),
    "a mean of a list": (lambda: np.mean([X, X]), td.UnsupportedError, "np.stack"),
    "polyval of symbolic length": (lambda: np.polyval(td.vector("u", k), X), td.UnsupportedError, "as a number"),
    "polyval of a matrix": (lambda: np.polyval(td.ones(2, 2), X), td.ShapeError, "vector of coefficients"),
    "roll": (lambda: np.roll(X, 1.5), td.UnsupportedError, "roll takes a whole number"),
    "roll by several": (lambda: np.roll(X, (1, 2), axis=0), td.ShapeError, "2 shifts for 1 axes"),
    "repeat": (lambda: np.repeat(X, [1, 2, 1]), td.UnsupportedError, "repeat takes a whole number"),
    "split": (lambda: np.split(X, 2), td.ShapeError, "does not split into 2 parts"),
    "split into none": (lambda: np.split(X, 0), td.ShapeError, "does not split into 0 parts"),
    "meshgrid": (lambda: np.meshgrid(X, indexing="ji"), td.UnsupportedError, "'xy' or 'ij'"),
    "select": (lambda: np.select([X > 0], [X, X]), td.ShapeError, "1 conditions for 2 choices"),
    "cov": (lambda: np.cov(td.ones(2, 2, 2)), td.ShapeError, "one matrix of observations"),
    "average": (lambda: np.average(td.ones(2, 3), weights=X), td.ShapeError, "neither the shape"),
    "delete": (lambda: np.delete(X, X), td.UnsupportedError, "no array of numbers"),
    "diagonal": (lambda: td.diag(X, 1.5), td.ShapeError, "whole number, not 1.5"),
    "no attribute": (lambda: X.argmax(), td.UnsupportedError, "no 'argmax', which NumPy's arrays have"),
    "no attribute at all": (lambda: X.entries, td.UnsupportedError, "no attribute 'entries'"),
    "no such option": (lambda: np.sum(X, dtype=int), td.UnsupportedError, r"It takes \(a, axis, keepdims"),
}
X = td.vector("X", 3)


@pytest.mark.parametrize("name", WORDS)
def test_words(name: str) -> None:
    call, kind, words = WORDS[name]
    with pytest.raises(kind, match=words):
        call()


def test_an_attribute_that_is_none_is_none_for_python_as_well() -> None:
    assert not hasattr(X, "argmax")
    assert not hasattr(X, "__array_interface__")
    assert getattr(X, "entries", None) is None


def test_logical_values() -> None:
    i = td.indices("i")
    both = (X > 0) & (X < 1)
    assert str(both) == "logical_and(X[i] > 0, X[i] < 1) -> [i]"
    assert td.parse(str(both), X=X) == both
    assert ((X[i] > 0) & (X[i] < 1)).tensor(i) == both
    assert (~((X[i] > 0) | (X[i] < -1))).tensor(i) == ~((X > 0) | (X < -1))
    assert td.grad(td.sum(td.where(both, X * X, 0)), X).evaluate(X=[-1.0, 0.5, 2.0]).tolist() == [0, 1, 0]
    np.testing.assert_array_equal(both.evaluate(X=[-1.0, 0.5, 2.0]), [False, True, False])
    assert (both[1:] & (X[1:] > 0)).shape == (2,)
    assert (True & (X > 0)) == td.parse("logical_and(1, X > 0)", X=X)


def test_a_name_that_this_numpy_has_not_is_left_out() -> None:
    before = dict(array_functions)
    means("no_function_of_numpy", "linalg.no_function_of_numpy")(lambda: None)
    assert array_functions == before


def test_the_array_api_has_them() -> None:
    xp = X.__array_namespace__()
    assert xp.flip(X) == np.flip(X)
    assert xp.linalg.vector_norm(X) == td.linalg.norm(X)
    assert xp.sum(X) == td.sum(X)
