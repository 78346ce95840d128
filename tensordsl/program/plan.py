"""`plan`: what would run, with sizes, flops and bytes, without running it."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from html import escape
from os import PathLike
from pathlib import Path
from typing import Any

from tensordsl.dims import check_name
from tensordsl.errors import PlanError, UnsupportedError, amount
from tensordsl.expr import Expr, operation, operations
from tensordsl.functions.convert import as_expr
from tensordsl.program.build import build, dimensions
from tensordsl.program.instructions import Instruction, Program
from tensordsl.program.picture import dot, picture
from tensordsl.program.table import TITLES, WORDS, Row, count, rows, written


class Plan:
    """What would run, for the sizes given: `print(plan)` shows it as a table, `plan.save("plan.svg")` as a picture.

    The share of a step in the time is estimated from its flops and bytes: it compares steps, and is no measurement.
    """

    def __init__(self, program: Program, expressions: Sequence[Expr]) -> None:
        self.program = program
        self.expressions = tuple(expressions)

    @property
    def steps(self) -> tuple[Instruction, ...]:
        """The instructions in order."""
        return self.program.instructions

    @property
    def flops(self) -> int:
        """Floating-point operations, roughly."""
        return self.program.flops

    @property
    def bytes(self) -> int:
        """Bytes read and written by all steps, in float64."""
        return self.program.bytes

    @property
    def peak_bytes(self) -> int:
        """The most bytes alive at once, the result included and the data not, in float64."""
        return self.program.peak_bytes

    @property
    def result_bytes(self) -> int:
        """Bytes of the result, in float64."""
        return self.program.result_bytes

    def rows(self) -> list[Row]:
        """The table: what each step computes, with its costs and its share of them; the steps of blocks below them."""
        return rows(self.program)

    def head(self) -> str:
        """The sizes that the costs are for."""
        sizes = ", ".join(
            f"{name} = {size}" + (" (assumed)" if name in self.program.assumed else "")
            for name, size in sorted(self.program.sizes.items())
        )
        return sizes or "no symbolic sizes"

    def foot(self) -> str:
        """The totals."""
        return (
            f"{count(self.flops)} flops, {amount(self.bytes)} moved, {amount(self.peak_bytes)} at the peak, "
            f"{amount(self.result_bytes)} of result"
        )

    def __str__(self) -> str:
        lines = table([TITLES, *(cells for cells, _ in written(self.rows()))])
        rule = "─" * max(map(len, lines))
        return "\n".join([self.head(), lines[0], rule, *lines[1:], rule, self.foot()])

    def __repr__(self) -> str:
        return f"<plan of {len(self.steps)} steps: {self.foot()}>"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"

    # --- as a picture -------------------------------------------------------------------------------------------------

    def to_dot(self) -> str:
        """The plan in the language of Graphviz: data, steps and results, the dearer the darker, blocks in frames."""
        return dot(self.program, f"{self.head()}\n{self.foot()}")

    def to_svg(self) -> str:
        """The plan as a picture, drawn by the program `dot` of Graphviz; `UnsupportedError` where that is missing."""
        return picture(self.to_dot(), "svg").decode()

    def save(self, path: str | PathLike[str]) -> None:
        """Write the plan as a picture, `plan.svg`, `.png` or `.pdf`, or as its source, `plan.dot`."""
        Path(path).write_bytes(picture(self.to_dot(), Path(path).suffix.lower().removeprefix(".")))


def table(lines: Sequence[tuple[str, ...]], words: int = WORDS) -> list[str]:
    """Lines of cells in columns: `words` of words, then numbers, which go to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if column < words else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]


def byte_count(memory: int | str | None) -> int | None:
    """A number of bytes, as 2_000_000_000, "2GB" or "1.5 GiB"."""
    if memory is None or (isinstance(memory, int) and not isinstance(memory, bool) and memory >= 0):
        return memory
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kKMGTP]?)(i?)[bB]?\s*", memory) if isinstance(memory, str) else None
    if found is None:
        raise PlanError(f"memory={memory!r} is no amount of memory. Give bytes, or a text such as '2GiB' or '500MB'.")
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** " KMGTP".index(unit.upper() or " "))


