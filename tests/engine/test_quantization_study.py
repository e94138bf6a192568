"""What the labs look at: small matrices in every scheme, histograms, blocks of the real file."""

from __future__ import annotations

import numpy as np
import pytest

from engine import minilm_file
from engine.quantization import nf4, quantize
from engine.quantization_study import (
    KINDS,
    OUTLIER,
    RECIPES,
    compare,
    example,
    group_of,
    levels_a_block,
    losses,
    minilm_losses,
    minilm_matrix,
    outlier_cost,
    outlier_costs,
    own_numbers,
    spread,
    staircase,
    stored_block,
    stored_tensor,
    treat,
    weight_spread,
)

RNG = np.random.default_rng(0)


def test_one_number_of_the_example_grows():
    plain, grown = example(3), example(3, 20)
    assert grown[OUTLIER] == pytest.approx(20 * plain[OUTLIER])
    assert np.count_nonzero(plain != grown) == 1


def test_own_numbers_are_read_in_many_spellings():
    text = "1 2 3 4 5; -1,-2,-3,-4,-5\n−0.5 .5 1e-3 +7 0 | " + "2 " * 10
    assert own_numbers(text)[2].tolist() == pytest.approx([-0.5, 0.5, 0.001, 7, 0])
    for bad in ("1 2 3", "nothing", "1e7 " * 25):
        with pytest.raises(ValueError, match=r"25 numbers|million"):
            own_numbers(bad)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", ["tensor", "row", 3])
def test_errors_are_at_most_half_a_step(kind, group):
    x = example(1, 6)
    found = treat(x, kind, True, group)
    room = {"nf4": 0.16}.get(kind, 0.5)  # NF4's widest gap is 0.304 of its scale
    assert np.all(np.abs(found.error) <= found.step * room * 1.0001 + 1e-7)
    np.testing.assert_array_equal(found.dequantized - x, found.error)
    assert found.unique == len(set(found.dequantized.reshape(-1).tolist()))


def test_more_bits_are_better():
    found = compare(example(0), True, "tensor")
    errors = [found[kind].rms for kind in ("fp32", "fp16", "bf16", "fp8_e4m3")]
    assert errors == sorted(errors)
    errors = [found[kind].rms for kind in ("int8", "int4", "int3", "int2")]
    assert errors == sorted(errors)


@pytest.mark.parametrize("group", ["tensor", "row", 2, 3])
def test_a_scale_for_every_number(group):
    x = example(2)
    found = quantize(x, 4, group=group)
    np.testing.assert_allclose(found.codes * spread(found.scale, x.shape, group), found.dequantized)
    for r in range(5):
        for c in range(5):
            largest = np.max(np.abs(x[group_of((5, 5), r, c, group)]))
            assert spread(found.scale, x.shape, group)[r, c] == pytest.approx(largest / 7)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("symmetric", [True, False])
def test_the_staircase_passes_through_the_numbers(kind, symmetric):
    x = example(4)[1]
    before, after = staircase(x, kind, symmetric)
    kept = treat(x[None], kind, symmetric, "row").dequantized[0]
    for ends, value in ((0, np.argmin(x)), (-1, np.argmax(x))):
        assert before[ends] == x[value]
        assert after[ends] == kept[value]
    assert np.all(np.diff(after) >= 0)


def test_an_outlier_costs_the_others_what_its_scale_says():
    sizes, costs = outlier_costs(0, True)
    assert costs["INT4, one scale"][-1] > 3 * costs["INT4, one scale"][0]
    assert np.ptp(costs["FP8"]) == 0  # a float knows nothing of the others
    assert costs["INT4 by 3"][-1] < costs["INT4 by row"][-1] < costs["INT4, one scale"][-1]
    assert sizes[0] == 1
    assert sizes[-1] == pytest.approx(64)


