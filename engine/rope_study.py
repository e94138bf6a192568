"""RoPE looked at from outside: one pair, all the pairs, and the real model's heads moved along the text.

Everything here turns vectors with `engine.rope.rotate`, the function that the real model runs. Sources: Su et al. 2021,
arXiv:2104.09864, sections 3.2 to 3.4; Barbero et al. 2024, arXiv:2410.06205, on scores that do not decay.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from engine.arrays import Array
from engine.edits import Edit, move_positions, other_rope, switch_off_rope
from engine.ledger import Config
from engine.model import Model
from engine.multi_head import grouped_query_attention
from engine.rope import Scaling, frequencies, rotate
from engine.sampling import softmax, surprisal

# --- one pair ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """One pair of numbers of a query and of a key, before and after their turns."""

    q: Float[Array, "2"]
    k: Float[Array, "2"]
    turned_q: Float[Array, "2"]  # by position times θ
    turned_k: Float[Array, "2"]
    before: float  # q · k
    after: float  # of the turned ones


def turn_pair(
    q: Sequence[float], k: Sequence[float], position_q: float | int, position_k: float | int, theta: float | int
) -> Pair:
    """Turn a query by position_q θ and a key by position_k θ (radians), and take both dot products.

    A head of two numbers has one pair, which turns by 1 a position; so θ goes into the positions.
    """
    both = np.array([q, k], float)
    turned = rotate(both, np.array([position_q, position_k]) * float(theta))
    return Pair(both[0], both[1], turned[0], turned[1], float(both[0] @ both[1]), float(turned[0] @ turned[1]))


def at_angle(degrees: float | int) -> tuple[tuple[float, float], tuple[float, float]]:
    """A query and a key of length 1, the query this far ahead of the key."""
    key = math.radians(20.0)  # anywhere will do
    query = key + math.radians(degrees)
    return (math.cos(query), math.sin(query)), (math.cos(key), math.sin(key))


def pair_grid(
    q: Sequence[float], k: Sequence[float], positions: int, theta: float | int
) -> Float[Array, "positions positions"]:
    """The score of one query at every position (rows) against one key at every position (columns)."""
    places = np.arange(positions) * float(theta)
    at_each = [rotate(np.tile(np.array(x, float), (positions, 1)), places) for x in (q, k)]
    return at_each[0] @ at_each[1].T


# Hand-set, so that both can be drawn: what each word seeks and what it offers, of length about 1.
PAIR_WORDS: dict[str, tuple[tuple[float, float], tuple[float, float]]] = {
    "the": ((0.5, 0.1), (0.3, -0.5)),
    "small": ((0.2, 0.9), (0.7, 0.4)),
    "dog": ((0.9, 0.4), (1.0, 0.2)),
    "chased": ((0.8, 0.6), (-0.2, 0.9)),
    "ball": ((0.7, -0.5), (0.9, -0.3)),
}
PAIR_SENTENCE = ("the", "small", "dog", "chased", "the", "ball")


@dataclass(frozen=True)
class Frame:
    """A sentence's queries and keys, turned by their distance from one chosen word."""

    positions: Int[Array, "T"]  # counted from the reference, so that it stands at 0
    q: Float[Array, "T 2"]
    k: Float[Array, "T 2"]
    turned_q: Float[Array, "T 2"]
    turned_k: Float[Array, "T 2"]
    scores: Float[Array, "T T"]  # of the turned ones, row asks column


def frame_of(reference: int, theta: float | int, words: Sequence[str] = PAIR_SENTENCE) -> Frame:
    """The words seen from the one at `reference`, which is not turned at all. The scores are the same from each."""
    q, k = (np.array([PAIR_WORDS[word][part] for word in words]) for part in (0, 1))
    positions = np.arange(len(words)) - reference
    turned_q, turned_k = (rotate(x, positions * float(theta)) for x in (q, k))
    return Frame(positions, q, k, turned_q, turned_k, turned_q @ turned_k.T)


