"""The self-test: seeded, every right answer computed once more by another way, and no two choices alike."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest

from engine import self_test
from engine.ledger import CONFIGS
from engine.self_test import QUESTIONS, drawn, question
from engine.tokenization import encode

SEEDS = range(1, 100)


def asked(chapter: str, pattern: str) -> list[tuple[re.Match[str], str]]:
    """All questions of a chapter whose words fit the pattern, with their right answer."""
    found = [question(chapter, seed) for seed in SEEDS]
    fitting = [(match, one.answer) for one in found if (match := re.search(pattern, one.ask))]
    assert fitting
    return fitting


@pytest.mark.parametrize("seed", [1, 7, 23, 99])
def test_a_set_is_the_same_for_everyone(seed: int) -> None:
    assert drawn(seed) == drawn(seed)
    assert [one.chapter for one in drawn(seed)] == list(QUESTIONS)


def test_sets_differ_and_the_right_place_is_not_always_the_same() -> None:
    places = {chapter: {question(chapter, seed).right for seed in SEEDS} for chapter in QUESTIONS}
    assert all(found == {0, 1, 2} for found in places.values())
    asks = {chapter: {question(chapter, seed).ask for seed in SEEDS} for chapter in QUESTIONS}
    assert all(len(found) >= 3 for found in asks.values())


def test_choices_differ_and_every_one_gets_a_reply() -> None:
    for seed in SEEDS:
        for one in drawn(seed):
            assert len({choice.say for choice in one.choices}) == len(one.choices) == 3, one
            assert all(choice.why.endswith(".") and len(choice.why) > 10 for choice in one.choices), one
            assert one.ask.endswith("?")
            assert "nan" not in one.ask.lower().split()
            assert "−0" not in {choice.say for choice in one.choices}


def test_choices_that_are_shares_can_be_told_apart() -> None:
    for seed in SEEDS:
        for one in drawn(seed):
            shares = sorted(float(choice.say[:-1]) for choice in one.choices if choice.say.endswith("%"))
            assert all(b - a >= 1 for a, b in pairwise(shares)), one


def test_every_kind_of_check_is_the_answer_to_some_question() -> None:
    for wanted, kinds in (("notices", 3), ("does not notice", 2)):
        assert len({answer for _, answer in asked("proof", f"^Who {wanted}")}) == kinds


def test_the_reasons_given_are_those_of_the_checks() -> None:
    seen = {name: self_test.noticed_by(name) for name in self_test.WHY_SEEN}
    assert all(1 <= len(kinds) <= 2 for kinds in seen.values()), "one kind alone notices, or one alone does not"
    for name, why in self_test.WHY_SEEN.items():
        only = "Only" in why
        assert only == (len(seen[name]) == 1), name


def test_unknown_chapters_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="no questions on a chapter called soup"):
        question("soup", 1)


# Every kind of answer, reached another way ----------------------------------------------------------------------------


def test_tokens_and_bytes() -> None:
    for match, answer in asked("tokenization", r"does `(\w+)` cut “(.+)”"):
        assert int(answer) == len(encode(match[2], match[1]))
    for match, answer in asked("tokenization", r"no token for “(.+)” and"):
        assert int(answer) == len(match[1].encode())


def numbers_in(text: str) -> list[float]:
    return [float(number.replace("−", "-").replace(",", "")) for number in re.findall(r"−?\d[\d,]*\.?\d*", text)]


def test_cosines() -> None:
    for match, answer in asked("embeddings", r"similarity of (.+)\?"):
        a, b, c, d = numbers_in(match[1].replace(", ", " "))
        assert float(answer.replace("−", "-")) == pytest.approx(
            (a * c + b * d) / math.hypot(a, b) / math.hypot(c, d), abs=6e-4
        )


def test_shares_at_a_temperature() -> None:
    for match, answer in asked("sampling", r"Logits (.+); temperature (.+)\. What"):
        logits, t = np.array(numbers_in(match[1].replace(", ", " "))), float(match[2])
        assert float(answer[:-1]) == pytest.approx(
            100 * math.exp(logits[0] / t) / sum(math.exp(z / t) for z in logits), abs=0.051
        )


def test_top_p_by_adding_up() -> None:
    for match, answer in asked("sampling", r"Six tokens have (.+)\. How many does top-p with p = (.+) keep"):
        shares, limit = [number / 100 for number in numbers_in(match[1])], float(match[2])
        assert sum(shares) == pytest.approx(1)
        running, kept = 0.0, 0
        while running < limit - 1e-9:
            running, kept = running + shares[kept], kept + 1
        assert int(answer) == kept


def test_slopes() -> None:
    for match, answer in asked("backpropagation", r"x = (.+) and y = (.+)\. What"):
        [x], [y] = numbers_in(match[1]), numbers_in(match[2])
        assert float(answer.replace("−", "-")) == y + 2 * x


def test_weights_of_two_keys() -> None:
    for match, answer in asked("attention", r"width (\d+) has the dot products (\d+) and (\d+)"):
        width, a, b = map(int, match.groups())
        assert float(answer[:-1]) == pytest.approx(100 / (1 + math.exp((b - a) / math.sqrt(width))), abs=0.051)


def test_first_steps_of_adam_are_the_learning_rate() -> None:
    for match, answer in asked("optimizers", r"learning rate (\S+)\. The"):
        assert float(answer) == float(match[1])


def test_guessing() -> None:
    for match, answer in asked("training", r"all ([\d,]+) tokens"):
        assert numbers_in(answer)[0] == pytest.approx(math.log(numbers_in(match[1])[0]), abs=0.006)


def test_tilted_policies() -> None:
    for match, answer in asked("post-training", r"an answer (\d+)%\. Its reward is (\d), .* β = (\S+)\."):
        share, reward, beta = int(match[1]) / 100, int(match[2]), float(match[3])
        odds = share / (1 - share) * math.exp(reward / beta)
        assert float(answer[:-1]) == pytest.approx(100 * odds / (1 + odds), abs=0.051)


def test_shared_heads() -> None:
    for match, answer in asked("multi-head", r"(\d+) query heads share (\d+) .* query head (\d+) read"):
        heads, shared, h = map(int, match.groups())
        assert int(answer) == h * shared // heads


def test_positions() -> None:
    for match, answer in asked("rope", r"at position (\d+) meets a key at position (\d+)"):
        a, b = map(int, answer.split(" and "))
        assert a - b == int(match[1]) - int(match[2])
    for match, answer in asked("rope", r"base ([\d,]+), heads (\d+)"):
        base, d = numbers_in(match[1])[0], int(match[2])
        assert numbers_in(answer)[0] == pytest.approx(2 * math.pi * base ** ((d - 2) / d), abs=1)


def test_published_totals() -> None:
    for match, answer in asked("block", r"has (\d+) blocks of width ([\d,]+).*vocabulary ([\d,]+)"):
        layers, width, vocabulary = (int(number.replace(",", "")) for number in match.groups())
        mixture = "experts" in match[0]  # without them Mixtral would be Mistral
        [config] = [
            c for c in CONFIGS.values()
            if (c.layers, c.width, c.vocabulary, c.experts > 1) == (layers, width, vocabulary, mixture)
        ]  # fmt: skip
        assert config.parameters == numbers_in(answer)[0]


def test_cache() -> None:
    for match, answer in asked("kv-cache", r"prompt of (\d+) tokens, (\d+) tokens generated"):
        p, g = map(int, match.groups())
        assert numbers_in(answer)[0] == sum(p + i for i in range(1, g + 1))
    for match, answer in asked("kv-cache", r"^(.+) keeps keys and values .* do ([\d,]+) tokens"):
        c, n = CONFIGS[match[1]], numbers_in(match[2])[0]
        assert numbers_in(answer)[0] == pytest.approx(n * 4 * c.layers * c.kv_heads * c.head_dim / 1e9, rel=6e-3)


def test_codes() -> None:
    for match, answer in asked("quantization", r"^(.+) are quantized .* to (\d) bits\. Which code does (.+) get"):
        x, bits, [one] = numbers_in(match[1].replace(", ", " ")), int(match[2]), numbers_in(match[3])
        scale = max(map(abs, x)) / (2 ** (bits - 1) - 1)
        assert float(answer.replace("−", "-")) == round(one / scale)


def test_a_question_repeats_until_its_choices_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    tries = []

    def alike(rng: np.random.Generator) -> self_test.Asked:
        tries.append(1)
        same = self_test.Choice("1" if len(tries) < 4 else "2", "So.")
        return "?", [self_test.Choice("1", "Yes."), same]

    monkeypatch.setitem(QUESTIONS, "alike", [alike])
    assert len({choice.say for choice in question("alike", 1).choices}) == 2
    assert len(tries) == 4
