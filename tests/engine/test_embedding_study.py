"""The real table and the drift of a word: against plain recomputation, Hugging Face's streams, and what must be so."""

from pathlib import Path

import numpy as np
import pytest
from plain_llama import run_from

from engine.embedding_study import (
    Found,
    as_token,
    by_id,
    common_part,
    cosine_histogram,
    drift,
    find_word,
    first_component,
    main_direction,
    mean_cosine,
    neighbours,
    place_in,
    shared_words,
    solve_analogy,
    spelled_alike,
    streams,
    table_cosines,
    table_lengths,
    table_mean,
    take_out,
    unrelated,
    word_list,
    word_map,
)
from engine.embeddings import analogy, cosine_similarity, lookup, nearest, pca
from engine.model import load
from engine.tokenization import decode, encode

GOLDENS = dict(np.load(Path(__file__).parents[1] / "goldens" / "smollm2.npz"))
RIVER, LOAN = "She sat on the bank of the river.", "She went to the bank to ask for a loan."
rng = np.random.default_rng(5)


@pytest.fixture(scope="module")
def model():
    return load()


def ids(text):
    return encode(text, "smollm2")


# the table


@pytest.mark.model
@pytest.mark.parametrize("centred", [False, True])
def test_cosines_with_the_whole_table_in_float64(model, centred):
    (token,) = as_token("dog")
    table = model.weights.embedding.astype(np.float64)
    table = table - table.mean(axis=0) if centred else table
    expected = table @ table[token] / np.linalg.norm(table, axis=1) / np.linalg.norm(table[token])
    np.testing.assert_allclose(table_cosines(model, token, centred), expected, atol=2e-6)
    np.testing.assert_allclose(table_lengths(model, centred), np.linalg.norm(table, axis=1), rtol=1e-5)
    found = neighbours(model, token, 10, centred)
    np.testing.assert_array_equal(found.ids, np.argsort(-expected)[1:11])
    assert table_cosines(model, token, centred) is table_cosines(model, token, centred)
    if not centred:
        again = nearest(model.weights.embedding, model.weights.embedding[token], 10, exclude=(token,))
        np.testing.assert_array_equal(found.ids, again.ids)


@pytest.mark.model
def test_the_table_has_a_large_common_part(model):
    """What the prose says of the table: its mean is no small vector, and random rows are alike because of it."""
    table, pairs = model.weights.embedding, rng.integers(0, 49152, (2, 4000))
    assert np.linalg.norm(table_mean(model)) > 0.5 * np.mean(table_lengths(model))
    assert 0.4 < np.mean(cosine_similarity(table[pairs[0]], table[pairs[1]])) < 0.5
    centred = table[pairs] - table_mean(model)
    assert abs(np.mean(cosine_similarity(centred[0], centred[1]))) < 0.02


@pytest.mark.model
@pytest.mark.parametrize("words", [("king", "man", "woman"), ("Tokyo", "Japan", "China")])
def test_an_analogy_solved_three_ways_equals_the_three_lists(model, words):
    a, b, c = (as_token(word)[0] for word in words)
    table, found = model.weights.embedding, solve_analogy(model, a, b, c)
    np.testing.assert_array_equal(found.excluded.ids[:20], analogy(table, a, b, c, 20).ids)
    np.testing.assert_array_equal(found.included.ids[:20], analogy(table, a, b, c, 20, exclude_inputs=False).ids)
    np.testing.assert_array_equal(found.alone.ids[:20], nearest(table, table[a], 20, exclude=(a,)).ids)
    assert place_in(found.included, int(found.included.ids[4])) == 5
    assert place_in(found.excluded, a) is None


@pytest.mark.model
def test_which_analogies_work_in_this_model(model):
    """The presets of the page say so."""

    def first(*words):
        found = solve_analogy(model, *(as_token(word)[0] for word in words))
        return [decode([int(part.ids[0])], "smollm2") for part in (found.excluded, found.included)]

    assert first("king", "man", "woman") == [" queen", " queen"]
    assert first("Tokyo", "Japan", "China") == [" Beijing", " Tokyo"]
    assert first("kitten", "cat", "dog") == [" puppy", " kitten"]
    assert first("hers", "she", "he") == [" theirs", " hers"]


@pytest.mark.model
def test_the_first_direction_of_the_table_is_rarity(model):
    """Power iteration against all eigenvectors; and what the page says of it."""
    table = model.weights.embedding.astype(np.float64)
    _, vectors = np.linalg.eigh(np.cov(table.T))
    found = main_direction(model)
    assert abs(found @ vectors[:, -1]) == pytest.approx(1, abs=1e-6)
    assert found @ table_mean(model) > 0.9 * np.linalg.norm(table_mean(model))
    assert np.corrcoef(table @ found, np.log(np.arange(1, len(table) + 1)))[0, 1] > 0.5


