"""What the command and the demonstration print with: formulas, readings and plans, on a terminal or into a pipe."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from rich import box
from rich.console import Console, RenderableType
from rich.highlighter import RegexHighlighter
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text
from rich.theme import Theme

from tensordsl.printing.forms import Reading
from tensordsl.program.plan import Plan
from tensordsl.program.table import TITLES, WORDS, Row, percent

NEEDED = "∂ᵀ∘⊗δ≠─│╭═█▏▎▍▌▋▊▉·×"  # what readings and tables are written with
NARROW = 90  # columns below which a plan is set closer
UNLIMITED = 20_000  # columns of a pipe: a formula stays on its line

SAID = {  # what each form is, for a person who meets it for the first time
    "index": "an index not named after the arrow is summed",
    "cases": "by which indices coincide; every overlap is spelled out",
    "differential": "what a small change of the variable does",
    "slices": "the derivative by one entry; e is a standard basis vector",
    "matrix": "vec stacks columns, vectors are columns",
    "einsum": "the program that runs",
}

THEME = Theme(
    {
        "formula.delta": "bold magenta",
        "formula.operator": "yellow",
        "formula.function": "cyan",
        "formula.index": "bright_blue",
        "formula.words": "dim",
        "heading": "bold green",
        "aside": "dim",
        "good": "green",
        "bar": "yellow",
    }
)


class FormulaHighlighter(RegexHighlighter):
    """Colours for formulas in any of the plain-text forms."""

    base_style = "formula."
    highlights = (
        r"(?P<operator>->|!=|[∘⊗@*/+≠=])",
        r"(?P<function>\b[a-z_]\w*)(?=\()",
        r"(?P<function>\bI\b)",
        r"(?P<index>\[[^\[\]]*\])",
        r"(?P<delta>δ|\bdelta\b)",
        r"(?P<words>\b(where|otherwise|for all|and|or)\b)",
    )


formula = FormulaHighlighter()


def can_unicode(stream: TextIO) -> bool:
    """Whether a stream can write the signs of the readings."""
    try:
        NEEDED.encode(getattr(stream, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


class Page:
    """Where output goes: a terminal, in colours and its own width, or a pipe, plainly and with no trailing blanks."""

    def __init__(
        self, ascii: bool = False, piped_width: int = UNLIMITED, stream: TextIO | None = None, width: int | None = None
    ) -> None:
        self.stream = sys.stdout if stream is None else stream
        self.ascii = ascii or not can_unicode(self.stream)
        self.plain = not self.stream.isatty()
        if self.ascii and hasattr(self.stream, "reconfigure"):
            self.stream.reconfigure(errors="backslashreplace")
        self.console = Console(
            file=self.stream,
            theme=THEME,
            highlight=False,
            markup=False,
            emoji=False,
            force_terminal=False if self.plain else None,
            no_color=True if self.plain else None,
            width=width or (piped_width if self.plain else None),
        )

    @property
    def width(self) -> int:
        return self.console.width

    @property
    def frame(self) -> box.Box:
        return box.ASCII if self.ascii else box.ROUNDED

    def show(self, *items: RenderableType) -> None:
        """Print each item on lines of its own; nothing prints an empty line."""
        for item in items or ("",):
            if self.plain:
                with self.console.capture() as captured:
                    self.console.print(item)
                self.stream.write("\n".join(line.rstrip() for line in captured.get().splitlines()) + "\n")
            else:
                self.console.print(item)

    def raw(self, text: str) -> None:
        """Print a text as it is, however long its lines are."""
        self.stream.write(text + "\n")

    def heading(self, title: str, aside: str = "") -> None:
        self.show(Text.assemble((title, "heading"), (f"  {aside}" if aside else "", "aside")))

    def panel(self, lines: Sequence[Text | str], title: str = "") -> None:
        """Lines in a frame; in a pipe without one."""
        texts = [line if isinstance(line, Text) else Text(line) for line in lines]
        body = Text("\n").join(texts)
        if self.plain:
            if title:
                self.show(title, "")
            self.show(body)
        else:
            self.show(
                Panel(
                    body,
                    title=Text(title, style="heading") if title else None,
                    title_align="left",
                    box=self.frame,
                    expand=False,
                    border_style="aside",
                    padding=(0, 1),
                )
            )

    def prose(self, *parts: str | tuple[str, str], style: str = "") -> None:
        """A paragraph, set in as far as the formulas are."""
        rows = Table.grid(padding=0)
        rows.add_row("  ", Text.assemble(*parts, style=style))
        self.show(rows)

    # --- formulas -------------------------------------------------------------------------------------------------

    def equation(self, left: str, text: str) -> None:
        """`left = text`, its further lines under the first."""
        rows = Table.grid(padding=0)
        rows.add_column(no_wrap=True)
        rows.add_column(overflow="fold")
        rows.add_row(formula(Text(f"  {left} = ")), formula(Text(text)))
        self.show(rows)

    def readings(self, found: Iterable[Reading], plan: Plan | None = None) -> None:
        """Readings under headings. The program is shown as a table where its plan is given."""
        last = ""
        lines = set()
        for reading in found:
            if (reading.form, reading.line) in lines:  # vec(dF) is dF where F is a vector
                continue
            lines.add((reading.form, reading.line))
            form, left = reading.form, reading.left
            layout, colon, rest = left.partition(": ")
            if colon:
                form, left = f"{form}, {layout}", rest
            if form != last:
                if last:
                    self.show()
                self.heading(form, SAID.get(form, ""))
                last = form
            if reading.form == "einsum" and plan is not None:
                self.plan(plan)
            elif reading.form == "einsum":
                self.raw("\n".join("  " + line for line in reading.text.splitlines()))
            else:
                self.equation(left, reading.text)

    def source(self, code: str) -> Text:
        """Python source, coloured."""
        syntax = Syntax(code, "python", theme="ansi_dark", background_color="default")
        text = syntax.highlight(code)
        text.rstrip()
        text.no_wrap, text.overflow = False, "fold"
        return text

    def plan(self, plan: Plan) -> None:
        """A plan as a table, with the sizes it is for, its totals, and bars for the shares of the cost."""
        self.prose(f"for {plan.head()}", style="aside")
        table = self.table(padding=(0, 1, 0, 0) if self.width < NARROW else (0, 1))
        for place, title in enumerate(TITLES[:-1]):
            table.add_column(title, justify="left" if place < WORDS else "right", no_wrap=title != "instruction")
        table.add_column(TITLES[-1], no_wrap=True)
        for row in plan.rows():
            self._steps(table, row)
        self.show(table)
        self.prose(plan.foot(), style="aside")

    def _steps(self, table: Table, row: Row) -> None:
        """The row of a step, those in its blocks below it."""
        *words, flops, moved, _ = row.cells()
        text = Text(row.text) if row.body else self.source(row.text)
        table.add_row(*words[:-1], text, flops, moved, self.bar(row.share))
        for inner in row.body:
            kind, labels, source, flops, *_ = inner.cells(within=True)
            table.add_row(Text(kind, style="aside"), labels, self.source(source), Text(flops, style="aside"), "", "")

    def bar(self, share: float) -> Text:
        """A share of the whole as a bar, and in percent."""
        width = 5 if self.width < NARROW else 10
        eighths = round(8 * width * share)
        drawn = "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8] * (eighths % 8 > 0)
        if self.ascii:
            drawn = "#" * round(width * share)
        return Text.assemble((drawn.ljust(width), "bar"), f" {percent(share):>5}")

    def table(self, **options: Any) -> Table:
        """An empty table in the style of the page."""
        return Table(
            box=box.ASCII2 if self.ascii else box.SIMPLE_HEAD,
            border_style="aside",
            header_style="bold",
            pad_edge=not self.ascii,
            **options,
        )
