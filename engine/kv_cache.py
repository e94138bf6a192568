"""The KV cache: keys and values of the positions already read, kept so that a new token computes only its own.

Here: the cache itself, what it saves and what it costs in memory. How many readers share one memory is in
`engine/paging.py`, what the real model does with and without it in `engine/cache_study.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import cost
from engine.block import Prefill, prefill_flops
from engine.feed_forward import parameter_count
from engine.ledger import Config


def bytes_per_token(config: Config, bytes_per_value: float | int = 2) -> float | int:
    """What one token adds to the cache: a key and a value for each key/value head of each layer.

    Llama 3.1 8B in 16 bits: 2 · 32 layers · 8 heads · 128 numbers · 2 bytes = 131 072.
    """
    return 2 * config.layers * config.kv_heads * config.head_dim * bytes_per_value


def with_every_sharing(config: Config) -> tuple[Config, ...]:
    """The same model with each number of key/value heads that its query heads can share evenly, the most first."""
    counts = [count for count in range(config.heads, 0, -1) if config.heads % count == 0]
    return tuple(replace(config, kv_heads=count) for count in counts)


def latent_bytes_per_token(
    layers: int, latent: int = 512, rope: int = 64, bytes_per_value: float | int = 2
) -> float | int:
    """What one token adds where a layer keeps a single compressed vector for all heads, and one small rotated key.

    DeepSeek-V2: 60 layers · (512 + 64) numbers · 2 bytes = 69 120. In head widths that is 4 + 1/2 a layer. Source:
    DeepSeek-AI 2024, arXiv:2405.04434, section 2.1 (multi-head latent attention).
    """
    return layers * (latent + rope) * bytes_per_value


def cache_bytes(
    config: Config, tokens: int, bytes_per_value: float | int = 2, batch: int = 1, window: int | None = None
) -> float | int:
    """Bytes of keys and values for `batch` texts of `tokens` tokens each; with a window, the last ones only."""
    held = tokens if window is None else min(tokens, window)
    return batch * held * bytes_per_token(config, bytes_per_value)


@dataclass(frozen=True)
class Scheme:
    """One way of keeping the past: what a token takes, and how many tokens of a text are kept."""

    name: str
    token_bytes: float | int
    kept: int

    @property
    def text_bytes(self) -> float | int:
        """Bytes for one text."""
        return self.token_bytes * self.kept


def schemes(config: Config, tokens: int, bytes_per_value: float | int = 2, window: int = 4096) -> tuple[Scheme, ...]:
    """A model's cache as it is, and as it would be with other kinds of attention, everything else left alone.

    The latent one has DeepSeek-V2's proportions: 4 + 1/2 head widths a layer. "Its own" keeps every token, also where
    the model itself sees through a window.
    """
    every_head = bytes_per_token(replace(config, kv_heads=config.heads), bytes_per_value)
    one_head = bytes_per_token(replace(config, kv_heads=1), bytes_per_value)
    own = bytes_per_token(config, bytes_per_value)
    latent = latent_bytes_per_token(config.layers, 4 * config.head_dim, config.head_dim // 2, bytes_per_value)
    return (
        Scheme(f"multi-head: {config.heads}", every_head, tokens),
        Scheme(f"its own: {config.kv_heads}", own, tokens),
        Scheme("multi-query: 1", one_head, tokens),
        Scheme("latent: a vector", latent, tokens),
        Scheme(f"window: {window:,}", own, min(tokens, window)),
    )


def positions_computed(prompt: int, generated: int, cached: bool) -> int:
    """Positions whose keys and values are computed until the text has prompt + generated tokens.

    With a cache each position once: p + g. Without, step i computes the whole text with its newest token: Σ (p + i) for
    i = 1 … g. Raises ValueError for an empty prompt or a negative count.
    """
    if prompt < 1 or generated < 0:
        raise ValueError("There must be a prompt of at least one token, and no fewer than 0 generated ones.")
    return prompt + generated if cached else generated * prompt + generated * (generated + 1) // 2


def decode_flops(config: Config, length: int, cached: bool = True) -> Prefill:
    """Arithmetic of one step, the newest token being number `length` of the text; parts as in `prefill_flops`.

    With a cache only the newest position is computed; its query still meets all `length` keys. Without, the whole text.
    """
    if not cached:
        return prefill_flops(config, length)
    one = cost(1, config.width, config.heads, config.kv_heads, config.head_dim)
    return Prefill(
        projections=config.layers * one.projections,
        scores_and_mix=config.layers * length * (one.scores + one.mix),
        feed_forward=config.layers * 2 * parameter_count(replace(config, bias=False), active=True),
        output=2 * config.width * config.vocabulary,
    )


def generation_flops(config: Config, prompt: int, generated: int, cached: bool) -> Prefill:
    """Arithmetic of the whole generation, counted as in `positions_computed`.

    With a cache the prompt is read once, then come `generated` steps of one position each. All in all that is what
    reading the finished text once costs, but for the logits.
    """
    steps = [decode_flops(config, prompt + i, cached) for i in range(1, generated + 1)]
    parts = [*([prefill_flops(config, prompt)] if cached else []), *steps]
    names = ("projections", "scores_and_mix", "feed_forward", "output")
    return Prefill(*(sum(getattr(part, name) for part in parts) for name in names))


@dataclass(frozen=True)
class Plan:
    """Who computes and who reads: one row a step, one column a position of the finished text."""

    computed: np.ndarray  # (steps, positions): are this position's key and value computed in this step?
    read: np.ndarray  # (steps, positions): are they read from the cache?

    @property
    def scores(self) -> list[int]:
        """Query-key pairs scored in each step: each computed position looks at itself and all before it."""
        return [int(np.sum(np.flatnonzero(row) + 1)) for row in self.computed]


def plan(prompt: int, generated: int, cached: bool) -> Plan:
    """Every step of a generation. Cached: row 0 is the prefill, row i reads token i. Uncached: rows 1 … g, all anew."""
    positions = np.arange(prompt + generated)
    lengths = np.arange(prompt, prompt + generated + 1)[:, None]  # of the text after each step
    there = positions < lengths
    if not cached:
        return Plan(there[1:], np.zeros_like(there[1:]))
    known = positions < np.concatenate([[[0]], lengths[:-1]])
    return Plan(there & ~known, known)


class KVCache:
    """Room for `capacity` positions, allocated once: (blocks, kv_heads, capacity, head_dim) keys, and as many values.

    With a `batch` of B equally long texts, (blocks, B, kv_heads, capacity, head_dim). Unlike everything else in the
    engine it is written into, because copying it for each token would be the work that it saves. One cache serves one
    reader.
    """

    def __init__(
        self,
        blocks: int,
        kv_heads: int,
        capacity: int,
        head_dim: int,
        dtype: np.dtype | type = np.float32,
        batch: int | None = None,
    ) -> None:
        texts = () if batch is None else (batch,)
        self.keys = np.empty((blocks, *texts, kv_heads, capacity, head_dim), dtype)
        self.values = np.empty((blocks, *texts, kv_heads, capacity, head_dim), dtype)
        self.length = 0  # positions that all blocks have filled

    @property
    def capacity(self) -> int:
        """Positions there is room for."""
        return self.keys.shape[-2]

    @property
    def nbytes(self) -> int:
        """Bytes in use by the positions filled so far."""
        return (self.keys.nbytes + self.values.nbytes) // self.capacity * self.length

    def extend(
        self, block: int, k: Float[Array, "*batch K T d"], v: Float[Array, "*batch K T d"]
    ) -> tuple[Float[Array, "*batch K S d"], Float[Array, "*batch K S d"]]:
        """Store one block's keys and values of the newest positions; all of that block's, old and new, are returned.

        `length` stays: call `advance` once every block has stored its own. Raises ValueError when the cache is full.
        """
        end = self.length + k.shape[-2]
        if end > self.capacity:
            raise ValueError(f"The cache has room for {self.capacity} positions, not for {end}.")
        self.keys[block, ..., self.length : end, :] = k
        self.values[block, ..., self.length : end, :] = v
        return self.keys[block, ..., :end, :], self.values[block, ..., :end, :]

    def advance(self, positions: int) -> None:
        """Count the newest positions as filled."""
        self.length += positions

    def rewind(self, length: int) -> None:
        """Forget all but the first `length` positions, to continue the text another way."""
        if not 0 <= length <= self.length:
            raise ValueError(f"The cache holds {self.length} positions; it cannot go back to {length}.")
        self.length = length

    def reorder(self, parents: Sequence[int]) -> None:
        """Make text i of the batch go on from what was text parents[i]; their number may change (beam search)."""
        if self.keys.ndim < 5:
            raise ValueError("This cache holds a single text; there is nothing to reorder.")
        self.keys, self.values = self.keys[:, list(parents)], self.values[:, list(parents)]
