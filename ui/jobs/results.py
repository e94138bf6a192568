"""Finished results, kept for an hour for whoever asks for the same: of a pure function, equal values, equal results."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import orjson

from ui.jobs import managers
from ui.jobs.store import KEEP, MOST_BYTES, packed

log = logging.getLogger("glassbox")


def key_of(lab_id: str, functions: Sequence[Callable[..., Any]], values: Mapping[str, Any]) -> str:
    """Names the result of these functions, as they stand in the files, for these values; gives neither away."""
    code = [inspect.getsource(inspect.unwrap(function)) for function in functions]
    return f"result-{hashlib.sha256(packed([lab_id, code, list(values.items())])).hexdigest()}"


def kept(key: str) -> dict[str, Any] | None:
    """{"shown", "data"} of a finished job, or None. Without the store there is simply nothing."""
    if managers.CURRENT is None:
        return None
    try:
        return managers.CURRENT.results.get(key)
    except Exception as problem:
        log.error("kept results cannot be read: %s", type(problem).__name__)
        return None


def keep(key: str, shown: Mapping[str, Any], data: Mapping[str, Any]) -> None:
    """Keep a result, without its data if these are large, and not at all if the picture is."""
    assert managers.CURRENT is not None
    for result in ({"shown": shown, "data": data}, {"shown": shown, "data": None}):
        if len(packed(result)) <= MOST_BYTES:
            managers.CURRENT.results.set(key, result, KEEP)
            return


def plain(value: Any) -> Any:
    """The value as JSON knows it: what a job sends must mean the same over the disk and over Redis."""
    return orjson.loads(packed(value))
