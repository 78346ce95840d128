"""Sums of outer products become one product of matrices, and give what the outer products give one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import WAYS, blocks_of, function_of, small

import tensordsl as td
from tensordsl.program.build import build
from tensordsl.program.kernels import Product
from tensordsl.program.rank import outer_product

k, m = td.dims("k m")
x, y, u, v = (td.vector(name, k) for name in "xyuv")
a, b, c, d = (td.vector(name, m) for name in "abcd")
A, X, Y, Z, W = td.matrix("A", k, m), td.matrix("X", k, k), *(td.matrix(name, m, m) for name in "YZW")
SIZES = {"k": 150, "m": 170}
RNG = np.random.default_rng(8)


def data_of(e: Any, dtype: Any = np.float64) -> dict[str, np.ndarray]:
    found = {}
    for symbol in sorted(e.symbols, key=lambda s: s.name):
        value = RNG.normal(size=[SIZES[str(size)] for size in symbol.shape])
        if np.issubdtype(dtype, np.complexfloating):
            value = value + 1j * RNG.normal(size=value.shape)
        found[symbol.name] = value.astype(dtype)
    return found


def products(e: Any, **sizes: int) -> list[Product]:
    program = build([e], {**SIZES, **sizes}, dtype="float64")
    body = [step for block in blocks_of(program) for step in block.kernel.body]
    return [step.kernel for step in (*program.instructions, *body) if isinstance(step.kernel, Product)]


def matrix_products(e: Any, **sizes: int) -> int:
    return sum(not kernel.entrywise for kernel in products(e, **sizes))


SUMS = {
    "two": (td.outer(x, a) + td.outer(u, b), "i,j->ij", [("x", "a"), ("u", "b")]),
    "three": (td.outer(x, a) + td.outer(u, b) + td.outer(y, c), "i,j->ij", [("x", "a"), ("u", "b"), ("y", "c")]),
    "less": (td.outer(x, a) - td.outer(u, b), "i,j->ij", [("x", "a"), ("u", "-b")]),
    "matrix": (td.einsum("i,jk->ijk", a, Y) + td.einsum("i,jk->ijk", b, Z), "i,jk->ijk", [("a", "Y"), ("b", "Z")]),
    "middle": (td.einsum("j,ik->ijk", a, Y) + td.einsum("j,ik->ijk", b, Z), "j,ik->ijk", [("a", "Y"), ("b", "Z")]),
    "turned": (td.einsum("i,kj->ijk", a, Y) + td.einsum("i,jk->ijk", b, Z), None, None),
}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_a_sum_of_outer_products_is_one_product(name: str, dtype: str) -> None:
    e, text, pairs = SUMS[name]
    assert matrix_products(e) == 1
    assert [kernel.entrywise for kernel in products(e)].count(True) == 0  # nothing is multiplied out beside it
    data = data_of(e, np.dtype(dtype).type)
    if text is None:
        wanted = np.einsum("i,kj->ijk", data["a"], data["Y"]) + np.einsum("i,jk->ijk", data["b"], data["Z"])
    else:
        wanted = sum(
            np.einsum(text, data[p], data[q.strip("-")]) * (-1 if q.startswith("-") else 1) for p, q in pairs
        )
    found = td.compile(e)(data)
    assert found.dtype == np.dtype(dtype)
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, wanted, rtol=1e-4 if dtype in ("float32", "complex64") else 1e-11, atol=1e-4)


def test_other_terms_stay_beside_the_product() -> None:
    e = td.outer(x, a) + td.sin(A) - td.outer(u, b) + 3 * A
    assert matrix_products(e) == 1
    data = data_of(e)
    wanted = np.outer(data["x"], data["a"]) + np.sin(data["A"]) - np.outer(data["u"], data["b"]) + 3 * data["A"]
    np.testing.assert_allclose(td.compile(e)(data), wanted, rtol=1e-11, atol=1e-11)


def test_nothing_is_subtracted_from_but_the_product() -> None:
    e = -td.sin(A) + td.outer(x, a) + td.outer(u, b) - A
    data = data_of(e)
    wanted = np.outer(data["x"], data["a"]) + np.outer(data["u"], data["b"]) - np.sin(data["A"]) - data["A"]
    np.testing.assert_allclose(td.compile(e)(data), wanted, rtol=1e-11, atol=1e-11)


def test_the_jvp_of_the_flagship_makes_the_product_block_by_block() -> None:
    B = td.matrix("B", k, k)
    e = td.jvp(B * td.outer(x, x), x, v)
    program = build([e], {"k": 1000}, dtype="float64")
    (block,) = blocks_of(program)
    assert [step.kind for step in block.kernel.body] == ["contract", "contract"]  # rank two, then times B
    data = {"B": RNG.normal(size=(1000, 1000)), "x": RNG.normal(size=1000), "v": RNG.normal(size=1000)}
    wanted = data["B"] * (np.outer(data["v"], data["x"]) + np.outer(data["x"], data["v"]))
    np.testing.assert_allclose(td.compile(e)(data), wanted, rtol=1e-10, atol=1e-11)


def test_the_hessian_of_a_trace_of_an_inverse_goes_slice_by_slice() -> None:
    """H_ijkl = P_jk S_li + S_jk P_li: for each i, an outer product of rank two that lies as H does."""
    M = td.matrix("M", k, k)
    e = td.hessian(td.trace(td.linalg.inv(M)), M)
    n = 30
    value = RNG.normal(size=(n, n)) + n * np.eye(n)
    inverse = np.linalg.inv(value)
    square = inverse @ inverse
    wanted = np.einsum("jk,li->ijkl", inverse, square) + np.einsum("jk,li->ijkl", square, inverse)
    found = td.compile(e)(M=value)
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-14)
    assert found.flags.c_contiguous
    program = build([e], {"k": n}, dtype="float64")
    assert max(step.flops for step in program.instructions) == 4 * n**4  # of rank two


@pytest.mark.parametrize(
    "e",
    [
        td.outer(x, a),  # one
        td.outer(x, a) + A,  # one, and none
        td.einsum("i,j,k->ijk", x, a, u) + td.einsum("i,j,k->ijk", y, b, v),  # of three
        td.einsum("i,ij->ij", x, A) + td.einsum("i,j->ij", y, b),  # one is a product along an axis
        td.outer(x, td.vector("s", 3)) + td.outer(y, td.vector("t", 3)),  # three columns make no matrix
    ],
    ids=["one", "another", "three factors", "along an axis", "short"],
)
def test_what_is_no_such_sum_stays_as_it_is(e: Any) -> None:
    assert matrix_products(e) == 0


def test_truth_values_are_counted_and_small_sums_stay() -> None:
    e = td.outer(x > 0, a) + td.outer(y > 0, b)
    data = data_of(e)
    wanted = np.outer(data["x"] > 0, data["a"]) + np.outer(data["y"] > 0, data["b"])
    np.testing.assert_allclose(td.compile(e)(data), wanted)
    assert matrix_products(td.outer(x, a) + td.outer(u, b), k=20, m=30) == 0


def test_factors_of_an_outer_product() -> None:
    s = td.scalar("s")
    outer = outer_product(td.einsum("i,jm,m,->ji", x, Y, a, s))
    assert outer is not None
    assert outer.axes == ((0,), (1,))
    assert [factor.symbols for factor in outer.factors] == [{Y, a, s}, {x}]
    assert outer_product(x) is None
    assert outer_product(td.diag(x)) is None


@settings(max_examples=60)
@given(st.data())
def test_sums_of_outer_products_in_any_order(data: st.DataObject) -> None:
    """Axes of both factors in any order, in blocks and whole, against NumPy's own sum."""
    ndim = data.draw(st.integers(2, 4), label="ndim")
    sizes = [(2, 3, 5, 4)[axis] for axis in range(ndim)]
    sides = data.draw(st.lists(st.booleans(), min_size=ndim, max_size=ndim).filter(lambda s: len(set(s)) == 2))
    letters = "ijkl"[:ndim]
    parts = ["".join(la for la, side in zip(letters, sides, strict=True) if side == want) for want in (True, False)]
    count = data.draw(st.integers(2, 3), label="terms")
    e, values, wanted = None, {}, 0
    for term in range(count):
        texts, symbols = [], []
        for place, part in enumerate(parts):
            own = "".join(data.draw(st.permutations(part)))
            shape = [sizes[letters.index(la)] for la in own]
            name = f"s{term}{place}"
            texts.append(own)
            symbols.append(td.tensor(name, *shape))
            values[name] = RNG.normal(size=shape)
        text = f"{texts[0]},{texts[1]}->{letters}"
        scale = data.draw(st.sampled_from([1, -1, 2.5]))
        new = scale * td.einsum(text, *symbols)
        e = new if e is None else e + new
        wanted = wanted + scale * np.einsum(text, *(values[s.name] for s in symbols))
    limits = data.draw(st.sampled_from(list(WAYS.values())))
    with small(limits):
        program = build([e], {}, dtype="float64")
    kernels = [step.kernel for step in program.instructions if isinstance(step.kernel, Product)]
    kernels += [s.kernel for block in blocks_of(program) for s in block.kernel.body if isinstance(s.kernel, Product)]
    assert any(not kernel.entrywise for kernel in kernels)
    found = function_of(program, values, {}, "float64")()
    np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-12)
