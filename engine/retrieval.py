"""Retrieval: finding the passages of a document that may answer a question, by meaning and by words.

By meaning: an encoder turns a text into one vector, and passages are ranked by the cosine with the question's. The
encoder is all-MiniLM-L6-v2, a BERT (Devlin et al. 2018, arXiv:1810.04805) of six layers, trained as in Reimers and
Gurevych 2019, arXiv:1908.10084; it runs on the attention of every other chapter, without the causal mask. By words:
BM25 (Robertson and Zaragoza 2009, "The Probabilistic Relevance Framework"). Left out: indexes that avoid comparing with
every passage, and re-ranking by a model that reads question and passage together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial

import numpy as np
from jaxtyping import Float

from engine.activation import gelu
from engine.arrays import Array
from engine.attention import attention
from engine.block import layer_norm
from engine.embeddings import lookup
from engine.memo import Memo
from engine.minilm_file import folder, tensors
from engine.multi_head import merge_heads, split_heads
from engine.tap import Tap, keep, prefixed
from engine.tools import TOOLS as tools
from engine.word_pieces import read_vocabulary, tokenize

__all__ = ["BM25", "Encoder", "Ranking", "bm25", "bm25_in_full", "chunk", "ranked", "spans", "terms", "tools"]

# Chunks --------------------------------------------------------------------------------------------------------------


def chunk(text: str, size: int, overlap: int) -> list[str]:
    """The text cut into passages of `size` words, each beginning with the last `overlap` words of the one before.

    White space inside a passage stays as it was. Raises ValueError unless 0 <= overlap < size.
    """
    return [text[start:end] for start, end in spans(text, size, overlap)]


def spans(text: str, size: int, overlap: int) -> list[tuple[int, int]]:
    """Where the chunks of a text begin and end, in characters."""
    if not 0 <= overlap < size:
        raise ValueError(f"Passages of {size} words can share 0 to {max(size, 1) - 1} words, not {overlap}.")
    found = [match.span() for match in re.finditer(r"\S+", text)]
    starts = range(0, max(len(found) - overlap, min(len(found), 1)), size - overlap)
    return [(found[i][0], found[min(i + size, len(found)) - 1][1]) for i in starts]


# The encoder ---------------------------------------------------------------------------------------------------------

EPS = 1e-12  # of BERT's layer norms
HEADS, LAYERS, MOST_TOKENS = 12, 6, 256
TABLES = ("word", "position", "token_type")
BEGIN, END = "[CLS]", "[SEP]"
Weights = Mapping[str, np.ndarray]


def linear(x: Float[Array, "... T in"], weights: Weights, name: str) -> Float[Array, "... T out"]:
    """x @ W + b; the file stores W as (out, in)."""
    return x @ np.swapaxes(weights[f"{name}.weight"], -1, -2) + weights[f"{name}.bias"]


def normed(x: Float[Array, "... T D"], weights: Weights, name: str) -> Float[Array, "... T D"]:
    """BERT's layer norm, with its weight and bias."""
    return layer_norm(x, weights[f"{name}.weight"], weights[f"{name}.bias"], EPS)


def encoder_layer(x: Float[Array, "T D"], weights: Weights, tap: Tap = keep) -> Float[Array, "T D"]:
    """One layer of BERT. Every token looks at every other, also at later ones; norms come after adding (post-norm)."""
    q, k, v = (split_heads(linear(x, weights, f"attention.self.{name}"), HEADS) for name in ("query", "key", "value"))
    mixed = merge_heads(attention(q, k, v, causal=False, tap=tap).output)
    x = normed(x + linear(mixed, weights, "attention.output.dense"), weights, "attention.output.LayerNorm")
    hidden = gelu(linear(x, weights, "intermediate.dense"))
    return normed(x + linear(hidden, weights, "output.dense"), weights, "output.LayerNorm")