def test_the_cost_of_one_outlier_is_computed_at_its_size():
    """Errors jump from step to step, so a point between two others is not on the line between them."""
    kept = quantize(example(0, 10), 4).dequantized
    others = np.delete(np.ravel(kept - example(0, 10)), 1 * 5 + 3)
    assert outlier_cost(0, True, 10)["INT4, one scale"] == pytest.approx(np.sqrt(np.mean(others**2)), rel=1e-5)
    sizes, costs = outlier_costs(3, False)
    assert all(costs[name][5] == cost for name, cost in outlier_cost(3, False, float(sizes[5])).items())


def test_the_histogram_is_numpys():
    x = RNG.normal(size=(50, 64)).astype(np.float32)
    found = weight_spread(x, 21)
    reach = 4 * float(np.sqrt(np.mean(x**2)))
    expected, edges = np.histogram(np.clip(x, -reach, reach), bins=21, range=(-reach, reach))
    assert np.abs(found.counts - expected).sum() <= 2  # a number on an edge may fall to either side
    np.testing.assert_allclose(found.edges, edges, rtol=1e-5)
    assert found.counts.sum() == x.size
    assert found.largest == np.abs(x).max()


def test_levels_are_different_numbers():
    x = RNG.integers(0, 9, (6, 64)).astype(np.float32)
    expected = [len(set(block)) for block in x.reshape(-1, 32).tolist()]
    assert levels_a_block(x).tolist() == expected


def test_losses_are_those_of_the_definition():
    x = RNG.normal(size=(16, 64)).astype(np.float32)
    found = {loss.name: loss for loss in losses(x)}
    assert len(found) == len(RECIPES)
    for name, kept in (
        ("INT4 by 32", quantize(x, 4, group=32).dequantized),
        ("NF4 by 64", nf4(x, group=64).dequantized),
    ):
        assert found[name].error == pytest.approx(np.sqrt(np.mean((kept - x) ** 2) / np.mean(x**2)), rel=1e-5)
    assert found["INT4 by row"].bits == 4.25


@pytest.mark.model
@pytest.mark.parametrize(("name", "part", "layer"), [("blk.3.ffn_up", "w_up", 3), ("blk.29.attn_k", "w_k", 29)])
def test_blocks_of_the_file_are_the_weights_that_run(smollm2, name, part, layer):
    rows = getattr(smollm2.weights.blocks[layer], part).rows
    tensor = stored_tensor(name)
    whole = tensor.data.tobytes()
    for line, block in ((0, 0), (7, 11), (len(rows) - 1, rows.shape[1] // 32 - 1)):
        found = stored_block(name, line, block)
        assert found.kind == "Q4_1"
        np.testing.assert_array_equal(found.weights.dequantized, rows[line, block * 32 : block * 32 + 32])
        start = found.offset - tensor.offset
        assert whole[start : start + 20] == found.data
        again = quantize(found.weights.dequantized, 4, symmetric=False)
        if found.weights.codes.min() == 0 and found.weights.codes.max() == 15:
            np.testing.assert_array_equal(again.codes, found.weights.codes)
    with pytest.raises(ValueError, match="rows of"):
        stored_block(name, 0, 10_000)


@pytest.mark.model
def test_the_embedding_is_in_q8_0(smollm2):
    found = stored_block("token_embd", 100, 3)
    assert found.kind == "Q8_0"
    np.testing.assert_array_equal(found.weights.dequantized, smollm2.weights.embedding[100, 96:128])


@pytest.mark.model
def test_only_one_of_the_two_models_was_quantised(smollm2):
    if not (found := minilm_file.available()):
        pytest.skip(found.reason)
    levels = levels_a_block(smollm2.weights.blocks[2].w_up.rows)
    assert levels.max() <= 16
    assert np.mean(levels_a_block(minilm_matrix(2, "up"))) > 31
    mine = {loss.name: loss.error for loss in minilm_losses(2, "up")}
    theirs = {loss.name: loss.error for loss in losses(smollm2.weights.blocks[2].w_up.rows)}
    assert theirs["INT4 by 32, min"] < 1e-4
    assert mine["INT4 by 32, min"] > 0.05
