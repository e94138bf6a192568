"""Rank-one edits: the algebra exactly, the search against differences, the edited model against an edit on the way."""

import json
from dataclasses import replace

import numpy as np
import plain_llama as plain
import pytest
from tiny_model import CONFIG

from engine.backpropagation import gradient_check
from engine.block import Block
from engine.causal_tracing import causal_trace
from engine.continuation import logits_of, run_rest
from engine.edit_facts import FACTS, SENTENCES
from engine.embeddings import lookup
from engine.memo import Memo
from engine.model import Model, load
from engine.rank_one_edit import (
    LAYERS,
    edited_model,
    find_value,
    key_detector,
    new_answer_loss,
    on_text,
    padded,
    rank_one,
    rank_one_edit,
    subject_end,
    summary,
    text_keys,
    texts_of,
)
from engine.sampling import softmax
from engine.tokenization import decode, encode
from engine.weights import Matrix, Weights
from scripts.record_rank_one_edits import FILE, rounded

rng = np.random.default_rng(7)


# --- the algebra ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordinary", [None, rng.normal(size=(30, 12)) * np.linspace(0.1, 3, 12)])
def test_the_edited_key_gets_its_value_and_nothing_orthogonal_is_touched(ordinary):
    w, key, value = rng.normal(size=(12, 5)), rng.normal(size=12), rng.normal(size=5)
    u = key_detector(key, ordinary)
    after = rank_one(w, u, value - key @ w)
    np.testing.assert_allclose(key @ after, value, atol=1e-12)
    assert np.linalg.matrix_rank(after - w, tol=1e-9) == 1
    # Orthogonal in the metric of C⁻¹, which for C = 1 is the usual one: those keys give what they gave.
    others = rng.normal(size=(20, 12))
    others = others - np.outer(others @ u, key)
    np.testing.assert_allclose(others @ u, 0, atol=1e-12)
    np.testing.assert_allclose(others @ after, others @ w, atol=1e-11)


def test_the_detector_is_the_inverse_of_the_statistics_written_out():
    ordinary, key = rng.normal(size=(9, 12)), rng.normal(size=12)
    c = ordinary.T @ ordinary / 9 + 0.05 * np.mean(ordinary * ordinary) * np.eye(12)
    by_hand = np.linalg.inv(c) @ key
    np.testing.assert_allclose(key_detector(key, ordinary), by_hand / (key @ by_hand), rtol=1e-9)
    assert key_detector(key.astype(np.float32), ordinary.astype(np.float32)).dtype == np.float32
    with pytest.raises(ValueError, match="zeros"):
        key_detector(np.zeros(4))


def test_of_all_changes_that_move_the_key_this_one_disturbs_ordinary_text_least():
    """ROME's optimality: any other W' with W' k* = v* changes the outputs of ordinary keys by more."""
    ordinary, key = rng.normal(size=(40, 12)) * np.linspace(0.1, 3, 12), rng.normal(size=12)
    change = rng.normal(size=3)
    best = np.outer(key_detector(key, ordinary, ridge=1e-9), change)
    for _ in range(20):
        other = rng.normal(size=(12, 3)) * 0.1
        other = other - np.outer(key / (key @ key), key @ other)  # does nothing to the key itself
        assert np.linalg.norm(ordinary @ (best + other)) > np.linalg.norm(ordinary @ best)


# --- the search -------------------------------------------------------------------------------------------------------


def tiny() -> Model:
    shapes = {"attn_norm": (32,), "w_q": (32, 32), "w_k": (16, 32), "w_v": (16, 32), "w_o": (32, 32),
              "ffn_norm": (32,), "w_gate": (64, 32), "w_up": (64, 32), "w_down": (32, 64)}  # fmt: skip

    def weight(shape):
        drawn = rng.normal(size=shape) * (0.3 if len(shape) == 2 else 0.1) + (len(shape) == 1)
        return Matrix(drawn) if len(shape) == 2 else drawn

    blocks = [Block(**{name: weight(shape) for name, shape in shapes.items()}) for _ in range(CONFIG.layers)]
    table = rng.normal(size=(96, 32))
    return Model(CONFIG, Weights(table, tuple(blocks), np.ones(32), Matrix(table)), Memo(2**24))


