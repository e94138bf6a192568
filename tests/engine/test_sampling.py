"""Softmax, losses and filters by what they promise; the draw and beam search against counting out."""

import itertools
import math
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.backpropagation import gradient_check
from engine.sampling import (
    beam_search,
    cross_entropy,
    entropy,
    falling_order,
    log_softmax,
    min_p,
    most_likely,
    repetition_penalty,
    sample,
    sample_many,
    softmax,
    surprisal,
    token_at,
    top_k,
    top_p,
)

INF = math.inf
rng = np.random.default_rng(5)


def log(*probabilities):
    return np.log(np.array(probabilities))


# Softmax and losses


def test_temperature_zero_is_argmax_with_the_lower_id_first():
    np.testing.assert_array_equal(softmax(np.array([1.0, 3.0, 3.0, -INF]), 0), [0, 1, 0, 0])
    columns = softmax(np.array([[1.0, 5.0], [2.0, 5.0]], np.float32), 0, axis=0)
    np.testing.assert_array_equal(columns, [[0, 1], [1, 0]])
    assert columns.dtype == np.float32


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-320])
def test_temperature_near_zero_comes_close_to_argmax_without_warnings(temperature):
    for dtype in (np.float32, np.float64):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            p = softmax(np.array([3.0, -4.0, 2.0, -INF], dtype), temperature)
        np.testing.assert_array_equal(p, [1, 0, 0, 0])


def test_high_temperature_is_uniform_over_what_is_left():
    np.testing.assert_allclose(softmax(np.array([3.0, -4.0, 2.0, -INF]), 1e9), [1 / 3, 1 / 3, 1 / 3, 0], atol=1e-8)


def test_temperature_one_half_squares_the_odds():
    p = softmax(log(0.6, 0.3, 0.1), 0.5)
    np.testing.assert_allclose(p, np.array([36, 9, 1]) / 46)


def test_huge_logits_only_break_without_the_maximum():
    logits = np.array([1e4, 1e4 - 1, -1e4], np.float32)
    np.testing.assert_allclose(softmax(logits), [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0], rtol=1e-6)
    assert np.isnan(softmax(logits, subtract_max=False)).any()
    np.testing.assert_allclose(log_softmax(logits)[2], -2e4, rtol=1e-4)  # its probability is 0 in any float


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dtypes_stay(dtype):
    logits, ids = rng.normal(size=(3, 7)).astype(dtype), np.array([1, 2, 0])
    outs = [
        softmax(logits),
        softmax(logits, 0.7),
        softmax(logits, 0),
        softmax(logits, np.float64(0.5)),
        log_softmax(logits),
    ]
    outs += [cross_entropy(logits, ids), surprisal(logits, ids), entropy(softmax(logits))]
    outs += [top_k(logits, 2), top_p(logits, 0.5), min_p(logits, 0.1), repetition_penalty(logits, [1], np.float64(1.3))]
    assert {out.dtype for out in outs} == {np.dtype(dtype)}


def test_shifting_all_logits_changes_nothing():
    logits = rng.normal(size=(4, 9))
    np.testing.assert_allclose(softmax(logits + 123.4), softmax(logits), rtol=1e-12)
    np.testing.assert_allclose(np.exp(log_softmax(logits)), softmax(logits), rtol=1e-13)


def test_entropy_by_hand():
    assert entropy(np.array([0.0, 1.0, 0.0])) == 0
    assert entropy(np.full(8, 1 / 8)) == pytest.approx(math.log(8))
    p = np.array([[0.5, 0.25, 0.25, 0], [0.7, 0.1, 0.1, 0.1]])
    by_hand = [-sum(x * math.log(x) for x in row if x) for row in p]
    np.testing.assert_allclose(entropy(p), by_hand)


def test_cross_entropy_is_the_mean_surprisal():
    logits, targets = rng.normal(size=(2, 3, 5)), np.array([[0, 4, 2], [1, 1, 3]])
    p = softmax(logits)
    by_hand = [[-math.log(p[b, t, targets[b, t]]) for t in range(3)] for b in range(2)]
    np.testing.assert_allclose(surprisal(logits, targets), by_hand)
    assert cross_entropy(logits, targets) == pytest.approx(np.mean(by_hand))
    assert cross_entropy(np.zeros((1, 49152)), np.array([7])) == pytest.approx(math.log(49152))


