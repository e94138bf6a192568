"""Four heads small enough to follow by eye: words with twelve traits, and hand-set projections for each head.

Nothing here is learned. Width 12 is split into 4 heads of 3. What each head does follows from its own projections and
from nothing else: given the same ones, all four do the same. Heads are split, run and joined by `engine.multi_head`,
as in the real model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from engine.arrays import Array
from engine.attention import Attention, attention
from engine.multi_head import grouped_query_attention, head_contributions, merge_heads, split_heads

TRAITS = (
    "thing", "quality", "action", "stand-in", "living", "moving", "colour", "material",
    "first", "place ↔", "place ↕", "always 1",
)  # fmt: skip
HEADS = ("one word back", "what is it like", "who or what", "rest")
TAKEN = (  # which traits each head's values carry
    ("thing", "quality", "action"), ("quality", "colour", "material"), ("thing", "living", "moving"),
    ("living", "moving", "colour"),
)  # fmt: skip
STEP = 2 * np.pi / 13  # a word's place is a point on a circle, this angle further for each word
LONGEST = 12

SENTENCES = {
    "speeding": "A blue car crashed into a concrete wall because it was speeding",
    "tired": "The animal did not cross the street because it was too tired",
    "short": "The blue car hit the wall",
}

# thing, quality, action, stand-in, living, moving, colour, material
WORDS: dict[str, tuple[float, ...]] = {
    "a": (0, 0, 0, 0, 0, 0, 0, 0),
    "the": (0, 0, 0, 0, 0, 0, 0, 0),
    "animal": (1, 0, 0, 0, 1, 0.4, 0, 0),
    "because": (0, 0, 0, 0, 0, 0, 0, 0),
    "blue": (0, 1, 0, 0, 0, 0, 1, 0),
    "car": (1, 0, 0, 0, 0, 1, 0, 0.1),
    "concrete": (0.1, 1, 0, 0, -0.2, -0.2, 0, 1),
    "crashed": (0, 0, 0.7, 0, 0, 0.8, 0, 0),
    "cross": (0, 0, 0.6, 0, 0.2, 0.5, 0, 0),
    "did": (0, 0, 0.2, 0, 0, 0, 0, 0),
    "hit": (0, 0, 0.7, 0, 0, 0.6, 0, 0),
    "into": (0, 0, 0.1, 0, 0, 0.1, 0, 0),
    "it": (0, 0, 0, 1, 0, 0, 0, 0),
    "not": (0, 0, 0, 0, 0, 0, 0, 0),
    "speeding": (0, 0, 1, 0, 0, 1, 0, 0),
    "street": (1, 0, 0, 0, 0, 0, 0, 0.2),
    "tired": (0, 0, 1, 0, 1, -0.3, 0, 0),
    "too": (0, 0, 0, 0, 0, 0, 0, 0),
    "wall": (1, 0, 0, 0, 0, -0.3, 0, 0.3),
    "was": (0, 0, 0.3, 0, 0, 0, 0, 0),
}


def _columns(*columns: Mapping[str, float | int]) -> Float[Array, "12 3"]:
    """A projection, one dictionary a column: which traits it adds up, and how often."""
    return np.array([[column.get(trait, 0.0) for column in columns] for trait in TRAITS])


def _one_back(size: float | int) -> tuple[dict[str, float], dict[str, float]]:
    """Two columns that turn a place on the circle back by one word."""
    cos, sin = size * np.cos(STEP), size * np.sin(STEP)
    return {"place ↔": cos, "place ↕": sin}, {"place ↔": -sin, "place ↕": cos}


W_Q = np.stack([
    _columns(*_one_back(6), {}),  # my place, one word back
    _columns({"thing": 4}, *_one_back(3)),  # a thing seeks a quality, best the nearest
    _columns({"action": 2, "stand-in": 2}, {"living": 2}, {"moving": 2}),  # who does this, and is like this?
    _columns({"always 1": 3}, {}, {}),  # everybody asks the same
])  # fmt: skip
W_K = np.stack([
    _columns({"place ↔": 6}, {"place ↕": 6}, {}),
    _columns({"quality": 4}, {"place ↔": 3}, {"place ↕": 3}),
    _columns({"thing": 2}, {"living": 2}, {"moving": 2}),
    _columns({"first": 3}, {}, {}),
])  # fmt: skip
W_V = np.stack([_columns(*({trait: 1.0} for trait in taken)) for taken in TAKEN])
W_O = np.concatenate([_columns(*({trait: 1.0} for trait in taken)).T * size
                      for taken, size in zip(TAKEN, (0.2, 1.0, 1.0, 1.0), strict=True)])  # fmt: skip

OUTPUTS = {"hand": W_O, "identity": np.eye(12),
           "random": np.random.default_rng(0).normal(size=(12, 12)) / 12**0.5}  # fmt: skip

PROJECTIONS = {"own": "Each head its own", "swapped": "Heads 1 and 3 swap theirs",
               "same-qk": "All use head 3's queries and keys", "same": "All use head 3's, values too"}  # fmt: skip
_TAKES_FROM = {"own": ((0, 1, 2, 3), (0, 1, 2, 3)), "swapped": ((2, 1, 0, 3), (2, 1, 0, 3)),
               "same-qk": ((2, 2, 2, 2), (0, 1, 2, 3)), "same": ((2, 2, 2, 2), (2, 2, 2, 2))}  # fmt: skip


@dataclass(frozen=True)
class WordHeads:
    """Every step for one sentence of T words; the four heads lie on the first axis of most arrays."""

    words: tuple[str, ...]
    x: Float[Array, "T 12"]
    w_q: Float[Array, "4 12 3"]
    w_k: Float[Array, "4 12 3"]
    w_v: Float[Array, "4 12 3"]
    q: Float[Array, "4 T 3"]
    k: Float[Array, "4 T 3"]
    v: Float[Array, "4 T 3"]
    attention: Attention
    found: Float[Array, "4 T 3"]  # each head's mix of values; zero for a head that is switched off
    joined: Float[Array, "T 12"]  # the same, side by side
    w_o: Float[Array, "12 12"]
    parts: Float[Array, "4 T 12"]  # what each head writes
    out: Float[Array, "T 12"]  # joined @ w_o, and also the sum of the parts


def embed(words: tuple[str, ...]) -> Float[Array, "T 12"]:
    """Each word's traits and place. Raises ValueError for a word without traits, and for too long a sentence."""
    unknown = [word for word in words if word.lower() not in WORDS]
    if unknown:
        raise ValueError(f"“{unknown[0]}” has no hand-set traits; the words are {', '.join(sorted(WORDS))}.")
    if not 0 < len(words) <= LONGEST:
        raise ValueError(f"A sentence here has 1 to {LONGEST} words, not {len(words)}.")
    places = STEP * np.arange(len(words))
    traits = np.array([WORDS[word.lower()] for word in words], float)
    ends = [places == 0, np.cos(places), np.sin(places), np.ones(len(words))]
    return np.concatenate([traits, np.stack(ends, axis=-1)], axis=-1)