def test_the_searched_gradient_against_differences():
    model, ids = tiny(), [5, 17, 60, 2, 33]
    trace = model.trace(ids)
    for layer, position in ((0, 2), (1, 0), (2, 4)):
        check = gradient_check(
            lambda change, layer=layer, position=position: new_answer_loss(model, trace, layer, position, 9, change),
            (rng.normal(size=32) * 0.1,),
        )
        assert check.worst < 1e-6


def test_running_the_rest_gives_what_the_whole_run_gives():
    """With a change of nothing it is the model; with a change, a second implementation in loops."""
    model, ids = tiny(), [5, 17, 60, 2, 33]
    trace = model.trace(ids)
    now = softmax(trace["logits"][-1])[9]
    assert float(new_answer_loss(model, trace, 1, 2, 9, np.zeros(32))) == pytest.approx(-np.log(now), rel=1e-9)
    change = rng.normal(size=32)
    moved = trace["blk.1.resid"] + np.outer(np.arange(5) == 2, change)
    expected = softmax(plain.logits(model, plain.run_from(model, moved, 2).streams[-1])[-1])[9]
    assert float(new_answer_loss(model, trace, 1, 2, 9, change)) == pytest.approx(-np.log(expected), rel=1e-9)


def test_the_edited_model_shares_everything_but_one_matrix():
    model, u, change = tiny(), rng.normal(size=64), rng.normal(size=32)
    changed, ids = edited_model(model, 1, u, change), [5, 17, 60, 2, 33]
    assert changed.weights.embedding is model.weights.embedding
    assert changed.weights.blocks[0] is model.weights.blocks[0]
    assert changed.weights.blocks[1].w_gate is model.weights.blocks[1].w_gate
    old, new = (m.weights.blocks[1].w_down.rows.T for m in (model, changed))
    np.testing.assert_allclose(new - old, np.outer(u, change), atol=1e-12)
    edit = {"blk.1.ffn.out": lambda value, seen: seen["blk.1.ffn.hidden"] @ new}
    np.testing.assert_allclose(changed.forward(ids), model.forward(ids, edit=edit), atol=1e-10)


# --- the facts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fact", FACTS.values(), ids=FACTS)
def test_facts_are_well_formed(fact):
    assert len(encode(fact.old, "smollm2")) == len(encode(fact.new, "smollm2")) == 1
    assert all(len(encode(probe.answer, "smollm2")) == 1 for probe in fact.probes)
    assert fact.probes[0].prompt == fact.prompt
    assert fact.probes[0].kind == "edited"
    assert {probe.kind for probe in fact.probes} == {"edited", "reworded", "other", "unrelated"}
    prompt = encode(fact.prompt, "smollm2")
    assert decode(prompt[: subject_end(fact) + 1], "smollm2").endswith(fact.subject)
    ids, lengths = padded(texts_of(fact))
    assert [row[:n].tolist() for row, n in zip(ids, lengths, strict=True)] == [
        encode(text, "smollm2") for text in (*(probe.prompt for probe in fact.probes), *SENTENCES)
    ]


# --- the real model ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():
    return load()


@pytest.mark.model
@pytest.mark.parametrize(("name", "layer"), [("france", 7), ("gold", 19)])
def test_the_edit_is_what_a_model_with_that_matrix_says(model, name, layer):
    """Every shown probability once more: one text at a time, without padding, from the first block."""
    fact = FACTS[name]
    edited = rank_one_edit(model, fact, layer)
    changed = edited_model(model, layer, edited.detector, edited.target.change)
    new = encode(fact.new, "smollm2")[0]
    for i, probe in enumerate(fact.probes):
        before, after = (softmax(m.forward(encode(probe.prompt, "smollm2"))[-1]) for m in (model, changed))
        answer = encode(probe.answer, "smollm2")[0]
        assert edited.before.answer[i] == pytest.approx(before[answer], abs=1e-4)
        assert edited.after.answer[i] == pytest.approx(after[answer], abs=1e-4)
        assert edited.after.new[i] == pytest.approx(after[new], abs=1e-4)
        assert edited.after.top[i] == np.argmax(after)
    losses = [changed.surprisal(encode(text, "smollm2")) for text in SENTENCES]
    assert edited.after.loss == pytest.approx(np.mean(np.concatenate(losses)), abs=1e-3)
    assert edited.before.answer[0] > 0.5 > edited.after.answer[0]
    assert edited.after.new[0] > 0.9
    assert edited.doses[0] == pytest.approx(1, abs=1e-3)


