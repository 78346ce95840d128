"""Labels: unification of groups, and the canonical form that makes equal expressions one object."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensordsl as td
from tensordsl.labels import Unifier, canonical_order, fuse, repeats, singles

k = td.dim("k")
POOL = {
    "A": td.matrix("A", k, k),
    "B": td.matrix("B", k, k),
    "x": td.vector("x", k),
    "T": td.tensor("T", k, k, k),
    "a": td.scalar("a"),
}


def network(factors: list[tuple[str, str]], output: str) -> td.Expr:
    """A product of the factors named, their axes on the letters given."""
    text = ",".join(letters for _, letters in factors)
    sizes = {"z": k} if "z" in text + output else {}
    return td.einsum(f"{text}->{output}", *[POOL[name] for name, _ in factors], **sizes)


def renamed(factors: list[tuple[str, str]], output: str, rng: random.Random) -> td.Expr:
    """The same network: other letters, another order."""
    letters = sorted({c for _, own in factors for c in own} | set(output))
    other = rng.sample("abcdefghijklmnopqrstuvwxyABCDEFGHIJKLMNOP", len(letters))
    names = {letter: new if letter != "z" else "z" for letter, new in zip(letters, other, strict=True)}
    moved = [(name, "".join(names[c] for c in own)) for name, own in factors]
    rng.shuffle(moved)
    return network(moved, "".join(names[c] for c in output))


@st.composite
def networks(draw: st.DrawFn) -> tuple[list[tuple[str, str]], str]:
    """Up to seven factors on few letters, all of one size: as symmetric as can be."""
    letters = "ijklmn"[: draw(st.integers(1, 6))]
    factors = []
    for _ in range(draw(st.integers(1, 7))):
        name = draw(st.sampled_from(["A", "A", "A", "B", "x", "x", "T", "a"]))
        factors.append((name, "".join(draw(st.sampled_from(letters)) for _ in range(POOL[name].ndim))))
    used = sorted({c for _, own in factors for c in own} | {"z"})
    return factors, "".join(draw(st.lists(st.sampled_from(used), max_size=4)))


@given(networks(), st.randoms(use_true_random=False))
def test_shuffled_and_renamed_networks_are_one_object(
    drawn: tuple[list[tuple[str, str]], str], rng: random.Random
) -> None:
    assert renamed(*drawn, rng) is network(*drawn)


def ring(name: str, n: int) -> list[tuple[str, str]]:
    letters = "abcdefghijkl"[:n]
    return [(name, letters[p] + letters[(p + 1) % n]) for p in range(n)]


SYMMETRIC = {
    "cycle of eight": (ring("A", 8), ""),
    "two cycles of four": ([*ring("A", 4), ("A", "pq"), ("A", "qr"), ("A", "rs"), ("A", "sp")], ""),
    "cycle of six with one open end": (ring("A", 6), "a"),
    "power of a sum": ([("x", letter) for letter in "abcdefghijkl"], ""),
    "star": ([("A", "o" + letter) for letter in "abcdefgh"], "o"),
    "closed star": ([("A", "o" + letter) for letter in "abcdefgh"], ""),
    "complete graph on five": ([("A", p + q) for p, q in itertools.permutations("abcde", 2)][:12], ""),
    "undirected cube": (
        [("A", p + q) for p, q in ["ab", "bc", "cd", "da", "ef", "fg", "gh", "he", "ae", "bf", "cg", "dh"]],
        "",
    ),
    "triple of tensors": ([("T", "abc"), ("T", "bca"), ("T", "cab"), ("T", "abc")], ""),
    "delta ring": ([("A", "ab"), ("A", "ba")], "aabb"),
}


@pytest.mark.parametrize("name", SYMMETRIC)
def test_symmetric_networks_are_one_object(name: str) -> None:
    factors, output = SYMMETRIC[name]
    first = network(factors, output)
    for seed in range(6):
        assert renamed(factors, output, random.Random(seed)) is first


def test_networks_that_differ_are_different() -> None:
    """The classical pair that refinement alone cannot tell apart, and near misses."""
    found = [
        network(*SYMMETRIC["cycle of eight"]),
        network(*SYMMETRIC["two cycles of four"]),
        network([*ring("A", 7), ("A", "ah")], ""),
        network([*ring("A", 7), ("B", "ga")], ""),
    ]
    assert len(set(found)) == len(found)
    assert network([("A", "ij")], "ij") is POOL["A"]
    assert network([("A", "ij")], "ji") is not POOL["A"]
    assert network([("A", "ij"), ("B", "ij")], "ij") is not network([("A", "ij"), ("B", "ji")], "ij")
    assert network([("x", "i")], "ii") is td.diag(POOL["x"])


def test_axes_of_equal_name_and_other_size_stay_apart() -> None:
    m = td.dim("m")
    one = td.einsum("ij,ij->", td.matrix("C", k, m), td.matrix("C", k, m))
    assert one is not td.einsum("ij,ij->", td.matrix("C", m, k), td.matrix("C", m, k))


DIGESTS = """
import tensordsl as td
k = td.dim("k"); x, A = td.vector("x", k), td.matrix("A", k, k)
F = td.jacobian(A * td.outer(x, x), x)
G = td.hessian(td.logdet(td.outer(x, x) + A) * td.sum(td.exp(A @ x))**2, x)
H = td.einsum("ab,bc,cd,de,ef,fg,gh,ha->", *[A] * 8) + td.trace(A[1:, :0:-1]) * td.constant([1.5, 2.0])[0]
print(F.digest, G.digest, H.digest)
print([[factor.order for factor in node.children] for node in (F, G, H)])
print(F.to_python(), G.to_python())
"""


def test_digests_orders_and_programs_are_those_of_any_process() -> None:
    texts = set()
    for seed in ("0", "1", "4242"):
        run = subprocess.run(
            [sys.executable, "-c", DIGESTS],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(td.__file__).parents[1],
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        texts.add(run.stdout)
    assert len(texts) == 1


# --- unification ---------------------------------------------------------------------------------------------------


def test_groups_unify_by_splitting_the_coarser_label() -> None:
    unifier = Unifier({0: 6, 1: 2, 2: 3})
    assert unifier.unify((0,), (1, 2))
    assert unifier.resolve((0,)) == unifier.resolve((1, 2))
    assert len(unifier.resolve((0,))) == 2


def test_symbolic_groups_unify_where_sizes_divide() -> None:
    m = td.dim("m")
    unifier = Unifier({0: k * m, 1: k, 2: m})
    assert unifier.unify((0,), (2, 1))
    assert unifier.resolve((0,)) == unifier.resolve((2, 1))
    assert len(unifier.resolve((0,))) == 2
    assert not Unifier({0: k * m, 1: k + 1, 2: m}).unify((0,), (1, 2))


def test_groups_of_other_splits_do_not_unify() -> None:
    assert not Unifier({0: 2, 1: 3, 2: 3, 3: 2}).unify((0, 1), (2, 3))
    assert Unifier({0: 2, 1: 3, 2: 2, 3: 3}).unify((0, 1), (2, 3))


def test_labels_of_size_one_are_no_labels() -> None:
    assert Unifier({0: 2, 1: 1}).unify((0, 1), (0,))
    assert not Unifier({0: 2, 1: 3}).unify((0, 1), (0,))


def test_labels_that_stand_side_by_side_everywhere_are_one() -> None:
    sizes, alive = {0: 2, 1: 3, 2: 4}, {0: None, 1: None, 2: None}
    assert fuse([((0, 1), (2,)), ((2, 0, 1),)], sizes, alive) == [((0,), (2,)), ((2, 0),)]
    assert sizes[0] == 6
    assert set(alive) == {0, 2}
    assert fuse([((0, 1),), ((1, 0),)], {0: 2, 1: 3}, {0: None, 1: None}) == [((0, 1),), ((1, 0),)]


def test_small_things() -> None:
    assert singles([3, 1]) == ((3,), (1,))
    assert repeats(((0,), (1, 0)))
    assert not repeats(((0,), (1,)))
    assert canonical_order([], {}) == ([], [])
