"""What attention knows of positions: nothing, unless it is told. The ways to tell it, on the same tokens.

Sources: sinusoids, Vaswani et al. 2017, arXiv:1706.03762, section 3.5; learned tables, Radford et al. 2018 (GPT) and
Devlin et al. 2018, arXiv:1810.04805; ALiBi, Press et al. 2021, arXiv:2108.12409; RoPE, Su et al. 2021,
arXiv:2104.09864. That a causal mask alone lets order through: Haviv et al. 2022, arXiv:2203.16634.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from engine.arrays import Array
from engine.attention import Attention, attention
from engine.attention_study import previous_token_share
from engine.backpropagation import value_and_grad
from engine.embeddings import lookup
from engine.rope import alibi_bias, rotate, sinusoids
from engine.sampling import log_softmax

SCHEMES = {
    "none": "no positions",
    "sinusoids": "sinusoids, added",
    "learned": "learned table, added",
    "alibi": "ALiBi",
    "rope": "RoPE",
}
WIDTH = 8
BASE = 100.0  # for heads of 8 numbers: the four pairs turn by 1, 0.32, 0.1 and 0.03 a position
ROWS = 24  # of the learned table
TRAINED = 12  # rows of it that training ever used
ALIBI_HEAD = 1  # the second of 8 heads: a slope of 1/4


@dataclass(frozen=True)
class Projections:
    """The matrices of one head that is as wide as the embeddings."""

    w_q: Float[Array, "D D"]
    w_k: Float[Array, "D D"]
    w_v: Float[Array, "D D"]


@lru_cache(maxsize=256)
def random_projections(seed: int = 0, width: int = WIDTH) -> Projections:
    """Matrices that keep the size of what they multiply, drawn anew for each seed."""
    return Projections(*np.random.default_rng([seed, 1]).normal(size=(3, width, width)) / width**0.5)


def word_vectors(words: Sequence[str], seed: int = 0, width: int = WIDTH) -> Float[Array, "T D"]:
    """A random vector for each word, the same for the same word wherever it stands."""
    return np.stack([_word_vector(word, seed, width) for word in words])


@lru_cache(maxsize=1024)
def _word_vector(word: str, seed: int, width: int) -> Float[Array, "D"]:
    return np.random.default_rng([seed, 2, *word.encode()]).normal(size=width)


def attend_at(
    x: Float[Array, "T D"],
    head: Projections,
    positions: Int[Array, "T"],
    scheme: str,
    *,
    causal: bool = False,
    table: Float[Array, "rows D"] | None = None,
) -> Attention:
    """One head of attention over tokens at these positions, told of them by one of `SCHEMES`.

    Two schemes add to the vectors, one adds to the scores (ALiBi, in `.masked`), one turns queries and keys. Raises
    ValueError for another scheme, and where the learned table has no row for a position.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"The schemes are {', '.join(SCHEMES)}, not {scheme!r}.")
    if scheme == "sinusoids":
        x = x + sinusoids(positions, x.shape[-1])
    if scheme == "learned":
        x = x + rows_of(table, positions)
    q, k, v = x @ head.w_q, x @ head.w_k, x @ head.w_v
    if scheme == "rope":
        q, k = rotate(q, positions, BASE), rotate(k, positions, BASE)
    bias = alibi_bias(8, len(x), len(x))[ALIBI_HEAD] if scheme == "alibi" else None
    return attention(q, k, v, causal=causal, bias=bias)


def rows_of(table: Float[Array, "rows D"] | None, positions: Int[Array, "T"]) -> Float[Array, "T D"]:
    """The rows that a learned table has for these positions. Raises ValueError where it has none."""
    if table is None:
        raise ValueError("A learned table has to be learned first.")
    if np.max(positions) >= len(table):
        raise ValueError(f"The table has {len(table)} rows; there is none for position {np.max(positions)}.")
    return lookup(table, positions)


# --- a learned table, learned --------------------------------------------------------------------------------------