def attend(
    sentence: str,
    *,
    projections: str = "own",
    causal: bool = True,
    on: tuple[bool, ...] = (True,) * 4,
    w_o: Float[Array, "12 12"] = W_O,
) -> WordHeads:
    """Four heads over a sentence of known words; see PROJECTIONS for whose matrices each head uses.

    `on` switches heads off: what they found is then zero. Raises ValueError as `embed` does.
    """
    words = tuple(sentence.split())
    x = embed(words)
    looks, takes = _TAKES_FROM[projections]
    w_q, w_k, w_v = W_Q[list(looks)], W_K[list(looks)], W_V[list(takes)]
    # Side by side, the four 12 × 3 matrices are one of 12 × 12: one multiplication serves all heads.
    q, k, v = (split_heads(x @ merge_heads(w), 4) for w in (w_q, w_k, w_v))
    result = grouped_query_attention(q, k, v, causal=causal)
    found = result.output * np.reshape(np.array(on, float), (4, 1, 1))
    joined = merge_heads(found)
    parts = head_contributions(found, w_o)
    return WordHeads(words, x, w_q, w_k, w_v, q, k, v, result, found, joined, w_o, parts, joined @ w_o)


# One head over six words, for the question what a drawing may claim that “blue” sees in “car”.
SIX_WORDS = ("The", "blue", "car", "hit", "the", "wall")
SIX_QUERIES = np.array([[0.2, 0.3, 0.2], [0.31, 0.72, 0.65], [0.7, 0.6, 0.5], [0.5, 0.6, 0.6], [0.2, 0.3, 0.2],
                        [0.6, 0.5, 0.6]])  # fmt: skip
SIX_KEYS = np.array([[0.5, 0.4, 0.518], [0.44, 0.7, 0.614], [0.6, 0.85, 0.957], [0.5, 0.7, 0.745], [0.45, 0.4, 0.462],
                     [0.65, 0.7, 0.63]])  # fmt: skip


def typed_in(bonus: float | int, *, causal: bool) -> Attention:
    """Attention over the six words where a hand has added `bonus` to the score of “blue” against “car”."""
    blue, car = SIX_WORDS.index("blue"), SIX_WORDS.index("car")
    added = bonus * np.outer(np.arange(6) == blue, np.arange(6) == car)
    return attention(SIX_QUERIES, SIX_KEYS, SIX_KEYS, causal=causal, bias=added)
