"""Memory: a plan says how much is held at once, and keeps within what it was given.

Python's own record of what NumPy allocates is `tracemalloc`. The arrays that LAPACK works in are not in it: inverses,
determinants, solutions and decompositions copy their matrix, which shows in the resident size of the process alone.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small import unfused

import tensordsl as td
from tensordsl.execution.binding import bind
from tensordsl.program import products
from tensordsl.program.plan import byte_count

k, m = td.dims("k m")
x, y, z = td.vector("x", k), td.vector("y", k), td.vector("z", m)
A, B, C = td.matrix("A", k, k), td.matrix("B", k, m), td.matrix("C", k, k)
P = td.matrix("P", k, k, positive_definite=True)
SIZES = {"k": 500, "m": 20}
OVERHEAD = 300_000  # the buffers of NumPy's loops, of 64 kB for an operand and thread, and Python's own objects

PROGRAMS: dict[str, Any] = {
    "entries": td.exp(A) * A + td.sin(A),
    "flagship's argument": A * td.outer(x, x),
    "products": A @ A @ A,
    "a transposed product": (A @ C).T + 1,
    "chain": td.tanh(A @ td.tanh(A @ C)),
    "gradient": td.grad(td.sum(td.tanh(A @ A)), A),
    "softmax": td.softmax(A, axis=1),
    "logsumexp": td.logsumexp(A, axis=0),
    "outer": td.outer(x, y) - td.outer(y, x),
    "sum of an outer product": td.sum(td.exp(td.outer(x, y)), axis=0),
    "distances": td.exp(-((x[:, None] - x) ** 2)),
    "distances, weighed": td.sum(td.exp(-((x[:, None] - x) ** 2)) * A, axis=1),
    "Hessian": td.hessian(td.sum(td.log(1 + td.exp(-(B.T @ x)))), x),
    "variances": td.var(A, axis=1),
    "deviations": td.std(A, axis=0),
    "scaled": A / td.sum(A, axis=1)[:, None],
    "Kronecker": td.kron(z, A),
    "identity beside": td.kron(td.identity(6), A),
    "diagonal": td.diag(x) + A,
    "diagonal alone": td.diag(td.exp(x)),
    "three axes": td.jacobian(A[:40] * td.outer(x[:40], x), x),
    "grouped": td.jacobian_matrix(A[:40] * td.outer(x[:40], x), x),
    "vector": td.vec(A * 2),
    "symmetric part": (A + A.T) / 2,
    "commutator": A @ C - C @ A,
    "symmetric": (A + A.T) @ (A - A.T),
    "power": td.linalg.matrix_power(A, 3),
    "Gram": A.T @ A,
    "weighted Gram": A.T @ td.diag(td.exp(x)) @ A,
    "blocks": td.concatenate([A, C]),
    "slices": A[1:] * C[:-1] - A[:-1],
    "sigmoid": td.sigmoid(A) * C,
    "reshaped": td.reshape(A @ C, (k * k,)),
    "two solutions": td.linalg.inv(A) @ x + td.linalg.inv(A).T @ y,
    "definite solutions": td.linalg.inv(P) @ x * (y @ td.linalg.inv(P) @ y),
}
OF_LAPACK: dict[str, Any] = {  # seen in the resident size alone, or in part
    "inverse": td.linalg.inv(A),
    "determinant": td.linalg.det(A) * x,
    "log determinant": td.logdet(A),
    "gradient of it": td.grad(td.logdet(A), A) + A,
    "solution": td.linalg.solve(A, x),
    "solutions": td.linalg.solve(A, C),
    "Cholesky": td.linalg.cholesky(P),
    "eigenvalues": td.linalg.eigvalsh(A),
}


def data_of(*expressions: Any) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    n, p = SIZES["k"], SIZES["m"]
    a = rng.normal(size=(n, n)) / 60 + 1.5 * np.eye(n)
    known = {
        "A": a, "C": rng.normal(size=(n, n)) / 60, "P": a @ a.T + np.eye(n), "B": rng.normal(size=(n, p)),
        "x": rng.normal(size=n) / 9, "y": rng.normal(size=n) / 9, "z": rng.normal(size=p),
    }  # fmt: skip
    return {symbol.name: known[symbol.name] for e in expressions for symbol in e.symbols}


def planned(e: Any, data: dict[str, np.ndarray], memory: int | str | None = None) -> tuple[Any, Any]:
    """The function of a plan that has not run yet, and its arguments: planning itself takes memory too."""
    f = td.compile(e, memory=memory)
    bound = bind(f.expressions, f._symbols, f._parameters, data, {})
    return f._plan(bound.arrays, bound.sizes), bound.arrays


def measured(run: Any, arrays: Any) -> tuple[int, Any]:
    tracemalloc.start()
    try:
        value = run(*arrays)
        return tracemalloc.get_traced_memory()[1], value
    finally:
        tracemalloc.stop()


def plan_of(e: Any, memory: int | str | None = None) -> td.Plan:
    dims = {d.name for symbol in e.symbols for d in symbol.dims}
    return td.plan(e, memory=memory, **{name: size for name, size in SIZES.items() if name in dims})


def least_of(e: Any) -> int:
    """The least memory that a plan needs, by what the error says."""
    with pytest.raises(td.PlanError, match=r"The plan needs .* at the least") as caught:
        plan_of(e, memory=8)
    found = re.search(r"Give memory=(\d+) or more", str(caught.value))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_peak_is_what_the_plan_says(name: str) -> None:
    e = PROGRAMS[name]
    data = data_of(e)
    planned(e, data)[0](*planned(e, data)[1])  # what is imported or made once
    peak, _ = measured(*planned(e, data))
    said = plan_of(e).peak_bytes
    assert peak <= 1.1 * said + OVERHEAD
    assert said <= 1.1 * peak + OVERHEAD
    assert plan_of(e).result_bytes <= said


@pytest.mark.parametrize("name", PROGRAMS)
def test_plans_keep_within_the_memory(name: str) -> None:
    """With the least that would do, and with amounts between that and what takes the least time."""
    e = PROGRAMS[name]
    data = data_of(e)
    wanted = td.compile(e)(data)
    least, full = least_of(e), plan_of(e).peak_bytes
    assert plan_of(e).result_bytes <= least <= full
    with pytest.raises(td.PlanError, match=f"memory={least} or more"):
        planned(e, data, least - 1)
    for memory in {least, (least + full) // 2}:
        assert plan_of(e, memory).peak_bytes <= memory
        peak, value = measured(*planned(e, data, memory))
        assert peak <= memory + OVERHEAD
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


@pytest.mark.parametrize("e", [A.T @ td.diag(x) @ A, td.exp(A.T @ td.diag(x) @ A) * A])
def test_products_that_are_their_own_transposes(e: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are computed by half where that fits, and else as others are."""
    monkeypatch.setattr(products, "LARGE_PRODUCT", 500)
    data, plan = data_of(e), plan_of(e)
    assert "symmetric_product(" in plan.program.source
    planned(e, data)[0](*planned(e, data)[1])
    peak, wanted = measured(*planned(e, data))
    assert peak == pytest.approx(plan.peak_bytes, rel=0.1)
    for memory in {least_of(e), plan.peak_bytes - 1}:
        assert "symmetric_product(" not in plan_of(e, memory).program.source
        peak, value = measured(*planned(e, data, memory))
        assert peak <= memory + OVERHEAD
        np.testing.assert_allclose(value, wanted, rtol=1e-9, atol=1e-12)