def test_first_component_and_taking_it_out():
    rows = rng.normal(size=(300, 6)) * [9, 2, 1, 1, 1, 1] + 4
    direction = first_component(rows, rows.mean(axis=0), np.ones(6))
    assert abs(direction @ pca(rows, 1).components[0]) == pytest.approx(1)
    left = take_out(rows, direction)
    np.testing.assert_allclose(left @ direction, 0, atol=1e-12)
    np.testing.assert_allclose(left + np.outer(rows @ direction, direction), rows)


@pytest.mark.model
def test_rarity_draws_parallel_arrows_of_its_own(model):
    """Pairs that share nothing but rare → frequent agree as well as puppy → dog does, until that direction is gone."""
    pairs = {
        "young": "puppy → dog, kitten → cat, calf → cow, lamb → sheep, cub → bear, chick → chicken",
        "rare": "tractor → car, violin → music, falcon → bird, cottage → house, ankle → leg, ferry → boat",
        "capitals": "France → Paris, Germany → Berlin, Italy → Rome, Spain → Madrid, Japan → Tokyo, Greece → Athens",
        "comparatives": "big → bigger, small → smaller, fast → faster, slow → slower, strong → stronger, long → longer",
        "opposites": "hot → cold, good → bad, big → small, rich → poor, happy → sad, light → dark",
    }
    agreement = {}
    for name, text in pairs.items():
        words = word_list(text)
        rows = lookup(model.weights.embedding, words.ids)
        without = take_out(rows, main_direction(model))
        agreement[name] = [word_map(part, words.ids, words.arrows).agreement for part in (rows, without)]
    assert agreement["rare"][0] > agreement["young"][0] > 0.25
    assert agreement["rare"][1] < 0.1 < agreement["young"][1] < 0.2
    assert min(agreement["capitals"]) > 0.9 * max(agreement["capitals"]) > 0.3
    assert agreement["comparatives"][1] > 0.7 * agreement["comparatives"][0] > 0.4
    assert max(agreement["opposites"]) < 0.1


def test_spelled_alike():
    tokens = [*ids("Dog dog"), *ids(" dogs")]
    assert spelled_alike(tokens, ids(" dog")[0]) == [0, 1]


def test_histogram_and_means_by_id():
    values = rng.uniform(-0.3, 0.8, 960)
    edges, counts = cosine_histogram(values, 30)
    assert counts.sum() == 960
    assert len(edges) == 31
    assert edges[-1] == 1
    assert counts[4] == np.count_nonzero((values >= edges[4]) & (values < edges[5]))
    places, means = by_id(values, 48)
    np.testing.assert_allclose(means[3], values[60:80].mean())
    assert places[3] == 70


# words


def test_a_list_of_words_with_arrows():
    found = word_list("puppy → dog, kitten -> cat; cow\ncalf>cow, , dog → , unbelievably → dog, cow → cow")
    assert found.words == ("puppy", "dog", "kitten", "cat", "cow", "calf")
    assert found.arrows == ((0, 1), (2, 3), (5, 4))
    assert found.left_out == (("unbelievably", len(ids(" unbelievably"))),)
    assert [decode([i], "smollm2") for i in found.ids] == [" puppy", " dog", " kitten", " cat", " cow", " calf"]
    assert word_list("good → better → best").arrows == ((0, 1), (1, 2))
    assert word_list("") == word_list(" ,;→\n")
    assert not word_list("").words
    with pytest.raises(ValueError, match="61 different words"):
        word_list(",".join(f"word{i}" for i in range(61)))


def test_a_map_of_parallel_arrows_and_one_of_random_ones():
    start, step = rng.normal(size=(6, 40)), rng.normal(size=40) * 9
    rows = np.concatenate([start, start + step])
    found = word_map(rows, range(12), [(i, i + 6) for i in range(6)])
    assert found.agreement == pytest.approx(1)
    assert found.flat_agreement == pytest.approx(1)
    assert found.rarity == pytest.approx(np.corrcoef(found.pca.projected[:, 0], range(12))[0, 1])
    loose = word_map(rng.normal(size=(12, 4000)), range(12), [(i, i + 6) for i in range(6)])
    assert abs(loose.agreement) < 0.1
    assert np.isnan(word_map(rows, range(12), [(0, 1)]).agreement)
    assert np.isnan(word_map(rows, range(12), []).agreement)
    assert word_map(np.ones((3, 5), np.float32), [1, 1, 1], []).rarity == 0
    with pytest.raises(ValueError, match="at least three words"):
        word_map(rows[:2], [0, 1], [])


def test_mean_cosine_is_the_mean_over_pairs():
    vectors = rng.normal(size=(5, 7))
    pairs = [cosine_similarity(vectors[i], vectors[j]) for i in range(5) for j in range(i)]
    assert mean_cosine(vectors) == pytest.approx(np.mean(pairs))


# a word in two sentences


