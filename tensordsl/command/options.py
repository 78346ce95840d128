"""The options that commands share, and the words that they take."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer


class Form(StrEnum):
    INDEX = "index"
    CASES = "cases"
    DIFFERENTIAL = "differential"
    SLICES = "slices"
    MATRIX = "matrix"
    EINSUM = "einsum"
    ALL = "all"


class Convention(StrEnum):
    UNCONSTRAINED = "unconstrained"
    SYMMETRIC = "symmetric"
    VECH = "vech"


class Dialect(StrEnum):
    NUMPY = "numpy"
    MATRIX = "matrix"
    MATLAB = "matlab"
    LATEX = "latex"


Expression = Annotated[
    str, typer.Argument(metavar="EXPR", show_default=False, help="The expression, such as 'A * outer(x, x)'.")
]
Wrt = Annotated[str, typer.Option("--wrt", metavar="NAME", show_default=False, help="The symbol to differentiate by.")]
MaybeWrt = Annotated[
    str | None, typer.Option("--wrt", metavar="NAME", show_default=False, help="Take the derivative by this symbol.")
]
Order = Annotated[int, typer.Option("--order", metavar="N", min=1, max=6, help="The order of the derivative.")]
Shapes = Annotated[
    list[str],
    typer.Option(
        "--shape",
        metavar="NAME=SIZES",
        show_default=False,
        help="The shape of a symbol, as in A=k,k or x=5; once for each. 'c=' is a scalar.",
    ),
]
Assumptions = Annotated[
    list[str],
    typer.Option(
        "--assume",
        metavar="NAME=PROPERTY",
        show_default=False,
        help="What is known of a symbol, as in S=symmetric: "
        "symmetric, positive, positive_definite, diagonal, orthogonal, lower or upper; as often as needed.",
    ),
]
Conventions = Annotated[
    Convention,
    typer.Option(
        "--convention",
        help="How the entries of a symmetric matrix vary: each by itself, among symmetric matrices, or those of vech.",
    ),
]
Data = Annotated[
    list[str],
    typer.Option(
        "--data",
        metavar="NAME=FILE",
        show_default=False,
        help="The data of a symbol: a .npy, .npz, .csv or .zarr file, a number, or a JSON list; once for each.",
    ),
]
Sizes = Annotated[
    list[str],
    typer.Option(
        "--size", metavar="NAME=N", show_default=False, help="The number behind a size, as in k=1000; once for each."
    ),
]
Dialects = Annotated[
    Dialect, typer.Option("--dialect", help="How EXPR is written: with NumPy's names, as matrices, MATLAB or LaTeX.")
]
Ascii = Annotated[bool, typer.Option("--ascii", help="Write formulas in plain ASCII.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")]
