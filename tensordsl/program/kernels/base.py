"""What an instruction can be, and how each is written in NumPy.

A kernel knows the labels of its operands' axes and of its result's: an axis of an operand and one of the result with
the same label are gone through together, whatever the kernel does along the others. So everything that rearranges
programs (blocks, storage) reads the labels, and the text comes last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from tensordsl.labels import Label

LETTERS = "ijklmnopqrstuvwxyzabcdefghABCDEFGHIJKLMNOPQRSTUVWXYZ"

Labels = tuple[Label, ...]
Size = Callable[[Label], str]  # the source of the size of a label
Count = Callable[[Sequence[Label]], int]  # how many entries an array with these labels has


def letters(labels: Sequence[Label], names: dict[Label, str]) -> str:
    return "".join(names.setdefault(label, LETTERS[len(names)]) for label in labels)


def signature(operands: Sequence[Sequence[Label]], output: Sequence[Label]) -> str:
    """The einsum text of a contraction, for people."""
    names: dict[Label, str] = {}
    left = ",".join(letters(labels, names) for labels in operands)
    return f"{left}->{letters(output, names)}"


def align(text: str, labels: Labels, order: Sequence[Label]) -> str:
    """The operand with its axes in `order`, an axis of size one for each label that it lacks."""
    present = [label for label in order if label in labels]
    if present != list(labels):
        text = (
            f"{text}.T"
            if present == list(labels)[::-1]
            else f"{text}.transpose({', '.join(str(labels.index(label)) for label in present)})"
        )
    missing = [label not in labels for label in order]
    while missing and missing[0]:  # NumPy adds axes at the left by itself
        missing.pop(0)
    if any(missing) and present:
        text = f"{text}[{', '.join('None' if gone else ':' for gone in missing)}]"
    return text


def shape_text(sizes: Sequence[str]) -> str:
    return "(" + "".join(f"{size}, " for size in sizes).rstrip(" ") + ")"


@dataclass(frozen=True)
class Kernel:
    """What one instruction does to operands whose axes carry labels."""

    inputs: tuple[Labels, ...]
    output: Labels

    kind: ClassVar[str] = ""
    writes: ClassVar[bool] = False  # it changes its first operand, which is its target
    views: ClassVar[bool] = False  # its result shares the storage of its operand

    @property
    def title(self) -> str:
        """What people read in a plan."""
        return signature(self.inputs, self.output)

    @property
    def entrywise(self) -> bool:
        """Whether entries of the result hang on the entries of operands in the same place alone."""
        return False

    def source(self, names: Sequence[str], size: Size) -> str:
        """The value, of operands that are called by `names`."""
        raise NotImplementedError

    def into(self, names: Sequence[str], size: Size, out: str) -> str | None:
        """The call that writes the value into `out`; None where NumPy has none."""
        return None

    def along(self, label: Label) -> bool:
        """Whether the kernel may be done piece by piece along a label."""
        return False

    def hidden(self, count: Count) -> int:
        """The entries of arrays that are made on the way, beside the result."""
        return 0
