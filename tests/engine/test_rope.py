"""RoPE against Hugging Face, against complex multiplication, and by what it promises: only distances count."""

import math

import numpy as np
import pytest

from engine.proofs import FLOAT32, given, stored
from engine.rope import (
    alibi_bias,
    alibi_slopes,
    frequencies,
    magnitude,
    rotate,
    sinusoids,
    tables,
    wavelengths,
    yarn_frequencies,
)

rng = np.random.default_rng(10)
SCALINGS = [None, ("linear", 4.0), ("ntk", 4.0), ("yarn", 4.0, 64)]
LAYOUTS = ["interleaved", "half"]


def test_yarn_equals_hugging_face_where_the_two_definitions_agree():
    """The paper blends by number of turns, Hugging Face by number of the pair: outside both ramps they are one."""
    ours = frequencies(16, 1e4, ("yarn", 4.0, 4096))
    turns = 4096 * frequencies(16) / (2 * math.pi)
    settled = (turns > 32) | (turns < 1)
    assert settled.sum() == 5
    theirs = stored("functions")["rope_yarn_frequencies_f32"]
    np.testing.assert_allclose(ours[settled], theirs[settled], rtol=FLOAT32)
    assert magnitude(("yarn", 4.0, 4096)) == pytest.approx(float(stored("functions")["rope_yarn_magnitude"]))
    turned = rotate(given("rope_q"), given("positions", np.int64), 1e4, "half", ("yarn", 4.0, 4096))
    kept = np.tile(settled, 2)
    np.testing.assert_allclose(turned[..., kept], stored("functions")["rope_yarn_q_f32"][..., kept], atol=2e-5)


def test_a_turn_is_multiplication_by_a_complex_number():
    x, positions = rng.normal(size=(3, 5, 8)), np.array([0, 1, 5, 2.5, -7])
    angles = positions[:, None] * 10000.0 ** (-np.arange(4) / 4)
    as_complex = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)
    turned = rotate(x, positions)
    np.testing.assert_allclose(turned[..., 0::2], as_complex.real, atol=1e-14)
    np.testing.assert_allclose(turned[..., 1::2], as_complex.imag, atol=1e-14)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_scores_depend_on_the_offset_alone(layout, scaling):
    q, k = rng.normal(size=(1, 16)), rng.normal(size=(1, 16))

    def score(position_q, position_k):
        turned_q = rotate(q, np.array([position_q]), 1e5, layout, scaling)
        turned_k = rotate(k, np.array([position_k]), 1e5, layout, scaling)
        return float((turned_q @ turned_k.T)[0, 0])

    scores = [score(shift + 7, shift) for shift in (0, 1, 3.5, 100, 8000)]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-10)
    assert abs(score(8, 0) - scores[0]) > 1e-3


@pytest.mark.parametrize("layout", LAYOUTS)
def test_lengths_stay_and_position_zero_does_nothing(layout):
    x = rng.normal(size=(2, 6, 10))
    turned = rotate(x, np.arange(6), layout=layout)
    np.testing.assert_allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(x, axis=-1))
    np.testing.assert_array_equal(turned[:, 0], x[:, 0])
    np.testing.assert_allclose(rotate(turned, -np.arange(6), layout=layout), x, atol=1e-14)


def test_layouts_are_one_rotation_of_reordered_numbers():
    x, positions = rng.normal(size=(4, 12)), np.arange(4) * 3
    order = np.arange(12).reshape(6, 2).T.reshape(-1)  # 0 2 4 … 1 3 5 …: from interleaved to half
    np.testing.assert_allclose(
        rotate(x[:, order], positions, layout="half"), rotate(x, positions, layout="interleaved")[:, order], atol=1e-15
    )
    assert np.abs(rotate(x, positions, layout="half") - rotate(x, positions)).max() > 0.1


def test_frequencies_by_definition():
    np.testing.assert_allclose(frequencies(8, 10000.0), [1, 0.1, 0.01, 0.001])
    assert frequencies(64, 1e5).dtype == np.float64


def test_12_of_smollm2s_32_pairs_never_complete_a_turn():
    turns = wavelengths(64, 100_000.0)
    assert len(turns) == 32
    assert turns[0] == pytest.approx(2 * math.pi)
    assert np.count_nonzero(turns > 8192) == 12


