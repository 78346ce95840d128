"""Products of matrices whose operands lie otherwise: copied by steps of their own, into arrays that are kept."""

from __future__ import annotations

import re
import resource
import string
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tensordsl as td
from tensordsl.program import source
from tensordsl.program.kernels import Pack, Product

WIDE = "abcd,cebf,dghe->ahgf"  # no two operands have what they are summed over side by side


def arrays_of(text: str, sizes: dict[str, int], seed: int, dtype: Any = np.float64) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=[sizes[la] for la in own]).astype(dtype) for own in text.partition("->")[0].split(",")]


def expression(text: str, arrays: list[np.ndarray]) -> td.Expr:
    names = string.ascii_uppercase
    return td.einsum(text, *(td.tensor(name, *a.shape) for name, a in zip(names, arrays, strict=False)))


@given(st.data())
@settings(max_examples=120)
def test_values_whatever_the_order_of_the_axes(data: st.DataObject) -> None:
    """Networks with a label on two tensors each, their axes in any order, all steps kept: as NumPy's einsum."""
    labels = string.ascii_lowercase[: data.draw(st.integers(4, 9))]
    count = data.draw(st.integers(2, 4))
    own: list[list[str]] = [[] for _ in range(count)]
    for label in labels:
        for place in data.draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=2)):
            own[place].append(label)
    free = [la for la in labels if sum(la in each for each in own) == 1]
    mixed = ["".join(data.draw(st.permutations(each))) for each in own]
    text = ",".join(mixed) + "->" + "".join(data.draw(st.permutations(free)))
    sizes = {la: data.draw(st.integers(1, 3)) + (place % 2) for place, la in enumerate(labels)}
    dtype = data.draw(st.sampled_from([np.float64, np.complex128]))
    arrays = arrays_of(text, sizes, 3, dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source, "KEPT", 0)
        f = td.compile(expression(text, arrays))
        given = dict(zip(string.ascii_uppercase, arrays, strict=False))
        first = f(given)
        second = f({name: 2 * value for name, value in given.items()})
    wanted = np.einsum(text, *arrays)
    np.testing.assert_allclose(first, wanted, rtol=1e-10, atol=1e-10)  # what is returned is no storage that is kept
    np.testing.assert_allclose(second, 2 ** len(arrays) * wanted, rtol=1e-10, atol=1e-9)


def test_operands_are_copied_once_and_by_a_step() -> None:
    sizes = dict(zip("abcdefgh", (13, 14, 15, 16, 17, 18, 19, 20), strict=True))
    arrays = arrays_of(WIDE, sizes, 4)
    plan = td.plan(expression(WIDE, arrays))
    packs = [step for step in plan.program.instructions if isinstance(step.kernel, Pack)]
    assert packs
    for step in plan.program.instructions:
        if isinstance(step.kernel, Product):
            assert step.kernel.packed == step.kernel.inputs  # nothing is left that NumPy would copy on the way
    assert len({(step.operands[0].name, step.kernel.output) for step in packs}) == len(packs)


def test_an_operand_of_two_products_is_copied_once() -> None:
    """A with its first and its last axis summed over, for two others: one copy in one order serves both."""
    p, q, r, s = 21, 22, 23, 24
    A = td.tensor("A", p, q, r)
    B, C = td.tensor("B", p, r, s), td.tensor("C", p, r, s)
    both = td.einsum("pqr,prs->qs", A, td.exp(B)), td.einsum("pqr,prs->qs", A, td.tanh(C))
    program = td.plan(both).program
    copies = [step for step in program.instructions if isinstance(step.kernel, Pack) and step.operands[0].name == "A"]
    assert len(copies) == 1
    rng = np.random.default_rng(5)
    data = {"A": rng.normal(size=(p, q, r)), "B": rng.normal(size=(p, r, s)), "C": rng.normal(size=(p, r, s))}
    found = td.compile(both)(data)
    np.testing.assert_allclose(found[0], np.einsum("pqr,prs->qs", data["A"], np.exp(data["B"])), rtol=1e-10)
    np.testing.assert_allclose(found[1], np.einsum("pqr,prs->qs", data["A"], np.tanh(data["C"])), rtol=1e-10)


@pytest.mark.skipif(sys.platform != "linux", reason="faults of pages are counted as Linux counts them")
def test_a_second_call_asks_the_system_for_no_memory() -> None:
    """Arrays of some 100 kB come from the system, page by page, in each call, unless they are kept."""
    sizes = dict(zip("abcdefgh", (13, 14, 15, 16, 17, 8, 9, 10), strict=True))
    arrays = arrays_of(WIDE, sizes, 6)
    given = dict(zip(string.ascii_uppercase, arrays, strict=False))
    plan = td.plan(expression(WIDE, arrays))
    made = sum(8 * int(np.prod(step.target.sizes)) for step in plan.program.instructions if step.target.owned)
    f = td.compile(expression(WIDE, arrays))
    result = f(given).nbytes

    def faults() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(20):
            f(given)
        return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 20

    page = resource.getpagesize()
    assert made > 4 * result > 0
    assert min(faults() for _ in range(3)) * page <= 1.5 * result + 20 * page
    assert re.search(r"np\.matmul\(.*out=", plan.program.source)
