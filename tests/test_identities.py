"""Published identities: what the source prints, what this library derives, and what a numerical derivative says."""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import pytest
from identities.table import (
    KINDS,
    PAGE,
    REAL_ONLY,
    SUBJECTS,
    WHAT,
    Identity,
    complex_step,
    differences,
    load,
    page,
    timings,
)

import tensordsl as td

TABLE = load()
READY = [entry for entry in TABLE if not entry.missing()]


def each(entries: list[Identity], *marks: pytest.MarkDecorator) -> pytest.MarkDecorator:
    """A test for each entry, under its name; what needs a function that is still to come is skipped, and says so."""
    parameters = []
    for entry in entries:
        skip = [pytest.mark.skip(reason=f"needs {', '.join(entry.missing())}")] if entry.missing() else []
        parameters.append(pytest.param(entry, id=entry.name, marks=[*marks, *skip]))
    return pytest.mark.parametrize("entry", parameters)


def off(found: Any, wanted: Any) -> float:
    """The largest difference of two arrays, on the scale of the largest entry."""
    found, wanted = np.asarray(found), np.asarray(wanted)
    assert found.shape == wanted.shape
    return float(np.max(np.abs(found - wanted), initial=0) / max(1.0, float(np.max(np.abs(wanted), initial=0))))


@each(TABLE)
def test_identity(entry: Identity) -> None:
    truth, tolerance = entry.truth()
    assert np.max(np.abs(truth), initial=0) > 1e-3, "zero, or nearly: such data show nothing"
    derived = entry.evaluate(entry.derive(entry.lhs()))
    published = entry.evaluate(entry.rhs())
    assert off(entry.evaluate(entry.lhs()), entry.plain(entry.data())) < 1e-9
    assert off(derived, truth) < tolerance
    assert off(published, truth) < tolerance
    assert off(derived, published) < 1e-9


@each([entry for entry in TABLE if entry.wrong])
def test_what_is_wrong_differs(entry: Identity) -> None:
    truth, _ = entry.truth()
    assert off(entry.evaluate(entry.rhs(entry.wrong)), truth) > 1e-2


@each([entry for entry in TABLE if entry.form or entry.index])
def test_form(entry: Identity) -> None:
    derived = entry.derive(entry.lhs())
    if entry.form:
        assert derived.to_string("matrix") == entry.form
    if entry.index:
        assert derived.to_string() == entry.index


@each([entry for entry in TABLE if entry.what != "equal"])
@pytest.mark.parametrize(("form", "dialect"), [("index", "numpy"), ("matrix", "matrix")])
def test_what_is_printed_reads_back(entry: Identity, form: str, dialect: str) -> None:
    """The text on the page has the value of what was derived, but for axes of size one."""
    derived = entry.derive(entry.lhs())
    known = entry.known() | {f"d{name}": td.tensor(f"d{name}", *entry.shape(name)) for name in entry.symbols}
    back = entry.evaluate(td.parse(derived.to_string(form), dialect=dialect, **known))
    assert off(np.squeeze(back), np.squeeze(entry.evaluate(derived))) < 1e-9


WISHES = [entry for entry in TABLE if entry.wish]


@each(WISHES)
def test_wish_is_right(entry: Identity) -> None:
    known = entry.known() | {f"d{name}": td.tensor(f"d{name}", *entry.shape(name)) for name in entry.symbols}
    wished = entry.evaluate(td.parse(entry.wish, dialect="matrix", **known))
    assert off(wished.reshape(-1), entry.evaluate(entry.derive(entry.lhs())).reshape(-1)) < 1e-9


@each(WISHES, pytest.mark.xfail(raises=AssertionError, reason="once it passes, make the wish its form"))
def test_wish_is_printed(entry: Identity) -> None:
    assert entry.derive(entry.lhs()).to_string("matrix") == entry.wish


def test_the_table_is_whole() -> None:
    assert len(READY) >= 300
    names = [entry.name for entry in TABLE]
    assert len(set(names)) == len(names)
    right = [str(entry[4:8]) + str(entry[3]) for entry in TABLE if not entry.wrong]
    assert len(set(right)) == len(right), "the same identity twice"
    assert {entry.subject for entry in TABLE} <= set(SUBJECTS)
    for entry in TABLE:
        assert len(entry.source) > 5, entry.name
        assert entry.what in WHAT, entry.name
        assert set(entry.kinds.values()) <= set(KINDS), entry.name
        assert (entry.wrong != "") == (entry.subject == "errors"), entry.name
        assert entry.wrt in ("", *entry.symbols), entry.name


def test_the_page_is_what_the_table_says() -> None:
    """Run `python tests/identities/table.py --write` where this fails."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_deriving_takes_milliseconds() -> None:
    """The targets are a median of 3 ms and 100 ms at the worst; a loaded machine is given ten times that."""
    warm = [seconds for _, seconds in timings(rounds=3).values()]
    assert median(warm) < 30e-3
    assert max(warm) < 1


def test_the_numerical_derivatives_agree() -> None:
    """No formula is taken for analytic that is not: a complex step says what differences say."""
    for entry in READY:
        if entry.what != "equal" and not REAL_ONLY.search(entry.numpy):
            for name in entry.moving():
                steps = [way(entry.plain, entry.data(), name) for way in (complex_step, differences)]
                assert off(*steps) < 1e-6, entry.name
