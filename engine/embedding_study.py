"""Embeddings looked at from outside: the real model's table, and what becomes of a row when the blocks have read it.

The table is one row a token, the same in every sentence. What runs through the blocks is another vector in every
sentence. How far two of them have drifted apart is measured by their cosine, and that number needs a yardstick: the
vectors of a transformer share a large common part, so that even unrelated tokens look alike (Ethayarajh 2019,
arXiv:1909.00512), and a few numbers of the first token grow huge (Sun et al. 2024, arXiv:2402.17762).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import regex
from jaxtyping import Bool, Float, Int

from engine.arrays import Array
from engine.edits import Trace
from engine.embeddings import (
    PCA,
    Neighbours,
    analogy,
    cosine_matrix,
    cosine_similarity,
    largest,
    pca,
    row_lengths,
    similarities,
)
from engine.model import Ids, Model
from engine.tokenization import decode, encode, tokens

ENCODING = "smollm2"
MOST_WORDS = 60

COMMON_TEXT = (
    "On most days the train was late. Nobody knew why, and after 12 years nobody asked. People read, or looked out at "
    "the fields, where a man with a red tractor drew straight lines into the ground."
)
"""A text of nothing in particular: the mean of its vectors stands for what all vectors share."""


# --- the table ---------------------------------------------------------------------------------------------------


def table_mean(model: Model) -> Float[Array, "D"]:
    """The mean of all rows of the embedding table; kept."""
    return model.memo.get(("table_mean",), lambda: np.mean(model.weights.embedding, axis=0))


def table_lengths(model: Model, centred: bool = False) -> Float[Array, "V"]:
    """The length of every row of the embedding table, or its distance from their mean; kept: 0.2 MB, not 113."""
    centre = table_mean(model) if centred else None
    return model.memo.get(("row_lengths", centred), lambda: row_lengths(model.weights.embedding, centre))


def table_cosines(model: Model, token: int, centred: bool = False) -> Float[Array, "V"]:
    """The cosine of one row of the embedding table with each, plain or with the mean row subtracted; kept."""
    table, centre = model.weights.embedding, table_mean(model) if centred else None

    def run() -> Float[Array, "V"]:
        return similarities(table, table[token], centre, table_lengths(model, centred))

    return model.memo.get(("cosines", token, centred), run)


def place_of(values: Float[Array, "V"], index: int) -> int:
    """The place of one value among all, the largest being 1st; equal ones share the better place."""
    return int(np.count_nonzero(values > values[index])) + 1


def by_id(values: Float[Array, "V"], groups: int = 48) -> tuple[Float[Array, "groups"], Float[Array, "groups"]]:
    """Means over equally large groups of neighbouring ids, and the id in the middle of each group."""
    size = len(values) // groups
    return np.arange(groups) * size + size / 2.0, np.mean(np.reshape(values[: groups * size], (groups, size)), axis=1)


def main_direction(model: Model) -> Float[Array, "D"]:
    """The unit direction in which the rows of the embedding table differ most; kept. In SmolLM2 it is rarity.

    Taking it out of a set of vectors is the treatment of Mu and Viswanath 2018, arXiv:1702.01417.
    """
    table, centre = model.weights.embedding, table_mean(model)
    return model.memo.get(("main_direction",), lambda: first_component(table, centre, centre))


def first_component(
    table: Float[Array, "V D"], centre: Float[Array, "D"], start: Float[Array, "D"], rounds: int = 8
) -> Float[Array, "D"]:
    """The first principal component of a long table, by power iteration: each round reads the table twice."""
    direction = start
    for _ in range(rounds):
        along = np.vecdot(table, direction) - np.sum(centre * direction)
        direction = along @ table - np.sum(along) * centre
        direction = direction / np.sqrt(np.sum(direction * direction))
    return direction


def take_out(rows: Float[Array, "n D"], direction: Float[Array, "D"]) -> Float[Array, "n D"]:
    """Rows without their component along a unit direction."""
    return rows - (rows @ direction)[:, None] * direction


def neighbours(model: Model, token: int, k: int, centred: bool = False) -> Neighbours:
    """The k tokens whose rows are most similar to that of `token`, itself left out."""
    found = table_cosines(model, token, centred)
    ids = largest(found, k, exclude=(token,))
    return Neighbours(model.weights.embedding[token], ids, found[ids])


def cosine_histogram(cosines: Float[Array, "V"], bins: int = 48) -> tuple[Float[Array, "edges"], Int[Array, "bins"]]:
    """How many tokens have which cosine: the edges of equally wide bins up to 1, and a count for each."""
    counts, edges = np.histogram(cosines, bins, (float(np.min(cosines)), 1.0))
    return edges, counts


@dataclass(frozen=True)
class SolvedAnalogy:
    """a − b + c, answered in three ways; each list ends at `DEPTH` tokens."""

    excluded: Neighbours  # the three inputs left out, as papers do
    included: Neighbours
    alone: Neighbours  # nearest to a alone, without any arithmetic; a itself left out


DEPTH = 1000


def solve_analogy(model: Model, a: int, b: int, c: int) -> SolvedAnalogy:
    """What a − b + c comes out nearest to, and what was near to a anyway; a, b, c are ids."""
    table, lengths = model.weights.embedding, table_lengths(model)
    included = analogy(table, a, b, c, DEPTH + 3, exclude_inputs=False, lengths=lengths)
    return SolvedAnalogy(included.without((a, b, c)), included, neighbours(model, a, DEPTH))


def place_in(found: Neighbours, token: int) -> int | None:
    """The place of a token in a list of neighbours, counted from 1; None if it is not among them."""
    places = np.flatnonzero(found.ids == token)
    return int(places[0]) + 1 if len(places) else None


# --- words that a reader types -----------------------------------------------------------------------------------


def as_token(word: str) -> tuple[int, ...]:
    """The ids of a word as it stands inside a sentence, with a space before it: one id for a word that is one token."""
    return tuple(encode(" " + word.strip(), ENCODING)) if word.strip() else ()


def spelled_alike(ids: Sequence[int] | Int[Array, "n"], token: int) -> list[int]:
    """Places in a list of ids of the same letters as `token`, but for capitals and spaces."""
    letters = decode([token], ENCODING).strip().lower()
    return [place for place, other in enumerate(ids) if decode([int(other)], ENCODING).strip().lower() == letters]


@dataclass(frozen=True)
class WordList:
    """Words to be drawn, each a single token, and the pairs among them that are joined by arrows."""

    words: tuple[str, ...]
    ids: tuple[int, ...]
    arrows: tuple[tuple[int, int], ...]  # places in `words`
    left_out: tuple[tuple[str, int], ...]  # words of several tokens, and how many


def word_list(text: str) -> WordList:
    """ "puppy → dog, cow" -> the words puppy, dog, cow and one arrow. Arrows are written →, -> or >.

    Words stand between commas, semicolons, line breaks or arrows; repeated ones count once. Raises ValueError for more
    than MOST_WORDS of them.
    """
    chains = [
        [word.strip() for word in regex.split(r"→|-*>", part) if word.strip()] for part in regex.split(r"[,;\n]", text)
    ]
    typed = list(dict.fromkeys(word for chain in chains for word in chain))
    if len(typed) > MOST_WORDS:
        raise ValueError(f"There are {len(typed)} different words; at most {MOST_WORDS} can be drawn.")
    split = {word: as_token(word) for word in typed}
    words = [word for word in typed if len(split[word]) == 1]
    pairs = [(a, b) for chain in chains for a, b in pairwise(chain) if a in words and b in words]
    arrows = tuple((words.index(a), words.index(b)) for a, b in dict.fromkeys(pairs) if a != b)
    left_out = tuple((word, len(split[word])) for word in typed if len(split[word]) != 1)
    return WordList(tuple(words), tuple(split[word][0] for word in words), arrows, left_out)


def sentence_words(text: str) -> str:
    """The words of a sentence as a list for `word_list`: "A dog!" -> "A, dog"."""
    return ", ".join(regex.findall(r"[\p{L}\p{M}]+", text))


@dataclass(frozen=True)
class Map:
    """Words in two dimensions, and whether the arrows between them agree."""

    pca: PCA
    agreement: float  # mean cosine of two different arrows, in all dimensions; not a number for fewer than two
    flat_agreement: float  # the same after the projection to two
    rarity: float  # correlation of the first coordinate with the token's id, a stand-in for how rare it is


def word_map(rows: Float[Array, "n D"], ids: Sequence[int], arrows: Sequence[tuple[int, int]]) -> Map:
    """The two directions in which the rows differ most, and how parallel the arrows are there and in truth.

    Raises ValueError for fewer than three words: two points always lie on a line.
    """
    if len(rows) < 3:
        raise ValueError("Type at least three words that are one token each.")
    found = pca(rows, 2)
    start, end = (np.array([arrow[side] for arrow in arrows], dtype=np.int64) for side in (0, 1))
    flat = found.projected
    varied = np.std(flat[:, 0]) > 0
    rarity = float(np.corrcoef(flat[:, 0], np.asarray(ids, float))[0, 1]) if varied else 0.0
    return Map(found, mean_cosine(rows[end] - rows[start]), mean_cosine(flat[end] - flat[start]), rarity)


def mean_cosine(vectors: Float[Array, "n D"]) -> float:
    """The mean cosine of two different ones of these vectors; not a number for fewer than two."""
    n = len(vectors)
    if n < 2:
        return float("nan")
    cosines = cosine_matrix(vectors, vectors)
    return float((np.sum(cosines) - np.trace(cosines)) / (n * (n - 1)))


# --- a word in two sentences -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """Where a word stands in a text: the last time it occurs, and of its tokens the last, which has seen them all."""

    at: int
    tokens: int  # how many the word has
    times: int  # how often it occurs


def find_word(text: str, word: str, limit: int) -> Found | None:
    """A word among the first `limit` tokens of a text, whole and in any case; None if it is not there."""
    pattern = regex.compile(rf"(?<![\p{{L}}\p{{N}}]){regex.escape(word.strip())}(?![\p{{L}}\p{{N}}])", regex.IGNORECASE)
    pieces = tokens(text, ENCODING)
    ends = np.cumsum([len(piece.bytes) for piece in pieces])
    kept = ends[limit - 1] if len(ends) > limit else (ends[-1] if len(ends) else 0)
    places = [tuple(len(text[:end].encode()) for end in match.span()) for match in pattern.finditer(text)]
    inside = [(start, end) for start, end in places if end <= kept]
    if not word.strip() or not inside:
        return None
    first, last = (int(np.searchsorted(ends, edge, side="right")) for edge in (inside[-1][0], inside[-1][1] - 1))
    return Found(last, last - first + 1, len(inside))


def shared_words(one: str, two: str) -> tuple[str, ...]:
    """The words that stand in both texts, in small letters, the longest first."""
    found = [dict.fromkeys(regex.findall(r"[\p{L}\p{M}]{2,}", text.lower())) for text in (one, two)]
    return tuple(sorted((word for word in found[0] if word in found[1]), key=len, reverse=True))


def streams(model: Model, ids: Ids) -> Float[Array, "L1 T D"]:
    """The residual stream of a text before the first block (layer 0: rows of the table) and after each; kept."""
    key = tuple(map(int, ids))

    def run() -> Float[Array, "L1 T D"]:
        trace = Trace("embed", "blk.*.resid")
        model.forward(key, trace=trace)
        return np.stack([trace["embed"], *(trace[f"blk.{i}.resid"] for i in range(model.config.layers))])

    return model.memo.get(("streams", key), run)


def common_part(model: Model) -> Float[Array, "L1 D"]:
    """The mean vector at each layer over the tokens of COMMON_TEXT, the outsized first one left out; kept."""

    def run() -> Float[Array, "L1 D"]:
        return np.mean(streams(model, encode(COMMON_TEXT, ENCODING))[:, 1:], axis=1)

    return model.memo.get(("common_part",), run)


@dataclass(frozen=True)
class Drift:
    """How alike the vectors of a word stay in two texts, layer by layer; L1 layers, 0 being the table's rows."""

    similarity: Float[Array, "L1"]  # of the word with itself in the other text
    baseline: Float[Array, "L1"]  # mean over two different tokens, one from each text, first tokens left out
    cosines: Float[Array, "L1 T S"]  # of every token of one text with every token of the other
    lengths: Float[Array, "L1 2"]  # of the word's vector in each text
    first_lengths: Float[Array, "L1 2"]  # of the first token's