@dataclass(frozen=True, eq=False)
class Encoder:
    """MiniLM: a text in, one vector of 384 numbers and length 1 out. Texts are cut after 256 tokens, as published."""

    weights: Weights
    layers: tuple[Weights, ...]
    vocabulary: Mapping[str, int]
    memo: Memo

    @classmethod
    def load(cls) -> Encoder:
        """The encoder; read at the first call in a process. Raises ModelMissing or ModelBroken."""
        folder()
        return _load()

    def tokens(self, text: str) -> list[str]:
        """The pieces that the encoder reads, its marks for begin and end included."""
        return [BEGIN, *tokenize(text, self.vocabulary)[: MOST_TOKENS - 2], END]

    def states(self, text: str, tap: Tap = keep) -> Float[Array, "T D"]:
        """One vector a token, after the last layer. `tap` sees the scores and weights of layer.0. to layer.5."""
        ids = np.array([self.vocabulary[piece] for piece in self.tokens(text)])
        word, place, kind = (self.weights[f"embeddings.{name}_embeddings.weight"] for name in TABLES)
        x = lookup(word, ids) + place[: len(ids)] + kind[0]
        x = normed(x, self.weights, "embeddings.LayerNorm")
        for i, weights in enumerate(self.layers):
            x = encoder_layer(x, weights, prefixed(tap, f"layer.{i}."))
        return x

    def embed(self, texts: Sequence[str]) -> Float[Array, "n D"]:
        """One unit row for each text: the mean of its tokens' vectors, divided by its length. Rows are kept."""
        rows = [self.memo.get(text, partial(self._row, text)) for text in texts]
        return np.stack(rows) if rows else np.zeros((0, 384), np.float32)

    def _row(self, text: str) -> Float[Array, "D"]:
        mean = np.mean(self.states(text), axis=0)
        return mean / np.sqrt(np.sum(mean * mean))


@lru_cache(maxsize=1)
def _load() -> Encoder:
    weights = tensors()
    prefixes = [f"encoder.layer.{i}." for i in range(LAYERS)]
    layers = [{n.removeprefix(p): w for n, w in weights.items() if n.startswith(p)} for p in prefixes]
    return Encoder(weights, tuple(layers), read_vocabulary(folder() / "vocab.txt"), Memo(32 * 2**20))


# BM25 ----------------------------------------------------------------------------------------------------------------

K1, B = 1.2, 0.75


def terms(text: str) -> list[str]:
    """What BM25 counts: runs of letters and digits, in lower case. "boats" and "boat" are different terms."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True)
class BM25:
    """Scores of n passages for a question of t different terms, with what they are made of."""

    terms: tuple[str, ...]  # of the question, each once, in its order
    asked: Float[Array, "t"]  # how often the question has each
    holding: Float[Array, "t"]  # how many passages have it
    rarity: Float[Array, "t"]  # ln(1 + (n − holding + ½) / (holding + ½))
    counts: Float[Array, "n t"]  # how often each passage has each term
    lengths: Float[Array, "n"]  # in terms
    stretch: Float[Array, "n"]  # 1 − b + b · length / mean length: long passages must have a term more often
    parts: Float[Array, "n t"]  # rarity · count · (k1 + 1) / (count + k1 · stretch), times asked

    @property
    def scores(self) -> Float[Array, "n"]:
        """The sum over the terms."""
        return np.sum(self.parts, axis=-1)


def bm25(documents: Sequence[str], query: str) -> Float[Array, "n"]:
    """A score for each document: 0 where it has no word of the query, larger for rare and repeated ones."""
    return bm25_in_full(documents, query).scores


def bm25_in_full(documents: Sequence[str], query: str, k1: float | int = K1, b: float | int = B) -> BM25:
    """The same with every step. The rarity is Lucene's, which never becomes negative."""
    asked = terms(query)
    wanted = tuple(dict.fromkeys(asked))
    texts = [terms(document) for document in documents]
    counts = np.array([[text.count(term) for term in wanted] for text in texts], float).reshape(len(texts), len(wanted))
    holding = np.sum(counts > 0, axis=0).astype(float)
    rarity = np.log(1 + (len(texts) - holding + 0.5) / (holding + 0.5))
    lengths = np.array([len(text) for text in texts], float)
    stretch = 1 - b + b * lengths / max(float(np.sum(lengths)) / max(len(texts), 1), 1.0)
    times = np.array([asked.count(term) for term in wanted], float)
    saturated = counts * (k1 + 1) / (counts + k1 * stretch[:, None] + (counts == 0))  # an empty one divides by 1
    return BM25(wanted, times, holding, rarity, counts, lengths, stretch, times * rarity * saturated)


# Ranking -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ranking:
    """Passages by score, the best first; equal scores keep the order of the document."""

    scores: Float[Array, "n"]
    order: tuple[int, ...]

    def place(self, passage: int) -> int:
        """1 for the best."""
        return self.order.index(passage) + 1


def ranked(scores: Float[Array, "n"]) -> Ranking:
    """The ranking that scores give."""
    return Ranking(scores, tuple(np.argsort(-scores, kind="stable").tolist()))
