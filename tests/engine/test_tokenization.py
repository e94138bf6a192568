"""tiktoken's encodings equal tiktoken's own definitions, SmolLM2's equals Hugging Face's tokenizers on goldens."""

import hashlib
import itertools
import json
import time
from pathlib import Path

import pytest
import tiktoken
import tiktoken_ext.openai_public
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine import tokenization
from engine.tokenization import (
    ENCODINGS,
    clean,
    count,
    decode,
    encode,
    merge_steps,
    merge_steps_in_full,
    missing_bytes,
    special_tokens_in,
    splittings,
    token_bytes,
    tokens,
    train_bpe,
)

GOLDEN = json.loads((Path(__file__).parent.parent / "goldens" / "tokenization_smollm2.json").read_text())
CASES = [case["text"] for case in GOLDEN["cases"]]
OPENAI = ["o200k_base", "cl100k_base", "r50k_base"]
BRAIN = "If the human brain were so simple that we could understand it, we would be so simple that we couldn't."


@pytest.fixture(scope="module")
def published():
    """tiktoken's own definitions, its download replaced by the files in data/tokenizers, with its own sha256 check."""

    def read(url: str, expected_hash: str) -> dict[bytes, int]:
        path = tokenization.FILES / url.rsplit("/", 1)[1]
        assert hashlib.sha256(path.read_bytes()).hexdigest() == expected_hash
        return tiktoken.load.load_tiktoken_bpe(str(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        patch.setattr(tiktoken_ext.openai_public, "load_tiktoken_bpe", read)
        return {name: tiktoken_ext.openai_public.ENCODING_CONSTRUCTORS[name]() for name in OPENAI}


@pytest.mark.parametrize("name", OPENAI)
def test_openai_encodings_are_the_published_ones(name, published):
    ours, theirs = ENCODINGS[name], published[name]
    assert ours.pattern == theirs["pat_str"]
    assert ours.special == theirs["special_tokens"]
    assert ours.vocabulary_size == max(theirs["special_tokens"].values()) + 1
    reference = tiktoken.Encoding(**theirs)
    for text in CASES:
        assert encode(text, name) == reference.encode(text, disallowed_special=()), text


def test_smollm2_equals_hugging_face():
    different = [case["text"] for case in GOLDEN["cases"] if encode(case["text"], "smollm2") != case["ids"]]
    assert different == []
    assert len(GOLDEN["cases"]) > 300


def test_what_must_come_out():
    assert encode(BRAIN) == [
        3335, 290, 5396, 12891, 1504, 813, 4705, 484, 581, 2023, 4218, 480, 11, 581, 1481, 413, 813, 4705, 484, 581,
        21149, 13,
    ]  # fmt: skip
    assert count(BRAIN).characters == 102
    assert round(count(BRAIN).characters_per_token, 2) == 4.64


@pytest.mark.parametrize(
    ("encoding", "word", "parts"),
    [
        ("r50k_base", "unbelievable", "un·bel·iev·able"),
        ("cl100k_base", "unbelievable", "un·belie·vable"),
        ("o200k_base", "unbelievable", "un·bel·ievable"),
        ("o200k_base", "Maschinenbau", "Mas·chinen·bau"),
        ("o200k_base", " Maschinenbau", " Maschinen·bau"),
        ("r50k_base", " unbelievable", " unbelievable"),
        ("cl100k_base", " unbelievable", " unbelievable"),
        ("o200k_base", " unbelievable", " unbelievable"),
    ],
)
def test_known_splits(encoding, word, parts):
    assert "·".join(token.text for token in tokens(word, encoding)) == parts
    assert merge_steps(word, encoding)[-1] == [part.encode() for part in parts.split("·")]


def test_known_ids():
    assert encode("Gally is a smart dog", "r50k_base") == [38, 453, 318, 257, 4451, 3290]
    assert encode("Gally is a smart dog", "o200k_base") == [38, 2146, 382, 261, 8847, 6446]
    assert decode([4821, 318, 257, 4950, 3290], "r50k_base") == "According is a beautiful dog"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tokens_tile_the_text(encoding):
    for text in CASES[:100]:
        check_tiling(text, encoding)


def check_tiling(text, encoding):
    data = text.encode()
    found = tokens(text, encoding)
    assert [token.id for token in found if token.id is not None] == encode(text, encoding)
    kept = bytes(byte for byte in data if byte not in missing_bytes(encoding))
    assert b"".join(token.bytes for token in found if token.id is not None) == kept
    for token in found:
        inside = data[token.start : token.end]
        assert token.bytes == bytes(b for b in inside if token.id is None or b not in missing_bytes(encoding))
    if kept == data:
        assert decode(encode(text, encoding), encoding) == text
        assert [token.start for token in found[1:]] == [token.end for token in found[:-1]]


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60))
def test_any_text_goes_there_and_back(encoding, text):
    data = text.encode()
    kept = bytes(byte for byte in data if byte not in missing_bytes(encoding))
    assert b"".join(token_bytes(i, encoding) for i in encode(text, encoding)) == kept


