"""In which order the operands of a contraction are multiplied."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations
from math import prod

from tensordsl.labels import Label

Path = list[tuple[int, int]]
SEARCHED = 8  # operands up to which the best of all orders is found


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
                rest = [o for n, o in enumerate(operands) if n not in (p, q)]
                joined = [*rest, operands[p] & keep.union(*rest)]
                flags = [*(m for n, m in enumerate(inverse) if n not in (p, q)), False]
                return [(p, q), *path(joined, keep, sizes, flags)]
    numbers = {label: place for place, label in enumerate(sorted(everything))}
    search = _best if len(operands) <= SEARCHED else _searched
    return list(
        search(
            tuple(tuple(sorted(numbers[la] for la in operand)) for operand in operands),
            tuple(sorted(numbers[la] for la in keep if la in numbers)),
            tuple(sizes[la] for la in numbers),
            tuple(inverse),
        )
    )


@lru_cache(maxsize=1024)
def _best(
    operands: tuple[tuple[int, ...], ...], keep: tuple[int, ...], sizes: tuple[int, ...], inverse: tuple[bool, ...]
) -> tuple[tuple[int, int], ...]:
    """The cheapest path of all; an inverse that is not applied by solving has to be made first.

    What some of the operands multiply to is the same in whatever order, so the cheapest order is found once for each
    group of them, from those of its two parts: eight operands have 1.6 million paths, but groups with 3025 pairs of
    parts. Groups and sets of labels are numbers, a bit for each member.
    """
    own = [sum(1 << label for label in operand) for operand in operands]
    matrices = {1 << place: 2 * max(sizes[la] for la in operands[place]) ** 3 for place, f in enumerate(inverse) if f}
    every = (1 << len(operands)) - 1
    unions = [0] * (every + 1)
    for group in range(1, every + 1):
        unions[group] = unions[group & (group - 1)] | own[(group & -group).bit_length() - 1]
    wanted = sum(1 << label for label in keep)
    labels = [unions[group] & (wanted | unions[every ^ group]) for group in range(every + 1)]
    for place, mask in enumerate(own):
        labels[1 << place] = mask
    volumes: dict[int, int] = {}
    least, parts = [0] * (every + 1), [(0, 0)] * (every + 1)
    for group in range(1, every + 1):
        rest = group & (group - 1)  # without its first member, which the other part of each pair holds
        best: int | None = None
        one = rest
        while one:
            other = group ^ one
            flops = least[one] + least[other]
            if best is None or flops < best:
                both = labels[one] | labels[other]
                if both not in volumes:
                    volumes[both] = 2 * prod(size for label, size in enumerate(sizes) if both >> label & 1)
                flops += volumes[both]
                for matrix, right in ((one, other), (other, one)):
                    if matrix not in matrices:
                        continue
                    summed = labels[matrix] & labels[right]
                    solves = right not in matrices and summed.bit_count() == 1 and not summed & labels[group]
                    if not solves or labels[right].bit_count() > 2:
                        flops += matrices[matrix]
                if best is None or flops < best:
                    best, parts[group] = flops, (other, one)
            one = (one - 1) & rest
        least[group] = best or 0
    return tuple(_in_turn(parts, len(operands)))


def _in_turn(parts: Sequence[tuple[int, int]], count: int) -> Path:
    """The path that makes each group of its two parts, where there is a choice what comes first before the rest."""
    chosen, groups = set(), [(1 << count) - 1]
    for group in groups:
        if group & (group - 1):
            chosen.add(frozenset(parts[group]))
            groups += parts[group]
    current, pairs = [1 << place for place in range(count)], []
    while len(current) > 1:
        p, q = next(
            (p, q) for p, q in combinations(range(len(current)), 2) if frozenset((current[p], current[q])) in chosen
        )
        pairs.append((p, q))
        current = [*(group for place, group in enumerate(current) if place not in (p, q)), current[p] | current[q]]
    return pairs


@lru_cache(maxsize=1024)
def _searched(
    operands: tuple[tuple[int, ...], ...], keep: tuple[int, ...], sizes: tuple[int, ...], inverse: tuple[bool, ...]
) -> tuple[tuple[int, int], ...]:
    """The path that a search finds, for labels that are counted from zero."""
    labels = [frozenset(operand) for operand in operands]
    wanted, numbers = frozenset(keep), dict(enumerate(sizes))
    found = [_pairs(_opt_einsum(labels, wanted, numbers), len(labels))]
    other = _cotengra(operands, keep, sizes)
    found += [] if other is None else [_pairs(other, len(labels))]
    best = min(found, key=lambda steps: cost(labels, steps, wanted, numbers))
    return tuple(best)


def _opt_einsum(
    labels: Sequence[frozenset[Label]], keep: frozenset[Label], sizes: Mapping[Label, int]
) -> Sequence[Sequence[int]]:
    """The path that opt_einsum finds: for very many operands the best of 128 that are greedy at random."""
    import opt_einsum.paths

    state = random.getstate()  # its search is repeatable since it seeds the generator that everybody shares
    try:
        return list(opt_einsum.paths.get_path_fn("auto-hq")(list(labels), keep, dict(sizes)))
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

    if len(set(operands)) == 1:  # none grows: in turn
        return [(0, 1)] * (len(operands) - 1)
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
