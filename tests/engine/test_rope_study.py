"""What chapter 10 shows of RoPE, each number a second way; and SmolLM2's own heads moved along the text."""

import math

import numpy as np
import pytest

from engine import edits
from engine.edits import Trace
from engine.rope import rotate, wavelengths
from engine.rope_study import (
    PAIR_SENTENCE,
    PAIR_WORDS,
    SPOILT,
    at_angle,
    below_half,
    changes,
    decay,
    distance_between,
    extend,
    frame_of,
    head_vectors,
    likeliest,
    next_tokens_with,
    pair_at,
    pair_grid,
    parts_of_score,
    reading_with,
    rotate_rounded,
    scores_at,
    scores_at_distances,
    shuffled_but_last,
    spoilt,
    turn_pair,
    unfinished,
)
from engine.sampling import softmax
from engine.tokenization import encode

rng = np.random.default_rng(11)

SENTENCES = [
    "The animal did not cross the street because it was too",
    "The capital of France is Paris, and the capital of Germany is Berlin. Both are large cities that many people "
    "visit every year, and both of them lie on a river: the Seine and the Spree, as you know.",
    "def area(radius): return 3.14159 * radius ** 2  # of a circle",
    "Der Bauer sah am Morgen, dass die Tür zum Stall offen stand.",
    "I put the milk in the fridge and the bread on the table.",
    "In 1969 two people walked on the Moon, and about 600 million watched them on television.",
]


# --- one pair ------------------------------------------------------------------------------------------------------


def test_a_pair_scores_by_the_angle_between():
    """|q| |k| cos(φ + (m − n) θ), with φ the angle between them before: by cosines here, by coordinates there."""
    q, k = (0.8, 0.6), (-0.3, 1.1)
    between = math.atan2(0.6, 0.8) - math.atan2(1.1, -0.3)
    for m, n, theta in ((0, 0, 0.5), (7, 3, 0.5), (3, 7, 0.5), (40, 36, 1.3), (5, 0, 0.0)):
        pair = turn_pair(q, k, m, n, theta)
        expected = math.hypot(*q) * math.hypot(*k) * math.cos(between + (m - n) * theta)
        assert pair.after == pytest.approx(expected, abs=1e-12)
        assert pair.before == pytest.approx(0.8 * -0.3 + 0.6 * 1.1)
        assert math.hypot(*pair.turned_q) == pytest.approx(1.0)
        angle = math.atan2(*pair.turned_k[::-1]) - math.atan2(1.1, -0.3) - n * theta
        assert math.cos(angle) == pytest.approx(1.0)


def test_the_grid_holds_every_pair_of_positions_and_is_constant_along_diagonals():
    q, k = (0.2, 0.9), (1.0, 0.1)
    grid = pair_grid(q, k, 6, 0.7)
    for i in range(6):
        for j in range(6):
            assert grid[i, j] == pytest.approx(turn_pair(q, k, i, j, 0.7).after, abs=1e-12)
    for offset in range(-5, 6):
        assert np.ptp(np.diagonal(grid, offset)) < 1e-12


@pytest.mark.parametrize("theta", [0.0, 0.3, 1.5])
def test_every_frame_of_reference_gives_the_same_scores(theta):
    frames = [frame_of(reference, theta) for reference in range(len(PAIR_SENTENCE))]
    for reference, frame in enumerate(frames):
        np.testing.assert_allclose(frame.scores, frames[0].scores, atol=1e-14)
        np.testing.assert_array_equal(frame.turned_k[reference], frame.k[reference])
        assert frame.positions[reference] == 0
    words = [PAIR_WORDS[word] for word in PAIR_SENTENCE]
    assert frames[2].scores[3, 1] == pytest.approx(turn_pair(words[3][0], words[1][1], 3, 1, theta).after)


# --- all the pairs -------------------------------------------------------------------------------------------------


def test_pairs_that_never_complete_a_turn():
    assert unfinished(64, 100_000.0, 8192).sum() == 12
    for d, base, context in ((64, 1e4, 512), (128, 5e5, 8192), (128, 1e6, 131_072)):
        np.testing.assert_array_equal(unfinished(d, base, context), wavelengths(d, base) > context)


