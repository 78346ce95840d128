"""What each kernel does to arrays of any namespace, by its labels, in the words of the Array API standard.

The standard has no einsum, no diagonals of more than two axes, no slices backwards in every library, and no writing
to lists of places; programs have all of these. No array is changed but one that the program made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from math import prod
from typing import Any

import numpy as np

from tensordsl.execution.namespaces import Space
from tensordsl.program.kernels import (
    Apply,
    Arrange,
    Broadcast,
    Diagonal,
    Full,
    Gather,
    Index,
    Kernel,
    Labels,
    Map,
    Pack,
    Places,
    Product,
    Reshape,
    Scatter,
    Total,
    Write,
)

Run = Callable[..., Any]


@dataclass(frozen=True)
class Site:
    """Where a kernel is planned: over a space, for a result of a shape, with what the names in its texts stand for."""

    space: Space
    known: Mapping[str, Any]
    numpy: Mapping[str, Any]  # the same names where they are of places, which are no data
    shape: tuple[int, ...]

    def read(self, text: str) -> Any:
        """The number, shape or key that a text says."""
        return eval(text, dict(self.numpy))  # noqa: S307 - a piece of the program's own source

    def function(self, template: str, count: int) -> Run:
        """The function of arrays that a template says."""
        names = [f"a{place}" for place in range(count)]
        text = f"lambda {', '.join(names)}: {template.format(*names)}"
        return eval(text, dict(self.known))  # type: ignore[no-any-return]  # noqa: S307 - as above


# --- products, and functions entry by entry -------------------------------------------------------------------------


@singledispatch
def step(kernel: Kernel, site: Site) -> Run:
    """The function of arrays that a kernel is."""
    raise TypeError(f"{type(kernel).__name__} has no meaning over other namespaces")


def aligned(site: Site, x: Any, labels: Labels, order: Labels) -> Any:
    """The operand with its axes in `order`, an axis of size one for each label that it lacks."""
    if not labels:
        return x
    present = [label for label in order if label in labels]
    if present != list(labels):
        x = site.space.xp.permute_dims(x, tuple(labels.index(label) for label in present))
    if len(present) < len(order):
        x = x[tuple(slice(None) if label in labels else None for label in order)]
    return x


@step.register
def _(kernel: Product, site: Site) -> Run:
    (la, lb), output, space = kernel.inputs, kernel.output, site.space
    if kernel.entrywise:

        def multiply(a: Any, b: Any) -> Any:
            a, b = space.together(a, b)
            return aligned(site, a, la, output) * aligned(site, b, lb, output)

        return multiply
    batch = tuple(label for label in output if label in la and label in lb)
    rows = tuple(label for label in output if label not in lb)
    columns = tuple(label for label in output if label not in la)
    summed = kernel.summed

    def contract(a: Any, b: Any) -> Any:
        """A product of matrices, one for each place of the batch."""
        a, b = space.together(a, b)
        sizes = dict(zip((*la, *lb), (*a.shape, *b.shape), strict=True))

        def folded(x: Any, labels: Labels, first: Labels, second: Labels) -> Any:
            shape = (*(sizes[label] for label in batch), entries(sizes, first), entries(sizes, second))
            x = aligned(site, x, labels, (*batch, *first, *second))
            return x if x.shape == shape else space.xp.reshape(x, shape)

        product = space.xp.matmul(folded(a, la, rows, summed), folded(b, lb, summed, columns))
        order = (*batch, *rows, *columns)
        shape = tuple(sizes[label] for label in order)
        product = product if product.shape == shape else space.xp.reshape(product, shape)
        return aligned(site, product, order, output)

    return contract


def entries(sizes: Mapping[Any, int], labels: Labels) -> int:
    return prod(sizes[label] for label in labels)


@step.register
def _(kernel: Map, site: Site) -> Run:
    count = len(kernel.arguments)
    slots = ", ".join(f"{{{place}}}" for place in range(count))
    function = site.function(f"{kernel.ufunc}({slots})" if kernel.ufunc else kernel.template, count)
    numbers = [site.read(argument) if isinstance(argument, str) else None for argument in kernel.arguments]
    space = site.space

    def apply(*operands: Any) -> Any:
        values = [
            aligned(site, operands[argument], kernel.inputs[argument], kernel.output)
            if isinstance(argument, int)
            else number
            for argument, number in zip(kernel.arguments, numbers, strict=True)
        ]
        # Operators of some libraries take no numbers of two kinds. Truth values are no numbers.
        places = [place for place, value in enumerate(values) if space.kind(value)]
        if places:
            for place, value in zip(places, space.together(*[values[place] for place in places]), strict=True):
                values[place] = value
        return function(*values)

    return apply


@step.register
def _(kernel: Total, site: Site) -> Run:
    (labels,) = kernel.inputs
    axes = tuple(place for place, label in enumerate(labels) if label not in kernel.output)
    return lambda x: site.space.xp.sum(x, axis=axes)


# --- the same entries, seen or laid otherwise -----------------------------------------------------------------------


@step.register
def _(kernel: Arrange, site: Site) -> Run:
    return lambda x: aligned(site, x, kernel.inputs[0], kernel.output)


@step.register
def _(kernel: Diagonal, site: Site) -> Run:
    xp = site.space.xp

    def diagonal(x: Any) -> Any:
        labels = kernel.inputs[0]
        while len(set(labels)) < len(labels):
            label = next(label for label in labels if labels.count(label) > 1)
            first, second = [place for place, other in enumerate(labels) if other == label][:2]
            rest = [place for place in range(len(labels)) if place not in (first, second)]
            x = xp.linalg.diagonal(xp.permute_dims(x, (*rest, first, second)))
            labels = (*(labels[place] for place in rest), label)
        return aligned(site, x, labels, kernel.output)

    return diagonal


@step.register
def _(kernel: Index, site: Site) -> Run:
    keys = key_of(site, kernel.keys)

    def index(x: Any) -> Any:
        key, turned = forwards(keys, x.shape)
        return flipped(site, x[key], turned)

    return index


def key_of(site: Site, texts: Sequence[str]) -> tuple[slice | int, ...]:
    found = eval(f"key[{', '.join(texts)},]", {**site.numpy, "key": np.s_})  # noqa: S307 - the program's own source
    return tuple(found)


def forwards(keys: Sequence[slice | int], shape: Sequence[int]) -> tuple[tuple[slice | int, ...], tuple[int, ...]]:
    """The key with all its slices forwards, since not every library takes others, and the axes to turn round then."""
    found: list[slice | int] = []
    turned: list[int] = []
    for key, size in zip(keys, shape, strict=True):
        if isinstance(key, slice):
            places = range(size)[key]
            if places.step < 0:
                turned.append(sum(isinstance(other, slice) for other in found))
                places = places[::-1]
            key = slice(places.start, min(places.stop, size), places.step)  # noqa: PLW2901
        found.append(key)
    return tuple(found), tuple(turned)


def flipped(site: Site, x: Any, axes: tuple[int, ...]) -> Any:
    return site.space.xp.flip(x, axis=axes) if axes else x


@step.register
def _(kernel: Reshape, site: Site) -> Run:
    return lambda x: site.space.xp.reshape(x, site.shape)


@step.register
def _(kernel: Broadcast, site: Site) -> Run:
    return lambda x: spread(site, x, kernel.inputs[0], kernel.output)


def spread(site: Site, x: Any, labels: Labels, order: Labels) -> Any:
    return site.space.xp.broadcast_to(aligned(site, site.space.array(x), labels, order), site.shape)


@step.register
def _(kernel: Pack, site: Site) -> Run:
    xp = site.space.xp
    dtype = site.function(kernel.dtype, len(kernel.inputs)) if kernel.dtype else None

    def pack(x: Any, *others: Any) -> Any:
        whole = xp.reshape(x, site.shape) if kernel.shape else spread(site, x, kernel.inputs[0], kernel.output)
        return xp.astype(whole, dtype(x, *others) if dtype else whole.dtype, copy=True)

    return pack


@step.register
def _(kernel: Gather, site: Site) -> Run:
    xp, axes = site.space.xp, kernel.axes

    def gather(x: Any, *places: Any) -> Any:
        if len(axes) == 1:
            return xp.take(x, places[0], axis=axes[0])
        rest = [axis for axis in range(x.ndim) if axis not in axes]
        along = [x.shape[axis] for axis in axes]
        flat = sum(place * prod(along[after + 1 :]) for after, place in enumerate(places))
        x = xp.reshape(xp.permute_dims(x, (*axes, *rest)), (prod(along), *(x.shape[axis] for axis in rest)))
        return xp.take(x, flat, axis=0)

    return gather


# --- whole arrays ---------------------------------------------------------------------------------------------------


@step.register
def _(kernel: Apply, site: Site) -> Run:
    return site.function(kernel.template, len(kernel.inputs))


@step.register
def _(kernel: Places, site: Site) -> Run:
    places = site.space.array(site.read(kernel.template))
    return lambda: places


@step.register
def _(kernel: Full, site: Site) -> Run:
    space, value = site.space, site.read(kernel.value)
    dtype = site.function(kernel.dtype, len(kernel.inputs)) if kernel.dtype else None

    def full(*operands: Any) -> Any:
        kind = space.dtype(value) if dtype is None else dtype(*operands)
        return space.xp.full(site.shape, value, dtype=kind, device=space.device)

    return full


# --- into an array that the program made ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """The part of an array that a kernel writes: in a shape that splits its axes, along each the positions taken.

    The position r of an axis is that of the label beside it, or, where the label is gathered, one of a list.
    """

    shape: tuple[int, ...]
    keys: tuple[slice | int, ...]
    labels: tuple[Any, ...]  # None for the axes of which one position is taken

    def places(self, site: Site, order: Labels, lists: Mapping[Any, tuple[Any, Any]]) -> tuple[Any, ...]:
        """An array of positions for each axis, its own axes those of the labels in `order`."""
        xp, device, whole = site.space.xp, site.space.device, site.space.whole
        found = []
        for key, size, label in zip(self.keys, self.shape, self.labels, strict=True):
            if isinstance(key, int):
                found.append(xp.full((1,) * len(order), key, dtype=whole, device=device))
                continue
            taken = range(size)[key]
            row, places = lists.get(label, (label, None))
            if places is None:
                places = xp.arange(len(taken), dtype=whole, device=device) * taken.step + taken.start
            found.append(xp.reshape(places, tuple(-1 if other == row else 1 for other in order)))
        return tuple(found)


def part_of(kernel: Write, site: Site) -> Part:
    shape = tuple(map(site.read, kernel.shape)) if kernel.shape is not None else site.shape
    keys = key_of(site, kernel.keys) if kernel.keys is not None else (slice(None),) * len(shape)
    labels = iter(kernel.labels)
    return Part(shape, keys, tuple(next(labels) if isinstance(key, slice) else None for key in keys))


@step.register
def _(kernel: Write, site: Site) -> Run:
    space, part, order = site.space, part_of(kernel, site), kernel.distinct
    number = site.read(kernel.number) if kernel.number is not None else None
    labels = kernel.inputs[1] if number is None else ()

    def write(x: Any, *values: Any) -> Any:
        value = values[0] if number is None else number
        value = aligned(site, -value if kernel.sign == "-=" else value, labels, order)
        if len(order) < len(kernel.labels):
            key = part.places(site, order, {})
        else:
            key, turned = forwards(part.keys, part.shape)
            value = flipped(site, value, turned if labels else ())
        return into(space, x, part, key, value)

    return write


@step.register
def _(kernel: Scatter, site: Site) -> Run:
    space, part = site.space, part_of(kernel.write, site)
    order, count = (*kernel.rows, *kernel.rest), len(kernel.gathered)
    rows = [row for (row,) in kernel.inputs[1 : 1 + count]]
    number = site.read(kernel.number) if kernel.number is not None else None

    def scatter(x: Any, *values: Any) -> Any:
        lists = dict(zip(kernel.gathered, zip(rows, values[:count], strict=True), strict=True))
        value = aligned(site, values[-1], kernel.added, order) if number is None else number
        return into(space, x, part, part.places(site, order, lists), value)

    return scatter


def into(space: Space, x: Any, part: Part, key: tuple[Any, ...], value: Any) -> Any:
    """The array x with a value added at a key of its part."""
    if part.shape == x.shape:
        return space.added(x, key, value)
    return space.xp.reshape(space.added(space.xp.reshape(x, part.shape), key, value), x.shape)