# --- all the pairs -------------------------------------------------------------------------------------------------


def unfinished(d: int, base: float | int, context: int, scaling: Scaling = None) -> Bool[Array, "pairs"]:
    """Which pairs never complete a turn within `context` positions: their angles there all differ."""
    return context * frequencies(d, base, scaling) < 2 * math.pi


def scores_at_distances(
    q: Float[Array, "*batch d"],
    k: Float[Array, "*batch d"],
    distances: Shaped[Array, "n"],
    base: float | int = 10000.0,
    scaling: Scaling = None,
) -> Float[Array, "*batch n"]:
    """The dot product of a query that stands each of the distances after a key."""
    spread = np.broadcast_to(q[..., None, :], (*q.shape[:-1], len(distances), q.shape[-1]))
    turned = rotate(spread, distances, base, scaling=scaling)
    return np.reshape(turned @ k[..., None], turned.shape[:-1])


@dataclass(frozen=True)
class Decay:
    """Cosines at each distance: of vectors that agree in every pair, and of vectors that have nothing in common."""

    equal: Float[Array, "n"]  # q = k, the same in all pairs
    drawn: Float[Array, "draws n"]  # unrelated random q and k
    spread: Float[Array, "n"]  # the standard deviation of those


def decay(d: int, base: float | int, distances: Shaped[Array, "n"], seed: int = 0, draws: int = 24) -> Decay:
    """How the score falls with distance, and for whom (Su et al. 2021, section 3.4.3; Barbero et al. 2024)."""
    ones = np.ones(d)
    q, k = np.random.default_rng(seed).normal(size=(2, draws, d))
    lengths = np.linalg.norm(q, axis=-1) * np.linalg.norm(k, axis=-1)
    drawn = scores_at_distances(q, k, distances, base) / lengths[:, None]
    return Decay(scores_at_distances(ones, ones, distances, base) / d, drawn, np.sqrt(np.mean(drawn**2, axis=0)))


def below_half(d: int, base: float | int, furthest: int) -> int | None:
    """The first distance, up to `furthest`, at which equal vectors keep less than half of their score; None if none."""
    for start in range(1, furthest + 1, 256):  # mostly it is near: no need to try them all
        distances = np.arange(start, min(start + 256, furthest + 1))
        found = distances[scores_at_distances(np.ones(d), np.ones(d), distances, base) / d < 0.5]
        if len(found):
            return int(found[0])
    return None


@dataclass(frozen=True)
class Extension:
    """What a way of reading beyond the trained context does to each pair."""

    speed: Float[Array, "pairs"]  # how fast it turns, as a share of the speed it was trained with
    reach: Float[Array, "pairs"]  # its angle at the end of the longer context, radians
    trained: Float[Array, "pairs"]  # and at the end of the trained one
    unseen: Bool[Array, "pairs"]  # comes to angles that training never showed


def extend(d: int, base: float | int, context: int, factor: float | int, method: str) -> Extension:
    """Read `factor` times the trained context with the method "none", "linear", "ntk" or "yarn".

    A pair that completed a turn in training has seen every angle. One that did not meets new angles as soon as it
    turns further than it did then.
    """
    scalings: dict[str, Scaling] = {"none": None, "yarn": ("yarn", factor, context)}
    plain = frequencies(d, base)
    theta = frequencies(d, base, scalings.get(method, (method, factor)))
    trained, reach = context * plain, factor * context * theta
    unseen = (trained < 2 * math.pi) & (reach > trained * (1 + 1e-9))
    return Extension(theta / plain, reach, trained, unseen)


# --- in the real model ---------------------------------------------------------------------------------------------