def test_gradients():
    logits, targets, mix = rng.normal(size=(3, 5)), np.array([4, 0, 0]), rng.normal(size=(3, 5))
    assert gradient_check(lambda z: cross_entropy(z, targets), (logits,)).worst < 1e-6
    for temperature, axis, subtract_max in itertools.product((1.0, 0.6), (0, 1), (True, False)):
        check = gradient_check(
            lambda z, t=temperature, a=axis, s=subtract_max: np.sum(softmax(z, t, a, s) * mix), (logits,)
        )
        assert check.worst < 1e-6
    assert gradient_check(lambda z: np.sum(entropy(softmax(z))), (logits,)).worst < 1e-6
    masked = np.where(np.arange(5) < 3, 0.0, -INF)
    assert gradient_check(lambda z: np.sum(softmax(z + masked)[:, :3] * mix[:, :3]), (logits,)).worst < 1e-6


def test_the_gradient_of_the_loss_is_probability_minus_one_hot():
    logits, targets = rng.normal(size=(4, 6)), np.array([5, 0, 2, 2])
    rows = gradient_check(lambda z: cross_entropy(z, targets), (logits,)).rows
    analytic = np.array([row.analytic for row in rows]).reshape(4, 6)
    np.testing.assert_allclose(analytic, (softmax(logits) - np.eye(6)[targets]) / 4, atol=1e-15)


# Filters


def kept(filtered):
    return np.flatnonzero(filtered > -INF).tolist()


def test_top_k_keeps_the_lower_of_equal_ids():
    assert kept(top_k(np.array([1.0, 2.0, 2.0, 2.0]), 2)) == [1, 2]
    assert kept(top_k(np.array([5.0, 5.0, 5.0]), 1)) == [0]
    np.testing.assert_array_equal(top_k(np.array([1.0, 2.0]), 99), [1, 2])
    many = np.tile([1.0, 0.0, 2.0], 300)
    assert kept(top_k(many, 400)) == sorted([*range(2, 900, 3), *range(0, 300, 3)])


def test_top_p_keeps_the_token_that_crosses():
    logits = log(0.3, 0.5, 0.15, 0.05)
    for p, expected in [
        (0, [1]),
        (0.1, [1]),
        (0.5, [1]),
        (0.51, [0, 1]),
        (0.8, [0, 1]),
        (0.81, [0, 1, 2]),
        (1, [0, 1, 2, 3]),
    ]:
        assert kept(top_p(logits, p)) == expected, p
    equal = np.zeros(4)
    assert kept(top_p(equal, 0.5)) == [0, 1]
    assert kept(top_p(equal, 0.5001)) == [0, 1, 2]


def test_top_p_on_a_real_vocabularys_size():
    logits = (rng.normal(size=49_152) * 2).astype(np.float32)
    filtered = top_p(logits, 0.9)
    ordered = np.sort(softmax(logits.astype(np.float64)))[::-1]
    assert len(kept(filtered)) == np.searchsorted(np.cumsum(ordered), 0.9) + 1
    np.testing.assert_array_equal(top_p(logits, 1.0), logits)


def test_the_most_likely_are_the_first_of_the_falling_order():
    for logits in (rng.normal(size=300), np.round(rng.normal(size=300)), np.full(9, -INF), np.array([1.0, 1.0, -INF])):
        order = falling_order(logits)
        assert sorted(order.tolist(), key=lambda i: (-logits[i], i)) == order.tolist()
        for count in (1, 2, 7, 299, 300, 500):
            np.testing.assert_array_equal(most_likely(logits, count), order[:count])


