"""Entries taken by positions, lists, masks and slices: NumPy's answer, or an error in words."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

import tensordsl as td

SYMBOLS = {"x": td.vector("x", 5), "A": td.matrix("A", 3, 4), "T": td.tensor("T", 2, 3, 4)}
DATA = {name: np.arange(float(np.prod(s.shape))).reshape(s.shape) for name, s in SYMBOLS.items()}
KEYS: list[Any] = [
    0, -1, 5, np.int64(1), np.array(1), slice(None), slice(1, None), slice(None, None, -1), slice(0, 0), None, ...,
    [0, 1], [-1, 0], [1], [], [7], (0, 1), range(2), [[0], [1]], np.array([[0, 1], [1, 0]]), np.zeros((2, 0), int),
    [True, False], [True, False, True], [True] * 4, [True] * 5, np.array([[True, False, True, True]] * 3),
    True, np.True_, "a", 1.5, [0.5], [[0, 1], [0]], [None], SYMBOLS["x"],
]  # fmt: skip


@pytest.mark.parametrize("name", SYMBOLS)
def test_every_key(name: str) -> None:
    """What is taken is what NumPy takes; what NumPy refuses is refused, and a little more."""
    taken = 0
    for count in (1, 2, 3) if name == "T" else (1, 2):
        for keys in list(itertools.product(KEYS, repeat=count))[:: 7 if count == 3 else 1]:
            key = keys if count > 1 else keys[0]
            try:
                found = np.asarray(SYMBOLS[name][key].evaluate(DATA))
            except td.TensorDSLError:
                continue
            wanted = DATA[name][key]
            assert found.shape == wanted.shape, key
            np.testing.assert_array_equal(found, wanted)
            taken += 1
    assert taken > {"x": 60, "A": 250, "T": 900}[name]


def test_what_is_refused_beyond_numpy() -> None:
    """Lists with something between them, whose axis NumPy puts first, and truth values that are no masks."""
    T = SYMBOLS["T"]
    for key in [([0, 1], slice(None), [0, 1]), (0, slice(None), [0, 1]), ([0], None, [1]), True]:
        with pytest.raises(td.UnsupportedError):
            T[key]


@pytest.mark.parametrize(
    ("name", "key", "words"),
    [
        ("x", [True, False], r"A mask of shape \(2,\) for axes of shape \(5,\)"),
        ("A", np.ones((3, 3), dtype=bool), r"A mask of shape \(3, 3\) for axes of shape \(3, 4\)"),
        ("x", [7], "position 7 is out of range on an axis of size 5"),
        ("x", [[0, 1], [0]], "expected a list of whole numbers, or of truth values"),
        ("A", ([0, 1], [0, 1, 2]), r"of the shapes \(2,\) and \(3,\) do not go together"),
        ("A", (0, 1, 2), "Too many indices: 3 for 2 axes"),
        ("A", np.ones((3, 4, 1), dtype=bool), "Too many indices: 3 for 2 axes"),
        ("x", SYMBOLS["x"] > 0, "choose entries by their values with td.where"),
        ("x", True, "cannot be indexed by True"),
    ],
)
def test_words(name: str, key: Any, words: str) -> None:
    with pytest.raises(td.TensorDSLError, match=words):
        SYMBOLS[name][key]


def test_derivatives_of_what_lists_and_masks_take() -> None:
    A, x = SYMBOLS["A"], SYMBOLS["x"]
    mask = DATA["A"] % 2 == 0
    for e, s in [(A[mask], A), (x[np.array([[0, 1], [1, 4]])], x), (A[[[0], [2]], [1, 3]], A), (x[[True] * 5], x)]:
        assert td.check_derivative(td.sin(e), s, {s.name: DATA[s.name]}) < 1e-7
    assert x[[True] * 5] == x


def test_an_axis_of_symbolic_size() -> None:
    y = td.vector("y", td.dim("k"))
    assert y[[2, 0]].evaluate(y=[1.0, 2.0, 3.0]).tolist() == [3, 1]
    with pytest.raises(td.ShapeError, match="A mask has the shape of what it covers, in numbers"):
        y[[True, False]]
    with pytest.raises(td.BindError, match="does not lie on an axis of size 2"):
        y[[2, 0]].evaluate(y=[1.0, 2.0])
    with pytest.raises(td.UnsupportedError, match="counts from 0"):
        y[[-1, 0]]
