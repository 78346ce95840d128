"""Nodes: where an array or a group of zarr lies, in a folder or in any other store that zarr can write to."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from tensordsl.chunked import objects
from tensordsl.chunked.logs import FileLog, Log, StoreLog
from tensordsl.errors import BindError, words

OWN = ".tensordsl"  # in a store that is no folder: what a run keeps there until it is done


class Node:
    """A node of zarr: a folder, or a path in a store of another kind. zarr takes either as it is, in `at`."""

    def __init__(self, at: Any, read_only: bool = False) -> None:
        self.at = at
        self._read_only = read_only

    @classmethod
    def of(cls, target: Any) -> Node:
        """The node that a path, a URL, or a store, a group or an array of zarr is."""
        from zarr import Array, Group
        from zarr.abc.store import Store
        from zarr.storage import LocalStore, StorePath

        if isinstance(target, str) and "://" in target:
            target = path_of(target) or remote(target)
        if isinstance(target, str | Path):
            return cls(Path(target).expanduser().resolve())
        if isinstance(target, Array | Group):
            target = target.store_path
        if isinstance(target, Store):
            target = StorePath(target)
        if not isinstance(target, StorePath):
            raise BindError(
                f"The target is a {type(target).__name__}; expected a path, a URL, or a store or a group of zarr."
            )
        if isinstance(target.store, LocalStore):
            return cls((Path(target.store.root) / target.path).expanduser().resolve(), target.read_only)
        return cls(target, target.read_only)

    @property
    def folder(self) -> Path | None:
        return self.at if isinstance(self.at, Path) else None

    def __truediv__(self, name: str) -> Node:
        return Node(self.at / name, self._read_only)

    def __str__(self) -> str:
        return str(self.folder) if self.folder is not None else objects.name(self.at)

    @property
    def scratch(self) -> Node:
        """Where arrays that only the run needs are kept: beside a folder, and inside of another store."""
        if self.folder is not None:
            return Node(self.folder.with_name(self.folder.name + ".scratch"))
        return self / OWN / "scratch"

    @property
    def log(self) -> Log:
        """What the journal of a run is written to."""
        if self.folder is not None:
            return FileLog(self.folder.with_name(self.folder.name + ".journal"))
        return StoreLog((self / OWN / "journal").at, str(self))

    # --- what is there ------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        """What lies in a store that is no folder, the run's own things aside."""
        return [name for name in objects.names(self.at) if name != OWN]

    @property
    def is_there(self) -> bool:
        """Whether anything is there."""
        return self.folder.exists() if self.folder is not None else bool(self._names())

    @property
    def is_empty(self) -> bool:
        """Whether it is nothing but a group that nobody has said anything of."""
        if self.folder is None:
            names = self._names()
        else:
            names = [part.name for part in self.folder.iterdir()] if self.folder.is_dir() else []
        if names != ["zarr.json"]:
            return False
        found = self.opened("r")
        return not found.attrs and not hasattr(found, "shape")

    @property
    def is_begun(self) -> bool:
        """Whether anything is there, or a run was begun."""
        return self.is_there or self.log.is_there

    def opened(self, mode: Any) -> Any:
        """The array or the group of zarr; None where there is none."""
        import zarr

        if self.folder is not None and not (self.folder / "zarr.json").exists():
            return None
        try:
            return zarr.open(self.at, mode=mode)
        except FileNotFoundError:
            return None

    @property
    def array(self) -> Any:
        """An array that is to be read: the path of one in a folder, which each worker opens for itself."""
        found = self.folder if self.folder is not None else self.opened("r")
        if found is None:
            raise BindError(f"There is no array at {str(self)!r}, and the store says that there is one.")
        return found

    def create_array(self, **options: Any) -> Any:
        """A new array of zarr."""
        import zarr
        from zarr.storage import MemoryStore, StorePath

        if self.folder is not None or OWN not in self.at.path.split("/"):
            return zarr.create_array(self.at, **options)
        # zarr makes nothing below an array, which the target may be: made elsewhere, and written down here.
        elsewhere = StorePath(MemoryStore(), "made")
        zarr.create_array(elsewhere, **options)
        said = objects.read(elsewhere / "zarr.json")
        assert said is not None
        objects.write(self.at / "zarr.json", said)
        return self.opened("r+")

    def attributes(self) -> dict[str, Any] | None:
        """What this library has said of the node; None where it has not written it."""
        found = self.opened("r")
        held = None if found is None else dict(found.attrs).get("tensordsl")
        return held if isinstance(held, dict) else None

    def remove(self) -> None:
        """Remove all that is there; of another store what the run itself keeps there stays."""
        if self.folder is not None:
            if self.folder.exists():
                shutil.rmtree(self.folder)
            return
        for name in self._names():
            objects.remove(self.at / name)

    def clean(self) -> None:
        """Remove what only a run needs, and what writers that were stopped have left half written."""
        if self.folder is not None:
            for left in self.folder.rglob("*.partial"):
                left.unlink(missing_ok=True)
        self.scratch.remove()

    # --- checks -------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """`BindError` for a node that cannot be written."""
        if self._read_only:
            raise BindError(f"The target {str(self)!r} was opened to be read. Open it to be written to.")
        if self.folder is None:
            store = self.at.store
            lacks = [what for what in ("writes", "deletes", "listing") if not getattr(store, f"supports_{what}")]
            if lacks:
                raise BindError(
                    f"The target is a {type(store).__name__}, which does not support {', '.join(lacks)}: a run that "
                    "is cut off could not go on there. Give a folder, and pack it when it is done."
                )
            return
        path = self.folder
        if path.suffix == "" and not path.exists():
            raise BindError(f"The target {str(path)!r} has no suffix; expected a name that ends in .zarr.")
        if not path.parent.is_dir():
            raise BindError(f"The target {str(path)!r} cannot be made: there is no directory {str(path.parent)!r}.")

    def overlaps(self, other: Node) -> bool:
        """Whether one of two nodes is in the other, or both are the same."""
        return all(one == two for one, two in zip(self._parts, other._parts, strict=False))

    @property
    def _parts(self) -> tuple[str, ...]:
        """The names on the way to it; of one in files of this machine, whatever reads them, on the way to those."""
        name = str(self)
        path = self.folder or path_of(name[max(name.find("file://"), 0) :])
        return tuple(name.split("/")) if path is None else Path(path).resolve().parts


def path_of(url: str) -> Path | None:
    """The path of a file at a URL of this machine; None for another URL."""
    found = urlsplit(url)
    if found.scheme.lower() not in ("file", "local") or found.netloc not in ("", "localhost"):
        return None
    return Path(url2pathname(found.path))


def remote(url: str, *, read_only: bool = False) -> Any:
    """The store of zarr at a URL, such as s3://bucket/A.zarr; `BindError` where nothing here knows how to reach it."""
    from zarr.storage import FsspecStore

    try:
        return FsspecStore.from_url(url, read_only=read_only)
    except (ImportError, ValueError, OSError) as error:
        raise BindError(
            f"{url!r} cannot be reached: {words(error)}. Give a URL that fsspec knows, or a store of zarr that is open."
        ) from None