@lru_cache(maxsize=2048)
def learned_table(steps: int, seed: int = 0, rate: float | int = 4.0) -> Float[Array, "rows D"]:
    """A table of position vectors after some steps of gradient descent; read-only, and each step is kept.

    It is trained on one task: attend to the token right before, in texts of `TRAINED` random tokens, a new one each
    step. The projections stay as they are. Rows that no training text was long enough to use stay random.
    """
    if steps <= 0:
        table = 0.3 * np.random.default_rng([seed, 3]).normal(size=(ROWS, WIDTH))
    else:
        before = learned_table(steps - 1, seed, rate)
        text = np.random.default_rng([seed, 4, steps]).normal(size=(TRAINED, WIDTH))
        slope = value_and_grad(previous_token_loss)
        table = before - rate * slope(before, text, random_projections(seed), np.arange(TRAINED))[1]
    table.setflags(write=False)
    return table


def previous_token_loss(table: Any, x: Float[Array, "T D"], head: Projections, positions: Int[Array, "T"]) -> Any:
    """The mean surprisal of "the token before" under the attention of each token but the first, in nats."""
    masked = attend_at(x, head, positions, "learned", causal=True, table=table).masked
    each = np.arange(1, len(x))
    return -np.mean(log_softmax(masked[1:])[each - 1, each - 1])


def previous_token_weight(table: Float[Array, "rows D"], start: int, seed: int = 0) -> float:
    """How much attention goes to the token before, in a text of `TRAINED` tokens, never trained on, from `start` on."""
    text = np.random.default_rng([seed, 5]).normal(size=(TRAINED, WIDTH))
    positions = np.arange(TRAINED) + start
    weights = attend_at(text, random_projections(seed), positions, "learned", causal=True, table=table).weights
    return float(previous_token_share(weights))


# --- what depends on what ------------------------------------------------------------------------------------------


def moved_scores(
    words: Sequence[str], scheme: str, start: int, *, seed: int = 0, steps: int = 0
) -> tuple[Float[Array, "T T"], float]:
    """The scores of a text that begins at position `start`, and the largest change against beginning at 0."""
    x, head, table = word_vectors(words, seed), random_projections(seed), learned_table(steps, seed)
    here, there = (attend_at(x, head, np.arange(len(x)) + begin, scheme, table=table).masked for begin in (start, 0))
    return here, float(np.max(np.abs(here - there)))


@dataclass(frozen=True)
class Order:
    """The same words in two orders: what comes out at each word."""

    words: tuple[str, ...]
    first: Float[Array, "T D"]  # in the order of `words`
    second: Float[Array, "T D"]  # in the other order, its rows brought into the order of `words`
    differences: Float[Array, "T"]  # length of what differs, at each word


def two_orders(
    first: Sequence[str], second: Sequence[str], scheme: str, *, causal: bool, layers: int = 1, seed: int = 0
) -> Order:
    """Run both orders through some layers of attention, each adding to its input, and compare word by word.

    Raises ValueError unless both hold the same words, each once.
    """
    if sorted(first) != sorted(second) or len(set(first)) != len(first):
        raise ValueError("Both orders need the same words, each of them once.")
    here, there = (_layers(words, scheme, causal, layers, seed) for words in (first, second))
    aligned = there[[list(second).index(word) for word in first]]
    return Order(tuple(first), here, aligned, np.linalg.norm(here - aligned, axis=-1))


def order_table(
    first: Sequence[str], second: Sequence[str], *, layers: int = 1, seed: int = 0
) -> Float[Array, "schemes 2"]:
    """The largest difference of `two_orders` for each of `SCHEMES`, without and with the causal mask."""
    each = [[two_orders(first, second, scheme, causal=causal, layers=layers, seed=seed) for causal in (False, True)]
            for scheme in SCHEMES]  # fmt: skip
    return np.array([[np.max(found.differences) for found in line] for line in each])


def _layers(words: Sequence[str], scheme: str, causal: bool, layers: int, seed: int) -> Float[Array, "T D"]:
    x, table = word_vectors(words, seed), learned_table(0, seed)
    for layer in range(layers):
        head = random_projections(seed + 1000 * layer)
        x = x + attend_at(x, head, np.arange(len(x)), scheme, causal=causal, table=table).output
    return x