def test_less_memory_makes_smaller_blocks() -> None:
    """Products of matrices as well are made piece by piece where that keeps within the memory, and right."""
    for name, share in [("distances, weighed", 0.05), ("products", 0.55), ("gradient", 0.5), ("chain", 0.8)]:
        assert least_of(PROGRAMS[name]) <= share * plan_of(PROGRAMS[name]).peak_bytes, name


def test_nothing_runs_before_the_error() -> None:
    e = td.log(A @ A)
    data = data_of(e)
    f = td.compile(e, memory="1MB")
    tracemalloc.start()
    try:
        with np.errstate(all="raise"), pytest.raises(td.PlanError, match="given were 1 MB"):
            f(data)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


WORDS = (
    r"The plan needs 2 MB at the least, of which the result takes 2 MB; given were 1 MB\. Give memory=\d+ or "
    r"more, or ask for less: output='factored' or 'sparse' hold a derivative without its zeros, td\.jvp and td\.vjp"
)


def test_the_error_says_what_would_do() -> None:
    data = data_of(A)
    for attempt in (
        lambda: td.compile(td.exp(A), memory="1MB")(data),
        lambda: td.exp(A).evaluate(data, memory=1_000_000),
        lambda: td.plan(td.exp(A), k=500, memory="1 MB"),
    ):
        with pytest.raises(td.PlanError, match=WORDS):
            attempt()
    assert td.exp(A).evaluate(data, memory=2_000_000).shape == (500, 500)
    buffer = np.empty((500, 500))  # an array that is given is not of the plan
    assert td.compile(td.exp(A), memory="1MB")(data, out=buffer) is buffer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (0, 0),
        (12_345, 12_345),
        (None, None),
        ("100", 100),
        ("2GiB", 2 << 30),
        ("2 GB", 2 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("500MB", 500 * 10**6),
        (" 3kb ", 3000),
        ("4K", 4000),
        ("4KiB", 4096),
        ("1T", 10**12),
        ("1PiB", 1 << 50),
        ("7B", 7),
    ],
)
def test_amounts_of_memory(text: Any, number: int | None) -> None:
    assert byte_count(text) == number


