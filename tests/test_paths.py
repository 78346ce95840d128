"""The order in which the operands of a contraction are multiplied: the cheapest, and found soon."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from itertools import combinations
from math import prod
from typing import Any, NamedTuple

import pytest

from tensordsl.program import paths

Labels = frozenset[int]
CALLS = 2000  # of functions and generators, in the search for the path of eight operands


class Network(NamedTuple):
    operands: list[Labels]
    keep: Labels
    sizes: dict[int, int]
    inverse: list[bool]

    def price(self, steps: Sequence[tuple[int, int]]) -> int:
        """Twice the multiplications along a path, and the cubes of the inverses that are not applied by solving."""
        current, total = list(zip(self.operands, self.inverse, strict=True)), 0
        for p, q in steps:
            pair = current[p], current[q]
            current = [each for place, each in enumerate(current) if place not in (p, q)]
            both = pair[0][0] | pair[1][0]
            result = both & self.keep.union(*(labels for labels, _ in current))
            total += 2 * prod(self.sizes[label] for label in both)
            for (matrix, is_inverse), (right, is_other) in (pair, pair[::-1]):
                summed = matrix & right - result
                solves = len(matrix & right) == len(summed) == 1 and len(right) <= 2 and not is_other
                if is_inverse and not solves:
                    total += 2 * max(self.sizes[label] for label in matrix) ** 3
            current.append((result, False))
        return total


def every_path(count: int) -> Any:
    if count < 2:
        yield ()
    for pair in combinations(range(count), 2):
        yield from ((pair, *more) for more in every_path(count - 1)) if count > 1 else ()


def random_network(rng: random.Random) -> Network:
    """Operands of which no two have the same labels, nor any a label that is in no other and not kept."""
    while True:
        letters = range(rng.randint(3, 6))
        sizes = {label: rng.choice([2, 3, 7, 50]) for label in letters}
        operands = [frozenset(rng.sample(letters, rng.randint(1, 3))) for _ in range(rng.randint(3, 5))]
        lonely = {la for la in letters if sum(la in labels for labels in operands) == 1}
        keep = frozenset(lonely | {la for la in letters if rng.random() < 0.2}) & frozenset().union(*operands)
        inverse = [len(labels) == 2 and rng.random() < 0.4 for labels in operands]
        if len(set(operands)) == len(operands) and not frozenset().union(*operands) <= keep:
            return Network(operands, keep, sizes, inverse)


def test_no_path_is_cheaper() -> None:
    rng = random.Random(0)
    for _ in range(300):
        network = random_network(rng)
        found = network.price(paths.path(*network))
        assert found == min(map(network.price, every_path(len(network.operands)))), network


def test_equal_labels_are_joined_to_what_others_need() -> None:
    """Of two operands on the same labels, what both are summed over is gone before the others are looked at."""
    operands = [frozenset(labels) for labels in ((0, 1), (0, 2), (2, 3), (0, 1))]
    network = Network(operands, frozenset({3}), {0: 3, 1: 100, 2: 40, 3: 5}, [False] * 4)
    assert network.price(paths.path(*network)) == 2 * (3 * 100 + 3 * 40 + 40 * 5)


@pytest.mark.parametrize("inverse", [False, True], ids=["arrays", "inverses"])
@pytest.mark.parametrize("size", [2, 100])
def test_eight_operands_are_looked_at_group_by_group(size: int, inverse: bool) -> None:
    """Path by path there are a million of them."""
    ring = [frozenset((place, (place + 1) % 8)) for place in range(8)]
    network = Network(ring, frozenset({0, 3, 6}), dict.fromkeys(range(8), size), [inverse] * 8)
    calls = 0

    def count(_frame: Any, event: str, _argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    before = sys.getprofile()
    paths._best.cache_clear()
    sys.setprofile(count)
    try:
        paths.path(*network)
    finally:
        sys.setprofile(before)
    assert calls <= CALLS
