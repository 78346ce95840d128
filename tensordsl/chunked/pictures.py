"""Pictures of a plan: which blocks of a result are written, and which are zero by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tensordsl.errors import UnsupportedError

if TYPE_CHECKING:
    from tensordsl.chunked.plan import ChunkedPlan

MOST = 40  # tiles of an axis that are drawn one by one
CELL = 9  # of the picture, in points
FULL, EMPTY, INK = "#1f6f8b", "#eef1f3", "#333333"


def blocks_svg(plan: ChunkedPlan) -> str:
    """The blocks of a dense result, seen along its middle axes: first axis down, last axis across.

    The darker a block, the more of those behind it are written. `UnsupportedError` for a layout without blocks.
    """
    if plan.blocks is None or len(plan.shape) < 2:
        raise UnsupportedError("The blocks of a dense result of two axes or more can be drawn; print the plan instead.")
    counts = [-(-size // block) for size, block in zip(plan.shape, plan.block_shape, strict=True)]
    rows, across = counts[0], counts[-1]
    behind = max(1, plan.blocks.along(range(1, len(counts) - 1)))
    if max(rows, across) > MOST:
        step = -(-max(rows, across) // MOST)
    else:
        step = 1
    cells = []
    for row in range(0, rows, step):
        for column in range(0, across, step):
            share = plan.blocks.share(row, column) / behind
            colour = FULL if share > 0 else EMPTY
            opacity = 0.35 + 0.65 * share if share > 0 else 1.0
            cells.append(
                f'<rect x="{column // step * CELL + 10}" y="{row // step * CELL + 24}" width="{CELL - 1}" '
                f'height="{CELL - 1}" fill="{colour}" fill-opacity="{opacity:.2f}"/>'
            )
    width, height = -(-across // step) * CELL + 20, -(-rows // step) * CELL + 34
    title = f"{plan.blocks.count():,} blocks of {' x '.join(map(str, plan.block_shape))} are written"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{max(width, 330)}" height="{height}" '
        f'font-family="sans-serif" font-size="11" fill="{INK}"><text x="10" y="15">{title}</text>{"".join(cells)}</svg>'
    )
