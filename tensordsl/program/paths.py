"""In which order the operands of a contraction are multiplied."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from tensordsl.labels import Label

Path = list[tuple[int, int]]
SEARCHED = 8  # operands up to which opt_einsum looks at every order


def path(
    operands: Sequence[frozenset[Label]], keep: frozenset[Label], sizes: Mapping[Label, int], mergeable: Sequence[bool]
) -> Path:
    """Pairs to contract in turn, the result of each put last; `mergeable` says which may be multiplied at once."""
    if len(operands) <= 2:
        return [(0, 1)] * (len(operands) - 1)
    everything = frozenset().union(*operands)
    if everything <= keep:
        return _products(operands, sizes)
    # Operands on the same labels are multiplied first: nothing grows, and one contraction serves both.
    for q in range(len(operands)):
        for p in range(q):
            if operands[p] == operands[q] and mergeable[p] and mergeable[q]:
                joined = [*(o for n, o in enumerate(operands) if n not in (p, q)), operands[p]]
                flags = [*(m for n, m in enumerate(mergeable) if n not in (p, q)), True]
                return [(p, q), *path(joined, keep, sizes, flags)]
    numbers = {label: place for place, label in enumerate(sorted(everything))}
    return list(
        _searched(
            tuple(tuple(sorted(numbers[la] for la in operand)) for operand in operands),
            tuple(sorted(numbers[la] for la in keep if la in numbers)),
            tuple(sizes[la] for la in numbers),
        )
    )


@lru_cache(maxsize=1024)
def _searched(
    operands: tuple[tuple[int, ...], ...], keep: tuple[int, ...], sizes: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """The path that a search finds, for labels that are counted from zero."""
    inputs = [frozenset(operand) for operand in operands]
    found = _cotengra(operands, keep, sizes) if len(operands) > SEARCHED else None
    if found is None:
        import opt_einsum.paths

        method = "optimal" if len(operands) <= SEARCHED else "auto"
        found = opt_einsum.paths.get_path_fn(method)(inputs, frozenset(keep), dict(enumerate(sizes)))
    pairs: list[tuple[int, int]] = []
    for step in found:
        if len(step) == 2:
            pairs.append((min(step), max(step)))
        elif len(step) > 2:  # several operands at once: in turn, the last result with the next
            first, second, *rest = sorted(step)
            pairs.append((first, second))
            gone = [first, second]
            count = len(operands) - len(pairs)
            for other in rest:
                shifted = other - sum(g < other for g in gone)
                pairs.append((shifted, count))
                gone.append(other)
                count -= 1
    return tuple(pairs)


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