@pytest.mark.parametrize(("d", "base", "furthest"), [(64, 1e5, 8192), (128, 1e7, 32768), (64, 1e2, 16), (64, 1e5, 58)])
def test_where_equal_vectors_first_keep_less_than_half(d, base, furthest):
    """By the plain sum of cosines, one distance after the other."""
    speeds = [base ** (-2 * i / d) for i in range(d // 2)]
    scores = ((n, 2 / d * sum(math.cos(n * speed) for speed in speeds)) for n in range(1, furthest + 1))
    assert below_half(d, base, furthest) == next((n for n, score in scores if score < 0.5), None)


def test_equal_vectors_score_by_the_sum_of_cosines():
    distances = np.array([0, 1, 10, 1000])
    theta = 1e5 ** (-np.arange(32) / 32)
    expected = np.mean(np.cos(distances[:, None] * theta), axis=-1)
    np.testing.assert_allclose(decay(64, 1e5, distances).equal, expected, atol=1e-13)


def test_unrelated_vectors_score_as_little_near_as_far():
    """What the name "long-term decay" hides: unrelated vectors have a mean of 0 and one spread at every distance."""
    found = decay(64, 1e4, np.array([0, 1, 30, 1000, 8000]), draws=2000)
    np.testing.assert_allclose(found.spread, 1 / 8, rtol=0.08)
    assert np.abs(np.mean(found.drawn, axis=0)).max() < 0.02
    assert abs(found.equal[-1]) < 0.3 < found.equal[1]


def test_scores_at_distances_turns_both_as_the_model_does():
    q, k = rng.normal(size=(2, 3, 16))
    found = scores_at_distances(q, k, np.array([0, 5, 77]), 1e5)
    for column, distance in enumerate((0, 5, 77)):
        turned_q, turned_k = (rotate(x[:, None], np.array([p]), 1e5)[:, 0] for x, p in ((q, distance + 9), (k, 9)))
        np.testing.assert_allclose(found[:, column], np.sum(turned_q * turned_k, axis=-1), atol=1e-12)
    np.testing.assert_allclose(
        scores_at_distances(q[0], k[0], np.array([5]), 1e5, ("linear", 5.0)),
        scores_at_distances(q[0], k[0], np.array([1]), 1e5),
    )


def test_what_each_method_does_to_the_pairs():
    plain, linear, ntk, yarn = (extend(64, 1e5, 8192, 4.0, name) for name in ("none", "linear", "ntk", "yarn"))
    np.testing.assert_array_equal(plain.unseen, unfinished(64, 1e5, 8192))
    assert not linear.unseen.any()
    assert not yarn.unseen.any()
    assert ntk.unseen.sum() == 11  # all that never finished a turn, but for the slowest
    np.testing.assert_allclose(linear.speed, 0.25)
    assert ntk.speed[0] == yarn.speed[0] == plain.speed[0] == 1
    np.testing.assert_allclose([ntk.speed[-1], yarn.speed[-1]], 0.25)
    np.testing.assert_allclose(linear.reach, linear.trained)
    np.testing.assert_allclose(plain.reach, 4 * plain.trained)


def test_extend_knows_its_methods():
    with pytest.raises(ValueError, match="Scaling is"):
        extend(64, 1e5, 8192, 4.0, "cubic")


# --- in the real model ---------------------------------------------------------------------------------------------


def test_rounded_angles():
    x = rng.normal(size=(2, 3, 64))
    positions = np.array([0, 500, 8191])
    np.testing.assert_allclose(rotate_rounded(x, positions, 1e5, "float64"), rotate(x, positions, 1e5), atol=1e-11)
    off = [np.abs(rotate_rounded(x, positions, 1e5, p) - rotate(x, positions, 1e5)) for p in ("float32", "float16")]
    assert 1e-5 < off[0][:, 2].max() < 1e-3
    assert off[1][:, 2].max() > 0.5
    assert off[0][:, 0].max() < 1e-14, "position 0 needs no digits"
    assert rotate_rounded(x.astype(np.float32), positions, 1e5, "float16").dtype == np.float32


def traced(model, sentence):
    return model.trace(encode(sentence, "smollm2")[:48])


@pytest.mark.model
@pytest.mark.parametrize("sentence", SENTENCES)
def test_moving_both_positions_changes_no_real_score(smollm2, sentence):
    """Every score of all 270 heads, at offsets up to the end of the context, by the head's own q and k."""
    trace = traced(smollm2, sentence)
    last = smollm2.config.context - len(trace["positions"])
    for offset in (0, 1, 2, 3, 7, 16, 64, 100, 511, 1000, 2048, 3333, 4095, 5000, 6283, 7777, last):
        found = changes(trace, smollm2.config, offset)
        assert found.shape == (30, 9)
        assert found.max() <= 1e-4, f"offset {offset}: {found.max():.1e}"
    assert max(np.abs(trace[f"blk.{i}.attn.scores"]).max() for i in range(30)) > 15, "and the scores are not small"


@pytest.mark.model
def test_a_thousand_offsets_up_to_the_context(smollm2):
    """Every seventh offset, in one layer with large scores; float32 rounding is all that is left."""
    trace, config = traced(smollm2, SENTENCES[0]), smollm2.config
    q, k = (trace[f"blk.28.attn.{name}_raw"] for name in "qk")
    worst = max(
        float(
            np.max(np.abs(scores_at(q, k, trace["positions"] + offset, config.rope_base) - trace["blk.28.attn.scores"]))
        )
        for offset in range(0, config.context - len(trace["positions"]) + 1, 7)
    )
    assert 0 < worst <= 1e-4


@pytest.mark.model
@pytest.mark.parametrize("offset", [1, 1000, 8140])
def test_the_whole_model_run_further_along_has_the_same_scores(smollm2, offset):
    """Not the trace's q and k turned anew, but all 30 blocks computed at the moved positions."""
    ids = encode(SENTENCES[1], "smollm2")[:48]
    moved = Trace("blk.*.attn.scores")
    smollm2.forward(ids, trace=moved, edit=edits.move_positions(lambda p: p + offset))
    for name, scores in moved.items():
        np.testing.assert_allclose(scores, smollm2.trace(ids)[name], atol=1e-4)


@pytest.mark.model
def test_angles_in_fewer_digits_do_change_the_scores(smollm2):
    trace, config = traced(smollm2, SENTENCES[0]), smollm2.config
    exact, single, half = (changes(trace, config, 8000, p).max() for p in ("float64", "float32", "float16"))
    assert exact < 1e-4 < single < 1e-2 < 1 < half


@pytest.mark.model
def test_the_parts_of_a_score_sum_to_the_models(smollm2):
    trace = traced(smollm2, SENTENCES[0])
    for layer, head, i, j in ((0, 0, 5, 2), (13, 8, 8, 1), (29, 4, 10, 10)):
        q, k = (x[at] for x, at in zip(head_vectors(trace, layer, head), (i, j), strict=True))
        parts = parts_of_score(q, k, i, j, 1e5)
        assert parts.shape == (32,)
        score = trace[f"blk.{layer}.attn.scores"][head, i, j]
        assert np.sum(parts) == pytest.approx(score, abs=1e-4)
        assert scores_at_distances(q, k, np.array([i - j]), 1e5)[0] / 8 == pytest.approx(score, abs=1e-4)
        assert np.sum(parts_of_score(q, k, i + 3000, j + 3000, 1e5)) == pytest.approx(score, abs=1e-4)


@pytest.mark.model
def test_the_wrong_pairs_cost_perplexity(smollm2):
    """Half-split pairs: every text reads worse, from a tenth more perplexity to more than twice as much."""
    factors = []
    for sentence in SENTENCES:
        ids = encode(sentence, "smollm2")[:48]
        trained, wrong = (float(reading_with(smollm2, ids, how)[0].mean()) for how in ("trained", "half"))
        factors.append(np.exp(wrong - trained))
    assert min(factors) > 1.1, factors
    assert max(factors) > 2
    assert np.exp(np.mean(np.log(factors))) > 1.5


@pytest.mark.model
def test_paris_with_the_wrong_pairs(smollm2):
    ids = encode("The capital of France is", "smollm2")
    [paris] = encode(" Paris", "smollm2")
    assert reading_with(smollm2, ids, "trained")[1][paris] == pytest.approx(0.773, abs=1e-3)
    wrong = reading_with(smollm2, ids, "half")[1]
    assert np.argmax(wrong) == paris
    assert wrong[paris] == pytest.approx(0.721, abs=1e-3)


@pytest.mark.model
def test_every_way_to_spoil_positions(smollm2):
    ids = encode(SENTENCES[1], "smollm2")[:24]
    losses = {how: float(reading_with(smollm2, ids, how)[0].mean()) for how in SPOILT}
    surprisal, probabilities = reading_with(smollm2, ids, "trained")
    np.testing.assert_allclose(surprisal, smollm2.surprisal(ids), atol=1e-5)
    np.testing.assert_allclose(probabilities, softmax(smollm2.trace(ids)["logits"][-1]), atol=1e-6)
    assert losses["moved"] == pytest.approx(losses["trained"], abs=1e-3)
    layout = edits.other_rope(smollm2.config, layout="half")
    assert losses["half"] == pytest.approx(float(smollm2.loss(ids, layout)), abs=1e-5)
    for how in ("off", "half", "shuffled", "reversed", "stretched-4", "stretched-8", "squeezed-4", "base-1000"):
        assert losses[how] > losses["trained"] + 0.1, how
    assert losses["shuffled"] > losses["off"], "a wrong position is worse than none"
    for how in ("ntk", "yarn", "base-500000"):
        assert abs(losses[how] - losses["trained"]) < 0.1, how
    assert reading_with(smollm2, ids, "shuffled", 1)[0].mean() != losses["shuffled"]
    with pytest.raises(ValueError, match="at least two tokens"):
        reading_with(smollm2, ids[:1], "off")


@pytest.mark.model
def test_without_rope_the_model_sees_less_of_the_order(smollm2):
    ids = encode("I put the milk in the fridge and the bread on the", "smollm2")
    for seed in range(3):
        mixed = shuffled_but_last(ids, seed)
        assert sorted(mixed) == sorted(ids)
        assert mixed[-1] == ids[-1]
        on, off = (
            distance_between(*(reading_with(smollm2, order, how)[1] for order in (ids, mixed)))
            for how in ("trained", "off")
        )
        assert 0.1 < off < on - 0.2, "a little, not nothing"


def test_spoilt_positions_are_what_they_say():
    from engine.ledger import CONFIGS

    config = CONFIGS["SmolLM2-135M"]
    p = np.arange(5)

    def moved(how, seed=0):
        return spoilt(config, how, seed)["positions"](p, {})

    np.testing.assert_array_equal(moved("stretched-4"), [0, 4, 8, 12, 16])
    np.testing.assert_array_equal(moved("squeezed-2"), [0, 0.5, 1, 1.5, 2])
    np.testing.assert_array_equal(moved("reversed"), [4, 3, 2, 1, 0])
    np.testing.assert_array_equal(moved("moved"), p + 1000)
    np.testing.assert_array_equal(moved("off"), np.zeros(5))
    assert sorted(moved("shuffled", 3)) == [0, 1, 2, 3, 4]
    np.testing.assert_array_equal(moved("shuffled", 3), moved("shuffled", 3))
    x = rng.normal(size=(9, 5, 64))
    patch = spoilt(config, "base-10000")["blk.3.attn.q"]
    turned = patch(x, {"blk.3.attn.q_raw": x, "positions": p})
    np.testing.assert_array_equal(turned, rotate(x, p, 1e4))
    for how in SPOILT:
        spoilt(config, how)
    with pytest.raises(ValueError, match="Positions can be trained, off"):
        spoilt(config, "mirrored")


def test_total_variation():
    assert distance_between(np.array([1.0, 0.0]), np.array([0.0, 1.0])) == 1
    assert distance_between(np.array([0.5, 0.5]), np.array([0.75, 0.25])) == 0.25


def test_likeliest_is_the_head_of_the_sorted_list():
    p = rng.dirichlet(np.ones(500))
    np.testing.assert_array_equal(likeliest(p, 5), np.argsort(-p)[:5])


@pytest.mark.parametrize("degrees", [0, 30, -90, 180])
def test_vectors_at_an_angle(degrees):
    q, k = at_angle(degrees)
    assert math.hypot(*q) == pytest.approx(1)
    assert q[0] * k[0] + q[1] * k[1] == pytest.approx(math.cos(math.radians(degrees)))
    assert k[0] * q[1] - k[1] * q[0] == pytest.approx(math.sin(math.radians(degrees)), abs=1e-12)


def test_one_pair_of_many_adds_its_part():
    q, k = rng.normal(size=(2, 16))
    parts = parts_of_score(q, k, 9, 4, 1e5)
    for pair in (0, 3, 7):
        turned_q, turned_k = pair_at(q, k, 9, 4, pair, 1e5)
        assert parts[pair] == pytest.approx(turned_q @ turned_k / 4)


@pytest.mark.model
@pytest.mark.parametrize("how", ["trained", "off"])
def test_a_batch_of_texts_is_read_as_each_alone(smollm2, how):
    ids = encode(SENTENCES[4], "smollm2")
    texts = [ids, shuffled_but_last(ids, 1)]
    both = next_tokens_with(smollm2, texts, how)
    for probabilities, text in zip(both, texts, strict=True):
        np.testing.assert_allclose(probabilities, reading_with(smollm2, text, how)[1], atol=1e-5)