@pytest.mark.parametrize("encoding", ENCODINGS)
@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=20) | st.text("abe 's\n=1", max_size=30))
@example(text="\U0003d000:A")  # a letter for newer Unicode tables than tiktoken's
def test_merge_steps_end_at_the_tokens(encoding, text):
    steps = merge_steps_in_full(text, encoding)
    assert all(len(part) == 1 for part in steps[0].parts)
    assert list(steps[-1].parts) == [token_bytes(i, encoding) for i in encode(text, encoding)]
    for before, after in itertools.pairwise(steps):
        assert len(after.parts) == len(before.parts) - 1
        assert after.parts[after.position] == b"".join(after.pair) == token_bytes(after.rank, encoding)
        assert after.rank == min(rank for _, rank in before.candidates)


def test_smollm2_drops_the_bytes_it_has_no_token_for():
    missing = missing_bytes("smollm2")
    assert len(missing) == 21
    assert {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D} < missing  # the control characters among them
    assert all(not missing_bytes(encoding) for encoding in OPENAI)
    assert encode("\x04", "smollm2") == []
    assert encode("!\x04!", "smollm2") == encode("!!", "smollm2")  # the neighbours then meet, as in the reference
    assert [(token.id is None, token.start) for token in tokens("a\x04b", "smollm2")] == [
        (False, 0), (True, 1), (False, 2)]  # fmt: skip


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_special_token_strings_are_ordinary_text(encoding):
    for name, number in ENCODINGS[encoding].special.items():
        ids = encode(f"a {name} b", encoding)
        assert number not in ids
        assert decode(ids, encoding) == f"a {name} b"
        assert token_bytes(number, encoding) == name.encode()
        assert special_tokens_in(f"é {name}!", encoding) == ((name, 3, 3 + len(name)),)


def test_lone_surrogates_become_the_replacement_character():
    assert clean("a\ud83d b \ud83d\ude00 \udc00") == ("a\ufffd b 😀 \ufffd", 2)  # a pair of halves is whole again
    assert clean("\ufffd") == ("\ufffd", 0)
    for encoding in ENCODINGS:
        assert encode("x\ud800", encoding) == encode("x\ufffd", encoding)
        assert tokens("\udfff", encoding)[0].start == 0
        assert merge_steps("\ud800", encoding)[0] == [b"\xef", b"\xbf", b"\xbd"]
    assert train_bpe("\ud800\ud800", 3).decode(train_bpe("\ud800\ud800", 3).encode("\ud800")) == "\ufffd"


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["a" * 100_000, " " * 99_999 + "7", "\x04!" * 50_000, "漢" * 100_000, "7" * 100_000])
def test_a_hundred_thousand_characters(encoding, text):
    encode("", encoding)  # load first
    start = time.perf_counter()
    ids = encode(text, encoding)
    assert time.perf_counter() - start < 2
    assert b"".join(token_bytes(i, encoding) for i in ids).decode() == text.replace("\x04", "") or encoding != "smollm2"