def head_vectors(trace: Mapping[str, Array], layer: int, head: int) -> tuple[Float[Array, "T d"], Float[Array, "T d"]]:
    """A head's queries and the keys it reads, before any turn."""
    q, k = trace[f"blk.{layer}.attn.q_raw"], trace[f"blk.{layer}.attn.k_raw"]
    return q[head], k[head * len(k) // len(q)]


def rotate_rounded(
    x: Float[Array, "... T d"], positions: Shaped[Array, "T"], base: float | int, precision: str
) -> Float[Array, "... T d"]:
    """`rotate` with the angles p θ computed in "float64", "float32" or "float16", as a complex multiplication.

    At position 8000 a float32 angle is off by up to 2e-4 radians: the fast pairs have turned 1000 times, and only the
    digits after the full turns count. Wang et al. 2024, arXiv:2411.13476, on what 16 bits do.
    """
    kind = np.dtype(precision)
    angles = positions.astype(kind)[:, None] * frequencies(x.shape[-1], base).astype(kind)
    turns = np.exp(1j * angles.astype(np.float64)).astype(np.result_type(x.dtype, np.complex64))
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turns
    return np.reshape(np.stack([turned.real, turned.imag], axis=-1), x.shape).astype(x.dtype)


def scores_at(
    q: Float[Array, "*layers H T d"],
    k: Float[Array, "*layers K T d"],
    positions: Shaped[Array, "T"],
    base: float | int,
    precision: str = "float64",
) -> Float[Array, "*layers H T T"]:
    """The scores of unturned queries and keys that stand at these positions. The values play no part in them."""
    turn = partial(rotate_rounded, precision=precision) if precision != "float64" else rotate
    q, k = turn(q, positions, base), turn(k, positions, base)
    return grouped_query_attention(q, k, k, causal=False).scores


def changes(
    trace: Mapping[str, Array], config: Config, offset: int, precision: str = "float64"
) -> Float[Array, "layers heads"]:
    """Move the whole text by `offset` positions: the largest change of any score, in each head of each layer.

    The queries and keys are those of the trace, before their turns, and its scores are what they are compared with.
    """
    assert config.rope_base, "a Llama has RoPE"
    names = ("q_raw", "k_raw", "scores")
    q, k, scores = (np.stack([trace[f"blk.{i}.attn.{name}"] for i in range(config.layers)]) for name in names)
    moved = scores_at(q, k, trace["positions"] + offset, config.rope_base, precision)
    return np.max(np.abs(moved - scores), axis=(-2, -1))


def parts_of_score(
    q: Float[Array, "d"], k: Float[Array, "d"], position_q: int, position_k: int, base: float | int
) -> Float[Array, "pairs"]:
    """What each pair adds to the score q · k / √d of a query and a key at two positions; they sum to it."""
    turned_q = rotate(q[None], np.array([position_q]), base)[0]
    turned_k = rotate(k[None], np.array([position_k]), base)[0]
    return np.sum(np.reshape(turned_q * turned_k, (-1, 2)), axis=-1) / float(len(q) ** 0.5)


def pair_at(
    q: Float[Array, "d"],
    k: Float[Array, "d"],
    position_q: int,
    position_k: int,
    pair: int,
    base: float | int,
    precision: str = "float64",
) -> tuple[Float[Array, "2"], Float[Array, "2"]]:
    """The two numbers of one pair of a query and of a key, turned by their positions."""
    places = np.array([position_q, position_k])
    turned = rotate_rounded(np.stack([q, k]), places, base, precision)
    return turned[0, 2 * pair : 2 * pair + 2], turned[1, 2 * pair : 2 * pair + 2]


# --- the real model, with its positions spoilt ---------------------------------------------------------------------


def spoilt(config: Config, how: str, seed: int = 0) -> Edit:
    """An edit that gives a model other positions: a key of `SPOILT`. `seed` is for "shuffled" alone.

    Raises ValueError for anything else.
    """
    if how not in SPOILT:
        raise ValueError(f"Positions can be {', '.join(SPOILT)}, not {how!r}.")
    name, _, amount = how.partition("-")
    if name == "shuffled":
        return move_positions(lambda p: np.random.default_rng(seed).permutation(p))
    if name in ("stretched", "squeezed"):
        factor = float(amount) if name == "stretched" else 1 / float(amount)
        return move_positions(lambda p: p * factor)
    simple: dict[str, Edit] = {
        "trained": {},
        "off": switch_off_rope(),
        "half": other_rope(config, layout="half"),
        "reversed": move_positions(lambda p: p[::-1]),
        "moved": move_positions(lambda p: p + 1000),
        "yarn": other_rope(config, scaling=("yarn", 4.0, config.context)),
        "ntk": other_rope(config, scaling=("ntk", 4.0)),
    }
    return other_rope(config, base=float(amount)) if name == "base" else simple[name]


SPOILT = {
    "trained": "as trained",
    "off": "off, no positions at all",
    "half": "on the wrong pairs (half-split)",
    "shuffled": "positions shuffled",
    "reversed": "positions reversed",
    "moved": "all positions 1000 further",
    "stretched-2": "positions stretched, × 2",
    "stretched-4": "positions stretched, × 4",
    "stretched-8": "positions stretched, × 8",
    "squeezed-2": "positions squeezed, ÷ 2",
    "squeezed-4": "positions squeezed, ÷ 4",
    "base-1000": "base 1,000",
    "base-10000": "base 10,000",
    "base-500000": "base 500,000",
    "ntk": "NTK scaling, × 4",
    "yarn": "YaRN scaling, × 4",
}


def reading_with(
    model: Model, ids: Sequence[int], how: str, seed: int = 0
) -> tuple[Float[Array, " predicted"], Float[Array, "V"]]:
    """The surprisal of each token but the first (nats), and the probabilities of the next one; kept and read-only.

    Raises ValueError for fewer than two tokens.
    """
    if len(ids) < 2:
        raise ValueError("A loss needs at least two tokens: the first only serves to predict the second.")
    key = tuple(map(int, ids))

    def run() -> tuple[Float[Array, " predicted"], Float[Array, "V"]]:
        edit = spoilt(model.config, how, seed)
        logits = model.forward(key, edit=edit) if edit else model.trace(key)["logits"]
        results = surprisal(logits[:-1], np.array(key[1:])), softmax(logits[-1])
        for array in results:
            array.setflags(write=False)
        return results

    kept: tuple[Float[Array, " predicted"], Float[Array, "V"]] = model.memo.get(("rope", key, how, seed), run)
    return kept


def shuffled_but_last(ids: Sequence[int], seed: int) -> list[int]:
    """The same tokens with those before the last in another order."""
    order = np.random.default_rng(seed).permutation(len(ids) - 1)
    return [*(int(ids[i]) for i in order), int(ids[-1])]


def distance_between(p: Float[Array, "V"], q: Float[Array, "V"]) -> float:
    """Total variation: the share of probability that has moved from some tokens to others; 0 to 1."""
    return float(np.sum(np.abs(p - q)) / 2)


def next_tokens_with(model: Model, texts: Sequence[Sequence[int]], how: str) -> Float[Array, "B V"]:
    """The probabilities of the next token after each of some equally long texts; kept and read-only."""
    key = tuple(tuple(map(int, text)) for text in texts)

    def run() -> Float[Array, "B V"]:
        logits = model.forward(np.array(key), edit=spoilt(model.config, how), last_only=True)[:, 0]
        probabilities = softmax(logits)
        probabilities.setflags(write=False)
        return probabilities

    kept: Float[Array, "B V"] = model.memo.get(("rope, next", key, how), run)
    return kept


def likeliest(probabilities: Float[Array, "V"], count: int) -> Int[Array, "count"]:
    """The ids of the `count` most probable tokens, the most probable first."""
    candidates = np.argpartition(-probabilities, count)[:count]  # sorting the other 49 000 would take longer than this
    return candidates[np.argsort(-probabilities[candidates], kind="stable")]