def plan(
    e: Any,
    data: Any = None,
    /,
    *,
    memory: int | str | None = None,
    chunks: Any = None,
    layout: str | None = None,
    **sizes: Any,
) -> Any:
    """What would run for an expression, or a tuple of them, at the sizes given by name: `td.plan(e, k=1000)`.

    A size that is not given is assumed to be 100, and the plan says so. Bytes are those of float64, and the peak counts
    the result and what is alive beside it, not the data. With `memory` the plan is one that keeps its peak within it.

    With `data`, as `td.store` takes it, or with `chunks`, the lengths of the chunks that arrays are stored in (one for
    all axes, or for each name one or one for each axis), the plan is that of `td.store`: a `ChunkedPlan`, with the
    tiles of each array, what is read and written, and the tasks, of a result in the `layout` given.

    Raises `PlanError` for a size that is none, and where no plan keeps within the memory.

    >>> import tensordsl as td
    >>> k = td.dim("k")
    >>> x, A = td.vector("x", k), td.matrix("A", k, k)
    >>> td.plan(A @ x, k=1000).flops
    2000000
    >>> p = td.plan(td.jacobian(A * td.outer(x, x), x), k=50_000, chunks=5_000, memory="2GiB")
    >>> p.layout, p.peak_bytes < 2 * 2**30
    ('structured', True)
    """
    expressions = [as_expr(item) for item in (e if isinstance(e, tuple | list) else [e])]
    if not expressions:
        raise UnsupportedError("There is nothing to plan: the tuple of expressions is empty.")
    known = dimensions(expressions) | {d.name for item in expressions for d in item.dims}
    if "memory" in known and isinstance(memory, int):
        sizes, memory = {**sizes, "memory": memory}, None
    if "chunks" in known and isinstance(chunks, int) and data is None:
        sizes, chunks = {**sizes, "chunks": chunks}, None
    if data is not None or chunks is not None or layout is not None:
        return operations["plan_chunked"](e, data, memory=memory, chunks=chunks, layout=layout, sizes=sizes)
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise PlanError(f"The size {name} must be a whole number that is not negative, not {size!r}.")
        if name not in known:
            have = ", ".join(sorted(known)) or "none"
            raise PlanError(f"The expression has no size called {name!r}; its sizes are {have}.")
    return Plan(build(expressions, sizes, dtype="float64", memory=byte_count(memory)), expressions)


@operation("to_python")
def to_python(e: Expr, name: str = "f") -> str:
    """The source of one function that computes an expression and needs only NumPy (SciPy, for special functions)."""
    program = build([e], {}, name=check_name(name, "a function", "e.to_python('f')"))
    lines = [
        f"{key} = np.array({value.tolist()!r}, dtype=np.{value.dtype.name})"  # type: ignore[attr-defined]
        for key, value in program.constants.items()
    ]
    routines = [text for called, routine in program.routines.items() for text in ("", "", source_of(routine, called))]
    return "\n".join(["import numpy as np", *([""] if lines else []), *lines, *routines, "", "", program.source])


def source_of(routine: Callable[..., object], called: str) -> str:
    """The source of a routine under the name it is called by, without the types that only its author needs."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(routine)))
    except (OSError, TypeError, SyntaxError):
        raise UnsupportedError(
            f"The source of {routine.__name__} cannot be read, so that it cannot be handed on: define it in a file."
        ) from None
    definition = tree.body[0]
    if not isinstance(definition, ast.FunctionDef):
        raise UnsupportedError(f"{routine.__name__} is no function that was defined with `def`: define it in a file.")
    definition.name, definition.decorator_list, definition.returns = called, [], None
    for argument in definition.args.args:
        argument.annotation = None
    return ast.unparse(definition)
