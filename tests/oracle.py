"""Formulas and their derivatives by JAX in float64, which shares no code with tensordsl.

A formula is a text of NumPy's names, evaluated over `jax.numpy`. All its symbols are laid into one vector, so that
one derivative of each order holds those by every symbol, the mixed ones too.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensordsl as td

DIMS = {"k": 2, "m": 3}  # symbolic sizes, and the numbers behind them; beside them the plain sizes 4 and 5
MOST_THIRD = 7  # third derivatives are compared where there are no more variables than this

# Name: the sizes, and what the data are. Sizes beside each other differ, so that a transposed answer is a wrong one.
SYMBOLS: dict[str, tuple[tuple[str, ...], str]] = {
    "a": ((), "any"), "b": ((), "any"),
    "x": (("m",), "any"), "u": (("m",), "any"), "y": (("k",), "any"), "z": (("4",), "any"),
    "p": (("m",), "positive"), "q": (("m",), "positive"), "t": (("m",), "inside"),
    "A": (("k", "m"), "any"), "B": (("k", "m"), "any"), "C": (("m", "4"), "any"), "D": (("4", "k"), "any"),
    "E": (("k", "k"), "any"), "G": (("m", "m"), "any"), "L": (("m", "k"), "any"), "O": (("m", "1"), "any"),
    "J": (("k", "m"), "positive"),
    "R": (("k", "k"), "regular"), "S": (("m", "m"), "regular"), "P": (("m", "m"), "definite"),
    "Q": (("k", "k"), "definite"),
    "T": (("k", "m", "4"), "any"), "U": (("4", "k", "m"), "any"), "V": (("k", "m", "1"), "any"),
    "M": (("4", "k", "k"), "regular"), "N": (("4", "k", "k"), "definite"), "F": (("k", "m", "k"), "any"),
    "W": (("2", "3"), "any"), "H": (("4", "3", "2"), "any"),
}  # fmt: skip

FLAGS = {"positive": "positive", "definite": "positive_definite"}  # what may be declared of data of a kind


class Truth(NamedTuple):
    """A formula and its derivatives at the data, by all its symbols laid into one vector."""

    value: np.ndarray
    jacobian: np.ndarray  # F.shape + (n,)
    hessian: np.ndarray  # of the sum of weights * F: (n, n)
    third: np.ndarray | None  # the same once more, (n, n, n), for few variables


def the_jax() -> Any:
    """JAX in float64; the test is skipped where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        jax = pytest.importorskip("jax")
        pytest.importorskip("jax.scipy.linalg")
    jax.config.update("jax_enable_x64", True)
    return jax


def names_in(text: str) -> list[str]:
    """The symbols of a text, in the order of the table; names after a dot, before `=` and in strings are none."""
    words = set(re.findall(r"(?<![.\w])[A-Za-z]\w*(?![\w]|=(?!=))", re.sub(r"(['\"]).*?\1", "", text)))
    return [name for name in SYMBOLS if name in words]


