"""The held questions, scores taken apart, the prompt, and probabilities of whole answers."""

from __future__ import annotations

import numpy as np
import pytest

from engine import retrieval_study as study
from engine.chat_template import turns
from engine.embeddings import cosine_similarity
from engine.retrieval import bm25, ranked
from engine.sampling import log_softmax
from engine.tokenization import encode

PASSAGES = study.cut(study.handbook(), 0, 0)


@pytest.mark.parametrize("kind", study.QUESTIONS)
def test_each_question_has_one_right_passage(kind):
    questions = study.held_questions(kind)
    assert len(questions) == len({held.ask for held in questions}) == 20
    for held in questions:
        assert len(study.right_passages(PASSAGES, held.holds)) == 1, held.ask


@pytest.mark.model
def test_minilm_ranks_the_right_passage_first_for_at_least_eighteen_of_twenty(encoder):
    found = study.held_places(encoder, PASSAGES)
    assert found["cosine"].count(1) >= 18
    assert found["BM25"].count(1) < found["cosine"].count(1), "the questions are not the passages' own words"


@pytest.mark.model
def test_questions_in_other_words_need_the_encoder(encoder):
    """17 of 20 where it was last run; BM25 has hardly a word to go by."""
    found = study.held_places(encoder, PASSAGES, "reworded")
    assert found["cosine"].count(1) >= 15
    assert found["BM25"].count(1) <= 5


@pytest.mark.model
def test_ingredients_sum_to_the_scores(encoder):
    question = study.held_questions()[4].ask
    for at in (0, 5, 20):
        found = study.ingredients(encoder, PASSAGES, at, question)
        both = encoder.embed([question, PASSAGES[at]])
        assert float(np.sum(found.parts)) == pytest.approx(float(cosine_similarity(both[0], both[1])), abs=1e-6)
        assert found.cosine == pytest.approx(float(np.sum(found.parts)), abs=1e-6)
        assert found.words.scores[at] == pytest.approx(bm25(PASSAGES, question)[at])


def test_without_an_encoder_words_remain():
    assert set(study.rankings(None, PASSAGES, "dog")) == {"BM25"}
    assert "Biscuit" in PASSAGES[study.rankings(None, PASSAGES, "Biscuit")["BM25"].order[0]]
    assert study.ingredients(None, PASSAGES, 0, "the ship").tokens == ()


def test_fusing_by_hand():
    one, two = ranked(np.array([3.0, 2.0, 1.0])), ranked(np.array([1.0, 3.0, 2.0]))
    found = study.fused(one, two)
    np.testing.assert_allclose(found.scores, [1 / 61 + 1 / 63, 1 / 62 + 1 / 61, 1 / 63 + 1 / 62])
    assert found.order == (1, 0, 2)


def test_cutting():
    assert study.cut("a b\nc\n\n\n\nd", 0, 0) == ["a b c", "d"]
    assert study.cut("a b\nc\n\nd", 2, 0) == ["a b", "c\n\nd"]
    with pytest.raises(ValueError, match="empty"):
        study.cut(" \n", 0, 0)
    with pytest.raises(ValueError, match="cut larger ones"):
        study.cut("a " * 700, 5, 0)


def test_sentences_that_survive_the_cut():
    text = "A title\n\nOne two three. Four\nfive! Six?"
    assert study.whole_sentences(text, study.cut(text, 0, 0)) == (4, 4)
    assert study.whole_sentences(text, study.cut(text, 3, 0)) == (2, 4), "A title One | two three. Four | five! Six?"
    assert study.whole_sentences(text, study.cut(text, 3, 2)) == (4, 4)


@pytest.mark.model
def test_the_prompt_holds_all_and_opens_an_answer():
    found = study.prompt("Why?", PASSAGES[:2], "Be brief.")
    assert all(text in found.text for text in (*PASSAGES[:2], "Be brief.", "Why?"))
    assert [turn.role for turn in turns(found.ids)] == ["system", "user", "assistant"]
    assert study.ASK in study.prompt("Why?", PASSAGES[:1]).text
    assert not turns(found.ids)[-1].closed


@pytest.mark.model
def test_a_reply_equals_runs_over_the_whole_text(smollm2):
    ids = study.prompt("What is the capital of France?", []).ids
    answers = ["Paris", "The capital of France is Paris."]
    found = study.reply(smollm2, ids, answers, 8)
    for answer, chance in zip(answers, found.log_p, strict=True):
        whole = [*ids, *encode(answer, "smollm2")]
        log_p = log_softmax(smollm2.forward(whole))[len(ids) - 1 : -1]
        expected = float(np.sum(log_p[np.arange(len(whole) - len(ids)), whole[len(ids) :]]))
        assert chance == pytest.approx(expected, abs=1e-3)
    assert [token.id for token in found.said] == [token.id for token in study.say(smollm2, ids, 8)]


@pytest.mark.model
def test_a_note_in_the_context_is_used(smollm2):
    without = study.said_text(list(study.say(smollm2, study.prompt("Who leads engineering?", []).ids, 24)))
    note = study.prompt("Who leads engineering?", ["Mira Okafor is head of engineering."])
    assert "Elon Musk" in without
    assert "Mira Okafor" in study.said_text(list(study.say(smollm2, note.ids, 24)))
