"""Small values that several processes share: in a disk cache of this machine, or in Redis. All that is kept expires."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Protocol

import orjson
import psutil
from diskcache import Cache

KEEP = 3600
"""Seconds that a finished result is kept. Nothing of a reader's stays longer."""
MOST_BYTES = 4 * 2**20
"""A result larger than this goes to its reader and is not kept."""
RESULT_BYTES = 32 * 2**20
RUN_BYTES = 256 * 2**20
"""Room for what long runs leave on their way: a hundred of the usual size."""
_PREFIX = "glass-box-jobs-"


class Store(Protocol):
    """What the queue and the kept results need. Values are JSON."""

    def get(self, key: str) -> Any: ...
    def set(self, key: str, value: Any, seconds: float) -> None: ...
    def delete(self, key: str) -> None: ...
    def lock(self) -> AbstractContextManager[Any]: ...


def packed(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS, default=str)


class Brief(Cache):
    """A disk cache in which nothing stays for good unless told so; Dash's manager would keep unread results forever."""

    def set(self, key: Any, value: Any, expire: float | None = KEEP, **others: Any) -> Any:
        return super().set(key, value, expire=expire, **others)


class DiskStore:
    """Values in a disk cache; every process of this machine that opens the same folder sees them."""

    def __init__(self, cache: Cache) -> None:
        self.cache = cache

    def get(self, key: str) -> Any:
        found = self.cache.get(key)
        return None if found is None else orjson.loads(found)

    def set(self, key: str, value: Any, seconds: float) -> None:
        self.cache.set(key, packed(value), expire=seconds)

    def delete(self, key: str) -> None:
        self.cache.delete(key)

    def lock(self) -> AbstractContextManager[Any]:
        return self.cache.transact(retry=True)


class MemoryStore:
    """Values in this object alone."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> Any:
        return orjson.loads(self.values[key]) if key in self.values else None

    def set(self, key: str, value: Any, seconds: float) -> None:
        self.values[key] = packed(value)

    def delete(self, key: str) -> None:
        self.values.pop(key, None)

    def lock(self) -> AbstractContextManager[Any]:
        return nullcontext()


class RedisStore:
    """Values in Redis, for web machines and machines that run jobs."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def get(self, key: str) -> Any:
        found = self.client.get(f"glassbox:{key}")
        return None if found is None else orjson.loads(found)

    def set(self, key: str, value: Any, seconds: float) -> None:
        self.client.set(f"glassbox:{key}", packed(value), px=max(1, int(1000 * seconds)))

    def delete(self, key: str) -> None:
        self.client.delete(f"glassbox:{key}")

    @contextmanager
    def lock(self) -> Iterator[None]:
        with self.client.lock("glassbox:lock", timeout=10, blocking_timeout=10):
            yield


# --- the folder of the disk caches -----------------------------------------------------------------------------------


def new_folder() -> Path:
    """A folder of this server's own, in memory where the system has a place for that; removed when the server ends."""
    base = _base()
    for left in base.glob(f"{_PREFIX}*"):
        owner = left.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):  # that server was killed
            shutil.rmtree(left, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=base))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _base() -> Path:
    memory = Path("/dev/shm")
    roomy = (
        memory.is_dir()
        and os.access(memory, os.W_OK)
        and shutil.disk_usage(memory).free > 2 * (RESULT_BYTES + RUN_BYTES)
    )
    return memory if roomy else Path(tempfile.gettempdir())


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # forked workers end too, and must leave it
        shutil.rmtree(folder, ignore_errors=True)


def line_cache(folder: Path) -> Brief:
    """The queue, progress and results on their way. Nothing is thrown out for want of room."""
    return Brief(str(folder / "line"), eviction_policy="none", disk_min_file_size=2**20)


def result_cache(folder: Path) -> Cache:
    """Finished results, the longest unused going when the room is full."""
    return _roomy_cache(folder / "results", RESULT_BYTES)


def run_cache(folder: Path) -> Cache:
    """What runs leave on their way, the longest unused going when the room is full."""
    return _roomy_cache(folder / "runs", RUN_BYTES)


def _roomy_cache(folder: Path, room: int) -> Cache:
    return Cache(str(folder), size_limit=room, eviction_policy="least-recently-used", disk_min_file_size=2**20)
