"""The one multilinear operation: how contractions are joined, brought to canonical form, and added.

    (coefficient * prod_f F_f[slots_f])  summed over the labels that the output does not name

Everything linear that users write arrives here as one call of `contract`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from functools import lru_cache

from tensordsl.dims import AnySize, Shape, content, product
from tensordsl.expr import Constant, Contraction, Expr, Number, Select, Sum
from tensordsl.labels import Groups, Label, Unifier, canonical_order, flat, fuse, is_plain, rename, repeats, singles
from tensordsl.selections import Operand as Operand
from tensordsl.selections import is_whole, tidy_selections

JOIN_LIMIT = 12  # factors up to which contractions are joined: far beyond what is read, far below what is slow
FLATTEN_LIMIT = 8  # terms up to which sums are flattened, so that a long chain of additions stays linear
STRUCTURE_LIMIT = 64  # terms up to which sums of deltas are: more patterns than four axes, or five, can have


def number_of(node: Expr) -> Number | None:
    """The number that every entry of `node` is, or None."""
    if isinstance(node, Contraction) and not node.factors:
        labels = set(flat(node.output))
        if len(labels) == len(node.sizes) and not repeats(node.output):
            return node.coefficient
    return None


def zero(shape: Shape) -> Expr:
    """The tensor of zeros: a coefficient of 0 and no factor, so that nothing beside it is ever computed."""
    sizes = tuple(size for size in shape if size != 1)
    places = iter(range(len(sizes)))
    return Contraction(0, (), (), tuple(() if size == 1 else (next(places),) for size in shape), sizes, shape)


def is_zero(node: Expr) -> bool:
    return isinstance(node, Contraction) and node.coefficient == 0


def number(value: Number, shape: Shape = ()) -> Expr:
    """The tensor of `shape` whose entries are all `value`."""
    return contract(value, [], singles(range(len(shape))), dict(enumerate(shape)))


def is_flat(node: Expr) -> bool:
    """Whether a node is a sum without a sum in it. What looks into the terms of a sum stops there, so that a long
    chain of additions, which is a sum of sums, stays linear."""
    return isinstance(node, Sum) and not any(isinstance(term, Sum) for term in node.terms)


def is_structured(node: Expr) -> bool:
    """Whether an output label of `node` repeats: most of its entries are then zero by structure.

    A sum is structured where it is made of such terms and of terms repeated along an axis, as I - x 1ᵀ is.
    """
    if isinstance(node, Contraction):
        return repeats(node.output) or _scatters(node)
    if isinstance(node, Sum) and is_flat(node):
        deltas = [is_structured(term) for term in node.terms]
        return any(deltas) and all(
            delta or any(is_repeated(term, axis) for axis in range(node.ndim))
            for delta, term in zip(deltas, node.terms, strict=True)
        )
    return isinstance(node, Select)


def _scatters(node: Contraction) -> bool:
    kept = set(flat(node.output))
    return any(
        isinstance(factor, Select) and slots[-1][0] in kept
        for factor, slots in zip(node.factors, node.slots, strict=True)
    )


def is_repeated(node: Expr, axis: int) -> bool:
    """Whether the entries of `node` are the same all along an axis by structure."""
    if isinstance(node, Sum):
        return is_flat(node) and all(is_repeated(term, axis) for term in node.terms)
    if not isinstance(node, Contraction) or len(node.output[axis]) != 1:
        return False
    label = node.output[axis][0]
    bound = {la for slots in node.slots for la in flat(slots)}
    return label not in bound and sum(label in group for group in node.output) == 1


def without_axes(node: Expr, axes: list[int]) -> Expr:
    """One slice along axes where the entries of `node` are all the same."""
    if isinstance(node, Sum):
        return add_terms(
            [without_axes(term, axes) for term in node.terms],
            tuple(size for place, size in enumerate(node.shape) if place not in axes),
        )
    coefficient, operands, output, sizes = as_operands(node)
    bound = {label for _, slots in operands for label in flat(slots)}  # by a factor, along an axis of size 1
    gone = {label for place in axes for label in output[place]} - bound
    return contract(
        coefficient,
        operands,
        tuple(g for place, g in enumerate(output) if place not in axes),
        {label: size for label, size in sizes.items() if label not in gone},
    )


def as_operands(node: Expr) -> tuple[Number, list[Operand], Groups, dict[Label, AnySize]]:
    """The parts of a contraction; a node of another kind is the contraction of itself alone."""
    if isinstance(node, Contraction):
        operands = [Operand(f, s) for f, s in zip(node.factors, node.slots, strict=True)]
        return node.coefficient, operands, node.output, dict(enumerate(node.sizes))
    plain = singles(range(node.ndim))
    return 1, [Operand(node, plain)], plain, dict(enumerate(node.shape))


def contract(
    coefficient: Number,
    operands: Iterable[tuple[Expr, Groups]],
    output: Groups,
    sizes: Mapping[Label, AnySize],
    shared: frozenset[Expr] = frozenset(),
) -> Expr:
    """The contraction of `operands` to `output`, joined, simplified and canonical.

    out[output] = coefficient * sum over the labels not in output of prod_f F_f[slots_f].

    `sizes` gives the size of every label. Operands in `shared` stay single factors, since they are computed
    once for several uses; what they carry of structure is joined all the same.
    """
    given = [narrowed(node, slots) for node, slots in operands]
    groups = (output, *(slots for _, slots in given))
    if any(len(group) > 1 for axes in groups for group in axes):  # labels that stay side by side split nothing
        extents, alive = dict(sizes), dict.fromkeys(sizes)
        output, *fused = fuse(groups, extents, alive)
        given = [Operand(node, slots) for (node, _), slots in zip(given, fused, strict=True)]
        sizes = {label: extents[label] for label in alive}
    for place, (node, slots) in enumerate(given):
        # A sum of deltas is multiplied out: left whole it would be an array that is nearly all zeros.
        if isinstance(node, Sum) and is_structured(node):
            rest = given[:place], given[place + 1 :]
            return add_terms(
                [
                    contract(coefficient, [*rest[0], (term, slots), *rest[1]], output, sizes, shared)
                    for term in node.terms
                ],
                tuple(product(sizes[la] for la in group) for group in output),
            )
    unifier = Unifier(sizes)
    coefficient, joined = _join(coefficient, given, unifier, shared)
    tidied = tidy_selections(joined, output, unifier) if coefficient != 0 else None
    if tidied is None:
        return zero(tuple(product(sizes[label] for label in group) for group in output))
    return _canonical(coefficient, tidied, output, unifier)


def narrowed(node: Expr, slots: Groups) -> Operand:
    """An operand without the axes along which a sum is the same all over: labels say that better, and a size of 1."""
    if isinstance(node, Sum) and is_flat(node):
        repeated = [axis for axis in range(node.ndim) if node.shape[axis] == 1 or is_repeated(node, axis)]
        if repeated:
            kept = tuple(group for axis, group in enumerate(slots) if axis not in repeated)
            return Operand(without_axes(node, repeated), kept)
    return Operand(node, slots)


def _join(
    coefficient: Number, given: list[Operand], unifier: Unifier, shared: frozenset[Expr]
) -> tuple[Number, list[Operand]]:
    """Put the factors of inner contractions in the place of the contractions."""
    uses: dict[Expr, int] = {}
    count = 0
    for node, _ in given:
        uses[node] = uses.get(node, 0) + 1
        count += len(node.factors) if isinstance(node, Contraction) else 1
    joined: list[Operand] = []
    for whole_node, given_slots in given:
        common, node, slots = normal_sum(whole_node, given_slots)
        coefficient = coefficient * common
        if not isinstance(node, Contraction):
            joined.append(Operand(node, slots))
            continue
        whole = len(node.factors) <= 1 or (
            count <= JOIN_LIMIT
            and node not in shared
            and not (uses[node] > 1 and len(node.sizes) > len(set(flat(node.output))))
        )
        state = unifier.copy()
        scale, parts, inner_output, inner_sizes = as_operands(node) if whole else split_structure(node)
        names = {label: state.fresh(size) for label, size in inner_sizes.items()}
        parts = [Operand(part, rename(groups, names)) for part, groups in parts]
        # What a slice is taken along stays one label: a slice of a group is no slice of its labels.
        sliced = [
            groups[-1]
            for part, groups in (*given, *joined, *parts)
            if isinstance(part, Select) and part.length is not None and not is_whole(part)
        ]
        if all(
            state.unify(slot, tuple(names[la] for la in group)) for slot, group in zip(slots, inner_output, strict=True)
        ) and all(len(state.resolve(group)) == 1 for group in sliced):
            unifier.adopt(state)
            coefficient = coefficient * scale
            joined.extend(parts)
        else:  # an axis split in another way: the factor stays as it is, and its value is reshaped
            joined.append(Operand(node, slots))
    return coefficient, joined


def _is_core(node: Contraction) -> bool:
    """Whether nothing of a contraction is structure: its output labels are bound, distinct and ungrouped."""
    bound = {label for slots in node.slots for label in flat(slots)}
    return is_plain(node.output) and not _scatters(node) and all(label in bound for label in flat(node.output))


def split_structure(node: Contraction) -> tuple[Number, list[Operand], Groups, dict[Label, AnySize]]:
    """A contraction as labels around a core: one factor whose output labels are bound, distinct and ungrouped.

    The deltas, ones, groups and scattered slices stay outside; what must be computed is inside.
    """
    sizes = dict(enumerate(node.sizes))
    kept = dict.fromkeys(flat(node.output))
    if _is_core(node):
        core, labels = with_coefficient(node, 1), singles(kept)
        return node.coefficient, [Operand(core, labels)], labels, {label: sizes[label] for label in kept}
    scattered = [
        Operand(f, s)
        for f, s in zip(node.factors, node.slots, strict=True)
        if isinstance(f, Select) and s[-1][0] in kept
    ]
    inside = [Operand(f, s) for f, s in zip(node.factors, node.slots, strict=True) if Operand(f, s) not in scattered]
    for _, slots in scattered:
        kept.update(dict.fromkeys(flat(slots)))
    bound = {la for _, slots in inside for la in flat(slots)}
    core_labels = [la for la in kept if la in bound]
    within = bound | {la for la in sizes if la not in kept}
    core = contract(1, inside, singles(core_labels), {la: sizes[la] for la in within})
    outside = {la: sizes[la] for la in kept}
    return node.coefficient, [*scattered, Operand(core, singles(core_labels))], node.output, outside


def reoriented(node: Contraction, symmetric: frozenset[Expr]) -> Expr:
    """The contraction with the axes of symmetric factors in the order that the canonical form gives them."""
    coefficient, operands, output, sizes = as_operands(node)
    return _canonical(coefficient, operands, output, Unifier(sizes), symmetric)


def _canonical(
    coefficient: Number,
    operands: Sequence[Operand],
    output: Groups,
    unifier: Unifier,
    symmetric: frozenset[Expr] = frozenset(),
) -> Expr:
    """Resolve, tidy and order: the same factors under other names and in another order give the same object."""
    sizes = unifier.sizes
    shape = tuple(product(sizes[label] for label in group) for group in output)

    def resolve(groups: Groups) -> Groups:
        return tuple(tuple(label for label in unifier.resolve(group) if sizes[label] != 1) for group in groups)

    nodes, all_slots = [], []
    for node, slots in operands:
        if isinstance(node, Constant) and node.ndim == 0:
            coefficient = coefficient * node.array.item()
        else:
            nodes.append(node)
            all_slots.append(resolve(slots))
    alive = {atom: None for label in list(sizes) for atom in resolve(((label,),))[0]}
    output = resolve(output)
    if any(len(group) > 1 for groups in (output, *all_slots) for group in groups):
        before = (all_slots, output)
        *all_slots, output = fuse([*all_slots, output], sizes, alive)
        if (all_slots, output) != before and any(isinstance(node, Contraction) for node in nodes):
            # What was kept apart by how its axis was split may be joined now.
            live = {label: sizes[label] for label in alive}
            return contract(coefficient, list(zip(nodes, all_slots, strict=True)), output, live)

    kept = dict.fromkeys(flat(output))
    bound = {label for slots in all_slots for label in flat(slots)}
    summed = [label for label in alive if label not in kept and label in bound]
    idle = [label for label in alive if label not in kept and label not in bound]
    if idle:  # summed over nothing: the sum multiplies by the sizes, one number and one label of what is symbolic
        whole, sizes[idle[0]] = content(product(sizes[label] for label in idle))
        coefficient = coefficient * whole
        summed += idle[:1] if sizes[idle[0]] != 1 else []
    coefficient = _tidy_number(coefficient)
    if coefficient == 0:
        return zero(shape)
    if (
        len(nodes) == 1
        and not summed
        and all_slots[0] == output
        and not repeats(output)
        and all(len(group) == (size != 1) for group, size in zip(output, nodes[0].shape, strict=True))
    ):
        if coefficient == 1:
            return nodes[0]
        if is_flat(nodes[0]):
            return scale(coefficient, nodes[0])

    if (
        len(nodes) == 1
        and isinstance(nodes[0], Sum)
        and not summed
        and not repeats(output)
        and is_flat(nodes[0])
        and all(len(group) <= 1 for group in (*output, *all_slots[0]))
    ):
        # A sum whose axes are only renamed is the sum of its terms with their axes renamed.
        live = {label: sizes[label] for label in kept}
        return add_terms(
            [contract(coefficient, [(term, all_slots[0])], output, live) for term in nodes[0].terms], shape
        )

    keys = [(node.order, tuple(map(len, slots))) for node, slots in zip(nodes, all_slots, strict=True)]
    labels = [flat(slots) for slots in all_slots]
    free = [node in symmetric and len(flat(s)) == len(s) for node, s in zip(nodes, all_slots, strict=True)]
    if len(summed) <= 1:
        order = [*kept, *summed]
        rank = {label: place for place, label in enumerate(order)}
        places = [[rank[label] for label in own] for own in labels]
        places = [sorted(own) if unordered else own for own, unordered in zip(places, free, strict=True)]
        factor_order = sorted(range(len(nodes)), key=lambda f: (keys[f], places[f]))
    else:
        colours = {label: place for place, label in enumerate(kept)}
        ranks = {text: rank for rank, text in enumerate(sorted({str(sizes[label]) for label in summed}))}
        colours.update({label: len(kept) + ranks[str(sizes[label])] for label in summed})
        order, factor_order = canonical_order(list(zip(keys, labels, strict=True)), colours, free)
    names = {label: place for place, label in enumerate(order)}
    if any(free):
        turned = [sorted(s, key=lambda g: names[g[0]]) if f else s for s, f in zip(all_slots, free, strict=True)]
        if turned != all_slots:
            all_slots = [tuple(slots) for slots in turned]
            if len(nodes) == 1 and coefficient == 1 and not summed and all_slots[0] == output and not repeats(output):
                return nodes[0]  # the transpose of a symmetric matrix
    return Contraction(
        coefficient,
        tuple(nodes[f] for f in factor_order),
        tuple(rename(all_slots[f], names) for f in factor_order),
        rename(output, names),
        tuple(sizes[label] for label in order),
        shape,
    )


def _tidy_number(value: Number) -> Number:
    return value.numerator if isinstance(value, Fraction) and value.denominator == 1 else value


# --- sums ---------------------------------------------------------------------------------------------------------


def split_coefficient(node: Expr) -> tuple[Number, Expr]:
    """A number and what it multiplies."""
    if not isinstance(node, Contraction) or node.coefficient == 0:
        return 1, node
    return node.coefficient, with_coefficient(node, 1)


def common_coefficient(node: Sum) -> tuple[Number, Expr]:
    """The number that every term of a sum is multiplied by, up to its sign, and what it multiplies."""
    common = common_number([split_coefficient(term)[0] for term in node.terms])
    if common == 1:
        return 1, node
    return common, add_terms([scale(reciprocal(common), term) for term in node.terms], node.shape)


def normal_sum(node: Expr, slots: Groups) -> tuple[Number, Expr, Groups]:
    """A sum as a factor: without what its terms have in common, the first of them positive, its axes in one order.

    So (x - y) c and -(y - x) c are one object, and so are R S and (Rᵀ)ᵀ S where R and Rᵀ are sums of their own.
    """
    if not isinstance(node, Sum):
        return 1, node, slots
    common, body = common_coefficient(node)
    if not isinstance(body, Sum) or not is_flat(body) or len(body.terms) > FLATTEN_LIMIT:
        return common, body, slots
    sign, turns, found = _normal(body)
    return common * sign, found, slots[::-1] if turns else slots


@lru_cache(maxsize=1 << 13)
def _normal(node: Sum) -> tuple[int, bool, Expr]:
    """The sign, whether it is transposed, and the sum that stands for a sum, its negative and its transpose."""
    turns = False
    if node.ndim == 2:
        labels = {0: node.shape[0], 1: node.shape[1]}
        terms = [contract(1, [(term, ((0,), (1,)))], ((1,), (0,)), labels) for term in node.terms]
        other = add_terms(terms, node.shape[::-1])
        if isinstance(other, Sum) and _plainness(other) < _plainness(node):
            node, turns = other, True
    bodies = sorted((split_coefficient(term)[::-1] for term in node.terms), key=lambda part: _leading(part[0]))
    first = bodies[0][1]
    negative = not isinstance(first, complex) and first < 0
    return (-1, turns, scale(-1, node)) if negative else (1, turns, node)


def _leading(body: Expr) -> tuple[bool, int, list[list[int]], tuple[int, str, str]]:
    """A number first, then what has few factors, however their axes stand; of two names the later: x - mu, Y - X B."""
    names = sorted([-ord(letter) for letter in factor.title] for factor, _ in as_operands(body)[1])
    return number_of(body) is None, len(names), names, body.order


def _plainness(node: Sum) -> tuple[object, ...]:
    """What the order of the axes is chosen by: how many terms are transposes of a factor, then the labels.

    Matrices that may be known to be symmetric count the same either way, so that this does not undo what is known.
    """
    single = [term for term in node.terms if isinstance(term, Contraction) and len(term.factors) == 1]
    turned = sum(term.slots[0] == term.output[::-1] for term in single)
    labels = []
    for term in node.terms:
        _, operands, output, _ = as_operands(term)
        slots = [(f.digest, tuple(sorted(s)) if f.ndim == 2 and f.shape[0] == f.shape[1] else s) for f, s in operands]
        labels.append((output, sorted(slots)))
    return turned, sorted(labels)


def reciprocal(value: Number) -> Number:
    return Fraction(1) / value if isinstance(value, int | Fraction) else 1 / value


def common_number(numbers: Sequence[Number]) -> Number:
    """The magnitude that all numbers share, with their sign where they share that too; one where they share none."""
    real: list[int | Fraction | float] = [number for number in numbers if not isinstance(number, complex)]
    if len(real) < len(numbers) or len({repr(abs(number)) for number in real}) > 1:
        return 1
    first = real[0]
    return -first if first < 0 and any(number != first for number in real) else first


def with_coefficient(node: Contraction, coefficient: Number) -> Expr:
    """The contraction with another coefficient."""
    coefficient = _tidy_number(coefficient)
    if coefficient == 0:
        return zero(node.shape)
    if repr(coefficient) == repr(node.coefficient):
        return node
    if coefficient == 1 and len(node.factors) == 1:  # perhaps nothing is left but the factor
        return contract(1, *as_operands(node)[1:])
    return Contraction(coefficient, node.factors, node.slots, node.output, node.sizes, node.shape)


def scale(factor: Number, node: Expr) -> Expr:
    """`factor * node`."""
    if factor == 1:
        return node
    if isinstance(node, Sum) and is_flat(node):
        return add_terms([scale(factor, term) for term in node.terms], node.shape)
    if isinstance(node, Contraction):
        return with_coefficient(node, factor * node.coefficient)
    return contract(factor, *as_operands(node)[1:])


def add_terms(terms: Sequence[Expr], shape: Shape) -> Expr:
    """The sum of terms of one shape: flattened, like terms collected, terms of one structure joined in their cores."""
    collected: dict[Expr, Number] = {}
    room = FLATTEN_LIMIT
    for term in terms:
        parts: Sequence[Expr] = [term]
        if isinstance(term, Sum):
            if len(term.terms) <= room:
                parts = term.terms
                room -= len(parts)
            elif len(term.terms) <= STRUCTURE_LIMIT and is_structured(term):
                parts = term.terms  # nested, the deltas would be lost to what looks for them in the terms
        for part in parts:
            coefficient, body = split_coefficient(part)
            if not is_zero(body):
                collected[body] = collected.get(body, 0) + coefficient
    found = [scale(coefficient, body) for body, coefficient in collected.items() if coefficient != 0]
    if len(found) > 1:
        found = _merge_structures(found)
    if not found:
        return zero(shape)
    if len(found) == 1:
        return found[0]
    return Sum(tuple(sorted(found, key=lambda node: node.order)))


def _merge_structures(terms: list[Expr]) -> list[Expr]:
    """Terms whose deltas are the same become one term: (c_i + d_i) δ_ij, so that sums of structures stay short."""
    groups: dict[object, list[tuple[Number, list[Operand], Groups, dict[Label, AnySize]]]] = {}
    for place, term in enumerate(terms):
        key: object = place
        parts = None
        if isinstance(term, Contraction) and is_structured(term):
            found = split_structure(term)
            _, operands, output, sizes = found
            if not is_structured(operands[-1].node):  # else, as a slice of a slice is, a sum of cores falls apart again
                parts = found
                scattered = tuple((node.digest, slots) for node, slots in operands[:-1])
                key = (output, scattered, tuple(sizes[label] for label in flat(output)))
        groups.setdefault(key, []).append(parts if parts is not None else as_operands(term))
    if len(groups) == len(terms):
        return terms
    merged = []
    for key, members in groups.items():
        if len(members) == 1:
            coefficient, operands, output, sizes = members[0]
            merged.append(terms[key] if isinstance(key, int) else contract(coefficient, operands, output, sizes))
            continue
        _, operands, output, sizes = members[0]
        labels = list(dict.fromkeys(label for _, parts, _, _ in members for label in flat(parts[-1].slots)))
        labels.sort()
        own = {label: sizes[label] for label in labels}
        core = add_terms(
            [contract(c, [parts[-1]], singles(labels), own) for c, parts, _, _ in members], tuple(own.values())
        )
        merged.append(contract(1, [*operands[:-1], Operand(core, singles(labels))], output, sizes))
    return [term for term in merged if not is_zero(term)]