def drift(
    one: Float[Array, "L1 T D"],
    two: Float[Array, "L1 S D"],
    at: tuple[int, int],
    ids: tuple[Sequence[int], Sequence[int]],
    centre: Float[Array, "L1 D"] | None = None,
) -> Drift:
    """Compare position at[0] of the first stream with at[1] of the second; `centre` is subtracted from all vectors."""
    shift = 0 if centre is None else centre[:, None]
    a, b = one - shift, two - shift
    pairs = unrelated(*ids)
    cosines = cosine_matrix(a, b)
    baseline = np.sum(cosines * pairs, axis=(1, 2)) / max(1, int(np.sum(pairs)))
    similarity = cosine_similarity(a[:, at[0]], b[:, at[1]])
    lengths, first = (
        np.stack([np.sqrt(np.sum(x[:, i] ** 2, axis=-1)) for x, i in zip((one, two), places, strict=True)], axis=-1)
        for places in (at, (0, 0))
    )
    return Drift(similarity, baseline, cosines, lengths, first)


def unrelated(one: Sequence[int], two: Sequence[int]) -> Bool[Array, "T S"]:
    """Which pairs of tokens are different ones, neither of them the first of its text."""
    a, b = np.asarray(one), np.asarray(two)
    return (a[:, None] != b[None]) & (np.arange(len(a))[:, None] > 0) & (np.arange(len(b)) > 0)