@pytest.mark.model
def test_the_key_gets_the_value_in_the_real_matrix(model):
    edited = rank_one_edit(model, FACTS["france"], 7)
    target = edited.target
    changed = edited_model(model, 7, edited.detector, target.change)
    written = target.key[None] @ changed.weights.blocks[7].w_down
    size = np.linalg.norm(target.change)
    assert np.linalg.norm(written[0] - (target.value + target.change)) < 1e-4 * size
    assert len(target.losses) == 3
    assert target.losses[0] > target.losses[1] > target.losses[2]


@pytest.mark.model
def test_strength_zero_changes_nothing_and_the_answer_is_kept(model):
    fact = FACTS["hot"]
    nothing = rank_one_edit(model, fact, 10, strength=0.0)
    np.testing.assert_allclose(nothing.after.answer, nothing.before.answer, atol=1e-5)
    assert rank_one_edit(model, fact, 10, strength=0.0).after is nothing.after
    assert find_value(model, fact, 10).change is find_value(model, fact, 10).change
    with pytest.raises(ValueError, match="at least one step"):
        find_value(model, fact, 10, steps=0)


@pytest.mark.model
def test_the_edit_on_any_text_is_the_changed_model_on_it(model):
    edited, ids = rank_one_edit(model, FACTS["france"], 7), encode("She flew to France in May", "smollm2")
    changed = edited_model(model, 7, edited.detector, edited.change)
    found = on_text(model, edited, 7, ids)
    np.testing.assert_allclose(found.after, softmax(changed.forward(ids)[-1]), atol=1e-4)
    np.testing.assert_allclose(found.before, softmax(model.forward(ids)[-1]), atol=1e-4)
    assert found.losses == pytest.approx((float(model.loss(ids)), float(changed.loss(ids))), abs=1e-3)
    assert np.argmax(found.doses) == ids.index(encode(" France", "smollm2")[0])
    assert on_text(model, edited, 7, ids[:1]).losses is None


@pytest.mark.model
def test_the_page_of_ordinary_text_is_long_enough(model):
    keys = text_keys(model)
    assert set(keys) == set(LAYERS)
    assert keys[7].shape[0] > 300
    ids = encode("The river rises in the hills", "smollm2")
    np.testing.assert_allclose(keys[7][: len(ids) - 1], model.trace(ids)["blk.7.ffn.hidden"][1:], atol=2e-4)


@pytest.mark.model
def test_the_recorded_run_is_what_the_engine_computes(model):
    """One layer of two facts, and one causal trace; the rest comes from the same command."""
    recorded = json.loads(FILE.read_text("utf-8"))
    assert recorded["layers"] == list(LAYERS)
    assert set(recorded["facts"]) == set(FACTS)
    for name, kind in (("france", "statistics"), ("eiffel", "key")):
        at = LAYERS.index(16)
        now = rounded(summary(rank_one_edit(model, FACTS[name], 16, kind == "statistics"), FACTS[name]))
        assert recorded["facts"][name][kind][at] == pytest.approx(now, abs=2e-3)
    traced = causal_trace(model, FACTS["gold"], LAYERS[:3])
    assert recorded["facts"]["gold"]["clean"] == pytest.approx(traced.clean, abs=1e-4)
    assert recorded["facts"]["gold"]["blurred"] == pytest.approx(traced.blurred, abs=1e-3)
    assert recorded["facts"]["gold"]["restored"][:3] == pytest.approx(traced.restored.tolist(), abs=1e-3)


@pytest.mark.model
def test_restoring_every_layer_brings_the_answer_back(model):
    """Attention still reads blurred tokens, but what the layers write at the subject's last token is whole."""
    fact = FACTS["gold"]
    everything = causal_trace(model, fact, (15,), window=61)
    nothing = causal_trace(model, replace(fact, old=fact.new), (29,), window=1)
    assert everything.restored[0] > 0.9 * everything.clean
    assert everything.effects[0] == pytest.approx(everything.restored[0] - everything.blurred)
    assert nothing.clean < 0.01


@pytest.mark.model
def test_the_rest_of_a_batch_is_the_model(model):
    ids = np.array([encode("The capital of France is", "smollm2"), encode("The capital of Japan is", "smollm2")])
    stream = run_rest(model, lookup(model.weights.embedding, ids), 0, np.arange(5))
    np.testing.assert_allclose(logits_of(model, stream[:, -1]), model.forward(ids)[:, -1], atol=1e-3)
