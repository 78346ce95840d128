"""The errors a user can meet. Each message says what was given, what was expected, where, and the way out."""

from __future__ import annotations

from collections.abc import Iterable


class TensorDSLError(Exception):
    """Any error of tensordsl: what was given, what was expected, where, and the way out.

    >>> import tensordsl as td
    >>> try:
    ...     td.grad(td.vector("x", 3), td.vector("x", 3))
    ... except td.TensorDSLError as error:
    ...     print(error)
    The gradient is of a scalar, shape (); given was
        x[i] -> [i]  has shape (3,)   <-- ^
    Use td.jacobian(F, x), or sum the entries first.
    """


class ShapeError(TensorDSLError):
    """Sizes or orders that do not fit together.

    `sizes`, when given, is the pair of sizes that should have been equal, and `axes` the nodes and axes that have
    them: shape inference reads both.
    """

    def __init__(
        self,
        message: str,
        sizes: tuple[object, object] | None = None,
        axes: tuple[tuple[object, int], ...] = (),
    ) -> None:
        super().__init__(message)
        self.sizes = sizes
        self.axes = axes


class ParseError(TensorDSLError):
    """Text that is no expression, or a name that is no name."""


class BindError(TensorDSLError):
    """Data that is missing, ill-shaped, or of a kind that cannot be computed with."""


class PlanError(TensorDSLError):
    """A computation that cannot be planned as asked."""


class UnsupportedError(TensorDSLError):
    """Something that has no rule here; the message names the rule that is missing."""


class DerivativeError(TensorDSLError):
    """A derivative that differs from a numerical one."""


def mark(text: str, start: int, stop: int | None = None, window: int = 72) -> str:
    """`text` on one line with a caret under its characters from `start` to `stop`."""
    stop = max(start + 1, stop if stop is not None else start + 1)
    left = max(0, start - window // 2)
    shown = text[left : left + window].replace("\n", " ").replace("\t", " ")
    lead, tail = ("…" if left else ""), ("…" if left + window < len(text) else "")
    width = max(1, min(stop, left + window) - start)
    return f"    {lead}{shown}{tail}\n    {' ' * (len(lead) + start - left)}{'^' * width}"


def show_shape(shape: Iterable[object]) -> str:
    """A shape as a person writes it: `(k, 3)`, `()` for a scalar."""
    sizes = [str(size) for size in shape]
    return f"({sizes[0]},)" if len(sizes) == 1 else f"({', '.join(sizes)})"


def describe(operands: Iterable[tuple[str, Iterable[object], bool]]) -> str:
    """One line for each operand (its text, its shape, whether it is at fault), the one at fault marked."""
    rows = [(text if len(text) <= 60 else text[:59] + "…", show_shape(shape), bad) for text, shape, bad in operands]
    width = max((len(text) for text, _, _ in rows), default=0)
    return "\n".join(f"    {text:<{width}}  has shape {shape}{'   <-- ^' if bad else ''}" for text, shape, bad in rows)


def amount(size: int) -> str:
    """Bytes as a person reads them: 4.1 MB."""
    for limit, unit in ((10**15, "PB"), (10**12, "TB"), (10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= limit:
            return f"{size / limit:.3g} {unit}"
    return f"{size} B"


def words(error: BaseException) -> str:
    """What an error of somebody else's says, on one line and not too long."""
    return " ".join(str(error).split())[:200].rstrip(".") or type(error).__name__
