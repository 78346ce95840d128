"""Pure functions on labels: the small ints that name the axes of factors.

An axis carries a *group* of labels, the first the slowest, as in a C-ordered reshape: `(1, 0)` is an axis that is two
labels long, `(0,)` an ordinary one, `()` an axis of size one. `Groups` are the axes of one factor, or of the output.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from tensordsl.dims import AnySize, divide, product

Label = int
Group = tuple[Label, ...]
Groups = tuple[Group, ...]

SEARCH_LIMIT = 2000  # leaves of the canonical search; beyond it the best form found so far is taken


def flat(groups: Iterable[Group]) -> tuple[Label, ...]:
    return tuple(label for group in groups for label in group)


def singles(labels: Iterable[Label]) -> Groups:
    """One ordinary axis for each label."""
    return tuple((label,) for label in labels)


def rename(groups: Groups, names: Mapping[Label, Label]) -> Groups:
    return tuple(tuple(names[label] for label in group) for group in groups)


def repeats(groups: Groups) -> bool:
    """Whether a label stands twice: the structure that a Kronecker delta is."""
    labels = flat(groups)
    return len(set(labels)) < len(labels)


def is_plain(groups: Groups) -> bool:
    """Whether every axis is one label, and no label stands twice."""
    return all(len(group) == 1 for group in groups) and not repeats(groups)


class Unifier:
    """Labels under unification: a label may turn out equal to another, or to a group of finer labels."""

    def __init__(self, sizes: Mapping[Label, AnySize]) -> None:
        self.sizes = dict(sizes)
        self._next = max(self.sizes, default=-1) + 1
        self._replaced: dict[Label, Group] = {}

    def copy(self) -> Unifier:
        other = Unifier({})
        other.sizes, other._next, other._replaced = dict(self.sizes), self._next, dict(self._replaced)
        return other

    def adopt(self, other: Unifier) -> None:
        """Take over what another, begun as a copy of this one, has found out."""
        self.sizes, self._next, self._replaced = other.sizes, other._next, other._replaced

    def fresh(self, size: AnySize) -> Label:
        label, self._next = self._next, self._next + 1
        self.sizes[label] = size
        return label

    def resolve(self, group: Group) -> Group:
        """The group in labels that are replaced no further."""
        if not self._replaced:
            return group
        found: list[Label] = []
        for label in group:
            replacement = self._replaced.get(label)
            if replacement is None:
                found.append(label)
            else:
                found.extend(self.resolve(replacement))
        return tuple(found)

    def replace(self, label: Label, group: Group) -> None:
        self._replaced[label] = group

    def unify(self, a: Group, b: Group) -> bool:
        """Make two groups equal, splitting labels where one group is finer. False where no split fits both."""
        sizes = self.sizes

        def atoms(group: Sequence[Label]) -> list[Label]:
            return [label for label in self.resolve(tuple(group)) if sizes[label] != 1]

        left, right = atoms(a), atoms(b)
        while left and right:
            p, q = left[0], right[0]
            if p == q:
                del left[0], right[0]
            elif sizes[p] == sizes[q]:
                self._replaced[q] = (p,)
                left, right = atoms(left[1:]), atoms(right[1:])
            else:
                coarse, fine = p, q
                rest = divide(sizes[coarse], sizes[fine])
                if rest is None:
                    coarse, fine = q, p
                    rest = divide(sizes[coarse], sizes[fine])
                if rest is None or rest == 0 or coarse in self.resolve((fine,)):
                    return False
                self._replaced[coarse] = (fine, self.fresh(rest))
                left, right = atoms(left), atoms(right)
        return not left and not right


def fuse(groups_of: Sequence[Groups], sizes: dict[Label, AnySize], alive: dict[Label, None]) -> list[Groups]:
    """Labels that always stand side by side in one order are one label of the product of their sizes.

    The labels that are absorbed are taken out of `alive`.
    """
    after: dict[Label, Label | None] = {}
    before: dict[Label, Label | None] = {}
    for groups in groups_of:
        for group in groups:
            for place, label in enumerate(group):
                successor = group[place + 1] if place + 1 < len(group) else None
                predecessor = group[place - 1] if place else None
                after[label] = successor if after.get(label, successor) == successor else None
                before[label] = predecessor if before.get(label, predecessor) == predecessor else None
    joined = {a: b for a, b in after.items() if b is not None and before[b] == a and a != b}
    if not joined:
        return list(groups_of)
    absorbed = set(joined.values())
    for head in [label for label in joined if label not in absorbed]:
        run = [head]
        while run[-1] in joined:
            run.append(joined[run[-1]])
        sizes[head] = product(sizes[label] for label in run)
    for label in absorbed:
        alive.pop(label, None)
    return [tuple(tuple(label for label in group if label not in absorbed) for group in groups) for groups in groups_of]


def canonical_order(
    factors: Sequence[tuple[Hashable, tuple[Label, ...]]],
    colours: Mapping[Label, int],
    symmetric: Sequence[bool] = (),
) -> tuple[list[Label], list[int]]:
    """An order of labels and of factors that does not depend on how either was given.

    `factors` are (key, labels) with keys that can be sorted, `colours` the classes of labels that are known to differ.
    Colour refinement tells labels apart by the factors and slots they stand in; what is left equal is told apart by
    individualising one label of the first undecided class and refining again, and the least form is kept. Two leaves
    of one search node with the same form differ by an automorphism, so only the first of such branches is searched.
    The axes of factors that are `symmetric` may stand in any order.
    """
    free = list(symmetric) or [False] * len(factors)
    ranks = {key: rank for rank, key in enumerate(sorted({key for key, _ in factors}))}  # type: ignore[type-var]
    edges = [(ranks[key], labels) for key, labels in factors]

    def refine(colour: dict[Label, int]) -> dict[Label, int]:
        classes = len(set(colour.values()))
        while classes < len(colour):
            seen: dict[Label, list[tuple[object, int]]] = {label: [] for label in colour}
            for (rank, labels), unordered in zip(edges, free, strict=True):
                signature = (rank, seen_as(colour, labels, unordered))
                for slot, label in enumerate(labels):
                    seen[label].append((signature, 0 if unordered else slot))
            described = {label: (colour[label], tuple(sorted(seen[label]))) for label in colour}
            order = {key: rank for rank, key in enumerate(sorted(set(described.values())))}
            colour = {label: order[described[label]] for label in colour}
            if len(order) == classes:
                break
            classes = len(order)
        return colour

    def seen_as(colour: Mapping[Label, int], labels: tuple[Label, ...], unordered: bool) -> tuple[int, ...]:
        colours_here = [colour[label] for label in labels]
        return tuple(sorted(colours_here) if unordered else colours_here)

    def form(colour: dict[Label, int]) -> tuple[tuple[int, tuple[int, ...]], ...]:
        return tuple(
            sorted((rank, seen_as(colour, la, any_order)) for (rank, la), any_order in zip(edges, free, strict=True))
        )

    leaves = 0

    def undecided(colour: dict[Label, int]) -> list[Label]:
        cells: dict[int, list[Label]] = {}
        for label, value in colour.items():
            cells.setdefault(value, []).append(label)
        return min((cell for cell in cells.items() if len(cell[1]) > 1), default=(0, []))[1]

    def individualise(colour: dict[Label, int], chosen: Label) -> dict[Label, int]:
        return refine({label: 2 * value + (label != chosen) for label, value in colour.items()})

    def search(colour: dict[Label, int], first_only: bool) -> tuple[object, dict[Label, int]]:
        nonlocal leaves
        cell = undecided(colour)
        if not cell:
            leaves += 1
            order = {value: rank for rank, value in enumerate(sorted(colour.values()))}
            colour = {label: order[value] for label, value in colour.items()}
            return form(colour), colour
        best: tuple[object, dict[Label, int]] | None = None
        known: set[object] = set()
        for label in cell:
            finer = individualise(colour, label)
            if best is None:
                if first_only:
                    return search(finer, True)
                best = search(finer, False)
                known.add(search(finer, True)[0])
                continue
            if leaves > SEARCH_LIMIT:
                break
            probe = search(finer, True)[0]
            if probe in known:
                continue
            known.add(probe)
            found = search(finer, False)
            if found[0] < best[0]:  # type: ignore[operator]
                best = found
        assert best is not None
        return best

    final = search(refine(dict(colours)), False)[1] if colours else {}
    label_order = sorted(final, key=final.__getitem__)
    factor_order = sorted(range(len(edges)), key=lambda f: (edges[f][0], seen_as(final, edges[f][1], free[f])))
    return label_order, factor_order


def unify_positions(first: Sequence[Label], second: Sequence[Label]) -> tuple[Label, ...]:
    """Labels for axes that are equal wherever either of two labellings has them equal.

    >>> unify_positions((0, 1, 0), (0, 1, 1))
    (0, 0, 0)
    """
    found = list(range(len(first)))
    for labels in (first, second):
        for axis, label in enumerate(labels):
            one, other = found[labels.index(label)], found[axis]
            found = [min(one, other) if place in (one, other) else place for place in found]
    return tuple(found)


def classes(labels: Iterable[Label], pairs: Iterable[tuple[Label, Label]]) -> dict[Label, Label]:
    """For each label the least of those that pairs tie it to, one after the other."""
    parent = {label: label for label in labels}

    def root(label: Label) -> Label:
        while parent[label] != label:
            label = parent[label]
        return label

    for a, b in pairs:
        least, other = sorted((root(a), root(b)))
        parent[other] = least
    return {label: root(label) for label in parent}
