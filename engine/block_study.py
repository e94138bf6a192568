"""Blocks on top of each other: what norm and residual are for, seen on random weights, before any training.

Sources: He et al. 2016, arXiv:1512.03385 (residuals); Xiong et al. 2020, arXiv:2002.04745 (norm before or after); Dong,
Cordonnier and Loukas 2021, arXiv:2103.03404 (without residuals all tokens become alike).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.block import Block, rms_norm, run_block
from engine.tap import Tap

WIDTH, HEADS, HIDDEN, TOKENS = 32, 4, 64, 6
LARGEST = 1e30  # beyond that the next block would overflow: the stream is called lost
ARRANGEMENTS = {"pre": "norm before each sublayer", "post": "norm after each addition", "none": "no norm at all"}


@dataclass(frozen=True)
class Stack:
    """A random stream through random blocks: row 0 is the input, row i what left block i; nan after an overflow."""

    lengths: Float[Array, "rows"]  # mean length of the tokens' vectors, divided by that of the input's
    likeness: Float[Array, "rows"]  # mean cosine between the vectors of two tokens: 1 means all tokens look alike


@lru_cache(maxsize=256)
def random_stack(
    depth: int, *, arrangement: str = "pre", residual: bool = True, gain: float = 1.0, seed: int = 0
) -> Stack:
    """A stream of random numbers through `depth` blocks whose weights have the standard deviation gain / √in.

    Raises ValueError for an unknown arrangement.
    """
    if arrangement not in ARRANGEMENTS:
        raise ValueError(f"The norm stands in one of these places: {', '.join(ARRANGEMENTS)}, not {arrangement!r}.")
    x, blocks = random_blocks(depth, gain, seed)
    measured = [_measured(x)]
    with np.errstate(over="ignore", invalid="ignore"):
        for block in blocks:
            if np.max(np.abs(x)) > LARGEST:
                measured.append((np.nan, np.nan))
                continue
            x = run_block(x, block, HEADS, lambda q_and_k: q_and_k, tap=arranged(x, arrangement, residual))
            measured.append(_measured(x))
    lengths, likeness = np.array(measured).T
    return Stack(lengths / lengths[0], likeness)


@lru_cache(maxsize=64)
def random_blocks(depth: int, gain: float, seed: int) -> tuple[Float[Array, "T D"], tuple[Block, ...]]:
    """A stream, and blocks as before training: every matrix drawn so that it keeps the size of what it gets."""
    rng = np.random.default_rng(seed)

    def drawn(rows: int, columns: int) -> Array:
        return rng.normal(size=(rows, columns)) * float(gain) / np.sqrt(rows)

    ones, square = np.ones(WIDTH), (WIDTH, WIDTH)
    x = rng.normal(size=(TOKENS, WIDTH))
    return x, tuple(
        Block(
            ones, drawn(*square), drawn(*square), drawn(*square), drawn(*square),
            ones, drawn(WIDTH, HIDDEN), drawn(WIDTH, HIDDEN), drawn(HIDDEN, WIDTH),
        )
        for _ in range(depth)
    )  # fmt: skip


def arranged(x: Array, arrangement: str, residual: bool) -> Tap:
    """A tap that moves the norms of a block behind the additions, or takes them away, and the residuals if wanted."""
    seen: dict[str, Array] = {"resid": x}

    def tap(name: str, value: Array) -> Array:
        sublayer = name.split(".")[0]
        if name in ("attn.norm", "ffn.norm") and arrangement != "pre":
            value = seen["attn.resid" if sublayer == "ffn" else "resid"]
        if name in ("attn.resid", "resid"):
            value = value if residual else seen["attn.out" if name == "attn.resid" else "ffn.out"]
            value = rms_norm(value, np.ones(WIDTH)) if arrangement == "post" else value
        seen[name] = value
        return value

    return tap


def _measured(x: Float[Array, "T D"]) -> tuple[float, float]:
    lengths = np.linalg.norm(x, axis=-1)
    unit = x / np.maximum(lengths, 1e-300)[:, None]
    cosines = (unit @ unit.T)[np.triu_indices(len(unit), 1)]
    return float(np.mean(lengths)), float(np.mean(cosines))
