"""What the planner chooses: the cheaper of equal forms at some sizes, factors found once, and the same each time."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from collections.abc import Callable
from string import ascii_lowercase
from typing import Any

import numpy as np
import pytest

import tensordsl as td
from tensordsl.program import paths, products
from tensordsl.program.build import build
from tensordsl.program.products import LARGE_PRODUCT, LARGE_SYSTEM

i, j, l, r, k, m = td.dims("i j l r k m")
T = td.tensor("T", i, j, l)
U, V, W = td.matrix("U", i, r), td.matrix("V", j, r), td.matrix("W", l, r)
A, B, C = td.matrix("A", k, k), td.matrix("B", m, k), td.matrix("C", k, k)
x, y, w = td.vector("x", k), td.vector("y", k), td.vector("w", m)
P = td.matrix("P", k, k, positive_definite=True)
S = td.matrix("S", k, k, symmetric=True)
CP = td.sum((T - td.einsum("ir,jr,lr->ijl", U, V, W)) ** 2)
RNG = np.random.default_rng(3)


def source_of(e: Any, **sizes: int) -> str:
    return td.plan(e, **sizes).program.source


def data_of(*expressions: Any, dtype: Any = float, **sizes: int) -> dict[str, np.ndarray]:
    found = {}
    for symbol in sorted({s for e in expressions for s in e.symbols}, key=lambda s: s.name):
        shape = tuple(sizes[str(size)] for size in symbol.shape)
        value = RNG.normal(size=shape) + (1j * RNG.normal(size=shape) if dtype is complex else 0)
        if symbol.name == "P":
            value = value @ value.conj().T + np.eye(shape[0])
        found[symbol.name] = value
    return found


# --- equal forms ----------------------------------------------------------------------------------------------------


def test_the_gradient_of_a_decomposition_goes_by_terms_where_that_is_cheaper() -> None:
    """Term by term, (V'V ∘ W'W) is r×r and no array of the size of T is made; of a large rank that costs more."""
    gradient = td.grad(CP, U)
    low, high = {"i": 200, "j": 200, "l": 200, "r": 20}, {"i": 12, "j": 12, "l": 12, "r": 900}
    assert "V.T @ V" in source_of(gradient, **low)
    assert "V.T @ V" not in source_of(gradient, **high)
    assert td.plan(gradient, **low).flops < 2.2 * (2 * 200**3 * 20)  # one product with T
    for sizes in (low, high):
        values = data_of(gradient, **{**sizes, "i": 7, "j": 8, "l": 9})
        found = td.compile(gradient)(values)
        residual = values["T"] - np.einsum("ir,jr,lr->ijl", values["U"], values["V"], values["W"])
        np.testing.assert_allclose(found, -2 * np.einsum("ijl,jr,lr->ir", residual, values["V"], values["W"]))


WHOLE: dict[str, tuple[Any, int]] = {  # and how many products are made
    "a matrix times a sum": (A @ (x + y), 1),
    "a sum times a matrix": ((x - 2 * y) @ A, 1),
    "a matrix times matrices": (A @ (C + A.T * 2), 1),
    "there and back": (A.T @ (A @ x - y), 2),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_product_with_a_sum_stays_whole_where_that_is_cheaper(name: str) -> None:
    e, products = WHOLE[name]
    assert len(re.findall(r"@|np\.matmul", source_of(e, k=500))) == products


def test_small_differences_stay_accurate() -> None:
    """Squares of differences are not multiplied out: the sum of x² − 2xy + y² would have no digit left."""
    squares: dict[str, Any] = {
        "sum of squares": td.sum((x - y) ** 2),
        "inner product": (x - y) @ (x - y),
        "of matrices": td.sum((A - C) * (A - C)),
        "weighed": (x - y) @ P @ (x - y),
        "decomposition": CP,
        "through a product": td.sum((A @ x - A @ y) ** 2),
        "variance": td.var(x),
    }
    n = 300
    big = 1e8
    values = {name: big + RNG.normal(size=s) for name, s in {"x": n, "A": (n, n)}.items()}
    values |= {"y": values["x"] + 1e-3, "C": values["A"] + 1e-3}
    assert squares["sum of squares"].evaluate(values) == pytest.approx(n * 1e-6, rel=1e-4)
    assert squares["inner product"].evaluate(values) == pytest.approx(n * 1e-6, rel=1e-4)
    assert squares["of matrices"].evaluate(values) == pytest.approx(n * n * 1e-6, rel=1e-4)
    assert squares["weighed"].evaluate(values, P=np.eye(n)) == pytest.approx(n * 1e-6, rel=1e-4)
    assert squares["variance"].evaluate(values) == pytest.approx(np.var(values["x"]), rel=1e-6)
    for name in ("decomposition", "through a product"):
        sizes = {"i": 60, "j": 60, "l": 60, "r": 2, "k": 60}
        text = source_of(squares[name], **{d.name: sizes[d.name] for s in squares[name].symbols for d in s.dims})
        assert " - " in text or "np.subtract" in text, name


# --- inverses -------------------------------------------------------------------------------------------------------

SOLVED: dict[str, tuple[Any, dict[str, int]]] = {  # how often each routine is called
    "once": (td.linalg.inv(A) @ x, {"np.linalg.solve": 1}),
    "twice": (td.linalg.inv(A) @ x + td.linalg.inv(A) @ y, {"lu": 1, "lu_solve": 2}),
    "transposed too": (td.linalg.inv(A) @ x * (td.linalg.inv(A).T @ y), {"lu": 1, "lu_solve": 2}),
    "of a matrix": (td.linalg.inv(A) @ C + td.outer(td.linalg.inv(A) @ x, y), {"lu": 1, "lu_solve": 2}),
    "the same twice": ((td.linalg.inv(A) @ x) * td.sin(td.linalg.inv(A) @ x), {"lu": 1, "lu_solve": 1}),
    "declared definite": (td.linalg.inv(P) @ x, {"np.linalg.solve": 1}),
    "declared, twice": (td.linalg.inv(P) @ x * (y @ td.linalg.inv(P) @ y), {"cholesky": 1, "cholesky_solve": 2}),
    "a Gram matrix and I": (td.linalg.inv(B.T @ B + td.identity(k)) @ x, {"np.linalg.solve": 1}),
    "weights above zero": (
        td.linalg.inv(B.T @ td.diag(td.exp(w)) @ B + 0.1 * td.identity(k)) @ x,
        {"np.linalg.solve": 1},
    ),
    "weights of any sign": (td.linalg.inv(B.T @ td.diag(w) @ B + td.identity(k)) @ x, {"np.linalg.solve": 1}),
    "minus I": (td.linalg.inv(B.T @ B - td.identity(k)) @ x, {"np.linalg.solve": 1}),
    "a Gram matrix alone": (td.linalg.inv(B.T @ B) @ x, {"np.linalg.solve": 1}),
    "symmetric alone": (td.linalg.inv(S) @ x, {"np.linalg.solve": 1}),
    "a negative one": (td.linalg.inv(-P) @ x, {"np.linalg.solve": 1}),
    "twice, of any sign": (td.linalg.inv(S + C) @ x + td.linalg.inv(S + C) @ y, {"lu": 1, "lu_solve": 2}),
}
DEFINITE = ("declared definite", "a Gram matrix and I", "weights above zero")  # of those solved once
ROUTINES = ("lu", "lu_solve", "cholesky", "cholesky_solve", "np.linalg.solve", "np.linalg.inv")


def called(text: str) -> dict[str, int]:
    found = {name: len(re.findall(rf"(?<![.\w]){re.escape(name)}\(", text)) for name in ROUTINES}
    return {name: count for name, count in found.items() if count}


@pytest.mark.parametrize("name", SOLVED)
def test_factors_are_found_once_and_by_cholesky_where_known_definite(name: str) -> None:
    e, routines = SOLVED[name]
    found = called(source_of(e, **{d.name: 50 for s in e.symbols for d in s.dims}))
    if name == "a negative one":  # the sign may be taken out
        assert not found.keys() - {"np.linalg.solve", "cholesky", "cholesky_solve"}
    else:
        assert found == routines


@pytest.mark.parametrize("name", DEFINITE)
def test_a_definite_system_that_is_solved_once_is_large_where_cholesky_solves_it(name: str) -> None:
    e, routines = SOLVED[name]
    dims = {d.name for s in e.symbols for d in s.dims}
    for size, wanted in ((LARGE_SYSTEM - 1, routines), (LARGE_SYSTEM, {"cholesky": 1, "cholesky_solve": 1})):
        assert called(source_of(e, **dict.fromkeys(dims, size))) == wanted


def test_a_large_definite_system_is_solved_right() -> None:
    values = data_of(td.linalg.inv(P) @ x, k=LARGE_SYSTEM)
    found = td.compile(td.linalg.inv(P) @ x)(values)
    np.testing.assert_allclose(values["P"] @ found, values["x"], atol=1e-8)


@pytest.mark.parametrize("dtype", [float, complex])
@pytest.mark.parametrize("name", SOLVED)
def test_solutions_are_right(name: str, dtype: Any) -> None:
    """By `to_python`, which knows no factors; of complex data too, for which no Cholesky factor is taken."""
    e, _ = SOLVED[name]
    values = data_of(e, dtype=dtype, k=6, m=9)
    if name == "symmetric alone" or "S" in values:
        values["S"] = values["S"] + values["S"].T
    kept = {key: value.copy() for key, value in values.items()}
    space: dict[str, Any] = {}
    exec(e.to_python(), space)
    wanted = space["f"](**values)
    np.testing.assert_allclose(td.compile(e)(values), wanted, rtol=1e-8)
    if dtype is complex:
        program = build([e], {"k": 6, "m": 9}, dtype="complex128")
        assert "cholesky" not in program.source
    fortran = {key: np.asfortranarray(value) for key, value in values.items()}
    np.testing.assert_allclose(td.compile(e)(fortran), wanted, rtol=1e-8)
    for given in (values, fortran):
        assert all(np.array_equal(given[key], kept[key]) for key in kept)


BAD = [
    (td.linalg.inv(A) @ x, {"A": np.zeros((2, 2))}, r"inverted or solved with is singular .*Singular matrix"),
    (
        td.linalg.inv(A) @ x + td.linalg.inv(A) @ y,
        {"A": np.zeros((2, 2))},
        r"singular .*small multiple of td\.identity",
    ),
    (
        td.linalg.inv(P) @ x * (td.linalg.inv(P) @ y),
        {"P": -np.eye(2)},
        r"whose Cholesky factor is taken is not positive definite",
    ),
    (td.linalg.cholesky(P), {"P": -np.eye(2)}, r"whose Cholesky factor is taken is not positive definite"),
]


@pytest.mark.parametrize("place", range(len(BAD)))
def test_errors_of_lapack_in_words(place: int) -> None:
    e, data, words = BAD[place]
    rest = {s.name: np.ones(2) for s in e.symbols if s.name in ("x", "y")}
    with pytest.raises(td.BindError, match=words):
        td.compile(e)({**rest, **data})


# --- Gram matrices --------------------------------------------------------------------------------------------------

WEIGHTS: dict[str, tuple[Any, bool]] = {
    "any": (w, False),
    "a difference": (w * w - 1, False),
    "products": (w * td.sin(w), False),
    "squares": (w * w, True),
    "exponentials": (td.exp(w), True),
    "sigmoids": (td.sigmoid(w), True),
    "declared": (td.vector("p", m, positive=True), True),
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_roots_are_taken_of_weights_known_not_to_be_negative(name: str) -> None:
    weights, known = WEIGHTS[name]
    e = B.T @ td.diag(weights) @ B
    assert ("sqrt" in source_of(e, k=40, m=60)) == known
    values = {"B": RNG.normal(size=(9, 6)), "w": RNG.normal(size=9), "p": np.abs(RNG.normal(size=9))}
    number = np.asarray(weights.evaluate({s.name: values[s.name] for s in weights.symbols}))
    for b, factor in ((values["B"], 1.0), (values["B"] * 1j, -1.0)):
        given = {s.name: values[s.name] for s in weights.symbols} | {"B": b}
        wanted = factor * values["B"].T @ (number[:, None] * values["B"])
        np.testing.assert_allclose(td.compile(e)(given), wanted, rtol=1e-12, atol=1e-12)


def test_gram_matrices_of_whole_numbers_are_exact() -> None:
    b, weights = np.array([[3037000, 2], [3, 4], [5, 6]]), np.array([3, -2, 1])
    e = B.T @ td.diag(w * w) @ B
    found = e.evaluate(B=b, w=weights)
    assert found.dtype == np.int64
    np.testing.assert_array_equal(found, b.T @ np.diag(weights**2) @ b)


def test_a_gram_matrix_is_symmetric_to_the_last_bit() -> None:
    values = {"B": RNG.normal(size=(70, 50)), "w": RNG.normal(size=70)}
    for e in (B.T @ B, B.T @ td.diag(td.exp(w)) @ B):
        found = td.compile(e)({s.name: values[s.name] for s in e.symbols})
        np.testing.assert_array_equal(found, found.T)


SYMMETRIC: dict[str, tuple[Any, str]] = {  # with what NumPy computes
    "weights of any sign": (B.T @ td.diag(w) @ B, "mi,m,mj->ij"),
    "a declared matrix between": (B @ S @ B.T, "mi,ij,nj->mn"),
    "a sum between": (-2 * C.T @ (A + A.T) @ C, "ki,kl,lj->ij"),
}


def truth(name: str, values: dict[str, np.ndarray]) -> np.ndarray:
    b, s, c, a = (values.get(letter) for letter in "BSCA")
    operands = {
        "weights of any sign": lambda: (b, values["w"], b),
        "a declared matrix between": lambda: (b, s, b),
        "a sum between": lambda: (-2 * c, a + a.T, c),
    }[name]()
    return np.asarray(np.einsum(SYMMETRIC[name][1], *operands, optimize=True))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex128])
@pytest.mark.parametrize("size", [99, 100, 117])
@pytest.mark.parametrize("name", SYMMETRIC)
def test_half_is_computed_of_large_products_that_are_their_own_transposes(
    name: str, size: int, dtype: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "LARGE_PRODUCT", 100)
    e, _ = SYMMETRIC[name]
    values = data_of(e, dtype=complex if dtype is np.complex128 else float, k=size, m=size)
    values = {key: (value + value.T if key == "S" else value).astype(dtype) for key, value in values.items()}
    wanted, found = truth(name, values), td.compile(e)(values)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wanted, atol=1e-10 * np.finfo(dtype).eps / 2e-16 * np.abs(wanted).max())
    if size >= 100:
        np.testing.assert_array_equal(found, found.T)


@pytest.mark.parametrize("name", SYMMETRIC)
def test_plans_count_half_of_symmetric_products(name: str) -> None:
    """From a size on, of the sum as well as of the result, and not of a product that BLAS computes by half."""
    e, _ = SYMMETRIC[name]
    dims = {d.name for s in e.symbols for d in s.dims}
    small, large = (td.plan(e, **dict.fromkeys(dims, n)) for n in (LARGE_PRODUCT - 4, LARGE_PRODUCT))
    made = 1 if name == "weights of any sign" else 2  # products, the last of which is symmetric
    (half,) = (step.flops for step in large.steps if "symmetric_product(" in step.source)
    assert half == 2 * LARGE_PRODUCT**3 * 5 // 8
    assert "symmetric_product" not in small.program.source
    assert small.flops >= made * 2 * (LARGE_PRODUCT - 4) ** 3
    assert large.flops < (made - 0.37) * 2 * LARGE_PRODUCT**3
    short = td.plan(B.T @ td.diag(w) @ B, k=LARGE_PRODUCT, m=LARGE_PRODUCT - 1)
    assert "symmetric_product" not in short.program.source
    assert "symmetric_product" not in source_of(B.T @ B, k=LARGE_PRODUCT, m=LARGE_PRODUCT)
    assert "symmetric_product" not in source_of(B.T @ td.diag(w) @ td.sin(B), k=LARGE_PRODUCT, m=LARGE_PRODUCT)


def test_what_is_not_finite_stays_so_in_symmetric_products(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "LARGE_PRODUCT", 100)
    e = B.T @ td.diag(w) @ B
    values = data_of(e, k=109, m=100)
    values["B"][3, 17], values["B"][4, 90] = np.nan, np.inf
    with np.errstate(invalid="ignore"):
        found = td.compile(e)(values)
        wanted = values["B"].T @ (values["w"][:, None] * values["B"])
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))


# --- sharing --------------------------------------------------------------------------------------------------------


def test_products_are_shared_across_results() -> None:
    """A value, its gradient and its Hessian together cost little more than the dearest of them."""
    f = td.sum(td.exp(B @ x)) + x @ x
    three = (f, td.grad(f, x), td.hessian(f, x))
    together = td.plan(three, k=40, m=200)
    apart = [td.plan(e, k=40, m=200) for e in three]
    assert together.flops < 0.99 * sum(plan.flops for plan in apart)
    assert together.program.source.count("B @ x") == 1
    assert together.program.source.count("np.exp(") == 1
    values = data_of(f, k=5, m=7)
    for one, e in zip(td.compile(three)(values), three, strict=True):
        np.testing.assert_allclose(one, td.compile(e)(values), rtol=1e-10)


def test_one_factor_serves_all_results() -> None:
    f = y @ td.linalg.inv(A) @ x
    three = (f, td.grad(f, x), td.grad(f, y), td.grad(f, A))
    found = called(source_of(three, k=50))
    assert found["lu"] == 1
    assert found["lu_solve"] == 2
    values = data_of(f, k=5)
    value, by_x, by_y, by_a = td.compile(three)(values)
    inverse = np.linalg.inv(values["A"])
    np.testing.assert_allclose(value, values["y"] @ inverse @ values["x"])
    np.testing.assert_allclose(by_x, inverse.T @ values["y"])
    np.testing.assert_allclose(by_y, inverse @ values["x"])
    np.testing.assert_allclose(by_a, -np.outer(inverse.T @ values["y"], inverse @ values["x"]))


# --- paths ----------------------------------------------------------------------------------------------------------


def network(operands: int) -> Any:
    """A closed ring of matrices with a chord, of pairwise different sizes."""
    names = [f"n{place}" for place in range(operands)]
    sizes = td.dims(" ".join(names))
    ring = [td.matrix(f"M{p}", sizes[p], sizes[(p + 1) % operands]) for p in range(operands)]
    letters = ascii_lowercase[:operands]
    subscripts = ",".join(f"{letters[p]}{letters[(p + 1) % operands]}" for p in range(operands))
    chord = td.matrix("X", sizes[0], sizes[operands // 2])
    return td.einsum(f"{subscripts},{letters[0]}{letters[operands // 2]}->", *ring, chord)


def test_the_search_for_a_path_is_kept_and_leaves_random_numbers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    e = network(22)  # so many that the search is a random one
    sizes = {f"n{place}": 3 + place % 4 for place in range(22)}
    random.seed(7)
    state = random.getstate()
    first = source_of(e, **sizes)
    assert random.getstate() == state

    def searched(*_: Any, **__: Any) -> Any:
        raise AssertionError("searched again")

    monkeypatch.setattr(paths, "_opt_einsum", searched)
    assert source_of(e, **sizes) == first
    random.seed(8)
    with pytest.raises(AssertionError, match="searched again"):
        source_of(e, **{**sizes, "n0": 9})


PROCESS = """
from test_planner import *
hessian = td.hessian(td.sum(td.tanh(A @ td.tanh(C @ x))), x)
for e in (network(11), network(22), td.grad(CP, U), SOLVED["weights above zero"][0], hessian):
    print(source_of(e))
