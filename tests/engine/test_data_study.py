"""Training sets: windows that are copied, repeated or fresh."""

import dataclasses

import numpy as np
import pytest

from engine.corpora import corpus
from engine.data_study import compare, epochs, held_out, limited, loss_on, report, windows_of, with_copies
from engine.training import GPT, Plan, train

C = corpus("grammar")
GPT_ = GPT(len(C.vocabulary), layers=1, width=16, heads=2, context=12)


def test_a_limited_corpus_shows_its_windows_and_no_others_and_validates_on_the_same():
    windows = windows_of(C, 5, 12)
    small = limited(C, windows)
    inputs, targets = small.windows([3], 200, 12)
    rows = {tuple(row) for row in np.column_stack([inputs, targets[:, -1:]])}
    assert rows == {tuple(row) for row in windows}
    for one, other in zip(small.windows([0], 4, 12, held_out=True), C.windows([0], 4, 12, held_out=True), strict=True):
        np.testing.assert_array_equal(one, other)


def test_copies_are_counted():
    windows = windows_of(C, 40, 12)
    everything, copied, single = with_copies(windows, 0.1, 25)
    assert (len(copied), len(single), len(everything)) == (4, 36, 136)
    assert sum(np.array_equal(row, windows[0]) for row in everything) == 25
    again, *_ = with_copies(windows, 0.1, 1)
    np.testing.assert_array_equal(again, windows)
    for share, copies in ((0.0, 2), (1.0, 2), (0.5, 0)):
        with pytest.raises(ValueError, match="copied"):
            with_copies(windows, share, copies)


def test_runs_side_by_side_are_runs():
    plan = Plan(steps=4, batch=2, warmup=1, evaluate_every=4, held_out=2)
    small = limited(C, windows_of(C, 3, 12))
    together = list(compare(GPT_, plan, {"fresh": C, "few": small}, repeats=2))
    for i in range(2):
        one = dataclasses.replace(plan, seed=i)
        assert [step["few"][i].loss for step in together] == [step.loss for step in train(GPT_, small, one)]
        assert [step["fresh"][i].loss for step in together] == [step.loss for step in train(GPT_, C, one)]
    assert epochs(plan, 4) == 2
    with pytest.raises(ValueError, match="have not looked"):
        held_out(together[1]["few"])


def test_a_few_windows_seen_often_are_learned_by_heart():
    plan = Plan(steps=150, batch=8, warmup=10, learning_rate=1e-2, evaluate_every=150, held_out=32)
    few, many = windows_of(C, 8, 12), windows_of(C, 400, 12)
    last = list(compare(GPT_, plan, {"few": limited(C, few), "many": limited(C, many)}))[-1]
    by_heart = loss_on(GPT_, last["few"][0].checkpoint.parameters, few)
    assert by_heart < held_out(last["few"])[0] - 0.3
    assert held_out(last["many"])[0] < held_out(last["few"])[0] - 0.1


def test_the_report_of_runs():
    plan = Plan(steps=4, batch=5, warmup=1, evaluate_every=4, held_out=2)
    windows = windows_of(C, 10, 12)
    everything, copied, single = with_copies(windows, 0.2, 6)
    last = list(compare(GPT_, plan, {"copies": limited(C, everything)}, repeats=2))[-1]["copies"]
    found = report("copies", GPT_, plan, last, windows, 0.2, 6)
    assert found.looks == (6, 1)
    assert found.held_out == tuple(step.validation for step in last)
    assert found.mean == pytest.approx(np.mean(found.held_out))
    assert found.copied[1] == loss_on(GPT_, last[1].checkpoint.parameters, copied)
    assert found.single[0] == loss_on(GPT_, last[0].checkpoint.parameters, single)
