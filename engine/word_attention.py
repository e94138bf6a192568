"""Attention small enough to follow by eye: words with hand-set embeddings and hand-set projections.

Nothing here is learned. Each word has seven traits; three small matrices turn them into a query (what is sought), a key
(what is offered) and a value (what is passed on). Everything after that is `engine.attention.attention`, the function
that the real model runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import Attention, attention

TRAITS = ("is a thing", "seeks a thing", "living", "moving", "wide", "skin", "soil")
QUERY_AXES = ("thing", "living", "moving", "wide")
VALUE_AXES = ("living", "moving", "wide", "skin", "soil")

SENTENCES = {
    "tired": "The animal did not cross the street because it was too tired",
    "wide": "The animal did not cross the street because it was too wide",
    "speeding": "A blue car crashed into a concrete wall because it was speeding",
    "gardener": "The gardener found a mole",
    "dermatologist": "The dermatologist found a mole",
}

# is a thing, seeks a thing, living, moving, wide, skin, soil
WORDS: dict[str, tuple[float, ...]] = {
    "the": (0.0, 0.1, 0.0, 0.1, 0.0, 0.0, 0.0),
    "a": (0.1, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    "animal": (1.0, 0.0, 1.0, 0.4, 0.0, 0.0, 0.2),
    "did": (0.0, 0.2, 0.0, 0.1, 0.0, 0.0, 0.0),
    "not": (0.0, 0.1, 0.0, 0.0, 0.1, 0.0, 0.0),
    "cross": (0.0, 0.6, 0.2, 0.5, 0.2, 0.0, 0.0),
    "street": (1.0, 0.0, 0.0, 0.1, 1.0, 0.0, 0.1),
    "because": (0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0),
    "it": (0.1, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0),
    "was": (0.0, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0),
    "too": (0.0, 0.1, 0.0, 0.0, 0.1, 0.0, 0.0),
    "tired": (0.0, 1.0, 1.0, -0.3, 0.0, 0.0, 0.0),
    "wide": (0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    "blue": (0.0, 0.4, 0.0, 0.0, 0.1, 0.0, 0.0),
    "car": (1.0, 0.0, 0.1, 1.0, 0.1, 0.0, 0.0),
    "crashed": (0.0, 0.7, 0.0, 0.8, 0.0, 0.0, 0.0),
    "into": (0.0, 0.2, 0.0, 0.2, 0.0, 0.0, 0.0),
    "concrete": (0.2, 0.2, -0.2, -0.2, 0.3, 0.0, 0.1),
    "wall": (1.0, 0.0, 0.0, -0.3, 0.7, 0.0, 0.0),
    "speeding": (0.0, 1.0, 0.1, 1.0, 0.0, 0.0, 0.0),
    "gardener": (1.0, 0.0, 0.8, 0.2, 0.0, 0.0, 1.0),
    "dermatologist": (1.0, 0.0, 0.8, 0.1, 0.0, 1.0, 0.0),
    "found": (0.0, 0.6, 0.3, 0.1, 0.0, 0.0, 0.0),
    "mole": (0.6, 1.0, 0.2, 0.0, 0.0, 0.1, 0.1),
}

W_Q = np.array(
    [[0, 0, 0, 0], [2, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]], float
)
W_K = np.array(
    [[2, 0, 0, 0], [0, 0, 0, 0], [0, 2, 0, 0], [0, 0, 2, 0], [0, 0, 0, 2], [0, 0, 0, 0], [0, 0, 0, 0]], float
)
W_V = np.eye(7)[:, 2:]


@dataclass(frozen=True)
class WordAttention:
    """Every step for one sentence of T words."""

    words: tuple[str, ...]
    embeddings: Float[Array, "T 7"]
    q: Float[Array, "T 4"]
    k: Float[Array, "T 4"]
    v: Float[Array, "T 5"]
    attention: Attention


def attend(sentence: str, *, sharpness: float = 1.0, causal: bool = True, divide: bool = True) -> WordAttention:
    """Attention over a sentence of known words; `sharpness` multiplies the scores, `divide` is the division by √d.

    Raises ValueError for a word without an embedding.
    """
    words = tuple(sentence.split())
    unknown = [word for word in words if word.lower() not in WORDS]
    if unknown:
        raise ValueError(f"“{unknown[0]}” has no hand-set embedding; the words are {', '.join(sorted(WORDS))}.")
    x = np.array([WORDS[word.lower()] for word in words])
    q, k, v = x @ W_Q, x @ W_K, x @ W_V
    scale = sharpness / np.sqrt(q.shape[-1]) if divide else sharpness
    return WordAttention(words, x, q, k, v, attention(q, k, v, causal=causal, scale=float(scale)))