"""


def test_programs_are_the_same_in_every_process() -> None:
    texts = set()
    for seed in ("0", "1"):
        command = [sys.executable, "-W", "ignore", "-c", PROCESS]
        path = {"PYTHONPATH": ":".join([*sys.path[:1], *filter(None, sys.path)]), "PYTHONHASHSEED": seed}
        texts.add(subprocess.run(command, capture_output=True, text=True, check=True, env=path).stdout)
    assert len(texts) == 1
    assert "def f(" in texts.pop()


SIDES: dict[str, tuple[Callable[[], Any], dict[str, int], int]] = {  # multiplications at most, at sizes
    "a chain from the right": (lambda: A @ C @ A @ x, {"k": 100}, 3 * 2 * 100**2),
    "a chain from the left": (lambda: x @ A @ C @ A, {"k": 100}, 3 * 2 * 100**2),
    "solved first": (lambda: td.linalg.inv(A) @ B.T @ w, {"k": 30, "m": 400}, 2 * 30 * 400 + 30**3 + 2 * 30**2),
    "a trace": (lambda: td.trace(A @ C), {"k": 100}, 2 * 100**2),
    "a weight into the smaller": (lambda: B @ td.diag(x) @ td.diag(y) @ x, {"k": 50, "m": 9}, 2 * 50 * 9 + 4 * 50),
}


@pytest.mark.parametrize("name", SIDES)
def test_orders_of_contraction(name: str) -> None:
    make, sizes, most = SIDES[name]
    assert td.plan(make(), **sizes).flops <= 1.05 * most


def test_products_in_a_chain_lie_as_the_next_one_takes_them() -> None:
    """The four-index transform sums over one axis after the other: each product leaves the next one at an end."""
    n, o = td.dims("n o")
    tensor = td.tensor("T", n, n, n, n)
    e = td.einsum("pqrs,pi,qj,rk,sl->ijkl", tensor, *(td.matrix(name, n, o) for name in "ABCD"))
    assert "transpose" not in source_of(e, n=20, o=19)
    values = data_of(e, n=5, o=4)
    found = td.compile(e)(values)
    assert found.flags.c_contiguous
    wanted = np.einsum("pqrs,pi,qj,rk,sl->ijkl", *(values[name] for name in "TABCD"))
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
