"""Objects: what lies in a store of zarr by its keys, read, written, listed and removed. `at` is a `StorePath`."""

from __future__ import annotations

from asyncio import gather
from collections.abc import Coroutine
from contextlib import suppress
from hashlib import blake2b
from typing import Any, TypeVar

T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    """What a store does, waited for."""
    from zarr.core.sync import sync

    return sync(work)


def name(at: Any) -> str:
    """Where it lies, as a URL where the store has one."""
    files = getattr(at.store, "fs", None)
    if files is None:
        return str(at).rstrip("/")
    return str(files.unstrip_protocol(f"{at.store.path}/{at.path}".rstrip("/")))


def read(at: Any) -> bytes | None:
    """What an object holds; None where there is none."""
    found = run(at.get())
    return None if found is None else bytes(found.to_bytes())


def read_all(at: Any) -> bytes:
    """What the objects right below hold, one after the other; many are read side by side."""

    async def joined() -> bytes:
        found = await gather(*((at / name).get() for name in listed))
        return b"".join(bytes(part.to_bytes()) for part in found if part is not None)

    listed = names(at)
    return run(joined())


def write(at: Any, content: bytes, *, new: bool = False) -> None:
    """Write an object, or, if it is to be a `new` one, only where there is none."""
    from zarr.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer.from_bytes(content)
    run(at.set_if_not_exists(buffer) if new else at.set(buffer))


def names(at: Any) -> list[str]:
    """What lies right below, in order."""

    async def listed() -> list[str]:
        return sorted([name.strip("/") async for name in at.store.list_dir(at.path)])

    return [name for name in run(listed()) if name]


def remove(at: Any) -> None:
    """Remove an object, and all that lies below it."""

    async def removed() -> None:
        with suppress(ValueError):  # of a store of files, for an object
            await at.delete_dir()
        if await at.exists():
            await at.delete()

    run(removed())


TOLD = ("size", "ETag", "etag", "md5Hash", "generation", "LastModified", "last_modified", "updated", "mtime", "created")


def state(at: Any) -> str | None:
    """What is the same as long as the objects below are; None where the store does not tell, short of reading all."""
    from zarr.buffer import default_buffer_prototype
    from zarr.storage import FsspecStore, MemoryStore

    below = f"{at.path}/" if at.path else ""
    found = blake2b(digest_size=12)

    async def contents() -> None:
        for key in sorted([key async for key in at.store.list_prefix(below)]):
            value = await at.store.get(key, default_buffer_prototype())
            found.update(repr(key).encode())
            found.update(b"" if value is None else value.to_bytes())

    async def listed() -> None:
        there = await at.store.fs._find(f"{at.store.path}/{at.path}".rstrip("/"), detail=True)
        for key, about in sorted(there.items()):
            found.update(repr((key, [str(about.get(name)) for name in TOLD])).encode())

    if isinstance(at.store, MemoryStore):
        run(contents())
    elif isinstance(at.store, FsspecStore):
        run(listed())
    else:
        return None
    return found.hexdigest()