@pytest.mark.parametrize(
    "bad", ["", "GB", "2 G i B", "-1", "-1GB", "1e9", "2EiB", "2 gigs", "two", -1, 2.5, True, [1], b"2GB", "1,5GB"]
)
def test_what_is_no_amount_of_memory(bad: Any) -> None:
    for attempt in (
        lambda: td.compile(A, memory=bad),
        lambda: A.evaluate(A=np.eye(2), memory=bad),
        lambda: td.plan(A, memory=bad),
    ):
        with pytest.raises(td.PlanError, match=r"is no amount of memory\. Give bytes, or a text such as '2GiB'"):
            attempt()


@pytest.mark.parametrize("dtype", [np.float32, np.complex128, np.longdouble])
def test_other_types_of_numbers_keep_within_the_memory(dtype: Any) -> None:
    e = td.sum(td.exp(-((x[:, None] - x) ** 2)) * A, axis=1) * y
    data = {name: value.astype(dtype) for name, value in data_of(e).items()}
    wanted = td.compile(e)(data)
    for memory in (400_000, 1_200_000):
        peak, value = measured(*planned(e, data, memory))
        assert value.dtype == dtype
        assert peak <= memory + OVERHEAD * value.itemsize / 8
        np.testing.assert_allclose(value, wanted, rtol=1e-4)


@pytest.mark.parametrize("kind", ["integers", "mixed"])
def test_data_of_no_one_type_keep_within_the_memory(kind: str) -> None:
    """No blocks are made of them, so that there is less choice: the plan or an error."""
    e = td.exp(A) * A + x
    data = data_of(e)
    data = {n: (10 * v).astype(int) if kind == "integers" or n == "x" else v / 9 for n, v in data.items()}
    with pytest.raises(td.PlanError, match="at the least") as caught:
        td.compile(e, memory=2_100_000)(data)
    (least,) = map(int, re.findall(r"memory=(\d+)", str(caught.value)))
    peak, value = measured(*planned(e, data, least))
    assert peak <= least + OVERHEAD
    np.testing.assert_allclose(value, unfused([e], data, SIZES)[0])


def test_tuples_keep_within_the_memory() -> None:
    f = td.sum(td.tanh(A @ x) * y)
    three = (f, td.grad(f, x), td.hessian(f, x))
    data = data_of(f)
    wanted = td.compile(three)(data)
    with pytest.raises(td.PlanError, match=r"of which the result takes 2 MB; given were 1\.5 MB") as caught:
        td.compile(three, memory="1.5MB")(data)
    (least,) = map(int, re.findall(r"memory=(\d+)", str(caught.value)))
    for one, other in zip(td.compile(three, memory=least)(data), wanted, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9)


RESIDENT = """
import gc, sys
from test_memory import *

def resident(name):
    with open("/proc/self/status") as status:
        return 1024 * int(next(line for line in status if line.startswith(name)).split()[1])

for name, e in {**OF_LAPACK, **{name: PROGRAMS[name] for name in ("entries", "products", "gradient")}}.items():
    data = data_of(e)
    run, arrays = planned(e, data)
    run(*arrays)  # libraries start their threads, and keep their own buffers
    run, arrays = planned(e, data)
    gc.collect()
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")  # the peak is that from now on
    before = resident("VmRSS")
    value = run(*arrays)
    print(name, resident("VmHWM") - before, plan_of(e).peak_bytes, sep=":")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the resident size is read as Linux says it")
def test_the_peak_of_the_process() -> None:
    """What LAPACK holds is counted as well, though Python's record has none of it."""
    # The allocator gives back what is let go at once, so that the next program does not have it already.
    environment = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "PYTHONWARNINGS": "ignore"}
    here = Path(__file__).parent
    paths = f"{here}:{here.parent}"
    found = subprocess.run(
        [sys.executable, "-c", RESIDENT],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": paths},
        check=False,
    )
    if "PermissionError" in found.stderr or "FileNotFoundError" in found.stderr:
        pytest.skip("this system does not let a process set its peak anew")
    assert not found.returncode, found.stderr
    for line in found.stdout.splitlines():
        _, growth, said = line.split(":")
        assert abs(int(growth) - int(said)) <= 0.1 * int(said) + 2 * OVERHEAD, line
    assert len(found.stdout.splitlines()) == len(OF_LAPACK) + 3
