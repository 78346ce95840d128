"""Bounds: what has to go through a memory of some size for a product of two arrays, in whatever order it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp, inf, log, prod

import numpy as np

from tensordsl.labels import Label

LOADS = tuple(2.0**power for power in range(-3, 5))  # how much is loaded in one part of a run, in times of the memory


def least_moved(arrays: Sequence[frozenset[Label]], sizes: Mapping[Label, int], words: float, workers: int) -> float:
    """The entries that are read and written at the least by workers which hold so many `words` each.

    `arrays` are the labels of the factors, two arrays, and of the result: n = ∏ sizes multiplications. A worker that
    reads X entries meanwhile works with no more than Y = words + X of them, which are enough for V(Y) multiplications.
    So all read X (n / V(Y) - workers) together, whatever X is, where an entry of the result that begins counts as read:
    each of them is written, or added to one that is read, later. By the inequality of Hölder, Brascamp and Lieb
    V <= ∏ (entries of array i)^s_i ∏ (size of label l)^z_l for all s, z >= 0 with Σ_(i has l) s_i + z_l >= 1; the least
    of these is a linear program (Dinh and Demmel, arXiv 2003.00119), and the product over entries that are Y together
    is the largest where they are as s. For large matrices and one worker that is 2mnk/√words - 2 words (Smith, Lowery,
    Langou and van de Geijn, arXiv 1702.02017).
    """
    labels = sorted(frozenset().union(*arrays))
    number = prod(sizes[label] for label in labels)
    if not number:
        return 0.0
    found = 0.0
    for times in LOADS:
        logarithm = _multiplications(arrays, labels, sizes, words + times * words)
        found = max(found, times * words * (number * exp(-logarithm) - workers))
    return found


def _multiplications(
    arrays: Sequence[frozenset[Label]], labels: Sequence[Label], sizes: Mapping[Label, int], entries: float
) -> float:
    """The logarithm of how many multiplications so many entries of the arrays are enough for, at the most."""
    from scipy.optimize import linprog

    costs = [log(entries)] * len(arrays) + [log(sizes[label]) for label in labels]
    cover = [[-(label in own) for own in arrays] + [-(label == other) for other in labels] for label in labels]
    best = linprog(costs, cover, [-1] * len(labels))
    if best.x is None:  # the solver has failed: nothing is known
        return inf
    powers = best.x[: len(arrays)]
    shares = powers[powers > 0] / max(powers.sum(), 1e-300)
    return float(best.fun + np.sum(powers[powers > 0] * np.log(shares)))
