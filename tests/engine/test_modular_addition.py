"""Modular addition: the sums and their sides, circles that were put in and are found again, and the recorded run."""

import dataclasses
import math

import numpy as np
import pytest

from engine import modular_addition as modular
from engine import recorded_addition as recorded
from engine.backpropagation import value_and_grad
from engine.gpt import loss
from engine.modular_addition import Setting, around, circle, on_plane, roundness, run, score, spectrum, split
from engine.optimizers import AdamW

SMALL = Setting(modulus=7, share=0.5, width=8, steps=6, warmup=2)


def test_every_sum_is_on_one_side_and_its_mirror_image_on_the_same():
    sides = split(SMALL)
    pairs = [{tuple(row[:2]) for row in inputs} for inputs, _ in sides]
    assert len(pairs[0] | pairs[1]) == 49
    assert not pairs[0] & pairs[1]
    assert len(pairs[0]) == pytest.approx(25, abs=4)
    for side, (inputs, targets) in zip(pairs, sides, strict=True):
        assert {(b, a) for a, b in side} == side
        assert np.all(inputs[:, 2] == 7)
        np.testing.assert_array_equal(targets[:, 2], (inputs[:, 0] + inputs[:, 1]) % 7)
        assert np.all(targets[:, :2] == -1)


def test_other_seeds_split_otherwise():
    one, other = (split(dataclasses.replace(SMALL, seed=seed))[0][0] for seed in (0, 1))
    assert one.shape != other.shape or not np.array_equal(one, other)


@pytest.mark.parametrize("wrong", [{"modulus": 2}, {"share": 0.0}, {"share": 1.0}])
def test_what_is_no_experiment_gets_a_sentence(wrong):
    with pytest.raises(ValueError, match="must be"):
        Setting(**wrong)


def test_the_run_is_adamw_on_all_training_texts():
    """A second implementation: the optimizer of the engine (proven against PyTorch), called by hand."""
    looks = list(run(SMALL, every=2))
    assert [now.step for now in looks] == [0, 2, 4, 6]
    gpt, (inputs, targets) = SMALL.gpt, split(SMALL)[0]
    optimizer, parameters = AdamW(0, SMALL.betas, weight_decay=1.0), SMALL.gpt.start(0)
    for step in range(6):
        optimizer.lr = 5e-3 * min(1, (step + 1) / 2)
        _, gradients = value_and_grad(loss)(parameters, gpt, inputs, targets)
        norm = math.sqrt(sum(np.sum(g.astype(float) ** 2) for g in gradients.values()))
        parameters = optimizer.step(parameters, {n: g * min(1, 1 / (norm + 1e-6)) for n, g in gradients.items()})
    for name, value in looks[-1].parameters.items():
        np.testing.assert_allclose(value, parameters[name], atol=2e-5)


def test_a_score_is_the_loss_and_counts_right_answers():
    gpt, parameters = SMALL.gpt, SMALL.gpt.start(3)
    texts = split(SMALL)[1]
    value, right = score(gpt, parameters, texts)
    assert value == pytest.approx(float(loss(parameters, gpt, *texts)), rel=1e-5)
    one_by_one = [
        int(np.argmax(gpt.model(parameters).forward(text.tolist())[-1])) == target[-1]
        for text, target in zip(*texts, strict=True)
    ]
    assert right == pytest.approx(np.mean(one_by_one))


def waves(p, parts, d=12, seed=0):
    """A table made of cosines and sines of given frequencies and sizes, in random directions of d dimensions."""
    directions = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, 2 * len(parts))))[0].T
    angles = 2 * np.pi * np.arange(p) / p
    table = np.zeros((p, d))
    for i, (frequency, size) in enumerate(parts):
        table = table + size * np.outer(np.cos(frequency * angles), directions[2 * i])
        table = table + size * np.outer(np.sin(frequency * angles), directions[2 * i + 1])
    return table + 0.3