def test_wrong_arguments_are_answered_in_words():
    with pytest.raises(ValueError, match="no encoding “gpt9”"):
        encode("a", "gpt9")
    for number in (-1, 200_019, 199_998, 2**40, 2**80):
        with pytest.raises(ValueError, match=f"no token {number}"):
            token_bytes(number, "o200k_base")
    with pytest.raises(ValueError, match="at most 200"):
        merge_steps("a" * 201)


def test_a_changed_rank_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tokenization, "FILES", tmp_path)
    encoding = ENCODINGS["smollm2"]
    with pytest.raises(ValueError, match="missing"):
        tokenization._read_ranks(encoding)
    (tmp_path / "smollm2.tiktoken").write_bytes(b"YQ== 0\n")
    with pytest.raises(ValueError, match="sha256 differs"):
        tokenization._read_ranks(encoding)


def test_splittings_count_the_text_in_four_ways():
    rows = {row.unit: row for row in splittings("Die Katze, die Katze — die!")}
    assert (rows["words"].length, rows["words"].distinct) == (8, 6)  # Die Katze , die Katze — die !
    assert (rows["characters"].length, rows["bytes"].length) == (27, 29)
    assert rows["subwords"].length == len(encode("Die Katze, die Katze — die!"))
    assert rows["bytes"].possible == 256
    assert all(row.length == row.distinct == 0 for row in splittings(""))
    assert count("").tokens == 0


# Training ------------------------------------------------------------------------------------------------------------


def slow_bpe(data: bytes, merges: int) -> tuple[list[tuple[int, int]], list[int]]:
    """The definition, taken literally."""
    ids, learned = list(data), []
    for new in range(256, 256 + merges):
        pairs = list(itertools.pairwise(ids))
        if not pairs:
            break
        best = min(set(pairs), key=lambda pair: (-pairs.count(pair), pair))
        learned.append(best)
        merged, i = [], 0
        while i < len(ids):
            joined = tuple(ids[i : i + 2]) == best
            merged.append(new if joined else ids[i])
            i += 2 if joined else 1
        ids = merged
    return learned, ids


@settings(max_examples=80, deadline=None)
@given(text=st.text("ab c", max_size=40) | st.text(max_size=20), merges=st.integers(0, 30))
def test_training_follows_the_definition(text, merges):
    bpe = train_bpe(text, merges)
    learned, ids = slow_bpe(text.encode(), merges)
    assert list(bpe.merges) == learned
    assert bpe.encode(text) == ids
    assert bpe.decode(ids) == text
    assert bpe.sizes[-1] == len(ids)
    assert [len(bpe.encode(text, n)) for n in range(len(learned) + 1)] == list(bpe.sizes)


def test_training_by_hand():
    bpe = train_bpe("aaabdaaabac", 3)  # the example of the Wikipedia article on byte-pair encoding
    assert bpe.merges == ((97, 97), (97, 98), (256, 257))
    assert bpe.vocabulary[256:] == (b"aa", b"ab", b"aaab")
    assert bpe.encode("aaabdaaabac") == [258, 100, 258, 97, 99]
    with pytest.raises(ValueError, match="no token 259"):
        bpe.decode([259])
    with pytest.raises(ValueError, match="0 or more"):
        train_bpe("a", -1)


def test_merges_stay_within_words():
    bpe = train_bpe("low lower lowest low " * 20, 40, words=True)
    assert all(b" " not in token[1:] for token in bpe.vocabulary)
    assert b" low" in bpe.vocabulary
    assert bpe.decode(bpe.encode("a lowly lowland")) == "a lowly lowland"


def test_training_is_fast_enough():
    text = " ".join(CASES)[:20_000].encode("utf-8", "replace").decode()
    start = time.perf_counter()
    train_bpe(text, 500)
    assert time.perf_counter() - start < 1
