"""In which order the operands of a contraction are multiplied."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import prod

from tensordsl.labels import Label

Path = list[tuple[int, int]]
SEARCHED = 8  # operands up to which opt_einsum looks at every order
SOLVED = 6  # operands, inverses among them, up to which every order is looked at here


def path(
    operands: Sequence[frozenset[Label]], keep: frozenset[Label], sizes: Mapping[Label, int], inverse: Sequence[bool]
) -> Path:
    """Pairs to contract in turn, the result of each put last; `inverse` says which are solved with where it can be."""
    if len(operands) <= 2:
        return [(0, 1)] * (len(operands) - 1)
    everything = frozenset().union(*operands)
    if everything <= keep:
        return _products(operands, sizes)
    # Operands on the same labels are multiplied first: nothing grows, and one contraction serves both.
    for q in range(len(operands)):
        for p in range(q):
            if operands[p] == operands[q] and not inverse[p] and not inverse[q]:
                joined = [*(o for n, o in enumerate(operands) if n not in (p, q)), operands[p]]
                flags = [*(m for n, m in enumerate(inverse) if n not in (p, q)), False]
                return [(p, q), *path(joined, keep, sizes, flags)]
    if any(inverse) and len(operands) <= SOLVED:
        return _with_solves(tuple(operands), keep, sizes, tuple(inverse))[1]
    numbers = {label: place for place, label in enumerate(sorted(everything))}
    return list(
        _searched(
            tuple(tuple(sorted(numbers[la] for la in operand)) for operand in operands),
            tuple(sorted(numbers[la] for la in keep if la in numbers)),
            tuple(sizes[la] for la in numbers),
        )
    )


def _with_solves(
    operands: tuple[frozenset[Label], ...],
    keep: frozenset[Label],
    sizes: Mapping[Label, int],
    inverse: tuple[bool, ...],
) -> tuple[int, Path]:
    """The flops of the cheapest path, and the path: an inverse that is not applied by solving has to be made first."""
    if len(operands) == 1:
        return 0, []
    best: tuple[int, Path] | None = None
    for q in range(len(operands)):
        for p in range(q):
            one, other = operands[p], operands[q]
            rest = tuple(o for n, o in enumerate(operands) if n not in (p, q))
            result = (one | other) & keep.union(*rest)
            flops = 2 * prod(sizes[label] for label in one | other)
            for matrix, right in ((p, q), (q, p)):
                solves = not inverse[right] and len(operands[matrix] & operands[right]) == 1
                solves = solves and len(operands[right]) <= 2 and not (operands[matrix] & operands[right]) <= result
                if inverse[matrix] and not solves:
                    flops += 2 * max(sizes[label] for label in operands[matrix]) ** 3
            flags = tuple(f for n, f in enumerate(inverse) if n not in (p, q))
            more, steps = _with_solves((*rest, result), keep, sizes, (*flags, False))
            if best is None or flops + more < best[0]:
                best = (flops + more, [(p, q), *steps])
    assert best is not None
    return best


@lru_cache(maxsize=1024)
def _searched(
    operands: tuple[tuple[int, ...], ...], keep: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """The path that a search finds, for labels that are counted from zero."""
    labels = [frozenset(operand) for operand in operands]
    wanted, numbers = frozenset(keep), dict(enumerate(sizes))
    found = [_pairs(_opt_einsum(labels, wanted, numbers), len(labels))]
    if len(operands) > SEARCHED:
        other = _cotengra(operands, keep, sizes)
        found += [] if other is None else [_pairs(other, len(labels))]
    best = min(found, key=lambda steps: cost(labels, steps, wanted, numbers))
    return tuple(best)


def _opt_einsum(
    labels: Sequence[frozenset[Label]], keep: frozenset[Label], sizes: Mapping[Label, int]
) -> Sequence[Sequence[int]]:
    """The path that opt_einsum finds: the best one, or for many operands the best of 128 that are greedy at random."""
    import opt_einsum.paths

    method = "optimal" if len(labels) <= SEARCHED else "auto-hq"
    state = random.getstate()  # its search is repeatable since it seeds the generator that everybody shares
    try:
        return list(opt_einsum.paths.get_path_fn(method)(list(labels), keep, dict(sizes)))
    finally:
        random.setstate(state)


def cost(
    operands: Sequence[frozenset[Label]],
    steps: Sequence[tuple[int, int]],
    keep: frozenset[Label],
    sizes: Mapping[Label, int],
) -> int:
    """The multiplications along a path."""
    current = list(operands)
    total = 0
    for p, q in steps:
        both = current[p] | current[q]
        total += prod(sizes[label] for label in both)
        current = [labels for place, labels in enumerate(current) if place not in (p, q)]
        current.append(both & keep.union(*current))
    return total


def _pairs(path: Sequence[Sequence[int]], count: int) -> Path:
    """A path that contracts any number of operands at once, as pairs."""
    pairs: list[tuple[int, int]] = []
    for step in path:
        if len(step) == 2:
            pairs.append((min(step), max(step)))
        elif len(step) > 2:  # several operands at once: in turn, the last result with the next
            first, second, *rest = sorted(step)
            pairs.append((first, second))
            gone = [first, second]
            left = count - len(pairs)
            for other in rest:
                shifted = other - sum(g < other for g in gone)
                pairs.append((shifted, left))
                gone.append(other)
                left -= 1
    return pairs


def _cotengra(
    operands: tuple[tuple[int, ...], ...], keep: tuple[int, ...], sizes: tuple[int, ...]
) -> Sequence[tuple[int, ...]] | None:
    """The path of cotengra's randomised search, made repeatable by a seed; None where it is not installed."""
    try:
        import cotengra
    except ImportError:
        return None
    search = cotengra.RandomGreedyOptimizer(max_repeats=64, seed=0, accel=False, parallel=False)
    return search(list(operands), keep, dict(enumerate(sizes)))  # type: ignore[no-any-return]


def _products(operands: Sequence[frozenset[Label]], sizes: Mapping[Label, int]) -> Path:
    """A product without sums: the smallest results first, so that full-sized arrays are passed over once."""

    def volume(labels: frozenset[Label]) -> int:
        count = 1
        for label in labels:
            count *= sizes[label]
        return count

    rest, pairs = list(operands), []
    while len(rest) > 1:
        _, _, p, q = min(
            (volume(rest[p] | rest[q]), volume(rest[p]) + volume(rest[q]), p, q)
            for p in range(len(rest))
            for q in range(p + 1, len(rest))
        )
        pairs.append((p, q))
        joined = rest[p] | rest[q]
        rest = [labels for place, labels in enumerate(rest) if place not in (p, q)] + [joined]
    return pairs
