"""Word vectors by counting: counts and information by their definitions, and words that stand in the same places."""

import math
from collections import Counter

import numpy as np
import pytest

from engine.cooccurrence import STORY, cooccurrences, count_embeddings, positive_information, sentences
from engine.embeddings import cosine_similarity

TEXT = "The cat sat. A cat ran, the dog ran!\nDon't stop"


def test_sentences():
    assert sentences(TEXT) == [["the", "cat", "sat"], ["a", "cat", "ran", "the", "dog", "ran"], ["don't", "stop"]]
    assert sentences(" .!? ") == []
    assert sentences("Ça va? L’été") == [["ça", "va"], ["l’été"]]


def by_hand(text, window):
    counted = Counter()
    for words in sentences(text):
        for i, one in enumerate(words):
            for j, other in enumerate(words):
                if i != j and abs(i - j) <= window:
                    counted[one, other] += 1
    return counted


@pytest.mark.parametrize("window", [1, 2, 5])
def test_counts_equal_counting_every_pair(window):
    found = count_embeddings(TEXT)
    ids = [[found.words.index(word) for word in sentence] for sentence in sentences(TEXT)]
    counts = cooccurrences(ids, len(found.words), window)
    expected = by_hand(TEXT, window)
    for i, one in enumerate(found.words):
        for j, other in enumerate(found.words):
            assert counts[i, j] == expected[one, other]


def test_information_by_its_definition():
    found = count_embeddings(STORY)
    total = found.counts.sum()
    share = found.counts.sum(axis=1) / total
    for i in range(len(found.words)):
        for j in range(len(found.words)):
            met = found.counts[i, j] / total
            expected = max(0.0, math.log(met / (share[i] * share[j]))) if met else 0.0
            assert found.information[i, j] == pytest.approx(expected, abs=1e-12)


def test_words_that_meet_by_chance_say_nothing():
    assert not positive_information(np.outer([1, 2, 3], [1, 2, 3])).any()
    assert not positive_information(np.zeros((3, 3), dtype=np.int64)).any()


def test_the_table_holds_the_directions_of_largest_variation():
    """With all directions kept, table · tableᵀ is |information|, its square the square: U S Uᵀ and U S² Uᵀ."""
    found = count_embeddings(STORY, width=len(sentences(STORY)) * 99)
    outer = found.table @ found.table.T
    np.testing.assert_allclose(outer @ outer, found.information @ found.information.T, atol=1e-9)
    narrow = count_embeddings(STORY, width=24).table
    np.testing.assert_array_equal(narrow, found.table[:, :24])
    assert (np.diff(np.sum(narrow**2, axis=0)) <= 1e-12).all()
    assert (narrow[np.argmax(np.abs(narrow), axis=0), np.arange(24)] > 0).all()


def test_a_made_up_word_lands_beside_those_whose_places_it_takes():
    for places, twin in [
        ("The wug crossed the river. The wug sank in the sea. The wug sailed the sea.", "boat"),
        ("The wug ruled the land. The wug wore a golden crown. The wug lived in the castle.", "king"),
    ]:
        found = count_embeddings(STORY + places)
        likeness = cosine_similarity(found.table, found.table[found.place("Wug")])
        likeness[found.place("wug")] = -1
        assert cosine_similarity(found.table[found.place("wug")], found.table[found.place(twin)]) > 0.9
        assert likeness[found.place(twin)] > likeness[found.place("mouse")] + 0.3


def test_what_cannot_be_counted_is_told():
    for text, count in [("", 0), ("cat cat cat.", 1), (" ".join(f"w{i}" for i in range(151)), 151)]:
        with pytest.raises(ValueError, match=f"has {count} different words; 2 to 150"):
            count_embeddings(text)
    with pytest.raises(ValueError, match="no word “unicorn”"):
        count_embeddings(STORY).place("unicorn")
    assert count_embeddings("a. b. c.").table.shape == (3, 3)
