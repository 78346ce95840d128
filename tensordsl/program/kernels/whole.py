"""Functions of whole arrays, and entries taken by lists of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tensordsl.program.kernels.base import Count, Kernel, Size, signature


@dataclass(frozen=True)
class Gather(Kernel):
    """Entries taken by lists of places along some axes: the lists are the operands after the first."""

    axes: tuple[int, ...] = ()

    kind = "gather"

    def source(self, names: Sequence[str], size: Size) -> str:
        x, *places = names
        if len(self.axes) == 1:
            return f"np.take({x}, {places[0]}, axis={self.axes[0]})"
        order = [*self.axes, *(p for p in range(len(self.inputs[0])) if p not in self.axes)]
        if order != sorted(order):
            x += f".transpose({', '.join(map(str, order))})"
        return f"{x}[{', '.join(places)}]"

    @property
    def title(self) -> str:
        return signature([self.inputs[0]], self.output)


# Matrices like the first operand that NumPy and LAPACK hold on the way, as measured; LAPACK's are seen in the resident
# size of the process alone. Of a stack, NumPy's own functions take one matrix after the other.
OF_ONE_MATRIX = {"inv": 2, "det": 1, "logdet": 1, "cholesky": 1, "eigvalsh": 1, "nuclear_norm": 1}
OF_ALL = {
    "logsumexp": 2, "prod_others": 2, "eigenvectors": 3, "sqrtm": 3, "pinv": 7, "expm": 7, "polar": 7, "adjugate": 7,
    "solve_sylvester": 7,
}  # fmt: skip


@dataclass(frozen=True)
class Apply(Kernel):
    """A function of whole arrays, such as an inverse."""

    template: str
    name: str
    kind = "apply"

    @property
    def title(self) -> str:
        return self.name

    def hidden(self, count: Count) -> int:
        if self.template.startswith("np.linalg.solve"):  # the matrix and the right side, as LAPACK wants them
            return sum(map(count, self.inputs))
        first = self.inputs[0] if self.inputs else ()
        matrices = OF_ONE_MATRIX.get(self.name, 0) if self.template.startswith("np.linalg.") else 0
        return matrices * count(first[-2:]) + OF_ALL.get(self.name, 0) * count(first)

    def source(self, names: Sequence[str], size: Size) -> str:
        return self.template.format(*names)


@dataclass(frozen=True)
class Places(Kernel):
    """The positions that a selection takes by its pattern."""

    template: str
    name: str
    kind = "gather"

    @property
    def title(self) -> str:
        return self.name

    def source(self, names: Sequence[str], size: Size) -> str:
        return self.template
