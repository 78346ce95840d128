"""The matrices that a text names without data: identities, ones, commutation matrices, selections, basis vectors."""

from __future__ import annotations

from tensordsl.dims import AnySize
from tensordsl.expr import Pattern, Select
from tensordsl.notation import tree as t
from tensordsl.printing.names import size_tree
from tensordsl.printing.pieces import IDENTITY
from tensordsl.printing.selections import pattern_tree, slice_tree


class Special:
    """Writes them so that no name is one of the symbols `taken`; `sized`, with the size of every identity.

    `dims` are the sizes that a reader knows, `positions` those whose basis vectors read e_k.
    """

    def __init__(self, sized: bool, taken: frozenset[str], dims: frozenset[str], positions: frozenset[str]) -> None:
        self.sized = sized
        self.taken = taken
        self.dims = dims
        self.positions = positions

    def identity(self, size: AnySize) -> t.Tree:
        if "I" in self.taken:
            return t.Call("identity", (size_tree(size),))
        return t.Call("I", (size_tree(size),)) if self.sized else IDENTITY

    def commutation(self, rows: AnySize, columns: AnySize) -> t.Tree:
        sizes = (size_tree(rows), size_tree(columns))
        if "K" in self.taken:
            return t.Call("commutation", sizes)
        return t.Call("K", sizes) if self.sized else t.Name("K")

    def length(self, size: AnySize) -> t.Tree:
        """A size as a number: by its name if the text shows it elsewhere, for a reader knows no other."""
        known = isinstance(size, int) or size.names <= self.dims
        return size_tree(size) if known else t.Call("sum", (self.ones(size),))

    def ones(self, size: AnySize) -> t.Tree:
        return t.Call("ones", (size_tree(size),))

    def selection(self, node: Select) -> t.Tree:
        """Rows of the identity, or the matrix of a pattern by its name."""
        if isinstance(node.positions, Pattern):
            return pattern_tree(node.positions)
        cut = slice_tree(node)
        name = t.Call("I" if "I" not in self.taken else "identity", (size_tree(node.axis_size),))
        return t.Subscript(name, (cut, t.Slice(None, None, None)))

    def basis(self, node: Select) -> t.Tree:
        if str(node.start) in self.positions:
            return t.Name(f"e_{node.start}")
        return t.Call("basis", (size_tree(node.axis_size), size_tree(node.start)))