def test_filters_equal_their_definition_by_two_sorts():
    """Ranks by sorting twice: slower, and what the filters mean."""
    for logits in (rng.normal(size=(3, 400)) * 3, np.round(rng.normal(size=(3, 400)), 1)):
        rank = np.argsort(np.argsort(-logits, axis=-1, kind="stable"), axis=-1, kind="stable")
        p = softmax(logits)
        for k in (1, 17, 400):
            np.testing.assert_array_equal(top_k(logits, k) > -INF, rank < k)
        for share in (0.0, 0.3, 0.95):
            before = np.array([[np.sum(row[r < i]) for i in r] for row, r in zip(p, rank, strict=True)])
            np.testing.assert_array_equal(top_p(logits, share) > -INF, (before < share - 1e-9) | (rank == 0))


def test_min_p_is_relative_to_the_best():
    logits = log(0.5, 0.25, 0.2, 0.05)
    assert kept(min_p(logits, 0.4)) == [0, 1, 2]
    assert kept(min_p(logits, 0.5)) == [0, 1]
    assert kept(min_p(logits, 1)) == [0]
    for n in range(2, 60):  # exactly p times the best stays, whatever rounding says
        assert kept(min_p(log(n / (n + 1), 1 / (n + 1)), 1 / n)) == [0, 1]
    assert kept(min_p(logits, 0)) == [0, 1, 2, 3]


def test_filters_chain_and_never_bring_back_what_was_removed():
    logits = log(0.4, 0.3, 0.2, 0.1)
    after = top_p(top_k(logits, 3), 0.75)  # of 4/9, 3/9, 2/9 the first two reach 7/9
    assert kept(after) == [0, 1]
    assert kept(min_p(after, 0)) == [0, 1]
    assert kept(top_k(after, 4)) == [0, 1]
    np.testing.assert_allclose(softmax(after), [4 / 7, 3 / 7, 0, 0])


def test_filters_work_along_batches():
    logits = rng.normal(size=(2, 3, 9))
    for function, value in ((top_k, 4), (top_p, 0.7), (min_p, 0.2)):
        batch = function(logits, value)
        for b, t in np.ndindex(2, 3):
            np.testing.assert_array_equal(batch[b, t], function(logits[b, t], value))


def test_repetition_penalty_lowers_both_signs_once():
    logits = np.array([2.0, -2.0, 2.0, -2.0, -INF])
    np.testing.assert_array_equal(repetition_penalty(logits, [0, 1, 1, 4], 2.0), [1, -4, 2, -2, -INF])
    np.testing.assert_array_equal(repetition_penalty(logits, [], 2.0), logits)
    np.testing.assert_array_equal(repetition_penalty(logits, range(5), 1.0), logits)


@pytest.mark.parametrize(
    "call",
    [
        lambda: softmax(np.full(3, -INF)),
        lambda: softmax(np.array([[0.0, 1.0], [-INF, -INF]])),
        lambda: softmax(np.full(3, -INF), 0),
        lambda: log_softmax(np.full(3, -INF)),
        lambda: top_k(np.full(3, -INF), 1),
        lambda: top_p(np.full(3, -INF), 0.5),
        lambda: min_p(np.full(3, -INF), 0.5),
        lambda: sample(np.full(3, -INF), np.random.default_rng(0)),
    ],
)
def test_nothing_left_gets_a_sentence(call):
    with pytest.raises(ValueError, match="Every choice has been removed"):
        call()


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda z: softmax(z, -1.0), "temperature must be 0 or more, not -1"),
        (lambda z: softmax(z, math.nan), "temperature must be 0 or more, not nan"),
        (lambda z: top_k(z, 0), "at least 1 token, not 0"),
        (lambda z: top_p(z, 1.5), "between 0 and 1, not 1.5"),
        (lambda z: top_p(z, math.nan), "between 0 and 1, not nan"),
        (lambda z: min_p(z, -0.1), "between 0 and 1, not -0.1"),
        (lambda z: repetition_penalty(z, [0], 0.0), "penalty must be above 0"),
        (lambda z: cross_entropy(z[None], np.array([2])), "between 0 and 1"),
        (lambda z: cross_entropy(z[None], np.array([-1])), "between 0 and 1"),
        (lambda z: beam_search(lambda ids: z, [], 0, 3), "width and a length of at least 1"),
    ],
)
def test_wrong_arguments_get_a_sentence(call, sentence):
    with pytest.raises(ValueError, match=sentence):
        call(np.zeros(2))


# The draw


