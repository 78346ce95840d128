"""The index form: `A[i,j]*(x[j]*δ[i,k] + x[i]*δ[j,k]) -> [i,j,k]`.

What the arrow does not name is summed over its term; a sum inside a function or inside parentheses is written out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace

from tensordsl.contraction import (
    Operand,
    as_operands,
    is_zero,
    number_of,
    scale,
)
from tensordsl.dims import AnySize
from tensordsl.errors import TensorDSLError
from tensordsl.expr import Constant, Contraction, Elementwise, Expr, Number, Pattern, Primitive, Select, Sum, Symbol
from tensordsl.functions.convert import identity
from tensordsl.labels import Groups, Label, flat, is_plain, singles
from tensordsl.notation import tree as t
from tensordsl.notation.build import build
from tensordsl.printing.blocks import blocks, cuts_of, grid, is_structure, without_axis
from tensordsl.printing.common import common_number, common_scalars, grouped, merged, summed_over_one
from tensordsl.printing.matrix import matrix_tree
from tensordsl.printing.names import (
    clashing,
    constant_tree,
    counted,
    elementwise_tree,
    halves,
    index_names,
    is_negative,
    kind_of,
    number_tree,
    ordered_terms,
    primitive_call,
    sign_and_magnitude,
    signed,
    signed_tree,
    size_tree,
    softmax_argument,
    taken_names,
    with_number,
)
from tensordsl.printing.readable import readable
from tensordsl.printing.selections import pattern_tree, position_tree, slice_tree, slices_of
from tensordsl.rewrites.factors import common_factors, distributed

Names = tuple[str, ...]  # the index names of one axis: one, several for a group, none for an axis of size one
Scope = frozenset[str]  # the index names in use around a term
Factor = tuple[int, t.Tree, bool]  # its place in the product, its tree, whether it stands below the line


def index_tree(node: Expr, taken: frozenset[str] = frozenset()) -> t.Tree:
    """The tree of the index form; no arrow for a scalar. No index has one of the names that are `taken`."""
    tree = tensor_tree(node, taken)
    more = clashing([tree], used_indices(tree) | t.axes(tree), node, taken)
    return index_tree(node, taken | more) if more else tree


def tensor_tree(node: Expr, taken: frozenset[str], closed: bool = False) -> t.Tree:
    """The tree of a tensor, or of one within a text, where an index may still have the name of a size that is shown;
    `closed`, the sums of a scalar are written out."""
    node = distributed(readable(node))
    axes = name_axes(node, index_names(node, taken))
    printer = IndexPrinter(node, axes, taken)
    body = printer.body(node, axes, frozenset(name for names in axes for name in names), closed and node.ndim == 0)
    return body if node.ndim == 0 else t.Arrow(body, arrow_axes(body, axes, printer.sizes))


def name_axes(node: Expr, fresh: Iterator[str]) -> list[Names]:
    """Names for the axes of a node, as many for each as the finest group that stands there."""
    terms = node.terms if isinstance(node, Sum) else (node,)
    outputs = [as_operands(term)[2] for term in terms]
    counts = [1 if size != 1 else 0 for size in node.shape]
    for place in range(node.ndim):
        counts[place] = max([counts[place], *(len(output[place]) for output in outputs)])
    return [tuple(next(fresh) for _ in range(count)) for count in counts]


def arrow_axes(body: t.Tree, axes: Sequence[Names], sizes: Mapping[str, AnySize]) -> tuple[t.Axis, ...]:
    """The axes after the arrow; an index that no tensor shows carries its size."""
    known = shown_indices(body)
    return tuple(sized_axis(names, known, sizes) for names in axes)


def sized_axis(names: Sequence[str], known: Set[str], sizes: Mapping[str, AnySize]) -> t.Axis:
    extents = tuple(None if name in known else size_tree(sizes[name]) for name in names)
    return t.Axis(tuple(names), extents, len(names) != 1)


def name_sizes(node: Expr, axes: Sequence[Names]) -> dict[str, AnySize]:
    found: dict[str, AnySize] = {}
    terms = node.terms if isinstance(node, Sum) else (node,)
    for term in terms:
        _, _, output, sizes = as_operands(term)
        for names, group, size in zip(axes, output, node.shape, strict=True):
            if len(names) == 1:
                found[names[0]] = size
            elif len(names) == len(group):
                for name, label in zip(names, group, strict=True):
                    found.setdefault(name, sizes[label])
    return found


def shown_indices(tree: t.Tree) -> set[str]:
    """The indices whose size a tensor shows, or a plain δ with an index that does."""
    shown: set[str] = set()
    ties: list[tuple[str, str]] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, t.Arrow):
            continue
        if isinstance(node, t.Subscript):
            keys = [key.name for key in node.keys if isinstance(key, t.Name)]
            if isinstance(node.base, t.Name) and node.base.name == "δ":
                if len(keys) == len(node.keys):
                    ties.append((keys[0], keys[1]))
                continue
            shown.update(keys)
        stack.extend(t.children(node))
    for _ in ties:
        for a, b in ties:
            if a in shown or b in shown:
                shown.update((a, b))
    return shown


def used_indices(tree: t.Tree) -> set[str]:
    """Every name that stands in a subscript."""
    found: set[str] = set()
    stack = [tree]
    while stack:
        node = stack.pop()
        if isinstance(node, t.Subscript):
            inner = list(node.keys)
            while inner:
                part = inner.pop()
                if isinstance(part, t.Name):
                    found.add(part.name)
                inner.extend(t.children(part))
        stack.extend(t.children(node))
    return found


class IndexPrinter:
    """Prints the parts of `root`, whose axes have the names `axes`."""

    def __init__(self, root: Expr, axes: Sequence[Names], taken: frozenset[str] = frozenset()) -> None:
        self.root = root
        self.taken = taken | taken_names(root)
        self.sizes = name_sizes(root, axes)
        self.known = {dim.name for dim in root.dims}

    def dummy(self, size: AnySize, scope: Scope) -> tuple[str, Scope]:
        name = next(
            name
            for name in index_names(self.root, self.taken)
            if name not in scope and self.sizes.get(name, size) == size
        )  # an index has one size in a text
        self.sizes[name] = size
        return name, scope | {name}

    def body(self, node: Expr, axes: Sequence[Names], scope: Scope, inside: bool = False) -> t.Tree:
        """The tree of a node with names for its axes; `inside`, its sums are written out."""
        node = distributed(node)
        side_by_side = self.blocks(node, axes)
        if side_by_side is not None:
            return side_by_side
        if isinstance(node, Sum):
            sign, number, factors = self.sum(ordered_terms(node), axes, scope, inside)
            tree = self.product(number, factors)
        else:
            sign, tree = self.term(node, axes, scope, inside)
        return signed_tree(sign, tree)

    def sum(
        self,
        terms: Sequence[Expr],
        axes: Sequence[Names],
        scope: Scope,
        inside: bool,
    ) -> tuple[int, Number, list[Factor]]:
        """A sum as a sign, a number, its common factors and what is left."""
        alike, given = self.alike(terms, axes), len(axes)
        if alike and not inside:
            axes, terms, scope = self.summed_together(axes, terms, scope)
        common, rest = common_factors(terms) if alike else ((), tuple(terms))
        coefficient, bodies = common_number(rest)
        scalars, bodies = common_scalars(bodies)
        inside = inside or bool(common) or bool(scalars) or coefficient != 1
        groups = grouped(merged(bodies)) if alike else [[body] for body in bodies]
        parts = sorted((self.part(group, axes, scope, inside) for group in groups), key=lambda part: -part[0])
        kind = 3 if len(axes) == given else 1  # (A + Aᵀ) stands before the x that it is summed over
        whole = t.Sum(tuple(parts)) if len(parts) > 1 else signed_tree(*parts[0])
        factors: list[Factor] = [(kind if len(parts) > 1 else 2, whole, False)]
        names = [name for axis in axes for name in axis]
        named: dict[Label, Names] = {place: (name,) for place, name in enumerate(names)}
        for factor, places in (*common, *((scalar, ()) for scalar in scalars)):
            factors += self.factors(factor, singles(places), named, {}, scope)
        return *sign_and_magnitude(coefficient), factors

    def alike(self, terms: Sequence[Expr], axes: Sequence[Names]) -> bool:
        """Whether the axes of all terms are split as the names are."""
        parts, count = [as_operands(term) for term in terms], sum(map(len, axes))
        return all(self.fits(part, axes) and len(flat(part[2])) == count for part in parts)

    def part(self, group: Sequence[Expr], axes: Sequence[Names], scope: Scope, inside: bool) -> tuple[int, t.Tree]:
        """One term of a sum, or several that have a factor in common, with a sign."""
        if len(group) == 1:
            return self.term(group[0], axes, scope, inside)
        less = all(map(is_negative, group))
        wider, terms, scope = self.summed_together(axes, [scale(-1, term) for term in group] if less else group, scope)
        dummies = [name for names in wider[len(axes) :] for name in names]
        sign, number, factors = self.sum(terms, wider, scope, inside or bool(dummies))
        tree = self.product(number, factors)
        return -sign if less else sign, self.over(dummies, tree) if dummies and inside else tree

    def over(self, dummies: Sequence[str], tree: t.Tree) -> t.Tree:
        """A product with its sum written out."""
        return t.SumOver(replace(sized_axis(dummies, shown_indices(tree), self.sizes), grouped=False), tree)

    def summed_together(
        self, axes: Sequence[Names], terms: Sequence[Expr], scope: Scope
    ) -> tuple[Sequence[Names], Sequence[Expr], Scope]:
        """Terms that are two factors each, one of them the same in all, as (A + Aᵀ) x is: with the labels that they sum
        over that factor as axes, so that it can be taken out."""
        shared = summed_over_one(terms)
        if shared is None:
            return axes, terms, scope
        opened, sizes = shared
        for size in sizes:
            name, scope = self.dummy(size, scope)
            axes = [*axes, (name,)]
        return axes, opened, scope

    def blocks(self, node: Expr, axes: Sequence[Names]) -> t.Tree | None:
        """A sum of pieces side by side as one call; pieces with a δ are read better as they are."""
        found = blocks(node)
        if found is None or any(len(names) > 1 for names in axes):
            return None
        both = node.ndim == 2 and cuts_of(node, 0) and cuts_of(node, 1)
        rows = grid(node) if both else [found.pieces]
        if all(is_structure(cell) for row in rows for cell in row):
            return None
        if both:
            cells = tuple(t.Items(tuple(map(self.argument, row))) for row in rows)
            return t.Subscript(t.Call("block", (t.Items(cells),)), tuple(map(key, axes)))
        alone = all(piece.shape[found.axis] == 1 for piece in found.pieces)
        pieces = [without_axis(piece, found.axis) if alone else piece for piece in found.pieces]
        options = (("axis", t.Number(found.axis)),) if found.axis else ()
        items = t.Items(tuple(map(self.argument, pieces)))
        return t.Subscript(t.Call("stack" if alone else "concatenate", (items,), options), tuple(map(key, axes)))

    def fits(self, parts: tuple[Number, list[Operand], Groups, dict[Label, AnySize]], axes: Sequence[Names]) -> bool:
        """Whether the groups of a term are split as the names of the axes are."""
        _, _, output, sizes = parts
        counts: dict[Label, int] = {}
        for group, names in zip(output, axes, strict=True):
            for label in group:
                if counts.setdefault(label, len(names) - len(group) + 1) != len(names) - len(group) + 1:
                    return False
            if len(group) == len(names):
                if any(sizes[label] != self.sizes[name] for label, name in zip(group, names, strict=True)):
                    return False
            elif len(group) != 1:
                return False
        return True

    def term(self, node: Expr, axes: Sequence[Names], scope: Scope, inside: bool) -> tuple[int, t.Tree]:
        """One term with its sign."""
        if is_zero(node):
            return 1, t.Number(0)
        parts = as_operands(node)
        coefficient, operands, output, sizes = parts
        coefficient, operands = signed(coefficient, operands)
        if not self.fits(parts, axes):
            return 1, self.opaque(node, axes)
        named: dict[Label, Names] = {}
        factors: list[Factor] = []
        for group, names in zip(output, axes, strict=True):
            pieces = [names] if len(group) == 1 else [(name,) for name in names]
            for label, piece in zip(group, pieces, strict=True):
                if label in named:
                    factors += [(4, delta(a, b), False) for a, b in zip(named[label], piece, strict=True) if a != b]
                else:
                    named[label] = piece
        sliced = slices_of(operands, named)
        bound = {label for _, slots in operands for label in flat(slots)}
        dummies = []
        for label, size in sizes.items():
            if label in named or label in sliced:
                continue
            if label in bound or not self.shows(size):
                name, scope = self.dummy(size, scope)
                named[label] = (name,)
                dummies.append(name)
            else:
                factors.append((0, size_tree(size), False))
        for factor, slots in operands:
            if not (isinstance(factor, Select) and slots[-1][0] in sliced):
                factors += self.factors(factor, slots, named, sliced, scope)
        sign, magnitude = sign_and_magnitude(coefficient)
        tree = self.product(magnitude, factors)
        known = shown_indices(tree)
        if dummies and (inside or isinstance(tree, t.Sum) or not known.issuperset(dummies)):
            outside = [factor for factor in factors if used_indices(factor[1]).isdisjoint(dummies)]
            summed = self.product(1, [factor for factor in factors if factor not in outside])
            tree = self.product(magnitude, [*outside, (1, self.over(dummies, summed), False)])
        return sign, tree

    def shows(self, size: AnySize) -> bool:
        """Whether a size can be written as a number: a reader knows the sizes of symbols, and those after the arrow."""
        return isinstance(size, int) or size.names <= self.known

    def factors(
        self,
        node: Expr,
        slots: Groups,
        named: dict[Label, Names],
        sliced: dict[Label, tuple[Select, Label | None]],
        scope: Scope,
    ) -> list[Factor]:
        """A factor of a product; inner products without sums are written flat, reciprocals below the line."""
        if isinstance(node, Select) and all(len(group) == len(named[group[0]]) == 1 for group in slots):
            (column,) = named[slots[-1][0]]
            row = None if node.length is None else named[slots[0][0]][0]
            if isinstance(node.positions, Pattern) and row is not None:
                keys = (t.Name(row), t.Name(column))
                return [(kind_of(node), t.Subscript(pattern_tree(node.positions), keys), False)]
            return [(4, t.Subscript(t.Name("δ"), (t.Name(column), position_tree(node, row))), False)]
        if any(label in sliced for label in flat(slots)):
            return [(kind_of(node), self.slice(node, slots, named, sliced, scope), False)]
        axes = [tuple(name for label in group for name in named[label]) for group in slots]
        if (
            isinstance(node, Contraction)
            and node.coefficient == 1
            and self.fits(as_operands(node), axes)
            and is_plain(node.output)
            and len(node.sizes) == node.ndim
        ):
            inner = {group[0]: names for group, names in zip(node.output, axes, strict=True)}
            return [
                found
                for factor, own in zip(node.factors, node.slots, strict=True)
                for found in self.factors(factor, own, inner, {}, scope)
            ]
        if isinstance(node, Sum):
            sign, number, found = self.sum(ordered_terms(node), axes, scope, inside=True)
            if sign > 0 and number == 1:
                return found
        if isinstance(node, Elementwise) and node.record.name == "power":
            exponent = number_of(node.children[1])
            if exponent is not None and not isinstance(exponent, complex) and exponent < 0:
                base = self.body(node.children[0], axes, scope, inside=True)
                parts = base.factors if isinstance(base, t.Product) and base.operator == "*" else (base,)
                return [
                    (kind_of_tree(part), part if exponent == -1 else t.Power(part, number_tree(-exponent)), True)
                    for part in parts
                ]
        tree = self.factor(node, axes, scope)
        above, below = halves(tree)
        if any(isinstance(part, t.Number) for part in above + below):
            return [(kind_of(node), tree, False)]
        kinds = [(kind_of(node) if len(above + below) == 1 else kind_of_tree(part), part) for part in above + below]
        return [(kind, part, place >= len(above)) for place, (kind, part) in enumerate(kinds)]

    def slice(
        self,
        node: Expr,
        slots: Groups,
        named: dict[Label, Names],
        sliced: dict[Label, tuple[Select, Label | None]],
        scope: Scope,
    ) -> t.Tree:
        """`x[1:][i]`, `A[i,0]`: a factor whose axis is sliced before it is indexed."""
        whole = t.Slice(None, None, None)
        found = [sliced.get(group[0]) if len(group) == 1 else None for group in slots]
        rows = dict.fromkeys(cut[1] for cut in found if cut is not None and cut[0].positions is not None)
        # Side by side, lists are read pair by pair, and a list and a position as NumPy's rule has it.
        apart = len(rows) > 1 or (bool(rows) and any(cut is not None and cut[1] is None for cut in found))
        keys: list[t.Tree] = []
        indices: list[t.Tree] = []
        lists: list[list[t.Tree]] = [[] for _ in rows]
        for group, cut in zip(slots, found, strict=True):
            if cut is not None and cut[1] is None:
                keys.append(size_tree(cut[0].start))
                continue
            several = cut is not None and cut[1] in rows and apart
            keys.append(whole if cut is None or several else slice_tree(cut[0]))
            for row, taken in zip(rows, lists, strict=True):
                taken.append(slice_tree(cut[0]) if cut is not None and several and cut[1] == row else whole)
            labels = group if cut is None or cut[1] is None else (cut[1],)
            indices.append(key(tuple(name for label in labels for name in named[label])))
        base = self.argument(node)
        if not apart and not any(isinstance(k, t.Slice | t.Items) and k != whole for k in keys):
            places = iter(indices)
            return t.Subscript(base, tuple(next(places) if isinstance(k, t.Slice) else k for k in keys))
        result: t.Tree = base if all(k == whole for k in keys) else t.Subscript(base, tuple(keys))
        for taken in lists if apart else []:
            result = t.Subscript(result, tuple(taken))
        return t.Subscript(result, tuple(indices)) if indices else result

    def factor(self, node: Expr, axes: Sequence[Names], scope: Scope) -> t.Tree:
        keys = tuple(key(names) for names in axes)
        if isinstance(node, Symbol | Constant):
            whole = self.argument(node)
            return t.Subscript(whole, keys) if keys else whole
        if isinstance(node, Elementwise):
            x = softmax_argument(node)
            if x is not None:
                return t.Subscript(t.Call("softmax", (self.argument(x),)), keys)
            return self.elementwise(node, axes, scope)
        if isinstance(node, Primitive):
            call = primitive_call(node, map(self.argument, node.children))
            return t.Subscript(call, keys) if keys else call
        if isinstance(node, Select):
            return self.opaque(node, axes)
        return self.body(node, axes, scope, inside=True)

    def elementwise(self, node: Elementwise, axes: Sequence[Names], scope: Scope) -> t.Tree:
        arguments = tuple(self.body(child, axes, scope, inside=True) for child in node.children)
        return elementwise_tree(node, arguments)

    def opaque(self, node: Expr, axes: Sequence[Names]) -> t.Tree:
        """A value whose axes are split in another way than here: its own tensor, indexed as a whole."""
        return t.Subscript(self.argument(node), tuple(key(names) for names in axes))

    def argument(self, node: Expr) -> t.Tree:
        """A whole tensor as the argument of a function."""
        if isinstance(node, Symbol):
            return t.Name(node.name)
        if isinstance(node, Constant):
            return constant_tree(node)
        for found in (self.combined(node), whole_tree(node)):
            if found is not None:
                return found
        return unindexed(tensor_tree(node, self.taken, closed=True))

    def combined(self, node: Expr) -> t.Tree | None:
        """Scalars times whole tensors, added: `2*x - y`, which needs no indices. None for anything else."""
        if is_zero(node):
            return t.Call("zeros", tuple(map(size_tree, node.shape)))
        if node.ndim == 2 and node == identity(node.shape[0]):
            return t.Call("identity", (size_tree(node.shape[0]),))
        number, terms = common_number(ordered_terms(node) if isinstance(node, Sum) else [node])
        parts = [self.multiple(term) for term in terms] if node.ndim else [None]
        found = [part for part in parts if part is not None]
        if len(found) < len(parts):
            return None
        sign, size = sign_and_magnitude(number)
        whole = signed_tree(*found[0]) if len(found) == 1 else t.Sum(tuple(found))
        return signed_tree(sign, self.product(size, [(3, whole, False)]) if size != 1 else whole)

    def multiple(self, node: Expr) -> tuple[int, t.Tree] | None:
        """A number and scalars times a symbol, or the transpose of one, with its sign."""
        coefficient, operands, output, _ = as_operands(node)
        tensors = [(f, slots) for f, slots in operands if f.ndim]
        symbol, slots = tensors[0] if len(tensors) == 1 else (None, ())
        if not isinstance(symbol, Symbol) or not is_plain(output):
            return None
        turned = tuple(reversed(output))
        if slots != output and (symbol.ndim != 2 or slots != turned):
            return None
        whole = t.Name(symbol.name) if slots == output else t.Transpose(t.Name(symbol.name))
        scalars = [factor for f, _ in operands if not f.ndim for factor in self.factors(f, (), {}, {}, frozenset())]
        sign, number = sign_and_magnitude(coefficient)
        return sign, self.product(number, [*scalars, (3, whole, False)])

    def product(self, number: Number, factors: Sequence[Factor]) -> t.Tree:
        """Number, symbols, functions, sums, δ; equal factors as powers, reciprocals below the line."""
        ordered = arranged_factors(factors)
        return with_number(
            number,
            counted([tree for _, tree, below in ordered if not below]),
            counted([tree for _, tree, below in ordered if below]),
        )


def whole_tree(node: Expr) -> t.Tree | None:
    """A vector or a matrix in matrix notation, `Xᵀ @ A @ X`, where an index text means the same by it.

    In index texts a vector is no column, so that `x @ xᵀ` has no meaning there.
    """
    if node.ndim not in (1, 2):
        return None
    tree = matrix_tree(node, sized=True)
    if any(isinstance(part, t.Call) and part.function == "einsum" for part in t.walk(tree)):
        return None
    try:
        return tree if build(tree, {symbol.name: symbol for symbol in node.symbols}) is node else None
    except TensorDSLError:
        return None


def arranged_factors(factors: Sequence[Factor]) -> list[Factor]:
    """Factors by their kind; the entries of one tensor side by side, in the order of their indices."""
    first: dict[t.Tree, int] = {}
    keys = {}
    for place, factor in enumerate(factors):
        base = factor[1].base if isinstance(factor[1], t.Power) else factor[1]
        whole, indices = (base.base, str(base.keys)) if isinstance(base, t.Subscript) else (base, "")
        first.setdefault(whole, place)
        keys[factor] = (factor[0], first[whole], indices) if factor[0] < 3 else (factor[0], place, "")
    return sorted(factors, key=keys.__getitem__)


def kind_of_tree(tree: t.Tree) -> int:
    """Where a factor that was part of another stands, as `kind_of` says of a node."""
    base = tree.base if isinstance(tree, t.Power) else tree
    if isinstance(base, t.Name | t.Number):
        return 0 if isinstance(base, t.Name) else -1
    return 3 if isinstance(base, t.Sum) else 1 if isinstance(base, t.Subscript) else 2


def unindexed(tree: t.Tree) -> t.Tree:
    """`f(x)[i] -> [i]` as the tensor f(x) that it is."""
    match tree:
        case t.Arrow(t.Subscript(t.Call() as whole, keys), axes):
            plain = tuple(t.Axis((key.name,), (None,), False) for key in keys if isinstance(key, t.Name))
            return whole if plain == axes and len(plain) == len(keys) else tree
    return tree


def key(names: Names) -> t.Tree:
    if len(names) == 1:
        return t.Name(names[0])
    return t.Number(0) if not names else t.Items(tuple(t.Name(n) for n in names), True)


def delta(a: str, b: str) -> t.Tree:
    return t.Subscript(t.Name("δ"), (t.Name(a), t.Name(b)))
