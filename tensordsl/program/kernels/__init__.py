"""What an instruction can be, and how each is written in NumPy."""

from tensordsl.program.kernels.base import LETTERS, Count, Kernel, Labels, Size, align, letters, shape_text, signature
from tensordsl.program.kernels.entrywise import Map, Total
from tensordsl.program.kernels.product import Product, product
from tensordsl.program.kernels.storage import Empty, Full, Pack, Scatter, Stack, Write
from tensordsl.program.kernels.views import Arrange, Broadcast, Diagonal, Index, Reshape, View
from tensordsl.program.kernels.whole import Apply, Gather, Places

__all__ = [
    "LETTERS",
    "Apply",
    "Arrange",
    "Broadcast",
    "Count",
    "Diagonal",
    "Empty",
    "Full",
    "Gather",
    "Index",
    "Kernel",
    "Labels",
    "Map",
    "Pack",
    "Places",
    "Product",
    "Reshape",
    "Scatter",
    "Size",
    "Stack",
    "Total",
    "View",
    "Write",
    "align",
    "letters",
    "product",
    "shape_text",
    "signature",
]
