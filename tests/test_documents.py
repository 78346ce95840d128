"""What the documents claim, executed: Python blocks of README.md and docs/*.md, examples in docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import tensordsl as td

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]
FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS

# A fence opens with its info string and closes with at least as many of the same character.
FENCE = re.compile(
    r"^[ ]*(?P<fence>`{3,}|~{3,})[ ]*(?P<language>[\w+-]*)[^\n]*\n"
    r"(?P<code>.*?)"
    r"^[ ]*(?P=fence)[`~]*[ ]*$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    code: str
    line: int  # of its first line of code, counted from 1


def python_blocks(text: str) -> Iterator[Block]:
    """The fenced blocks marked `python`. Blocks of any other language, or of none, are for reading only."""
    for match in FENCE.finditer(text):
        if match["language"] == "python":
            code = textwrap.dedent(match["code"])
            yield Block(code, text.count("\n", 0, match.start("code")) + 1)


def run_block(block: Block, path: Path, namespace: dict[str, object]) -> None:
    """Executes a block in `namespace`; one with prompts is a doctest, whose output is compared."""
    if re.search(r"^>>> ", block.code, re.MULTILINE):
        example = doctest.DocTestParser().get_doctest(block.code, namespace, path.name, str(path), block.line - 1)
        run_doctest(example, namespace)
    else:
        tree = ast.parse(block.code, filename=str(path))
        # A traceback then points into the document.
        ast.increment_lineno(tree, block.line - 1)
        exec(compile(tree, str(path), "exec"), namespace)


def run_doctest(test: doctest.DocTest, namespace: dict[str, object]) -> None:
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS, verbose=False)
    runner.run(test, out=report.append, clear_globs=False)
    # A doctest runs in a copy of its namespace; later blocks go on from what it defined.
    namespace.update(test.globs)
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_document_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = list(python_blocks(path.read_text(encoding="utf-8")))
    monkeypatch.chdir(tmp_path)  # what a document writes to disk stays out of the project
    namespace: dict[str, object] = {"__name__": "__document__"}
    for block in blocks:
        run_block(block, path, namespace)


def test_readme_shows_code() -> None:
    assert list(python_blocks((ROOT / "README.md").read_text(encoding="utf-8")))


def docstring_examples() -> list[doctest.DocTest]:
    modules = [td]
    for found in pkgutil.walk_packages(td.__path__, prefix="tensordsl."):
        if not found.name.endswith("__main__"):
            modules.append(importlib.import_module(found.name))
    finder = doctest.DocTestFinder(exclude_empty=True)
    names = {"td": td, "np": np}
    tests = [test for module in modules for test in finder.find(module, extraglobs=names) if test.examples]
    return sorted(tests, key=lambda test: test.name)


@pytest.mark.parametrize("example", docstring_examples(), ids=lambda example: example.name)
def test_docstring_runs(example: doctest.DocTest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_doctest(example, dict(example.globs))


SAMPLE = """
Text.

```python
a = 1
```

```console
$ rm -rf everything
```

- In a list:

  ```python
  >>> a + 1
  2
  >>> b = 5
  ```

````text
```python
raise RuntimeError("shown, not run")
```
````

```
raise RuntimeError("of no language")
```

```python
assert (a, b) == (1, 5)
a = 1 / 0
```
"""


def test_blocks_share_one_namespace_and_others_are_not_run() -> None:
    blocks = list(python_blocks(SAMPLE))
    assert [block.line for block in blocks] == [5, 15, 31]
    namespace: dict[str, object] = {}
    for block in blocks[:2]:
        run_block(block, Path("sample.md"), namespace)
    with pytest.raises(ZeroDivisionError) as error:
        run_block(blocks[2], Path("sample.md"), namespace)
    assert error.traceback[-1].lineno == 31  # counted from 0: the block's second line


def test_wrong_output_is_reported() -> None:
    with pytest.raises(AssertionError, match="Expected"):
        run_block(Block(">>> 1 + 1\n3\n", 1), Path("sample.md"), {})
