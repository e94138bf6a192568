"""Tokenization: text into the numbers that a language model reads.

Four encodings, all byte-level BPE: OpenAI's three through the library tiktoken, on rank files in data/tokenizers that
are checked against the published sha256 and never fetched; and SmolLM2's own, on a rank file extracted from the model's
file. Strings of special tokens such as <|endoftext|> are ordinary text here: typing one cannot inject it.

Text that is not valid Unicode: halves of a surrogate pair that stand alone become U+FFFD, as in tiktoken. SmolLM2's
vocabulary has no token for 21 of the 256 bytes; such a byte gets no token and is dropped, as Hugging Face's tokenizers
do, and `tokens` shows where.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import regex
import tiktoken

from engine.bpe import BPE, MergeStep, clean, merge_trace, train_bpe

__all__ = [
    "BPE", "ENCODINGS", "Counts", "Encoding", "MergeStep", "Splitting", "Token", "clean", "count", "decode",
    "decoded", "encode", "merge_steps", "merge_steps_in_full", "missing_bytes", "special_tokens_in",
    "splittings", "token_bytes", "tokens", "tokens_by_merging", "train_bpe",
]  # fmt: skip

FILES = Path(__file__).parent.parent / "data" / "tokenizers"
MAX_WORD_BYTES = 200

_GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
_GPT4 = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$"""
    r"""|\s*[\r\n]|\s+(?!\S)|\s"""
)
_GPT4O = "|".join(
    [
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?""",
        r"""\p{N}{1,3}""",
        r""" ?[^\s\p{L}\p{N}]+[\r\n/]*""",
        r"""\s*[\r\n]+""",
        r"""\s+(?!\S)""",
        r"""\s+""",
    ]
)
_DIGIT = regex.compile(r"(\p{N})")
_WORD = regex.compile(r"[\p{L}\p{M}\p{N}]+(?:['’][\p{L}\p{M}]+)*|[^\s\p{L}\p{M}\p{N}]")
_SMOLLM2_SPECIAL = (
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<repo_name>", "<reponame>", "<file_sep>", "<filename>",
    "<gh_stars>", "<issue_start>", "<issue_comment>", "<issue_closed>", "<jupyter_start>", "<jupyter_text>",
    "<jupyter_code>", "<jupyter_output>", "<jupyter_script>", "<empty_output>",
)  # fmt: skip


@dataclass(frozen=True)
class Encoding:
    """What defines an encoding besides its rank file."""

    name: str
    used_by: str
    vocabulary_size: int  # ids run from 0 to this, special tokens included
    sha256: str  # of the rank file
    pattern: str = field(repr=False)  # cuts the text into pieces that no merge crosses
    special: dict[str, int] = field(repr=False)
    digits_first: bool = False  # each digit is cut off before the pattern runs


ENCODINGS = {
    "o200k_base": Encoding(
        "o200k_base", "GPT-4o and later", 200019, "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
        _GPT4O, {"<|endoftext|>": 199999, "<|endofprompt|>": 200018},
    ),
    "cl100k_base": Encoding(
        "cl100k_base", "GPT-3.5 and GPT-4", 100277, "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
        _GPT4,
        {"<|endoftext|>": 100257, "<|fim_prefix|>": 100258, "<|fim_middle|>": 100259, "<|fim_suffix|>": 100260,
         "<|endofprompt|>": 100276},
    ),
    "r50k_base": Encoding(
        "r50k_base", "GPT-2 and GPT-3", 50257, "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
        _GPT2, {"<|endoftext|>": 50256},
    ),
    "smollm2": Encoding(
        "smollm2", "SmolLM2", 49152, "8c1417c36cfcc9f2b614a7220ae0e18815d72e5b277f01f8c87bbb4edad27c8c",
        _GPT2, {name: id for id, name in enumerate(_SMOLLM2_SPECIAL)}, digits_first=True,
    ),
}  # fmt: skip


def encode(text: str, encoding: str = "o200k_base") -> list[int]:
    """The token ids of a text. Raises ValueError for an encoding that is not in ENCODINGS."""
    text, _ = clean(text)
    tokenizer, missing = _tokenizer(encoding), missing_bytes(encoding)
    if not ENCODINGS[encoding].digits_first:
        return tokenizer.encode_ordinary(text)
    if missing.isdisjoint(text.encode()):
        return [i for part in _DIGIT.split(text) for i in tokenizer.encode_ordinary(part)]
    pieces = (bytes(byte for byte in piece if byte not in missing) for piece in _pieces(text, encoding))
    return [i for piece in pieces if piece for i in tokenizer._encode_single_piece(piece)]


def decode(ids: Iterable[int], encoding: str = "o200k_base") -> str:
    """The text of token ids, special tokens by name; bytes that are no valid UTF-8 become U+FFFD.

    Raises ValueError for an id that the encoding does not have.
    """
    return b"".join(token_bytes(i, encoding) for i in ids).decode("utf-8", errors="replace")


def token_bytes(id: int, encoding: str = "o200k_base") -> bytes:
    """The bytes of one token; for a special token, its name. Raises ValueError for an unknown id."""
    try:
        return _tokenizer(encoding).decode_single_token_bytes(int(id))
    except (KeyError, OverflowError):
        raise ValueError(f"The encoding {encoding} has no token {id}.") from None


@lru_cache
def missing_bytes(encoding: str) -> frozenset[int]:
    """The bytes for which the encoding has no token: none, or 21 for SmolLM2. They are dropped."""
    return frozenset(byte for byte in range(256) if bytes([byte]) not in _tokenizer(encoding)._mergeable_ranks)


# What a page shows ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Token:
    """One token of a text: where it stands, counted in bytes of the text's UTF-8."""

    id: int | None  # None: a byte that the encoding has no token for
    bytes: bytes
    text: str | None  # None where the bytes alone are not valid UTF-8
    start: int
    end: int


def tokens(text: str, encoding: str = "o200k_base") -> tuple[Token, ...]:
    """The tokens of a text with their bytes and places, and the bytes that got none, in order of their start."""
    data, missing = clean(text)[0].encode(), missing_bytes(encoding)
    kept = [place for place, byte in enumerate(data) if byte not in missing]
    found = [Token(None, data[i : i + 1], decoded(data[i : i + 1]), i, i + 1) for i in range(len(data))
             if data[i] in missing] if missing else []  # fmt: skip
    ids, done = encode(text, encoding), 0
    for i, piece in zip(ids, _tokenizer(encoding).decode_tokens_bytes(ids), strict=True):
        done += len(piece)
        found.append(Token(i, piece, decoded(piece), kept[done - len(piece)], kept[done - 1] + 1))
    return tuple(sorted(found, key=lambda token: token.start))


def special_tokens_in(text: str, encoding: str = "o200k_base") -> tuple[tuple[str, int, int], ...]:
    """Names of special tokens in the text, as (name, start, end) in UTF-8 bytes. They are encoded as ordinary text."""
    data = clean(text)[0].encode()
    names = sorted(_find(encoding).special, key=len, reverse=True)
    pattern = regex.compile("|".join(map(regex.escape, names)).encode())
    return tuple((match.group().decode(), match.start(), match.end()) for match in pattern.finditer(data))


@dataclass(frozen=True)
class Counts:
    """The size of a text. Characters are Unicode code points, bytes those of its UTF-8."""

    characters: int
    bytes: int
    tokens: int

    @property
    def characters_per_token(self) -> float:
        """Not a number for an empty text."""
        return self.characters / self.tokens if self.tokens else float("nan")


def count(text: str, encoding: str = "o200k_base") -> Counts:
    """Characters, bytes and tokens of a text."""
    text, _ = clean(text)
    return Counts(len(text), len(text.encode()), len(encode(text, encoding)))


@dataclass(frozen=True)
class Splitting:
    """One way to cut a text into units: a long sequence from a small vocabulary, or the other way round."""

    unit: str
    length: int  # units in the text
    distinct: int  # different units in the text: the vocabulary that this text alone needs
    possible: int | None  # units that the vocabulary must hold for any text; None: there is no end to them


def splittings(text: str, encoding: str = "o200k_base") -> tuple[Splitting, ...]:
    """The text as words (with punctuation marks as units of their own, without spaces), subwords, characters, bytes."""
    text, _ = clean(text)
    ways: tuple[tuple[str, Sequence[Any], int | None], ...] = (
        ("words", _WORD.findall(text), None),
        ("subwords", encode(text, encoding), _find(encoding).vocabulary_size),
        ("characters", text, 0x110000 - 0x800),  # all code points but the surrogates
        ("bytes", text.encode(), 256),
    )
    return tuple(Splitting(unit, len(units), len(set(units)), possible) for unit, units, possible in ways)


def merge_steps(word: str, encoding: str = "o200k_base") -> list[list[bytes]]:
    """A word from single bytes to the encoding's own tokens, one merge a step: [[b"h", b"i"], [b"hi"]].

    Raises ValueError above MAX_WORD_BYTES bytes.
    """
    return [list(step.parts) for step in merge_steps_in_full(word, encoding)]


def merge_steps_in_full(word: str, encoding: str = "o200k_base") -> tuple[MergeStep, ...]:
    """The same with the pair that was joined, the rank that won, its place, and the other candidates at each step.

    The rank of a pair is the id of the token it makes: the lower, the earlier in training it was learned.
    """
    text, _ = clean(word)
    if len(text.encode()) > MAX_WORD_BYTES:
        raise ValueError(f"This word has {len(text.encode())} bytes; merges are shown for at most {MAX_WORD_BYTES}.")
    ranks = _tokenizer(encoding)._mergeable_ranks
    steps = merge_trace(_kept_pieces(text, encoding), ranks)
    tokens_of_text = [token_bytes(token, encoding) for token in encode(text, encoding)]
    if list(steps[-1].parts) == tokens_of_text:
        return steps
    # Characters newer than the tokenizer's own Unicode tables are cut elsewhere by it; no merge crosses its tokens.
    return merge_trace(tokens_of_text, ranks)


def tokens_by_merging(text: str, encoding: str = "o200k_base") -> list[bytes]:
    """The tokens by the definition, in Python: pieces by the pattern, in each the pair of the lowest rank, again and
    again. `encode` leaves the same to tiktoken; the two are compared on the page "Proof"."""
    text, _ = clean(text)
    if not text:
        return []
    return list(merge_trace(_kept_pieces(text, encoding), _tokenizer(encoding)._mergeable_ranks)[-1].parts)


# Reading the files ---------------------------------------------------------------------------------------------------


def _find(encoding: str) -> Encoding:
    if encoding not in ENCODINGS:
        raise ValueError(f"There is no encoding “{encoding}” here; there are {', '.join(ENCODINGS)}.")
    return ENCODINGS[encoding]


@lru_cache
def _tokenizer(encoding: str) -> tiktoken.Encoding:
    found = _find(encoding)
    return tiktoken.Encoding(
        encoding, pat_str=found.pattern, mergeable_ranks=_read_ranks(found), special_tokens=found.special
    )


def _read_ranks(encoding: Encoding) -> dict[bytes, int]:
    """A rank file: one token a line, its bytes in base64 and its rank, which is also its id."""
    path = FILES / f"{encoding.name}.tiktoken"
    if not path.exists():
        raise ValueError(f"The rank file {path.name} is missing from data/tokenizers.")
    data = path.read_bytes()
    if hashlib.sha256(data).hexdigest() != encoding.sha256:
        raise ValueError(f"The rank file {path.name} is not the published one: its sha256 differs.")
    return {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in data.splitlines())}


def _pieces(text: str, encoding: str) -> list[bytes]:
    """The pieces of a text that no merge crosses."""
    found = _find(encoding)
    parts = _DIGIT.split(text) if found.digits_first else [text]
    return [piece.encode() for part in parts for piece in regex.findall(found.pattern, part)]


def _kept_pieces(text: str, encoding: str) -> list[bytes]:
    """The same without the bytes that the encoding has no token for."""
    missing = missing_bytes(encoding)
    return [bytes(byte for byte in piece if byte not in missing) for piece in _pieces(text, encoding)]


def decoded(data: bytes) -> str | None:
    """Bytes as text, or None where they are only part of a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None