class Uniform:
    """A generator that gives the numbers it is told to, and counts them."""

    def __init__(self, *numbers):
        self.numbers = list(numbers)

    def random(self):
        return self.numbers.pop(0)


@pytest.fixture
def scripted(monkeypatch):
    def make(*numbers):
        generator = np.random.default_rng(0)
        uniform = Uniform(*numbers)

        class Scripted(np.random.Generator):
            def random(self, *args):
                return uniform.random()

        return Scripted(generator.bit_generator), uniform

    return make


def test_one_uniform_number_decides(scripted):
    logits = log(0.35, 0.04, 0.61)
    for draw, token, low, high in [
        (0.0, 0, 0, 0.35),
        (0.3499, 0, 0, 0.35),
        (0.36, 1, 0.35, 0.39),
        (0.9999, 2, 0.39, 1),
    ]:
        generator, uniform = scripted(draw)
        drawn = sample(logits, generator)
        assert (drawn.token, drawn.draw) == (token, draw)
        assert (drawn.low, drawn.high) == pytest.approx((low, high))
        assert drawn.low <= drawn.draw < drawn.high
        assert uniform.numbers == []
    np.testing.assert_allclose(drawn.cumulative, [0.35, 0.39, 1])
    assert drawn.cumulative[-1] == 1


def test_removed_tokens_are_never_drawn(scripted):
    logits = np.array([-INF, 0.0, -INF, 0.0, -INF])
    for draw, token in [(0.0, 1), (0.5, 3), (np.nextafter(1, 0), 3)]:
        assert sample(logits, scripted(draw)[0]).token == token
    assert set(sample_many(logits, np.random.default_rng(1), 500).tolist()) == {1, 3}


def test_many_draws_are_the_same_as_one_by_one_and_as_expected():
    logits = log(0.5, 0.3, 0.15, 0.05)
    many = sample_many(logits, np.random.default_rng(7), 10_000)
    one_generator = np.random.default_rng(7)
    np.testing.assert_array_equal(many[:200], [sample(logits, one_generator).token for _ in range(200)])
    expected = 10_000 * np.array([0.5, 0.3, 0.15, 0.05])
    chi_square = np.sum((np.bincount(many, minlength=4) - expected) ** 2 / expected)
    assert chi_square < 16.27  # 3 degrees of freedom, p = 0.001


def test_temperature_reaches_the_draw():
    logits = np.array([1.0, 2.0])
    assert set(sample_many(logits, np.random.default_rng(1), 100, temperature=0).tolist()) == {1}
    np.testing.assert_allclose(sample(logits, np.random.default_rng(1), 2.0).probabilities, softmax(logits, 2.0))


def test_a_draw_from_a_real_vocabularys_size_in_float32(scripted):
    logits = rng.normal(size=49_152).astype(np.float32)
    for scale in (1, 2, 3, 4):  # the probabilities sum to a bit less or more than 1; the last one still ends at 1
        assert sample(logits * scale, scripted(np.nextafter(1, 0))[0]).cumulative[-1] == 1
    drawn = sample(logits, np.random.default_rng(3))
    assert drawn.high - drawn.low == pytest.approx(drawn.probabilities[drawn.token], rel=1e-4)


@settings(deadline=None)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=9), st.floats(0, 1, exclude_max=True))
def test_the_draw_inverts_the_cumulative_distribution(numbers, draw):
    """The token owns the stretch that the draw lies in, whatever the distribution."""
    drawn = token_at(np.array(numbers, float), draw)
    p = softmax(np.array(numbers, float))
    assert drawn.low <= draw < drawn.high
    assert drawn.high - drawn.low == pytest.approx(p[drawn.token], abs=1e-12)
    assert drawn.low == pytest.approx(p[: drawn.token].sum(), abs=1e-12)


def test_a_token_is_drawn_as_often_as_its_stretch_is_long():
    """Evenly spaced draws instead of random ones: the shares come out exactly."""
    logits = log(0.35, 0.04, 0.61)
    tokens = [token_at(logits, (i + 0.5) / 100).token for i in range(100)]
    np.testing.assert_array_equal(np.bincount(tokens), [35, 4, 61])


