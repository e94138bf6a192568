"""Figures of the tokenization chapter that a reader could check elsewhere, as its labs and its prose show them."""

from __future__ import annotations

from typing import Any

import pytest

from app import app  # noqa: F401  (registers the chapters)
from engine.tokenization import ENCODINGS, encode
from ui.chapter import BOOK
from ui.lab import LABS, compute, data_of

CHAPTER = BOOK.chapters["tokenization"]
QUOTE = "3335 290 5396 12891 1504 813 4705 484 581 2023 4218 480 11 581 1481 413 813 4705 484 581 21149 13"


def data(lab: str, **values: Any) -> dict[str, Any]:
    return data_of(LABS[f"tokenization-{lab}"], values)


def told(lab: str, **values: Any) -> str:
    return str(compute(LABS[f"tokenization-{lab}"], values)["sentence"])


def chips(lab: str, **values: Any) -> list[str]:
    """Every chip of a lab's pictures, as a reader sees it."""
    parts = compute(LABS[f"tokenization-{lab}"], values)["picture"]["parts"]
    return [piece.get("text", piece["hex"]) for part in parts for piece in part.get("pieces", [])]


def test_the_quote_is_twenty_two_tokens() -> None:
    shown = data("text")
    assert shown["ids"] == [int(number) for number in QUOTE.split()]
    assert shown["characters"] == 102
    assert "22 tokens: 4.64 characters a token" in told("text")


@pytest.mark.parametrize(
    ("encoding", "ids"),
    [("r50k_base", [38, 453, 318, 257, 4451, 3290]), ("o200k_base", [38, 2146, 382, 261, 8847, 6446])],
)
def test_gally_is_six_tokens(encoding: str, ids: list[int]) -> None:
    assert data("compare", text="Gally is a smart dog")[encoding] == ids


def test_words_are_cut_as_the_prose_says() -> None:
    said = " ".join(part.content for part in CHAPTER.sections if part.kind == "prose")
    for pieces in ("un·bel·iev·able", "un·belie·vable", "un·bel·ievable", "Mas·chinen·bau", "␣Maschinen·bau", "4.64"):
        assert pieces in said
    for encoding in ("r50k_base", "cl100k_base", "o200k_base"):
        assert len(encode(" unbelievable", encoding)) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("word", ["unbelievable", " Maschinenbau", "👍🏽", "பூனை", "a1  b"])
def test_the_last_merge_leaves_the_tokens(word: str, encoding: str) -> None:
    assert len(chips("merge", word=word, encoding=encoding, step=127)) == len(encode(word, encoding))


def test_part_of_a_character_is_hex_and_what_cannot_be_seen_too() -> None:
    assert chips("text", text="👍🏽") == ["👍", "f0 9f 8f", "bd"]
    assert chips("text", text="\u200d") == ["e2 80 8d"]
    assert "2 tokens hold only part of a character" in told("text", text="👍🏽")


def test_the_example_of_the_paper_learns_what_the_paper_says() -> None:
    example = next(p for p in LABS["tokenization-train"].presets if "Sennrich" in p.label)
    assert chips("train", **example.values)[-4:] == ["es", "est", "lo", "low"]


def test_a_typed_special_token_is_text() -> None:
    shown = data("special", text="<|endoftext|>")
    assert shown["found"] == [["<|endoftext|>", 0, 13]]
    assert 199999 not in shown["ids"]
    assert len(shown["ids"]) == 7


def test_what_smollm2_has_no_token_for_is_dropped_and_the_reader_told() -> None:
    plain, control = data("real", extra="nothing"), data("real", extra="control")
    assert control["ids"] == plain["ids"]
    assert len(control["missing"]) == 21
    assert "1 byte (04) had no token" in told("real", extra="control")
    assert chips("real", sentence="12", extra="nothing") == ["1", "2"]


def test_every_language_says_the_same_at_another_price() -> None:
    old, new = (dict(zip(d["languages"], d["lengths"], strict=True)) for d in
                (data("languages", encoding=name) for name in ("r50k_base", "o200k_base")))  # fmt: skip
    assert len(old) >= 10
    assert old["Tamil"] == 166
    assert all(new[language] <= old[language] for language in old)
    assert data("languages", own="Mi kato dormas.")["languages"][-1] == "yours"
