"""Everything that the page "Proof" claims: each check holds, each golden is used, and each known mistake is noticed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from engine import proofs
from engine.mistakes import MISTAKES, MODEL_MISTAKES, broken_differences, broken_run, with_mistake
from engine.proof_list import HAND_SIZED, LIBRARIES, checks, groups, hashed_files, reference_versions, versions
from engine.proof_model import WAYS_OF_A_TEXT, differences, of_text, stored_of, texts
from engine.proofs import GRADIENT, KINDS, Check, golden, largest_difference, made, relative_error, stored
from engine.sampling import softmax


@pytest.mark.parametrize("check", HAND_SIZED, ids=lambda check: f"{check.chapter}: {check.name}, {check.against}")
def test_holds(check: Check) -> None:
    found = made(check)
    assert found.passed, f"off by {found.error:.1e}, allowed {check.limit:.0e}"


@pytest.mark.model
@pytest.mark.parametrize("check", checks("model"), ids=lambda check: check.name)
def test_holds_in_the_real_model(check: Check) -> None:
    found = made(check)
    assert found.passed, f"off by {found.error:.1e}, allowed {check.limit:.0e}"


def test_the_list_is_in_order() -> None:
    names = [(check.chapter, check.name, check.against) for check in [*HAND_SIZED, *checks("model")]]
    assert len(set(names)) == len(names)
    assert [len(checks(group)) for group in groups()[:-1]] == [
        sum(check.chapter == group for check in HAND_SIZED) for group in groups()[:-1]
    ]
    assert checks("all") == HAND_SIZED
    assert all(check.kind in KINDS for check in HAND_SIZED)
    with pytest.raises(ValueError, match="no checks for a chapter called soup"):
        checks("soup")


def test_every_stored_result_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing lies in the golden file that no check reads; YaRN is compared in test_rope.py, where definitions meet."""
    read = set()

    class Watched(dict):
        def __getitem__(self, name):
            read.add(name)
            return super().__getitem__(name)

    watched = Watched(stored("functions"))
    original = proofs.stored
    monkeypatch.setattr(proofs, "stored", lambda file: watched if file == "functions" else original(file))
    for check in HAND_SIZED:
        if check.kind == proofs.REFERENCE:
            made(check)
    unread = {name for name in watched if not name.startswith("in_") and name not in read} - {"made_with"}
    assert {name for name in unread if "yarn" not in name and not name.endswith("_magnitude")} == set()


# A check can fail -----------------------------------------------------------------------------------------------------


def test_errors_are_measured_as_said() -> None:
    assert relative_error([1.0, 4.2], [1.0, 4.0]) == pytest.approx(0.05)
    assert relative_error([0.0, -np.inf], [0.0, -np.inf]) == 0
    assert relative_error([0.5], [0.0]) == 0.5
    for other in ([1.0], [1.0, np.inf], [1.0, np.nan]):
        assert relative_error(other, [1.0, 2.0]) == np.inf
    assert largest_difference([1.0, 2.0], [1.5, 2.1]) == 0.5


def test_no_number_is_no_proof() -> None:
    check = Check("x", softmax, "", "", lambda f: float("nan"), 1.0)
    assert made(check).error == np.inf
    assert not made(check).passed
    wrong = golden("sampling", softmax, "", "", "softmax_f32", lambda f: f(proofs.given("logits")))
    assert made(wrong).error == np.inf, "float64 where float32 is promised"


def test_a_function_that_breaks_is_caught_and_an_own_one_that_breaks_is_an_error() -> None:
    def broken(*args: object, **options: object) -> None:
        raise TypeError("no")

    check = next(check for check in HAND_SIZED if check.function is softmax)
    assert made(check, broken).error == np.inf
    with pytest.raises(TypeError):
        made(Check("x", broken, "", "", lambda f: f(), 1.0))