@pytest.mark.parametrize("draw", [-0.1, 1.0, math.nan])
def test_a_draw_lies_between_0_and_1(draw):
    with pytest.raises(ValueError, match="A draw lies between 0 and 1"):
        token_at(np.zeros(2), draw)


# Beam search

TREE = {length: np.random.default_rng(length).normal(size=(3,) * (length + 1)) * 1.5 for length in range(4)}


def next_logits(ids):
    return TREE[len(ids)][tuple(ids)]


def test_a_beam_wide_enough_finds_the_best_of_all_sequences():
    def log_probability(ids):
        return sum(log_softmax(next_logits(ids[:i]))[token] for i, token in enumerate(ids))

    everything = sorted(itertools.product(range(3), repeat=4), key=log_probability, reverse=True)
    found = beam_search(next_logits, [], width=81, length=4)
    assert [beam.ids for beam in found.beams] == everything
    for beam in found.beams[:5]:
        assert beam.log_probability == pytest.approx(log_probability(beam.ids))
    assert math.fsum(math.exp(beam.log_probability) for beam in found.beams) == pytest.approx(1)


def test_width_one_is_greedy_and_wider_is_never_worse_here():
    greedy = []
    for _ in range(4):
        greedy.append(int(np.argmax(next_logits(greedy))))
    found = [beam_search(next_logits, [], width, 4) for width in (1, 2, 9, 27)]
    assert found[0].beams[0].ids == tuple(greedy)
    best = [search.beams[0].log_probability for search in found]
    assert best == sorted(best)


def test_a_greedy_trap():
    """The likelier first step leads to a flat choice; two beams see it, one does not."""
    steps = {(): log(0.6, 0.4), (0,): log(0.5, 0.5), (1,): log(0.05, 0.95)}

    def step(ids):
        return steps[tuple(ids)]

    assert beam_search(step, [], 1, 2).beams[0].ids == (0, 0)
    wide = beam_search(step, [], 2, 2)
    assert wide.beams[0].ids == (1, 1)
    assert math.exp(wide.beams[0].log_probability) == pytest.approx(0.38)
    assert [len(beams) for beams in wide.rounds] == [1, 2, 2]
    assert [beam.ids for beam in wide.rounds[1]] == [(0,), (1,)]


def test_start_is_kept_and_logits_or_log_probabilities_do():
    start = [2, 0]
    logits = beam_search(next_logits, start, 2, 2)
    log_p = beam_search(lambda ids: log_softmax(next_logits(ids)), start, 2, 2)
    assert [beam.ids for beam in logits.beams] == [beam.ids for beam in log_p.beams]
    assert all(beam.ids[:2] == (2, 0) and len(beam.ids) == 4 for beam in logits.beams)


def test_a_batched_step_finds_the_same():
    asked = []

    def batched(texts):
        asked.append(len(texts))
        return np.stack([next_logits(ids) for ids in texts])

    for width in (1, 3, 81):
        single, several = beam_search(next_logits, [], width, 4), beam_search(batched, [], width, 4, batched=True)
        assert single == several
    assert asked == [1, 1, 1, 1, 1, 3, 3, 3, 1, 3, 9, 27]


def test_finished_beams_stay_and_removed_tokens_are_not_taken():
    def step(ids):
        assert 1 not in ids  # a finished beam is not extended
        return np.array([0.0, 1.0, -INF])

    found = beam_search(step, [], 3, 5, end=1)
    assert found.beams[0].ids == (1,)
    assert found.beams[0].finished
    assert all(2 not in beam.ids for beam in found.beams)
    assert len(beam_search(lambda ids: np.array([0.0, 50.0]), [], 1, 9, end=1).rounds) == 2


def test_equal_beams_keep_the_order_of_their_ids():
    found = beam_search(lambda ids: np.zeros(3), [], 4, 2)
    assert [beam.ids for beam in found.beams] == [(0, 0), (0, 1), (0, 2), (1, 0)]


def test_certainty_has_no_minus_sign():
    assert not np.signbit(entropy(np.array([1.0])))
    assert not np.signbit(surprisal(np.array([[50.0, -800.0]]), np.array([0]))).any()
