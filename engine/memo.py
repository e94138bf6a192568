"""A memory for results: each is computed once, and the longest unused go when the room is full."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import is_dataclass
from typing import Any

import numpy as np


class Memo:
    """Keeps results up to a number of bytes; for several threads, of which only one computes each result."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._kept: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._running: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, compute: Callable[[], Any]) -> Any:
        """The result for `key`, computed now if it is not kept. An exception goes to all who wait, and is not kept."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key][0]
            waiting = self._running.get(key)
            if waiting is None:
                mine = self._running[key] = Future()
        if waiting is not None:
            return waiting.result()
        try:
            result = compute()
        except BaseException as error:
            with self._lock:
                del self._running[key]
            mine.set_exception(error)
            raise
        with self._lock:
            del self._running[key]
            self._keep(key, result)
        mine.set_result(result)
        return result

    def _keep(self, key: Hashable, result: Any) -> None:
        size = memory(result)
        if size > self.max_bytes:
            return
        self._kept[key] = result, size
        self.bytes += size
        while self.bytes > self.max_bytes:
            self.bytes -= self._kept.popitem(last=False)[1][1]


def memory(result: Any) -> int:
    """Bytes of the arrays in a result (an array, or a mapping, sequence or dataclass of them), shared ones once."""
    owners = {id(owner): owner.nbytes for owner in map(_owner, _arrays(result))}
    return sum(owners.values())


def _arrays(result: Any) -> list[np.ndarray]:
    if isinstance(result, np.ndarray):
        return [result]
    if isinstance(result, Mapping):
        result = list(result.values())
    elif is_dataclass(result):
        result = list(vars(result).values())
    return [array for item in result for array in _arrays(item)] if isinstance(result, (list, tuple)) else []


def _owner(array: np.ndarray) -> np.ndarray:
    return _owner(array.base) if isinstance(array.base, np.ndarray) else array
