"""Distillation, low-rank changes, masked dialogues: each number by a second way."""

from dataclasses import replace

import numpy as np
import pytest

from engine import fine_tuning as ft
from engine.backpropagation import gradient_check
from engine.chat_study import asked_plainly
from engine.distillation import RIGHT, TEACHER, WORDS, Lessons, learn, lessons, study
from engine.ledger import CONFIGS, parameter_ledger
from engine.low_rank import PARTS, SIZE, adapters, best_errors, fit, wanted
from engine.post_training import kl_divergence
from engine.real_lora import adapted, fresh_adapters, parameters_in, teach
from engine.sampling import softmax, surprisal

# Distillation --------------------------------------------------------------------------------------------------------


def test_the_teachers_student_ends_at_the_teacher():
    for temperature in (1.0, 3.0):
        assert kl_divergence(softmax(TEACHER), softmax(learn(True, temperature, 2000).path[-1])) < 1e-2


def test_the_other_student_holds_all_wrong_words_to_be_equal():
    student = softmax(learn(False, 1.0).path[-1])
    others = np.delete(student, RIGHT)
    assert np.ptp(others) < 1e-12
    assert student[RIGHT] > 0.98
    assert len(WORDS) == len(TEACHER)


def test_a_table_taught_long_enough_holds_the_mean_of_what_it_was_taught():
    """Right tokens alone: a row of the table becomes the shares with which tokens followed."""
    seen, right = np.array([0, 0, 0, 0, 1, 1]), np.array([1, 1, 1, 2, 0, 2])
    teacher = np.log(np.full((6, 3), 1 / 3))
    given = Lessons(np.arange(2), seen, right, teacher, 6)
    given = replace(given, seen=np.tile(seen, 2), right=np.tile(right, 2), teacher=np.tile(teacher, (2, 1)))
    table = study(given, 0.0, 1.0, steps=600, rate=0.05).table
    np.testing.assert_allclose(softmax(table[:2]), [[0, 0.75, 0.25], [0.5, 0, 0.5]], atol=5e-3)
    np.testing.assert_allclose(softmax(study(given, 1.0, 1.0).table[0]), 1 / 3, atol=1e-9)


def test_lessons_of_a_model(tiny):
    ids = np.random.default_rng(0).integers(0, tiny.config.vocabulary, 40)
    found = lessons(tiny, ids.tolist(), most=5)
    assert len(found.kinds) == 5
    np.testing.assert_allclose(np.sum(np.exp(found.teacher), axis=1), 1, atol=1e-6)
    inside = np.flatnonzero(found.right < 5)
    np.testing.assert_array_equal(found.kinds[found.right[inside]], ids[1:][inside])
    logits = tiny.forward(ids)
    np.testing.assert_allclose(np.exp(found.teacher[:, :5]), softmax(logits)[:-1][:, found.kinds], atol=1e-9)
    with pytest.raises(ValueError, match="too few"):
        lessons(tiny, ids[:10].tolist())


# Low rank ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["few", "half", "all"])
def test_trained_adapters_reach_the_bound_of_eckart_and_young(kind):
    for rank in (1, 3, 7):
        found = fit(kind, rank, 400)
        assert found.errors[0] == pytest.approx(1), "b = 0 at the start: nothing changed"
        assert not np.any(found.changes[0])
        assert found.errors[-1] >= found.best[rank] - 1e-9
        assert found.errors[-1] == pytest.approx(found.best[rank], abs=3e-3)
        assert np.linalg.matrix_rank(found.changes[-1], tol=1e-9) == rank


def test_full_rank_equals_training_the_matrix_itself():
    _, change = wanted("all")
    found = fit("all", SIZE, 800)
    np.testing.assert_allclose(found.changes[-1], change, atol=2e-3)
    assert found.best[SIZE] == 0


def test_the_bound_is_that_of_the_truncated_decomposition():
    _, change = wanted("half", 3)
    u, s, v = np.linalg.svd(change)
    for rank in range(SIZE + 1):
        near = (u[:, :rank] * s[:rank]) @ v[:rank]
        assert best_errors(change)[rank] == pytest.approx(np.linalg.norm(change - near), abs=1e-12)
    with pytest.raises(ValueError, match="one of"):
        wanted("some")


def test_adapters_are_counted_from_the_shapes():
    llama = adapters(CONFIGS["Llama 3.1 8B"], 16, "all")
    by_hand = 32 * 16 * (2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336))
    assert llama.trained == by_hand == 41_943_040  # the number that peft reports for rank 16 and all linear layers
    assert llama.total == 8_030_261_248
    small = adapters(CONFIGS["SmolLM2-135M"], 8, "qv")
    assert small.trained == 30 * 8 * ((576 + 576) + (576 + 192))
    assert set(PARTS["all"]) <= {row.part for row in parameter_ledger(CONFIGS["SmolLM2-135M"])}
    with pytest.raises(ValueError, match="one of"):
        adapters(CONFIGS["SmolLM2-135M"], 8, "none")


