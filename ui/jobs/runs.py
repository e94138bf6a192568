"""What a long run leaves on its way, kept for its own reader: how far it came, checkpoints to go on from, the picture.

A run is named by a hash of who started it (a name that the reader's tab has drawn, known to no other) and of what was
asked (the lab, its code, its values). So nobody finds another reader's run, and pressing Run again with the same
settings finds one's own. Of each reader and lab the newest few runs are kept, for an hour, within a fixed room.
"""

from __future__ import annotations

import base64
import hashlib
import io
import logging
from collections.abc import Mapping
from typing import Any

import numpy as np

from ui.jobs import managers
from ui.jobs.store import KEEP, MemoryStore, Store, packed

log = logging.getLogger("glassbox")
PER_READER = 3
"""Runs of one lab that are kept of one reader; the oldest goes."""
MOST_PARTS = 24
"""Checkpoints that a run may keep."""
MOST_ARRAYS = 8 * 2**20
"""Bytes of arrays under one name. A run that wants to keep more is a mistake of ours."""


class Run:
    """The kept parts of one run. Each part is a few named arrays under a name; `note` says how far the run is."""

    def __init__(self, store: Store, token: str) -> None:
        self.store, self.token = store, token

    def noted(self) -> dict[str, Any]:
        """What was last noted; {} where nothing was."""
        return self.store.get(f"run-{self.token}") or {}

    def note(self, **facts: Any) -> None:
        """Facts about the run, as JSON, added to those noted before."""
        self.store.set(f"run-{self.token}", self.noted() | facts, KEEP)

    def keep(self, part: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep arrays under a name, in place of those that are there. Raises ValueError for too many of them."""
        parts = self.noted().get("parts", [])
        known = part in parts
        if sum(array.nbytes for array in arrays.values()) > MOST_ARRAYS or len(parts) - known >= MOST_PARTS:
            raise ValueError("This run has more to keep than there is room for.")
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **dict(arrays))
        self.store.set(f"run-{self.token}-{part}", base64.b64encode(buffer.getvalue()).decode(), KEEP)
        if not known:
            self.note(parts=[*parts, part])

    def load(self, part: str) -> dict[str, np.ndarray] | None:
        """The arrays, or None where there are none (any more)."""
        found = self.store.get(f"run-{self.token}-{part}")
        if found is None:
            return None
        with np.load(io.BytesIO(base64.b64decode(found)), allow_pickle=False) as stored:
            return dict(stored)

    def drop(self, part: str) -> None:
        """Keep that part no longer."""
        self.note(parts=[name for name in self.noted().get("parts", []) if name != part])
        self.store.delete(f"run-{self.token}-{part}")

    def forget(self) -> None:
        for part in self.noted().get("parts", []):
            self.store.delete(f"run-{self.token}-{part}")
        self.store.delete(f"run-{self.token}")


def nowhere() -> Run:
    """A run that is kept in this object alone: for tests, and for whoever calls a lab's function without an app."""
    return Run(MemoryStore(), "here")


def of(reader: str, lab_id: str, result: str) -> Run:
    """The run of one reader with one lab and one set of values (`result` names these: `results.key_of`)."""
    return Run(_store(), _named("run", reader, lab_id, result))


def begun(reader: str, lab_id: str, result: str) -> Run:
    """The same, and from now on it is the reader's latest; the oldest are forgotten."""
    run, shelf = of(reader, lab_id, result), _shelf(reader, lab_id)
    tokens = [run.token, *(token for token in _store().get(shelf) or [] if token != run.token)]
    for old in tokens[PER_READER:]:
        Run(run.store, old).forget()
    run.store.set(shelf, tokens[:PER_READER], KEEP)
    return run


def noted(reader: str, lab_id: str, result: str) -> dict[str, Any]:
    """What is noted of the reader's run with one set of values; {} where there is none."""
    if not reader or managers.CURRENT is None:
        return {}
    try:
        return of(reader, lab_id, result).noted()
    except Exception as problem:
        log.error("kept runs cannot be read: %s", type(problem).__name__)
        return {}


def latest(reader: str, lab_id: str) -> Run | None:
    """The run that this reader began last in this lab and that is still kept."""
    if not reader or managers.CURRENT is None:
        return None
    try:
        tokens = _store().get(_shelf(reader, lab_id))
        run = Run(_store(), tokens[0]) if tokens else None
        return run if run is not None and run.noted() else None
    except Exception as problem:
        log.error("kept runs cannot be read: %s", type(problem).__name__)
        return None


def _store() -> Store:
    assert managers.CURRENT is not None
    return managers.CURRENT.runs


def _shelf(reader: str, lab_id: str) -> str:
    return f"runs-{_named('shelf', reader, lab_id)}"


def _named(*parts: str) -> str:
    return hashlib.sha256(packed(list(parts))).hexdigest()
