"""What the feed-forward page says in words about its labs, computed."""

import numpy as np
import pytest

from app import app  # noqa: F401  (declares the pages)
from engine.edit_facts import FACTS
from engine.model import load
from engine.rank_one_edit import on_text, rank_one_edit
from engine.tokenization import encode
from pages import feed_forward as page
from pages._reading import piece, read
from ui.lab import DEFAULT_SENTENCE, LABS, Preset, compute, data_of

FRANCE = "The capital of France is"


def preset(lab: str, label: str) -> Preset:
    return next(found for found in LABS[f"feed-forward-{lab}"].presets if found.label == label)


def shown(lab: str, **values: object) -> dict:
    return data_of(LABS[f"feed-forward-{lab}"], values)


def test_exclusive_or_and_the_one_move_to_at_least_one():
    xor, linear = (preset("matrices", label).values for label in ("Exclusive or", "Break it: no activation"))
    for a in (0, 1):
        for b in (0, 1):
            bits = {**xor, "x1": a, "x2": b}
            np.testing.assert_array_equal(shown("matrices", **bits)["output"], [a ^ b, a & b])
            moved = shown("matrices", **bits | {"place": "w2:1:0", "nudge": 1})
            assert moved["output"][0] == (a | b)
    assert shown("matrices", **linear)["output"][0] == 2


def test_a_suppressed_neuron_has_no_say():
    moved = shown("matrices", place="w2:1:0", nudge=1)
    np.testing.assert_array_equal(moved["output"], shown("matrices")["output"])
    awake = shown("matrices", place="w2:1:0", nudge=1, x2=1.9)
    assert awake["output"][0] != shown("matrices", x2=1.9)["output"][0]
    assert not np.any(shown("matrices", **preset("matrices", "All three silent").values)["activated"])


@pytest.mark.parametrize("step", ["x", "w1", "a1", "w2", "a2"])
def test_every_part_is_written_out_with_biases_too(step):
    answer = compute(LABS["feed-forward-matrices"], {"step": step, "first": "1 2 3; 4 5 6; 7 -8 9"})
    assert answer["formula"].startswith("<math")


def test_weights_that_do_not_fit_get_a_sentence():
    for first in ("", "1 2; 3 4", "a b c; 1 2 3", "1 2 3; 4 5 1e3"):
        assert "W1" in compute(LABS["feed-forward-matrices"], {"first": first})["error"]


def test_the_gate_that_costs_as_much_as_plain_four_times():
    plain = shown("count", model="SmolLM2-135M", factor=4, gated=False)["yours"]
    gated = {f / 10: shown("count", model="SmolLM2-135M", factor=f / 10, gated=True)["yours"] for f in range(20, 40)}
    assert min(gated, key=lambda f: abs(gated[f] - plain)) == 2.7


def test_the_recorded_edits_say_what_the_page_says():
    run = page.recorded()

    def mean(what: str, kind: str = "statistics") -> np.ndarray:
        return np.mean([[entry[what] for entry in fact[kind]] for fact in run["facts"].values()], axis=0)

    assert run["layers"][int(np.argmax(mean("reworded") * mean("other")))] == 7, "on average an early layer is best"
    assert np.sum(mean("reworded", "key")) > np.sum(mean("reworded")), "plain keys: more reach"
    assert np.sum(mean("other", "key")) < np.sum(mean("other")), "and more damage"
    hamlet = dict(zip(run["layers"], (e["edited"] for e in run["facts"]["hamlet"]["statistics"]), strict=True))
    assert hamlet[22] < 0.2
    assert hamlet[19] > 0.8 < hamlet[25]
    eiffel = run["facts"]["eiffel"]
    assert max(eiffel["restored"]) < 0.1 * eiffel["clean"], "nothing brings the tower back"
    for name, fact in run["facts"].items():
        product = [entry["reworded"] * entry["other"] for entry in fact["statistics"]]
        assert name == "eiffel" or product[0] < max(product), "editing where tracing points works less well"


@pytest.mark.model
def test_the_two_readable_neurons():
    def words(sentence: str) -> tuple[set[str], np.ndarray]:
        data = shown("neurons", sentence=sentence, layer=24)
        return {piece(int(i)).strip().lower() for i in data["pushed_up"]}, data["shares"]

    too, shares = words(DEFAULT_SENTENCE)
    assert {"much", "far"} <= too
    assert np.max(shares) > 0.5
    capital, shares = words(FRANCE)
    assert {"capitals", "metropolis"} <= capital
    assert np.max(shares) > 0.5
    assert np.max(np.cumsum(np.sort(shares)[::-1])) > 1.05, "the curve rises above one"


@pytest.mark.model
def test_direct_push_and_whole_effect_mostly_agree():
    """Over the twelve strongest neurons of two layers: sign of the push on the likeliest token against what happens."""
    reading, against = read(DEFAULT_SENTENCE), 0
    for layer in (10, 20):
        data = shown("neurons", layer=layer)
        logits = reading.trace["logits"][-1]
        likeliest = int(np.argmax(logits))
        pushes = page.study.pushes_on(reading.model, reading.trace, layer, -1, likeliest)
        for neuron in np.argsort(-data["shares"])[:12]:
            without = page.study.without_neuron(reading.model, reading.trace, layer, int(neuron), len(reading.ids) - 1)
            lost = (logits - logits.mean())[likeliest] - (without - without.mean())[likeliest]
            against += np.sign(lost) != np.sign(pushes[neuron])
    assert 0 < against < 8, "of 24"


@pytest.mark.model
def test_the_edits_of_the_presets_do_what_their_words_say():
    def of(label: str) -> dict:
        return shown("edit", **preset("edit", label).values)

    clean, broad, late, half = (of(label) for label in ("A clean edit", "Too broad", "Too late", "Half a dose"))
    germany, speak = 4, 6
    assert clean["new_after"][0] > 0.9
    assert clean["answer_after"][germany] > 0.7
    assert clean["answer_after"][speak] < 0.5 * clean["answer_before"][speak], "French loses ground"
    assert broad["new_after"][0] > 0.9
    assert broad["new_after"][germany] > 0.8
    assert broad["doses"][germany] > 1.4 * clean["doses"][germany]
    assert late["new_after"][0] < 0.1
    assert half["answer_after"][0] > 0.5
    hamlet = of("Hamlet as the first word")
    assert hamlet["new_after"][0] > 0.9
    assert hamlet["new_after"][1] < 0.05, "Hamlet was written by William …"
    assert abs(hamlet["doses"][1]) < 0.3
    eiffel = page.recorded()["facts"]["eiffel"]["key"][page.rome.LAYERS.index(25)]
    assert eiffel["loss"] > 0.1, "the plain key leaks"


@pytest.mark.model
def test_what_the_prose_asks_readers_to_try_on_the_edited_model():
    model = load()
    edited = rank_one_edit(model, FACTS["france"], 7)
    rome, paris = (encode(word, "smollm2")[0] for word in (" Rome", " Paris"))

    def says(prompt: str) -> int:
        return int(np.argmax(on_text(model, edited, 7, encode(prompt, "smollm2")).after))

    assert says("The Eiffel Tower is located in the city of") == paris
    assert says("The president of France lives in") == rome
    hamlet = rank_one_edit(model, FACTS["hamlet"], 7)
    first = [probe.prompt for probe in FACTS["hamlet"].probes].index("Hamlet was written by William")
    assert abs(hamlet.doses[first]) < 0.2
    assert hamlet.after.new[first] < 0.02