def test_linear_scaling_is_position_interpolation():
    x, positions = rng.normal(size=(5, 8)), np.arange(5) * 10
    squeezed = rotate(x, positions / 4)
    np.testing.assert_allclose(rotate(x, positions, scaling=("linear", 4.0)), squeezed, atol=1e-14)


def test_ntk_keeps_the_fastest_pair_and_slows_the_slowest_by_the_factor():
    plain, scaled = frequencies(64), frequencies(64, scaling=("ntk", 8.0))
    assert scaled[0] == plain[0]
    assert scaled[-1] == pytest.approx(plain[-1] / 8)
    assert (np.diff(scaled / plain) < 0).all()


def test_yarn_keeps_fast_pairs_slows_slow_ones_and_blends_between():
    plain = frequencies(128)
    turns = 4096 * plain / (2 * math.pi)
    share = yarn_frequencies(128, 1e4, 16.0, 4096) / plain
    np.testing.assert_allclose(share[turns > 32], 1)
    np.testing.assert_allclose(share[turns < 1], 1 / 16)
    middle = int(np.argmin(np.abs(turns - 16.5)))
    kept = (turns[middle] - 1) / 31
    assert share[middle] == pytest.approx(kept + (1 - kept) / 16)


def test_yarn_multiplies_scores_by_its_magnitude_squared():
    q = rng.normal(size=(1, 16))
    turned = rotate(q, np.array([9]), scaling=("yarn", 4.0, 64))
    assert np.sum(turned**2) == pytest.approx((0.1 * math.log(4) + 1) ** 2 * np.sum(q**2))
    assert magnitude() == magnitude(("ntk", 4.0)) == 1


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("scaling", SCALINGS)
def test_float32_stays_float32_and_is_precise_far_out(layout, scaling):
    x = rng.normal(size=(2, 3, 64)).astype(np.float32)
    positions = np.array([1, 8191, 130_000])
    turned = rotate(x, positions, 5e5, layout, scaling)
    assert turned.dtype == np.float32
    exact = rotate(x.astype(np.float64), positions, 5e5, layout, scaling)
    np.testing.assert_allclose(turned, exact, atol=2e-6)


def test_tables_are_kept_read_only_and_told_apart():
    positions = np.arange(4)
    first, again = tables(positions, 8)[0], tables(positions.copy(), 8)[0]
    assert first is again
    assert not first.flags.writeable
    assert tables(positions.astype(np.float32), 8)[0].shape == (4, 4)
    assert not np.array_equal(tables(positions, 8, 500.0)[0], first)
    assert not np.array_equal(tables(positions + 1, 8)[0], first)
    assert tables(positions, 8, dtype=np.dtype(np.float32))[0].dtype == np.float32
    np.testing.assert_array_equal(tables(positions.reshape(2, 2), 8)[0], first.reshape(2, 2, 4))


def test_positions_of_a_batch():
    x, positions = rng.normal(size=(2, 3, 8)), np.array([[0, 1, 2], [5, 6, 7]])
    np.testing.assert_array_equal(rotate(x, positions)[1], rotate(x[1], positions[1]))


def test_sinusoids_by_definition():
    table = sinusoids(np.array([0, 3]), 6)
    np.testing.assert_array_equal(table[0], [0, 1, 0, 1, 0, 1])
    angle = 3 / 10000 ** (2 / 6)
    np.testing.assert_allclose(table[1, 2:4], [math.sin(angle), math.cos(angle)])


def test_alibi_of_the_paper():
    np.testing.assert_allclose(alibi_slopes(8), [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256])
    np.testing.assert_allclose(alibi_bias(8, 2, 3)[0], [[-0.5, 0, -0.5], [-1, -0.5, 0]])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"d": 7}, "must be even, not 7"),
        ({"d": 0}, "must be even, not 0"),
        ({"d": 8, "base": 0.0}, "base of the frequencies must be above 0"),
        ({"d": 8, "scaling": ("linear", 0.5)}, "factor must be 1 or more"),
        ({"d": 8, "scaling": ("cubic", 2.0)}, "Scaling is"),
        ({"d": 8, "scaling": ("yarn", 2.0)}, "Scaling is"),
        ({"d": 2, "scaling": ("ntk", 2.0)}, "head width of at least 4"),
    ],
)
def test_wrong_arguments_get_a_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        frequencies(**arguments)


def test_unknown_layout_gets_a_sentence():
    with pytest.raises(ValueError, match='"interleaved" or "half", not \'split\''):
        rotate(np.zeros((1, 4)), np.arange(1), layout="split")