@pytest.mark.parametrize("name", MISTAKES)
def test_every_mistake_is_noticed_by_some_check_and_not_by_all(name: str) -> None:
    found = with_mistake(name)
    assert found, "the function has checks"
    assert any(not check.passed for check in found)
    assert any(check.passed for check in found)


def test_gradient_checks_do_not_see_a_wrong_formula_and_stored_results_do_not_see_a_wrong_gradient() -> None:
    """Why both are needed."""
    assert all(found.passed for found in with_mistake("pairs") if found.check.kind == GRADIENT)
    caught = {found.check.kind for found in with_mistake("constant") if not found.passed}
    assert caught == {GRADIENT}
    maximum = [found.check.case for found in with_mistake("maximum") if not found.passed]
    assert maximum == ["scores of 400, float32"]


def test_unknown_mistakes_and_texts_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="no mistake called soup"):
        with_mistake("soup")
    with pytest.raises(ValueError, match="no stored text called soup"):
        stored_of("soup")


# The real model -------------------------------------------------------------------------------------------------------


@pytest.mark.model
def test_mistakes_in_the_real_model_are_noticed_though_it_goes_on_saying_paris(smollm2) -> None:
    golden_of = {name: stored_of(name) for name in ("france", "german")}
    says = {}
    for name in MODEL_MISTAKES:
        found = [broken_differences(smollm2, text, name) for text in golden_of.values()]
        assert all(difference.passed == (name == "none") for difference in found), name
        says[name] = int(np.argmax(broken_run(smollm2, golden_of["france"].ids, name)["logits"][-1]))
    assert sum(token == 7042 for token in says.values()) >= 6
    assert says["pairs"] == says["half"] == 7042
    ahead = broken_differences(smollm2, golden_of["france"], "ahead")
    assert ahead.loss < ahead.their_loss - 0.3, "seeing the answer makes the loss better"
    with pytest.raises(ValueError, match="no mistake called soup"):
        broken_run(smollm2, [1], "soup")


@pytest.mark.model
def test_a_run_without_a_mistake_is_the_run(smollm2) -> None:
    golden_of = stored_of("france")
    found = differences(smollm2.trace(golden_of.ids), golden_of)
    np.testing.assert_array_equal(found.log_p, of_text("france").log_p)
    assert len(texts()) == 12


@pytest.mark.model
@pytest.mark.parametrize("name", WAYS_OF_A_TEXT)
@pytest.mark.parametrize("ids", [[5], [5, 5, 5, 5], [9906, 17, 33, 2, 0, 1, 49151]], ids=len)
def test_two_ways_agree_on_any_text(smollm2, name: str, ids: list[int]) -> None:
    measure, _, limit = WAYS_OF_A_TEXT[name]
    assert measure(smollm2, ids) <= limit


# Versions and hashes --------------------------------------------------------------------------------------------------


def test_versions_are_told() -> None:
    assert list(versions()) == ["Python", *LIBRARIES]
    made_with = reference_versions()
    assert set(made_with) >= {"functions.npz", "smollm2.npz", "tokenization_smollm2.json"}
    assert "torch" in made_with["functions.npz"]
    assert "transformers" in made_with["smollm2.npz"]


def test_files_have_their_pinned_hashes() -> None:
    files = {file.name: file for file in hashed_files()}
    assert set(files) >= {"o200k_base.tiktoken", "cl100k_base.tiktoken", "r50k_base.tiktoken", "smollm2.tiktoken"}
    assert all(file.same and len(file.found) == 64 and file.bytes > 100_000 for file in files.values())


def test_a_missing_golden_is_a_sentence(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proofs, "GOLDENS", tmp_path)
    for read in (proofs.stored.__wrapped__, proofs.stored_json.__wrapped__):
        with pytest.raises(ValueError, match=r"tests/goldens/none\.\w+ are missing"):
            read("none")
    (tmp_path / "bad.json").write_text(json.dumps([1])[:-1])
    with pytest.raises(ValueError, match="damaged"):
        proofs.stored_json.__wrapped__("bad")