def test_the_spectrum_says_what_was_put_in():
    found = spectrum(waves(31, [(3, 1.0), (11, 2.0)]))
    assert found.shape == (15,)
    assert found[2] == pytest.approx(0.2)
    assert found[10] == pytest.approx(0.8)
    noise = spectrum(np.random.default_rng(0).normal(size=(31, 400)))
    np.testing.assert_allclose(noise, 1 / 15, atol=0.02)


def test_the_circle_is_found_again():
    table = waves(31, [(3, 1.0), (11, 2.0)])
    plane = circle(table, 11)
    np.testing.assert_allclose(plane.T @ plane, np.eye(2), atol=1e-12)
    points = on_plane(table, plane)
    np.testing.assert_allclose(np.hypot(*points.T), 2, atol=1e-9)
    assert roundness(points, 11) == pytest.approx(1)
    assert roundness(points, 3) == pytest.approx(0, abs=1e-12)
    order = around(31, 11)
    angles = np.unwrap(np.arctan2(points[order, 1], points[order, 0]))
    np.testing.assert_allclose(np.abs(np.diff(angles)), 2 * np.pi / 31, atol=1e-9)


def test_noise_is_not_round():
    points = np.random.default_rng(1).normal(size=(31, 2))
    assert max(roundness(points, f) for f in range(1, 16)) < 0.35


def test_frequencies_that_there_are_not():
    with pytest.raises(ValueError, match="from 1 to 15"):
        circle(np.zeros((31, 4)), 16)
    with pytest.raises(ValueError, match="common divisor"):
        around(12, 4)


# --- the recorded run -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def kept():
    return recorded.load()


def test_training_is_perfect_long_before_the_rest_is_right(kept):
    training, validation = kept.accuracy.T
    perfect = int(kept.steps[np.argmax(training == 1)])
    general = int(kept.steps[np.argmax(validation > 0.95)])
    assert validation[-1] > 0.95
    assert general > perfect + 1000
    assert general > 10 * int(kept.steps[np.argmax(training >= 0.99)])
    at = int(np.argmax(training == 1))
    assert validation[at] < 0.05
    assert kept.loss[at, 1] > kept.loss[0, 1]  # worse than not having learned anything
    assert [p.name for p in kept.phases] == ["memorising", "plateau", "generalising", "general"]


def test_its_metadata_say_how_to_make_it_again(kept):
    assert kept.made["command"] == "python -m scripts.record_modular_addition"
    assert kept.setting == recorded.SETTING
    assert {"numpy", "python", "seconds", "date"} <= set(kept.made)
    assert recorded.FILE.stat().st_size < 1_000_000


def test_the_first_steps_run_again(kept):
    """On any machine; rounding differs between machines, and grows with the steps."""
    looks = list(modular.run(dataclasses.replace(kept.setting, steps=2 * recorded.EVERY), recorded.EVERY))
    for i, now in enumerate(looks):
        np.testing.assert_allclose(now.loss, kept.loss[i], rtol=2e-3)
        np.testing.assert_allclose(now.accuracy, kept.accuracy[i], atol=0.01)
        assert now.norm == pytest.approx(kept.norm[i], rel=1e-4)
    np.testing.assert_allclose(looks[0].parameters["embedding"], kept.embeddings[0], atol=1e-4)


def test_what_is_kept_of_the_table_is_the_table_of_those_steps(kept):
    assert kept.embeddings.shape == (len(kept.kept), kept.setting.modulus + 1, kept.setting.width)
    assert set(kept.kept) <= set(kept.steps)
    assert kept.kept[-1] == kept.steps[-1] == kept.setting.steps


def test_circles_appear(kept):
    best = kept.frequencies[0]
    first, last = (roundness(kept.points(i, best), best) for i in (0, -1))
    assert last > 0.9
    assert last > first + 0.3
    first_share, last_share = (np.sort(spectrum(kept.numbers(i)))[::-1][:9].sum() for i in (0, -1))
    assert last_share > 0.85  # nine of the 26 frequencies
    assert first_share < 0.5
