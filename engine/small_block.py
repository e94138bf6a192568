"""A block small enough to follow by eye: a stream of eight named numbers, one head, three neurons, weights set by hand.

It decides whether "are" or "is" comes next, and for that it has to look past the nearest noun to the first one: the
agreement that models are tested with (Linzen et al. 2016, arXiv:1611.01368). Nothing here is learned; everything after
the weights is `engine.block.run_block`, the function that the real model runs, and parts are switched off by the same
edits (`engine.residual_study.part_off`). Positions are left out: `turn` hands queries and keys on as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.block import Block, rms_norm, run_block
from engine.edits import Edit, EditingTap
from engine.residual_study import part_off
from engine.sampling import softmax
from engine.tap import prefixed

CHANNELS = ("noun", "number", "first", "joins", "subject", "→ are", "→ is", "→ noun")
"""What the eight numbers of the stream mean; "number" is +1 for plural, −1 for singular. The last four start empty."""
QUERY_AXES = ("first", "noun")
VALUE_AXES = ("number", "noun")
NEURONS = ("plural subject", "singular subject", "noun must follow")
ANSWERS = ("are", "is", "a noun")

SENTENCES = {
    "keys": "Keys in the box",
    "key": "Key in the boxes",
    "cats": "Cats near houses",
    "cat": "Cat near the house",
}

# noun, number, first, joins; the other four channels are free
WORDS: dict[str, tuple[int, ...]] = {
    "Keys": (1, 1, 1, 0), "Key": (1, -1, 1, 0), "Cats": (1, 1, 1, 0), "Cat": (1, -1, 1, 0),
    "box": (1, -1, 0, 0), "boxes": (1, 1, 0, 0), "house": (1, -1, 0, 0), "houses": (1, 1, 0, 0),
    "in": (0, 0, 0, 1), "near": (0, 0, 0, 1), "the": (0, 0, 0, 1),
}  # fmt: skip


def _weights(shape: tuple[int, int], entries: Mapping[tuple[int, int], float | int]) -> Float[Array, "in out"]:
    """A matrix of zeros but for the entries named."""
    rows, columns = shape
    return np.array([[float(entries.get((i, j), 0.0)) for j in range(columns)] for i in range(rows)])


BLOCK = Block(
    attn_norm=np.ones(8),
    w_q=_weights((8, 2), {(0, 0): 1.5, (0, 1): 0.3}),  # a noun seeks what stands first, and a little any noun
    w_k=_weights((8, 2), {(2, 0): 1, (0, 1): 1}),  # and is found by standing first, and by being a noun
    w_v=_weights((8, 2), {(1, 0): 1, (0, 1): 1}),  # handed over: the number
    w_o=_weights((2, 8), {(0, 4): 1}),  # written down as the subject's number
    ffn_norm=np.ones(8),
    w_gate=_weights((8, 3), {(4, 0): 1, (4, 1): -1, (3, 2): 1}),
    w_up=_weights((8, 3), {(0, 0): 1, (0, 1): 1, (3, 2): 1}),
    w_down=_weights((3, 8), {(0, 5): 1, (0, 6): -0.5, (1, 6): 1, (1, 5): -0.5, (2, 7): 0.5}),
)
READ = _weights((8, 3), {(5, 0): 2, (6, 1): 2, (7, 2): 2})
"""The output matrix: what each word of the tiny vocabulary is recognised by."""


@dataclass(frozen=True)
class SmallRun:
    """One sentence of T words through the block; `steps` has every intermediate by the names of `run_block`."""

    words: tuple[str, ...]
    x: Float[Array, "T 8"]
    steps: Mapping[str, Array]
    y: Float[Array, "T 8"]
    probabilities: Float[Array, "T 3"]  # of the tiny vocabulary, after a last norm


def run_small(sentence: str, *, off: Collection[str] = (), scale: float | int = 1.0) -> SmallRun:
    """Run the block with the parts in `off` (names of `residual_study.PARTS`) switched off.

    `scale` multiplies the stream on its way in. Raises ValueError for a word without an embedding.
    """
    words = tuple(sentence.split())
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise ValueError(f"“{unknown[0]}” has no hand-set embedding; the words are {', '.join(sorted(WORDS))}.")
    edit: Edit = {name: patch for part in sorted(off) for name, patch in part_off(part, 0).items()}
    steps: dict[str, Array] = {}
    tap = EditingTap(steps, edit)
    x = tap("embed", np.array([[*WORDS[word], 0.0, 0.0, 0.0, 0.0] for word in words]) * float(scale))
    y = run_block(x, BLOCK, 1, lambda q_and_k: q_and_k, tap=prefixed(tap, "blk.0."))
    short = {name.removeprefix("blk.0."): value for name, value in steps.items()}
    return SmallRun(words, x, short, y, softmax(rms_norm(y, np.ones(8)) @ READ))
