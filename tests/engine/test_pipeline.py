"""The filters in order against each filter alone, and the sorted row against the unsorted one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from engine.pipeline import cooled, masses, nuclei, nucleus_sizes, pipeline, ranked
from engine.sampling import entropy, min_p, softmax, top_k, top_p

rng = np.random.default_rng(11)
LOGITS = np.array([1.9, 1.5, 1.2, 0.8, 0.3, -0.2, -1.5])


def test_stages_are_the_filters_one_after_the_other():
    stages = pipeline(LOGITS, temperature=0.8, k=5, p=0.9, minimum=0.4)
    after = LOGITS / 0.8
    by_hand = [LOGITS, after, top_k(after, 5), top_p(top_k(after, 5), 0.9)]
    by_hand.append(min_p(by_hand[-1], 0.4))
    assert [stage.name for stage in stages] == ["softmax", "temperature", "top-k", "top-p", "min-p"]
    for stage, logits in zip(stages, by_hand, strict=True):
        np.testing.assert_allclose(stage.logits, logits)
        np.testing.assert_allclose(stage.probabilities, softmax(logits))
        assert stage.probabilities.sum() == pytest.approx(1)
        assert stage.entropy == pytest.approx(float(entropy(softmax(logits))))
    for before, stage in itertools.pairwise(stages[1:]):
        assert stage.mass == pytest.approx(before.probabilities[stage.probabilities > 0].sum())
        # Renormalising: what is left divided by its sum.
        np.testing.assert_allclose(
            stage.probabilities, np.where(stage.probabilities > 0, before.probabilities, 0) / stage.mass
        )


def test_nothing_switched_on_changes_nothing():
    for stage in pipeline(LOGITS):
        np.testing.assert_array_equal(stage.logits, LOGITS)
        assert (stage.kept, stage.mass) == (7, pytest.approx(1))


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"greedy": True}, {"k": 1}, {"p": 0.0}, {"minimum": 1.0}])
def test_five_ways_to_be_greedy(settings):
    last = pipeline(LOGITS, **settings)[-1]
    np.testing.assert_array_equal(last.probabilities, [1, 0, 0, 0, 0, 0, 0])
    assert (last.kept, last.entropy) == (1, 0)


def test_temperature_never_changes_the_order():
    for temperature in (0.05, 0.5, 3.0, 100.0):
        shares = pipeline(LOGITS, temperature)[1].probabilities
        np.testing.assert_array_equal(np.argsort(-shares), np.arange(7))


def test_cold_and_hot_without_overflow():
    for dtype in (np.float32, np.float64):
        z = np.array([3.0, -4.0, 2.0, -math.inf], dtype)
        for temperature in (0, 1e-320, 1e-30, 1e-3):
            divided = cooled(z, temperature)
            assert divided.dtype == dtype
            np.testing.assert_array_equal(softmax(divided), [1, 0, 0, 0])
        np.testing.assert_allclose(softmax(cooled(z, 1e9)), [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-6)
        np.testing.assert_allclose(softmax(cooled(z, 0.7)), softmax(z, 0.7), rtol=1e-6)
        np.testing.assert_array_equal(softmax(cooled(-np.abs(z), 1e-320)), [0, 0, 1, 0])
    for wrong in (-1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be 0 or more"):
            cooled(LOGITS, wrong)


def test_the_filters_keep_the_same_of_a_sorted_row():
    for z in (rng.normal(size=5000), np.round(rng.normal(size=500), 1)):  # the second with many ties
        row = ranked(z)
        np.testing.assert_array_equal(row.logits, z[row.ids])
        settings = {"temperature": 0.7, "k": 40, "p": 0.8, "minimum": 0.02}
        for stage, plain in zip(pipeline(row.logits, **settings), pipeline(z, **settings), strict=True):
            np.testing.assert_array_equal(
                np.sort(row.ids[stage.logits > -math.inf]), np.flatnonzero(plain.logits > -math.inf)
            )
            assert stage.mass == pytest.approx(plain.mass)
            assert stage.entropy == pytest.approx(plain.entropy)


def test_nuclei_equal_top_p_and_top_k_at_each_position():
    logits = (rng.normal(size=(4, 3000)) * np.array([[1], [2], [4], [8]])).astype(np.float32)
    found = nuclei(logits)
    for p in (0.1, 0.5, 0.9, 0.99):
        kept = [int(np.sum(top_p(row, p) > -math.inf)) for row in logits]
        np.testing.assert_allclose(nucleus_sizes(found, p), kept, atol=1)
    for k in (1, 40, 9999):
        expected = [softmax(row.astype(np.float64))[top_k(row, k) > -math.inf].sum() for row in logits]
        np.testing.assert_allclose(masses(found, k), expected, atol=1e-6)
    certain = nuclei(np.array([[0.0, 200.0, 0.0]], np.float32))
    assert nucleus_sizes(certain, 0.99).tolist() == [1]
