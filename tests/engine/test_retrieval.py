"""Embeddings equal sentence-transformers', BM25 equals bm25s and its definition, chunks cover the text."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.retrieval import bm25, bm25_in_full, chunk, ranked, spans, terms, tools
from engine.word_pieces import pieces, words

with np.load(Path(__file__).parent.parent / "goldens" / "minilm.npz") as _file:
    GOLDEN = dict(_file)
ABOUT = json.loads(str(GOLDEN["about"]))


# The encoder ---------------------------------------------------------------------------------------------------------


@pytest.mark.model
def test_pieces_are_those_of_transformers(encoder):
    found = [[encoder.vocabulary[piece] for piece in encoder.tokens(text)] for text in ABOUT["texts"]]
    assert found == ABOUT["ids"]


@pytest.mark.model
def test_embeddings_equal_sentence_transformers(encoder):
    found = encoder.embed(ABOUT["texts"])
    assert found.shape == (len(ABOUT["texts"]), 384)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, GOLDEN["embeddings"], atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


@pytest.mark.model
def test_states_and_attention_equal_bert(encoder):
    seen = {}
    states = encoder.states(ABOUT["texts"][3], lambda name, value: seen.setdefault(name, value))
    np.testing.assert_allclose(states, GOLDEN["states"], atol=1e-5)
    weights = np.stack([seen[f"layer.{i}.weights"] for i in range(6)])
    np.testing.assert_allclose(weights, GOLDEN["attention"], atol=1e-5)
    assert np.all(weights > 0), "every token looks at every other, later ones too"


@pytest.mark.model
def test_a_typed_mark_is_ordinary_text(encoder):
    assert encoder.tokens("[SEP]") == ["[CLS]", "[", "sep", "]", "[SEP]"]


@pytest.mark.model
def test_no_texts_give_no_rows(encoder):
    assert encoder.embed([]).shape == (0, 384)


def test_words_and_pieces():
    assert words("Cafés, don't") == ["cafes", ",", "don", "'", "t"]
    assert pieces("embeddings", {"em": 0, "##bed": 1, "##ding": 2, "##s": 3}) == ["em", "##bed", "##ding", "##s"]
    assert pieces("zebra", {"z": 0}) == ["[UNK]"]


# BM25 ----------------------------------------------------------------------------------------------------------------


def test_scores_equal_bm25s():
    found = np.array([bm25(ABOUT["documents"], query) for query in ABOUT["queries"]])
    np.testing.assert_allclose(found, GOLDEN["bm25"], rtol=1e-5, atol=1e-6)


def test_one_score_written_out():
    documents = ["red red blue", "blue", "green grass grows green"]
    mean = (3 + 1 + 4) / 3
    red = math.log(1 + (3 - 1 + 0.5) / 1.5) * 2 * 2.2 / (2 + 1.2 * (0.25 + 0.75 * 3 / mean))
    blue = math.log(1 + (3 - 2 + 0.5) / 2.5) * 1 * 2.2 / (1 + 1.2 * (0.25 + 0.75 * 3 / mean))
    assert bm25(documents, "Red, blue?")[0] == pytest.approx(red + blue, rel=1e-12)


@pytest.mark.parametrize("documents", [[], [""], ["", "a"]])
@pytest.mark.parametrize("query", ["", "?!", "a", "zebra"])
def test_nothing_to_count(documents, query):
    found = bm25_in_full(documents, query)
    assert found.scores.shape == (len(documents),)
    assert np.all(np.isfinite(found.scores))
    assert np.all(found.scores >= 0)


def test_a_rare_word_counts_more_and_a_repeated_one_less_and_less():
    found = bm25_in_full(["sea sea sea sea", "sea sea", "sea", "salt"], "sea salt", b=0)
    assert found.rarity[1] > found.rarity[0]
    four, two, one = found.parts[:3, 0]
    assert one < two < four < 2 * two < 4 * one


def test_ranking_keeps_the_order_of_equals():
    found = ranked(np.array([1.0, 3.0, 1.0, 3.0]))
    assert found.order == (1, 3, 0, 2)
    assert found.place(0) == 3


# Chunks --------------------------------------------------------------------------------------------------------------


def test_chunks_share_their_edges():
    assert chunk("a b  c\nd e", 3, 1) == ["a b  c", "c\nd e"]
    assert chunk("a b c d", 2, 0) == ["a b", "c d"]
    assert chunk("a", 5, 2) == ["a"]
    assert chunk(" \n", 5, 2) == []


@settings(deadline=None)
@given(st.text(), st.integers(1, 9), st.integers(0, 8))
def test_every_word_is_in_a_chunk_and_neighbours_overlap(text, size, overlap):
    if overlap >= size:
        with pytest.raises(ValueError, match="can share"):
            spans(text, size, overlap)
        return
    found, original = [part.split() for part in chunk(text, size, overlap)], text.split()
    joined = [word for i, part in enumerate(found) for word in part[overlap if i else 0 :]]
    assert joined == original
    assert all(len(part) == size for part in found[:-1])
    for before, after in pairwise(found):
        assert after[:overlap] == before[len(before) - overlap :]
        assert len(after) > overlap, "no chunk that adds nothing"


def test_terms():
    assert terms("Don't panic: 42 Öfen!") == ["don", "t", "panic", "42", "öfen"]


def test_the_tools_stand_here_too():
    assert set(tools) == {"calculator", "convert"}
    assert tools["calculator"]("17 * 23") == "391"
