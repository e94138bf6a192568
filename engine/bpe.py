"""Byte-pair encoding: training it on a text, and merging one word step by step.

Source: Sennrich, Haddow and Birch 2015, "Neural Machine Translation of Rare Words with Subword Units",
arXiv:1508.07909; on bytes as in Radford et al. 2019 (GPT-2). `train_bpe` works on the text as one run of bytes; real
tokenizers first cut the text into words and never merge across their edges, which `words=True` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import regex

WORDS = regex.compile(r" ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")  # GPT-2's, without the English endings
_EDGE = -1  # stands between two words while training; no pair contains it


@dataclass(frozen=True)
class BPE:
    """A trained byte-pair encoding. Ids 0 to 255 are the bytes; merge i makes the token 256 + i."""

    merges: tuple[tuple[int, int], ...]  # the pair of ids that each merge joins, in the order learned
    counts: tuple[int, ...]  # how often that pair stood in the text when it was chosen
    sizes: tuple[int, ...]  # tokens in the training text: at first (bytes), and after each merge
    words: bool = False
    vocabulary: tuple[bytes, ...] = field(init=False, repr=False)  # the bytes of every token, by id

    def __post_init__(self) -> None:
        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in self.merges:
            tokens.append(tokens[left] + tokens[right])
        object.__setattr__(self, "vocabulary", tuple(tokens))

    def encode(self, text: str, merges: int | None = None) -> list[int]:
        """The ids of a text under the first `merges` merges (all, unless given)."""
        ids = _with_edges(text, self.words)
        for number, pair in enumerate(self.merges[:merges]):
            ids = _merge(ids, pair, 256 + number)
        return ids[ids != _EDGE].tolist()

    def decode(self, ids: Iterable[int]) -> str:
        """The text of a list of ids; bytes that are no valid UTF-8 become U+FFFD. ValueError for unknown ids."""
        ids = list(ids)
        if unknown := [i for i in ids if not 0 <= i < len(self.vocabulary)]:
            raise ValueError(f"There is no token {unknown[0]}: this vocabulary has {len(self.vocabulary)}.")
        return b"".join(self.vocabulary[i] for i in ids).decode("utf-8", errors="replace")


def train_bpe(text: str, merges: int, words: bool = False) -> BPE:
    """Learn up to `merges` merges: each joins the most frequent pair of neighbours; of equals, the smaller pair of ids.

    Stops early when no pair is left. `words` keeps merges within words. Raises ValueError for a negative number.
    """
    if merges < 0:
        raise ValueError(f"The number of merges must be 0 or more, not {merges}.")
    ids = _with_edges(text, words)
    learned: list[tuple[int, int]] = []
    counts: list[int] = []
    sizes = [int(np.count_nonzero(ids != _EDGE))]
    for new in range(256, 256 + merges):
        inside = (ids[:-1] != _EDGE) & (ids[1:] != _EDGE)
        if not inside.any():
            break
        frequency = np.bincount(ids[:-1][inside] * new + ids[1:][inside])  # a pair as one number, in order
        best = int(np.argmax(frequency))  # the first of equals is the smaller pair
        learned.append(divmod(best, new))
        counts.append(int(frequency[best]))
        ids = _merge(ids, learned[-1], new)
        sizes.append(int(np.count_nonzero(ids != _EDGE)))
    return BPE(tuple(learned), tuple(counts), tuple(sizes), words)


def _with_edges(text: str, words: bool) -> np.ndarray:
    """The bytes of a text as ids; with `words`, an edge mark between words."""
    text, _ = clean(text)
    pieces = WORDS.findall(text) if words else [text]
    runs = [np.frombuffer(piece.encode(), np.uint8).astype(np.int64) for piece in pieces]
    edged = [part for run in runs for part in (run, np.array([_EDGE]))]
    return np.concatenate(edged[:-1]) if edged else np.array([], np.int64)


def _merge(ids: np.ndarray, pair: tuple[int, int], new: int) -> np.ndarray:
    """Replace each occurrence of the pair by the new id, from left to right."""
    found = np.flatnonzero((ids[:-1] == pair[0]) & (ids[1:] == pair[1]))
    if pair[0] == pair[1] and len(found):  # in a run such as aaaa the occurrences overlap: take every other one
        starts_run = np.diff(found, prepend=-2) != 1
        run_start = np.maximum.accumulate(np.where(starts_run, found, 0))
        found = found[(found - run_start) % 2 == 0]
    kept = np.ones(len(ids), bool)
    kept[found + 1] = False
    merged = ids.copy()
    merged[found] = new
    return merged[kept]


def clean(text: str) -> tuple[str, int]:
    """The text as valid Unicode, and how many surrogates that stood alone were replaced by U+FFFD."""
    try:
        text.encode()
        return text, 0
    except UnicodeEncodeError:
        valid = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", errors="replace")
        return valid, valid.count("\ufffd") - text.count("\ufffd")


# One word, step by step ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MergeStep:
    """The parts of a word at one moment, and the merge that led there (None at the start)."""

    parts: tuple[bytes, ...]
    pair: tuple[bytes, bytes] | None  # what was joined
    rank: int | None  # of the token it made: of all pairs that could be joined, the lowest rank wins
    position: int | None  # which of the parts is the new one
    candidates: tuple[tuple[int, int], ...]  # (position of the left part, rank) of every pair that could be joined next


def merge_trace(pieces: Sequence[Iterable[int]], ranks: Mapping[bytes, int]) -> tuple[MergeStep, ...]:
    """Every step from single bytes to final tokens; no merge crosses the edge between two pieces.

    At each step the pair whose joined bytes have the lowest rank is joined; of equals, the leftmost.
    """
    parts = [bytes([byte]) for piece in pieces for byte in piece]
    edges = set(np.cumsum([len(list(piece)) for piece in pieces]).tolist())  # byte offsets
    steps = [MergeStep(tuple(parts), None, None, None, _candidates(parts, edges, ranks))]
    while steps[-1].candidates:
        position, rank = min(steps[-1].candidates, key=lambda candidate: (candidate[1], candidate[0]))
        left, right = parts[position : position + 2]
        parts = [*parts[:position], left + right, *parts[position + 2 :]]
        steps.append(MergeStep(tuple(parts), (left, right), rank, position, _candidates(parts, edges, ranks)))
    return tuple(steps)


def _candidates(parts: list[bytes], edges: set[int], ranks: Mapping[bytes, int]) -> tuple[tuple[int, int], ...]:
    found, offset = [], 0
    for position, (left, right) in enumerate(pairwise(parts)):
        offset += len(left)
        if offset not in edges and (rank := ranks.get(left + right)) is not None:
            found.append((position, rank))
    return tuple(found)