def numbers(shape: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(DIMS.get(size) or int(size) for size in shape)


def sample(kind: str, shape: tuple[int, ...], rng: Any) -> np.ndarray:
    """Data of a kind, away from where its functions have a kink or end."""
    values = np.asarray(rng.uniform(0.3, 1.3, shape) * rng.choice([-1.0, 1.0], shape))
    values.reshape(-1)[:2] = [0.7, -0.4][: values.size]  # both signs, whatever is drawn
    if kind == "positive":
        return np.asarray(rng.uniform(0.5, 2.0, shape))
    if kind == "inside":
        return np.asarray(rng.uniform(-0.9, 0.9, shape))
    if kind == "regular":
        return values + 3 * np.eye(shape[-1])
    if kind == "definite":  # with eigenvalues that differ
        return values @ np.swapaxes(values, -1, -2) + np.diag(np.arange(1.0, 1 + shape[-1]))
    return values


def the_data(names: list[str], seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: sample(SYMBOLS[name][1], numbers(SYMBOLS[name][0]), rng) for name in names}


def the_symbols(names: list[str], declared: bool = False) -> dict[str, Any]:
    """The symbols; `declared` says of each what its data are."""
    sizes, found = {name: td.dim(name) for name in DIMS}, {}
    for name in names:
        shape, kind = [eval(size, {}, sizes) for size in SYMBOLS[name][0]], SYMBOLS[name][1]
        known = FLAGS.get(kind) if len(shape) < 3 else None
        found[name] = td.tensor(name, *shape, **({known: True} if known and declared else {}))
    return found


def expression(text: str, names: list[str], declared: bool = False) -> Any:
    """The expression of a text in tensordsl."""
    sizes = {name: td.dim(name) for name in DIMS}
    indices = dict(zip(["i_", "j_", "l_"], td.indices("i j l"), strict=True))
    return eval(text, {"td": td, "np": np, **sizes, **indices, **the_symbols(names, declared)})


known_truths: dict[str, Truth] = {}


def truth(text: str, names: list[str], data: dict[str, np.ndarray], weights: Callable[..., np.ndarray]) -> Truth:
    """The formula by JAX, once for a text; `weights` gives those of the sum, for a shape."""
    jax = the_jax()
    if text in known_truths:
        return known_truths[text]
    shapes = [data[name].shape for name in names]
    ends = np.cumsum([data[name].size for name in names])
    flat = np.concatenate([data[name].reshape(-1) for name in names])
    space = {"np": jax.numpy, **helpers(jax), **DIMS}
    code = compile(text, text, "eval")

    def value(vector: Any) -> Any:
        parts = [
            vector[end - int(np.prod(shape)) : end].reshape(shape) for shape, end in zip(shapes, ends, strict=True)
        ]
        return jax.numpy.asarray(eval(code, {**space, **dict(zip(names, parts, strict=True))}), float)

    w = weights(jax.eval_shape(value, flat).shape)

    # Each order hands on what it was made from: traced once, it is compiled once.
    def gradient(vector: Any) -> tuple[Any, Any]:
        found, pull_back = jax.vjp(value, vector)
        return pull_back(w)[0], found

    def hessian(vector: Any) -> tuple[Any, tuple[Any, Any]]:
        second, found = jax.jacfwd(gradient, has_aux=True)(vector)
        return second, (found, second)

    def every(vector: Any) -> tuple[Any, ...]:
        if flat.size <= MOST_THIRD:
            third, (found, second) = jax.jacfwd(hessian, has_aux=True)(vector)
        else:
            third, (second, (found, _)) = None, hessian(vector)
        return found, jax.jacfwd(value)(vector), second, third

    parts = compiled(jax, every, flat)
    known_truths[text] = Truth(*(None if part is None else np.asarray(part) for part in parts))
    return known_truths[text]


def compiled(jax: Any, function: Callable[..., Any], *arguments: Any) -> Any:
    """A function that runs once, by JAX: what compiles fastest is fastest, and one by one its steps take longer."""
    fastest = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(fastest)(*arguments)


def helpers(jax: Any) -> dict[str, Callable[..., Any]]:
    """What `jax.numpy` has no one word for, written out."""
    np_, special = jax.numpy, jax.scipy.special

    def vec(a: Any) -> Any:
        return np_.transpose(a).reshape(-1)

    def unvec(v: Any, shape: tuple[int, ...]) -> Any:
        return np_.transpose(v.reshape(shape[::-1]))

    def khatri_rao(a: Any, b: Any) -> Any:
        return np_.stack([np_.kron(a[:, j], b[:, j]) for j in range(a.shape[1])], axis=1)

    def commutation(rows: int, columns: int) -> Any:
        units = np.eye(rows * columns).reshape(rows * columns, columns, rows)  # of vec: each matrix transposed
        return np.stack([unit.T.reshape(-1) for unit in units], axis=1)

    def places(size: int) -> list[tuple[int, int]]:
        return [(i, j) for j in range(size) for i in range(j, size)]

    def elimination(size: int) -> Any:
        return np.stack([np.eye(size * size)[j * size + i] for i, j in places(size)])

    def duplication(size: int) -> Any:
        found = np.zeros((size * size, size * (size + 1) // 2))
        for column, (i, j) in enumerate(places(size)):
            found[[j * size + i, i * size + j], column] = 1
        return found

    def vech_rows(size: int) -> Any:
        return np.stack([np.eye(size)[i] for i, _ in places(size)])

    def vech_columns(size: int) -> Any:
        return np.stack([np.eye(size)[j] for _, j in places(size)])

    def vech(a: Any) -> Any:
        return np_.stack([a[i, j] for i, j in places(a.shape[0])])

    def block_diag(*blocks: Any) -> Any:
        return jax.scipy.linalg.block_diag(*blocks)

    def prod_others(a: Any) -> Any:
        n = a.shape[-1]
        return np_.stack([np_.prod(a[..., np.arange(n) != i], axis=-1) for i in range(n)], axis=-1)

    def logdet(a: Any) -> Any:
        return np_.linalg.slogdet(a)[1]

    def adjugate(a: Any) -> Any:
        """The cofactors, each the determinant of a minor."""
        n = a.shape[-1]

        def minor(i: int, j: int) -> Any:
            return a[..., np.arange(n) != i, :][..., np.arange(n) != j]

        rows = [[(-1) ** (i + j) * np_.linalg.det(minor(j, i)) for j in range(n)] for i in range(n)]
        return np_.stack([np_.stack(row, -1) for row in rows], -2)

    def expm(a: Any) -> Any:
        """The series at A/16, squared four times; JAX's own is a choice of five quotients, slow to compile."""
        a, one = a / 16, np_.broadcast_to(np_.eye(a.shape[-1]), a.shape)
        total = jax.lax.fori_loop(0, 18, lambda n, total: one + a @ total / (18 - n), one)
        return jax.lax.fori_loop(0, 4, lambda _, total: total @ total, total)

    def sqrtm(a: Any) -> Any:
        """Denman and Beavers' iteration; JAX has a root, but no derivative of it."""

        def step(_: int, pair: Any) -> Any:
            return (pair[0] + np_.linalg.inv(pair[1])) / 2, (pair[1] + np_.linalg.inv(pair[0])) / 2

        return jax.lax.fori_loop(0, 12, step, (a, np_.broadcast_to(np_.eye(a.shape[-1]), a.shape)))[0]

    def solve_sylvester(a: Any, b: Any, c: Any) -> Any:
        """A X + X B = C, as one linear system: (A ⊗ I + I ⊗ Bᵀ) x = c, row by row."""
        m, n = c.shape[-2:]
        whole = np_.einsum("...ij,kl->...ikjl", a, np.eye(n)) + np_.einsum("ij,...kl->...iljk", np.eye(m), b)
        whole = whole.reshape(*whole.shape[:-4], m * n, m * n)
        return np_.linalg.solve(whole, c.reshape(*c.shape[:-2], m * n, 1)).reshape(c.shape)

    def polar(a: Any) -> Any:
        """A (AᵀA)^(-1/2), of a matrix that has no more columns than rows."""
        values, vectors = np_.linalg.eigh(np_.swapaxes(a, -1, -2) @ a)
        return a @ (vectors / np_.sqrt(values)[..., None, :]) @ np_.swapaxes(vectors, -1, -2)

    def hadamard(a: Any, b: Any) -> Any:
        return a * b

    def frobenius(a: Any, b: Any) -> Any:
        return np_.trace(a.T @ b)

    own = (
        vec, unvec, khatri_rao, commutation, elimination, duplication, vech, vech_rows, vech_columns, block_diag,
        prod_others, logdet, adjugate, expm,
        sqrtm, solve_sylvester, polar, hadamard, frobenius,
    )  # fmt: skip
    theirs = {
        "erf": special.erf, "lgamma": special.gammaln, "digamma": special.digamma, "polygamma": special.polygamma,
        "logsumexp": special.logsumexp, "softmax": jax.nn.softmax, "sigmoid": jax.nn.sigmoid,
        "softplus": jax.nn.softplus, "relu": jax.nn.relu,
    }  # fmt: skip
    return {**{f.__name__: f for f in own}, **theirs}