def test_where_a_word_stands():
    assert find_word("The bank by the bank.", "bank", 48) == Found(4, 1, 2)
    assert find_word("The bank by the bank.", "BANK ", 4) == Found(1, 1, 1)
    assert find_word("Bankers, embankment", "bank", 48) is None
    assert find_word("the bank", "", 48) is None
    assert find_word("", "bank", 48) is None
    text = "An unbelievably 漢字 waitress smiled"
    for word in ("unbelievably", "waitress", "漢字", "An"):
        found = find_word(text, word, 48)
        last = ids(text[: text.index(word) + len(word)])
        assert found.at == len(last) - 1
        assert decode(ids(text)[found.at - found.tokens + 1 : found.at + 1], "smollm2").strip() == word
    assert find_word("a*b (c", "(c", 48).times == 1


def test_words_that_two_sentences_share():
    assert shared_words(RIVER, LOAN) == ("bank", "she", "the")
    assert shared_words("Größe!", "die größe zählt") == ("größe",)
    assert shared_words("I", "i") == ()


def test_unrelated_pairs():
    np.testing.assert_array_equal(unrelated([5, 6, 7], [6, 7]), [[0, 0], [0, 1], [0, 0]])


def test_drift_by_its_definition():
    one, two, centre = (rng.normal(size=(4, n, 8)) for n in (5, 3, 1))
    words = ([9, 1, 2, 3, 4], [9, 2, 6])
    for shift in (None, centre[:, 0]):
        found = drift(one, two, (3, 2), words, shift)
        a, b = (x - (0 if shift is None else centre) for x in (one, two))
        np.testing.assert_allclose(found.similarity, cosine_similarity(a[:, 3], b[:, 2]))
        pairs = [(i, j) for i in range(1, 5) for j in range(1, 3) if words[0][i] != words[1][j]]
        assert len(pairs) == 7
        expected = np.mean([cosine_similarity(a[:, i], b[:, j]) for i, j in pairs], axis=0)
        np.testing.assert_allclose(found.baseline, expected)
        np.testing.assert_allclose(found.cosines[2, 4, 1], cosine_similarity(a[2, 4], b[2, 1]))
        np.testing.assert_allclose(found.lengths[:, 1], np.linalg.norm(two[:, 2], axis=-1))
        np.testing.assert_allclose(found.first_lengths[:, 0], np.linalg.norm(one[:, 0], axis=-1))


@pytest.mark.model
def test_streams_equal_hugging_face(model):
    for name in ("france", "sentence", "german"):
        found = streams(model, GOLDENS[f"{name}.ids"])
        assert found.shape == (31, len(GOLDENS[f"{name}.ids"]), 576)
        for block, expected in zip(GOLDENS["stream_after"], GOLDENS[f"{name}.stream"], strict=True):
            difference = found[block + 1, -1] - expected
            assert np.linalg.norm(difference) < 1e-4 * np.linalg.norm(expected)


@pytest.mark.model
def test_the_drift_of_bank_equals_an_independent_run(model):
    """Another implementation of the whole model, in float64 with loops: the same cosines, and layer 0 exactly 1."""
    texts = [ids(RIVER), ids(LOAN)]
    at = (find_word(RIVER, "bank", 48).at, find_word(LOAN, "bank", 48).at)
    found = drift(*(streams(model, text) for text in texts), at, tuple(texts))
    assert found.similarity[0] == 1
    ends = [run_from(model, model.weights.embedding[text]).streams[-1] for text in texts]
    expected = cosine_similarity(ends[0][at[0]], ends[1][at[1]])
    assert found.similarity[30] == pytest.approx(expected, abs=1e-4)
    np.testing.assert_allclose(found.first_lengths[30], [np.linalg.norm(end[0]) for end in ends], rtol=1e-4)
    centred = drift(*(streams(model, text) for text in texts), at, tuple(texts), common_part(model))
    assert centred.similarity[0] == 1


@pytest.mark.model
def test_what_comes_after_a_word_never_changes_its_vector(model):
    one, two = (ids(text) for text in ("The bank of the river was muddy.", "The bank raised its rates."))
    found = drift(streams(model, one), streams(model, two), (1, 1), (one, two))
    np.testing.assert_allclose(found.similarity, 1, atol=1e-5)


@pytest.mark.model
def test_two_meanings_part_more_than_one(model):
    """What the page says of its presets."""
    texts = [ids(text) for text in (RIVER, LOAN, "He fished from the bank of the stream.")]
    at = [text.index(as_token("bank")[0]) for text in texts]
    for centre in (None, common_part(model)):
        two, one = (
            drift(streams(model, texts[0]), streams(model, texts[n]), (at[0], at[n]), (texts[0], texts[n]), centre)
            for n in (1, 2)
        )
        assert (two.similarity[8:] < one.similarity[8:]).all()
        assert (two.similarity > two.baseline + 0.1).all()
        assert (np.abs(two.baseline[:10]) < 0.1).all() == (centre is not None)


@pytest.mark.model
@pytest.mark.parametrize("start", ["The", "Cats", "12", "«", "She", "def", "Über"])
def test_the_first_token_grows_longest_whatever_it_is(model, start):
    found = np.linalg.norm(streams(model, ids(f"{start} went to the bank to ask for a loan")), axis=-1)
    assert found[20, 0] > 10 * found[20, len(ids(start)) :].max()