# Adapters in a whole model -------------------------------------------------------------------------------------------


def test_fresh_adapters_change_nothing_and_training_lowers_the_loss(tiny):
    ids, counts = list(range(8)), np.array([0, 0, 0, 0, 1, 1, 1, 1])
    fresh = fresh_adapters(tiny, 2, "attention", last=1)
    np.testing.assert_allclose(adapted(tiny, fresh).forward(ids), tiny.forward(ids), atol=1e-12)
    run = list(teach(tiny, ids, counts, fresh, steps=15, rate=0.02))
    by_hand = np.mean(surprisal(tiny.forward(ids)[:-1], np.array(ids[1:]))[3:])
    assert run[0].loss == pytest.approx(float(by_hand), rel=1e-9)
    assert run[-1].loss < run[0].loss - 0.2
    after = adapted(tiny, run[-1].adapters).forward(ids)
    assert np.mean(surprisal(after[:-1], np.array(ids[1:]))[3:]) == pytest.approx(run[-1].loss, rel=1e-6)
    assert parameters_in(fresh) == sum(a.size for one in fresh.values() for a in one.values())
    with pytest.raises(ValueError, match="rank"):
        fresh_adapters(tiny, 0, "qv")


def test_the_adapters_gradient_against_central_differences(tiny):
    from engine.continuation import logits_of, run_rest
    from engine.post_training import masked_loss

    ids, first = [3, 1, 4, 1, 5], tiny.config.layers - 1
    made = fresh_adapters(tiny, 1, "qv", last=1)
    rng = np.random.default_rng(0)
    made = {name: {k: 0.1 * rng.standard_normal(x.shape) for k, x in one.items()} for name, one in made.items()}
    trace = tiny.trace(ids)

    def loss(trained):
        changed = adapted(tiny, trained)
        x = run_rest(changed, trace[f"blk.{first - 1}.resid"], first, trace["positions"])
        return masked_loss(logits_of(changed, x)[:-1], np.array(ids[1:]), np.array([0, 1, 1, 1]))

    assert gradient_check(loss, (made,)).worst < 1e-6


# Masked dialogues ----------------------------------------------------------------------------------------------------


def test_a_dialogue_counts_its_answer_and_its_end():
    ids, counts = ft.dialogue(0, "says")
    assert ft.spell(ids) == "<user> what does the cat say ? <assistant> the cat says meow . <end>"
    assert ft.spell([i for i, counted in zip(ids, counts, strict=True) if counted]) == "the cat says meow . <end>"


def test_the_mask_keeps_the_question_out_of_the_loss():
    start = ft.BASE.start(0)
    ids, counts = ft.as_batch([ft.dialogue(1, "eats"), ft.dialogue(2, "likes")], True)
    lost = surprisal(ft.BASE.model(start).forward(ids[:, :-1]), ids[:, 1:])
    assert float(ft.dialogue_loss(start, ids, counts)) == pytest.approx(float(np.mean(lost[counts[:, 1:]])), rel=1e-6)
    every = ft.as_batch([ft.dialogue(1, "eats")], False)[1]
    assert np.all(every)


def test_tuning_lowers_the_loss_from_any_start_and_repeats():
    start = ft.BASE.start(1)
    runs = [list(ft.tune(start, 3, True, 0, steps=12, look_every=6)) for _ in range(2)]
    assert [m.loss for m in runs[0]] == [m.loss for m in runs[1]]
    assert runs[0][-1].loss < runs[0][0].loss - 0.2
    assert runs[0][6].answers is not None
    assert runs[0][5].answers is None
    with pytest.raises(ValueError, match="1 to 11"):
        next(ft.tune(start, 12, True))


def test_base_text_holds_facts_and_questions_in_whole_windows():
    rows = ft.base_text(np.random.default_rng(0), 40, 24)
    assert rows.shape == (40, 24)
    text = " ".join(ft.spell(row) for row in rows.tolist())
    assert "?" in text
    assert "says" in text
    assert "<user>" not in text


def test_frames():
    assert asked_plainly("Why?") == asked_plainly("Why?", "plain")
    assert len(asked_plainly("Why?", "form")) > len(asked_plainly("Why?"))
    with pytest.raises(ValueError, match="framed"):
        asked_plainly("Why?", "song")
