"""The matrix dialect: vectors are columns, and every value is a matrix or a scalar."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tensordsl.dims import AnySize, Dim
from tensordsl.expr import Expr
from tensordsl.functions import multilinear as m
from tensordsl.functions import operators
from tensordsl.functions.convert import as_expr, basis, identity
from tensordsl.functions.record import elementwise_records, functions
from tensordsl.notation import tree as t
from tensordsl.notation.builder import Builder

# Functions of whole vectors: a column is one to them, not a matrix whose last axis has one entry.
OF_VECTORS = (
    "power",
    "divide",
    "norm",
    "logsumexp",
    "softmax",
    "prod_others",
    "cross",
    "dot",
    "inner",
    "max",
    "min",
    "prod",
    "var",
    "std",
)


class MatrixBuilder(Builder):
    """The matrix dialect: vectors are columns, and every value is a matrix or a scalar."""

    def finish(self, tree: t.Tree) -> Expr:
        value = super().finish(tree)
        if not self.is_column(value):
            return value
        plain: Expr = value[0, 0] if value.shape[0] == 1 else value[:, 0]
        return plain

    def column(self, value: Any) -> Expr:
        node = as_expr(value)
        return operators.expand_dims(node, 1) if node.ndim == 1 else node

    def name(self, name: str) -> Any:
        return self.column(super().name(name))

    def listed(self, tree: t.Items) -> Any:
        return self.column(self.items(tree))

    def special(self, name: str) -> Any:
        if name == "I":
            return identity(self.unknown())
        if name == "K" and not self.infer:  # a printed text leaves its sizes open; elsewhere, K is a symbol
            return m.commutation(self.unknown(), self.unknown())
        if name.startswith("e_") and name[2:].isidentifier():
            return basis(self.unknown(), Dim(name[2:]))
        return None

    def product(self, operator: str, a: Any, b: Any) -> Any:
        if operator == "@" and (a.ndim == 0 or b.ndim == 0):
            return operators.multiply(a, b)
        return super().product(operator, a, b)

    def subscript(self, base: t.Tree, keys: tuple[t.Tree, ...]) -> Any:
        value = self.operand(base)
        parts = tuple(self.key(key) for key in keys)
        if value.ndim == 2 and value.shape[1] == 1 and len(parts) == 1:
            parts = (*parts, 0) if not isinstance(parts[0], slice) else (*parts, slice(None))
            return value[parts]
        return self.column(value[parts])

    def entrywise(self, name: str, *values: Any, **options: Any) -> Any:
        """A function of columns is one of vectors; what stands among them for an order or an axis stays as it is."""
        operands = [value for value in values if isinstance(value, Expr)]
        if all(value.ndim == 0 or self.is_column(value) for value in operands):
            return self.column(functions[name](*map(self.vector, values), **options))
        return functions[name](*values, **options)

    def is_column(self, node: object) -> bool:
        return isinstance(node, Expr) and node.ndim == 2 and node.shape[1] == 1

    def vector(self, node: Any) -> Any:
        return node[:, 0] if self.is_column(node) else node

    def key(self, key: t.Tree) -> Any:
        """There are no indices here: a name is a position."""
        return self.number(key) if isinstance(key, t.Name) and key.name != "None" else super().key(key)

    def apply(self, name: str, values: list[Any], options: Mapping[str, Any]) -> Any:
        if name == "diag":
            return self.column(m.diag(self.vector(values[0])))
        if name in elementwise_records or name in OF_VECTORS:
            return self.entrywise(name, *values, **options)
        if name in ("vec", "diagonal"):
            return self.column(functions[name](values[0]))
        if name == "kron":
            return m.kron(*values)
        return self.column(functions[name](*values, **options))

    def unvec(self, vector: Any, shape: tuple[AnySize, ...]) -> Any:
        return m.unvec(self.vector(vector), shape)

    def call(self, function: str, arguments: tuple[t.Tree, ...], options: Mapping[str, t.Tree]) -> Any:
        name = "commutation" if function == "K" else function
        return self.column(super().call(name, arguments, options))

    def einsum_operand(self, tree: t.Tree, term: str) -> Any:
        value = self.operand(tree)
        axes = len(m.axes_of_subscripts(term))
        if value.ndim == 2 and axes == 1:
            return value[:, 0]
        if value.ndim == 2 and axes == 0:
            return value[0, 0]
        if value.ndim == 0:  # a tensor of one entry is written as a scalar
            return value[(None,) * axes] if axes else value
        return value
