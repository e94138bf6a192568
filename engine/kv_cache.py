"""The KV cache: keys and values of the positions already read, kept so that a new token computes only its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
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
