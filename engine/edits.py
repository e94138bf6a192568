"""Experiments on a running model: switch a part off, patch one in, and keep every activation on the way.

An *edit* maps the names of activations to patches. A patch is an array that takes the activation's place, or a function
(value, seen) -> new value, where `seen` holds every activation computed before, by name. Everything else here makes
edits for common experiments; `{**one, **another}` applies both.

Sources: ablation and activation patching as in Wang et al. 2022, arXiv:2211.00593, and Meng et al. 2022,
arXiv:2202.05262.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np

from engine.arrays import Array
from engine.attention import window_mask
from engine.ledger import Config
from engine.rope import rotate

Seen = Mapping[str, Any]
Patch = Array | Callable[[Any, Seen], Any]
Edit = Mapping[str, Patch]


class Trace(dict[str, Any]):
    """A trace that keeps only what was asked for, by name or pattern: `Trace("blk.*.attn.weights", "logits")`."""

    def __init__(self, *wanted: str) -> None:
        super().__init__()
        self.wanted = wanted

    def __setitem__(self, name: str, value: Any) -> None:
        if any(fnmatchcase(name, pattern) for pattern in self.wanted):
            super().__setitem__(name, value)


class EditingTap:
    """A tap that applies an edit and fills a trace with what the computation then went on with."""

    def __init__(self, trace: MutableMapping[str, Any] | None, edit: Edit, seen: Seen | None = None) -> None:
        self.trace, self.edit = trace, edit
        self.seen: MutableMapping[str, Any] = ChainMap({}, seen or {})  # type: ignore[arg-type]
        self.used: set[str] = set()

    def __call__(self, name: str, value: Any) -> Any:
        if name in self.edit:
            value = _patched(name, value, self.edit[name], self.seen)
            self.used.add(name)
        if self.edit:
            self.seen[name] = value
        if self.trace is not None:
            self.trace[name] = value
        return value

    def check_all_used(self) -> None:
        """Raise ValueError for edits of activations that this model does not have."""
        unknown = sorted(set(self.edit) - self.used)
        if unknown:
            raise ValueError(f"The model has no activation called {', '.join(unknown)}.")


def _patched(name: str, value: Any, patch: Patch, seen: Seen) -> Any:
    new = patch(value, seen) if callable(patch) else patch
    if np.shape(new) != value.shape:
        raise ValueError(f"The patch for {name} has shape {np.shape(new)}; the activation has {value.shape}.")
    keeps_kind = value.dtype.kind != "f" or new.dtype == value.dtype  # positions may become fractions
    return new if keeps_kind else new.astype(value.dtype)


def first_edited_block(edit: Edit, blocks: int) -> int:
    """The first of the blocks 0 … `blocks` − 1 that an edit reaches; `blocks` if it only reaches what comes after."""

    def reached(name: str) -> int:
        kind, _, rest = name.partition(".")
        number = rest.partition(".")[0]
        if kind == "blk" and number.isdigit():
            return min(int(number), blocks)
        return blocks if kind in ("final", "logits") else 0

    return min(map(reached, edit), default=0)


def zero(name: str) -> Edit:
    """The activation as zeros: a sublayer's `out` for switching the sublayer off, `attn.skip` for its residual."""
    return {name: lambda value, seen: np.zeros_like(value)}


def add(name: str, vector: Array) -> Edit:
    """Something added to the activation (steering)."""
    return {name: lambda value, seen: value + vector}


def switch_off_head(block: int, *heads: int) -> Edit:
    """Attention heads that find nothing: their part of the joined output is zero."""

    def without(value: Any, seen: Seen) -> Any:
        count = seen[f"blk.{block}.attn.q"].shape[-3]
        if not all(0 <= head < count for head in heads):
            raise ValueError(f"The heads of a block are numbered 0 to {count - 1}.")
        kept = ~np.isin(np.arange(count), heads)
        return value * np.repeat(kept, value.shape[-1] // count).astype(value.dtype)

    return {f"blk.{block}.attn.output": without}


def switch_off_attention(block: int) -> Edit:
    """A block whose attention adds nothing to the stream."""
    return zero(f"blk.{block}.attn.out")


def switch_off_ffn(block: int) -> Edit:
    """A block whose feed-forward network adds nothing to the stream."""
    return zero(f"blk.{block}.ffn.out")


def switch_off_norm(block: int, sublayer: str = "attn") -> Edit:
    """The stream goes into the sublayer ("attn" or "ffn") as it is."""
    before, _ = _stream_around(block, sublayer)
    return {f"blk.{block}.{sublayer}.norm": lambda value, seen: seen[before]}


def switch_off_residual(block: int, sublayer: str = "attn") -> Edit:
    """The stream after the sublayer ("attn" or "ffn") is the sublayer's output alone, without what came before."""
    _, after = _stream_around(block, sublayer)
    return {after: lambda value, seen: seen[f"blk.{block}.{sublayer}.out"]}


def _stream_around(block: int, sublayer: str) -> tuple[str, str]:
    """Names of the stream before and after a sublayer."""
    before = f"blk.{block - 1}.resid" if block else "embed"
    names = {"attn": (before, f"blk.{block}.attn.resid"), "ffn": (f"blk.{block}.attn.resid", f"blk.{block}.resid")}
    if sublayer not in names:
        raise ValueError(f'A block\'s sublayers are "attn" and "ffn", not {sublayer!r}.')
    return names[sublayer]


def switch_off_rope() -> Edit:
    """Every token at position 0, where RoPE turns nothing."""
    return zero("positions")


def move_positions(move: Callable[[np.ndarray], np.ndarray]) -> Edit:
    """RoPE at other positions than the real ones: `move_positions(lambda p: p / 2)`; shifts, shuffles, fractions."""
    return {"positions": lambda value, seen: move(value)}


def other_rope(config: Config, **arguments: Any) -> Edit:
    """RoPE done otherwise in all blocks: `layout="half"` (the wrong pairs for these weights), `base`, `scaling`."""
    arguments = {"base": config.rope_base, **arguments}

    def turned(raw: str) -> Callable[[Any, Seen], Any]:
        return lambda value, seen: rotate(seen[raw], seen["positions"], **arguments)

    return {f"blk.{i}.attn.{name}": turned(f"blk.{i}.attn.{name}_raw") for i in range(config.layers) for name in "qk"}


def sliding_window(config: Config, widths: int | Sequence[int], sinks: int = 0) -> Edit:
    """Attention that reaches back over `widths` keys only, in all blocks, and to the first `sinks` tokens of the text.

    Several widths are for a batch: text i gets widths[i]. With a cache, keys outside the window stay in it unread,
    which gives the same numbers as throwing them away. Raises ValueError for a width below 1.
    """

    def limited(scores: Any, seen: Seen) -> Any:
        queries, keys = scores.shape[-2:]
        if isinstance(widths, int):
            visible = window_mask(queries, keys, widths, sinks)
        else:
            visible = np.stack([window_mask(queries, keys, width, sinks) for width in widths])[:, None]
        return np.where(visible, scores, np.float32(-np.inf))

    return {f"blk.{i}.attn.scores": limited for i in range(config.layers)}
