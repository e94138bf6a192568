"""WordPiece: how BERT and its descendants cut a text. Words first, then the longest pieces that the vocabulary has.

Lower case, accents off, one word for each punctuation mark and each Chinese character; then, from the left of every
word, the longest known piece, "##" before those that continue a word. A word that cannot be cut is [UNK].

Sources: Schuster and Nakajima 2012 ("Japanese and Korean voice search"); Devlin et al. 2018, arXiv:1810.04805. Left
out: special tokens typed as text, which are ordinary text here ("[SEP]" is three marks and letters).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path

LONGEST_WORD = 100  # characters; a longer word is unknown
CHINESE = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F), (0x2B920, 0x2CEAF),
    (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip


def read_vocabulary(path: Path) -> dict[str, int]:
    """vocab.txt: one piece a line, its id the number of the line."""
    return {piece: i for i, piece in enumerate(path.read_text("utf-8").split("\n")[:-1])}


def words(text: str) -> list[str]:
    """The words and marks of a text, in lower case and without accents: "Cafés, 20 €" -> cafes , 20 €"""
    spaced = "".join(_spaced(character) for character in text)
    plain = "".join(c for c in unicodedata.normalize("NFD", spaced) if unicodedata.category(c) != "Mn")
    lowered = "".join(character.lower() for character in plain)  # each by itself: no special case for a last sigma
    return "".join(f" {c} " if _is_mark(c) else c for c in lowered).split()


def pieces(word: str, vocabulary: Mapping[str, int]) -> list[str]:
    """One word as the longest known pieces from the left: embeddings -> em ##bed ##ding ##s."""
    found: list[str] = []
    start = 0
    while start < len(word):
        begun = "##" if start else ""
        ends = range(len(word), start, -1)
        end = next((end for end in ends if begun + word[start:end] in vocabulary), None)
        if end is None or len(word) > LONGEST_WORD:
            return ["[UNK]"]
        found.append(begun + word[start:end])
        start = end
    return found


def tokenize(text: str, vocabulary: Mapping[str, int]) -> list[str]:
    """The pieces of a whole text."""
    return [piece for word in words(text) for piece in pieces(word, vocabulary)]


def _spaced(character: str) -> str:
    """White space becomes a space, control characters go, Chinese characters stand alone."""
    if character in "\t\n\r" or unicodedata.category(character) == "Zs":
        return " "
    if character in "\0\ufffd" or unicodedata.category(character)[0] == "C":
        return ""
    code = ord(character)
    return f" {character} " if any(low <= code <= high for low, high in CHINESE) else character


def _is_mark(character: str) -> bool:
    ascii_mark = character.isascii() and character.isprintable() and not character.isalnum() and character != " "
    return ascii_mark or unicodedata.category(character)[0] == "P"
