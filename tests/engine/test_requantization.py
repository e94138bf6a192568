"""The whole model rounded: packed matrices are the rounded ones, the streamed loss is the model's own, and it rises."""

from __future__ import annotations

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from test_weights import tiny as tiny_files  # noqa: F401
from tiny_model import CONFIG

from engine.model import load
from engine.quantization import cast, nf4, quantize
from engine.requantization import (
    PARTS,
    Packed,
    Recipe,
    Requantised,
    Stage,
    continuation,
    divergence,
    ladder,
    pack,
    pack_block,
    requantise,
)
from engine.tokenization import encode
from engine.weights import Matrix

RNG = np.random.default_rng(0)
TEXT = (
    "The old harbour lies below the town, where the river meets the sea. In the morning the boats come back with fish, "
    "and the people wait on the stone wall to buy it. My grandfather worked there for forty years. He used to say that "
    "the sea gives and the sea takes, and that nobody should trust a quiet day."
)


@pytest.fixture
def tiny(tiny_files):  # noqa: F811
    return load("tiny")


@pytest.mark.parametrize("bits", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("group", ["tensor", "row", 32, 24])
def test_what_is_packed_is_what_was_rounded(bits, symmetric, group):
    rows = RNG.normal(size=(5, 96)).astype(np.float32)
    packed = pack(rows, Recipe("int", bits, symmetric, group))
    assert packed.codes.itemsize == 1
    assert packed.rows.dtype == np.float32
    expected = quantize(rows, bits, symmetric=symmetric, group=group).dequantized
    np.testing.assert_array_equal(packed.rows, expected)


@pytest.mark.parametrize("kind", ["bf16", "fp8_e4m3", "nf4"])
def test_other_formats_are_packed_without_loss(kind):
    rows = RNG.normal(size=(5, 96)).astype(np.float32)
    expected = nf4(rows, group=32).dequantized if kind == "nf4" else cast(rows, kind)
    packed = pack(rows, Recipe(kind))
    assert packed.nbytes <= 2 * rows.size
    np.testing.assert_array_equal(packed.rows, expected)


def test_a_packed_matrix_multiplies_as_its_rows_do():
    rows, x = RNG.normal(size=(6, 32)).astype(np.float32), RNG.normal(size=(3, 32)).astype(np.float32)
    packed = pack(rows, Recipe(bits=5))
    for part in (x, x[:1]):
        np.testing.assert_allclose(part @ packed, part @ Matrix(packed.rows), rtol=1e-6)


def test_there_is_no_such_recipe():
    with pytest.raises(ValueError, match="no recipe 'fp6'"):
        pack(np.ones((2, 32), np.float32), Recipe("fp6"))


def test_bits_a_weight_count_scales():
    assert Recipe(bits=4, group=32, symmetric=False).bits_per_weight == 5.0
    assert Recipe(bits=4, group=32).bits_per_weight == Recipe("nf4", group=32).bits_per_weight == 4.5
    assert Recipe("bf16").bits_per_weight == 16
    for recipe in (Recipe(), Recipe("nf4", group=64), Recipe(bits=3, symmetric=False), Recipe("bf16")):
        assert recipe.stored_bits(576, 1536) == 576 * 1536 * recipe.bits_per_weight
    assert Recipe(group="row").stored_bits(10, 40) == 10 * 40 * 4 + 10 * 16
    assert Recipe(group="tensor", symmetric=False).stored_bits(10, 40) == 10 * 40 * 4 + 32
    assert Recipe(group=32).stored_bits(10, 40) == 10 * 40 * 4 + 10 * 2 * 16  # the last group is short


@pytest.mark.parametrize("parts", PARTS)
def test_only_the_chosen_parts_are_rounded(tiny, parts):
    block = tiny.weights.blocks[1]
    packed = pack_block(block, Recipe(bits=3, parts=parts))
    for field in fields(block):
        changed = isinstance(getattr(packed, field.name), Packed)
        assert changed == (field.name in PARTS[parts])


def test_the_streamed_loss_is_that_of_the_rounded_model(tiny):
    ids = RNG.integers(0, CONFIG.vocabulary, 20)
    *stages, found = requantise(tiny, Recipe(bits=4), ids)
    assert [stage.block for stage in stages] == list(range(CONFIG.layers))
    assert all(isinstance(stage, Stage) and stage.error > 0 and stage.drift > 0 for stage in stages)
    assert isinstance(found, Requantised)
    np.testing.assert_allclose(found.surprisals, found.model.surprisal(ids), rtol=1e-4)
    np.testing.assert_allclose(found.before, tiny.surprisal(ids), rtol=1e-4)
    logits = tiny.forward(ids), found.model.forward(ids)
    assert found.divergence == pytest.approx(divergence(*logits), rel=1e-3)
    assert len(list(continuation(found.model, ids, 3))) <= 3


def test_divergence_is_that_of_the_definition():
    old, new = RNG.normal(size=(4, 7)), RNG.normal(size=(4, 7))
    p, q = (np.exp(x) / np.exp(x).sum(axis=-1, keepdims=True) for x in (old, new))
    assert divergence(old, new) == pytest.approx(np.mean(np.sum(p * np.log(p / q), axis=-1)))
    assert divergence(old, old) == 0


def test_a_loss_needs_two_tokens(tiny):
    with pytest.raises(ValueError, match="two tokens"):
        next(requantise(tiny, Recipe(), [1]))


@pytest.mark.model
def test_the_loss_rises_as_bits_go(smollm2):
    """Groups of 32, 8 to 2 bits. The guesses move further with every bit; the loss follows where it is not noise."""
    recipes = [Recipe("int", bits, True, 32) for bits in range(8, 1, -1)]
    steps = ladder(smollm2, encode(TEXT, "smollm2"), recipes)
    found = [step for _, step in steps if isinstance(step, Requantised)]
    moved = [step.divergence for step in found]
    assert all(more > less for less, more in pairwise(moved))
    losses = dict(zip(range(8, 1, -1), (step.loss for step in found), strict=True))
    assert losses[8] < losses[5] < losses[4] < losses[3] < losses[2]
    assert abs(losses[8] - found[0].loss_before) < 0.02


@pytest.mark.model
def test_the_files_own_grid_costs_nothing(smollm2):
    """4 bits, groups of 32, a minimum: that is Q4_1, which these weights come in."""
    *_, found = requantise(smollm2, Recipe("int", 4, False, 32), encode("The capital of France is Paris.", "smollm2"))
    assert found.divergence < 1e-5
    assert found.loss == pytest.approx(found.loss_before, abs=1e-4)
