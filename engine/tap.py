"""Looking into a computation, and reaching into it.

A *tap* is a function that is handed every named step of a computation as it happens, `tap("weights", weights)`, and
gives back what the computation goes on with. Given back unchanged, it is a trace; changed, an experiment: a head
switched off, an activation patched in from another sentence.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Tap = Callable[[str, Any], Any]


def keep(name: str, value: Any) -> Any:
    """The tap that does nothing."""
    return value


def prefixed(tap: Tap, prefix: str) -> Tap:
    """The same tap with `prefix` before each name: `prefixed(tap, "blk.3.")`. `keep` stays `keep`."""
    return tap if tap is keep else lambda name, value: tap(prefix + name, value)
