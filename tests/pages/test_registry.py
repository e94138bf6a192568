"""What holds for every lab, question and page, whichever chapters there are: the tests walk through the registry.

Labs of the real model are marked `model`; everything else runs without its file.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app import app as APP
from ui import lab as labs
from ui.chapter import BOOK, Chapter, right_choice
from ui.controls import Control, Pick, Slider, Text, Toggle
from ui.lab import LABS, Lab
from ui.server import code_page
from ui.shell import page_layout
from ui.static import to_html

ROOT = Path(__file__).resolve().parents[2]
CHAPTERS = {slug: BOOK.chapters[slug] for slug in sorted(BOOK.chapters)}
WRITTEN = {slug: chapter for slug, chapter in CHAPTERS.items() if chapter.sections}


def settings_of(lab: Lab) -> dict[str, Any]:
    """The lab's defaults; of a long lab, settings with which it can be run here and now."""
    return lab.defaults() | dict(lab.long.quick if lab.long else {})


def of_labs(wanted: Mapping[str, Lab] = LABS) -> list[Any]:
    """Labs as test parameters, those of the real model marked."""
    return [pytest.param(lab, id=name, marks=[pytest.mark.model] if lab.real else []) for name, lab in wanted.items()]


each_lab = pytest.mark.parametrize("lab", of_labs())
each_page = pytest.mark.parametrize("path", [entry.path for entry in BOOK.entries])
each_chapter = pytest.mark.parametrize("chapter", WRITTEN.values(), ids=WRITTEN)

AWKWARD_TEXT = [
    "",
    " \n\n\t ",
    "\0",
    "a\0b\x07c",
    "half \ud83d pair \udc00\udc00",
    "\u202eright to left\u202c \u200fاللغة العربية",
    "<script>alert(1)</script>",
    "<|endoftext|><|im_start|>user",
    "🤷🏽‍♀️ 漢字 ßçð\u0301\u0301 ﷽",
    "{braces} {{key|text}} %s \\n \\text{x} $x$ ''' \"\"\"",
    "__import__('os').system('true')",
    "2 + 2 * 3 ** 2 ** 9999",
    "x" * 100_000,
    "漢 " * 5_000,
]
AWKWARD_VALUES = [
    None,
    True,
    False,
    [],
    [1],
    {},
    {"a": {"b": [None]}},
    0,
    -1,
    2**63,
    10**400,
    1e308,
    -1e308,
    5e-324,
    math.nan,
    math.inf,
    -math.inf,
    "1e999",
    "NaN",
]
GARBAGE = AWKWARD_VALUES + AWKWARD_TEXT


# --- what a lab answers -----------------------------------------------------------------------------------------------

UNFIT = re.compile(
    r"object at 0x|Traceback|\b\w+(Error|Exception)\b|\bNoneType\b|\bndarray\b|dtype=|array\(|site-packages|\bnp\.|"
    r"\bfloat(32|64)\b \d|\bnan\b"
)


def check(lab: Lab, shown: Mapping[str, Any]) -> None:
    """An answer of `compute` is a picture with its sentence, or a plain sentence that says why there is none."""
    plain = json.dumps(shown, allow_nan=False)
    assert json.loads(plain) == json.loads(orjson.dumps(shown))
    assert shown["values"].keys() == {control.name for control in lab.all_controls}
    for name, note in shown["notes"].items():
        assert is_plain(note), (name, note)
    typed = [value for value in shown["values"].values() if isinstance(value, str)]
    if "error" in shown:
        assert is_plain(shown["error"], typed), shown["error"]
        assert "picture" not in shown
        return
    if lab.long and "picture" not in shown:
        return  # nobody has run it with these settings
    assert shown["picture"]["kind"]
    assert is_plain(shown["sentence"], typed), shown["sentence"]
    if not any("\ufffd" in text for text in typed):
        assert "\ufffd" not in json.dumps([shown["picture"], shown["sentence"], shown["formula"]], ensure_ascii=False)
    assert shown["formula"] == "" or shown["formula"].startswith("<math")
    # A formula is put on the page as markup: nothing in it may come from a reader.
    assert not any(text in shown["formula"] for text in typed if "<" in text and len(text) > 1)
    for picture in pictures(shown["picture"]):
        check_picture(lab, picture)


def is_plain(sentence: str, typed: list[str] | tuple[()] = ()) -> bool:
    """Words for a reader that end like a sentence. What the reader typed may stand in it, whatever it is."""
    for text in sorted(typed, key=len, reverse=True):
        if text.strip():  # an encoder may have made it lower case
            sentence = re.sub(re.escape(text), "…", sentence, flags=re.IGNORECASE)
    return sentence.rstrip(" ”\"')").endswith((".", "?", ":", "!", "…")) and not UNFIT.search(sentence)


def pictures(picture: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The picture and all that it is made of."""
    yield picture
    for part in [*picture.get("parts", []), *([picture["part"]] if "part" in picture else [])]:
        yield from pictures(part)


def check_picture(lab: Lab, picture: Mapping[str, Any]) -> None:
    """What a painter relies on: matrices are rectangular, names fit, and picks name a control of the lab."""
    names = {control.name for control in lab.controls}
    picks = picture.get("pick") or []
    assert set([picks] if isinstance(picks, str) else picks) <= names, picks
    if picture["kind"] in ("grid", "heatmap"):
        shape = [len(line) for line in picture["values"]]
        assert shape
        assert len(set(shape)) == 1, "rows of one length"
        assert len(picture.get("rows", picture["values"])) == len(shape), picture["title"]
        assert len(picture.get("columns", picture["values"][0])) == shape[0], picture["title"]
    if picture["kind"] == "cells":
        assert [len(line) for line in picture["texts"]] == [len(line) for line in picture["shares"]]
        assert len(picture["rows"]) == len(picture["texts"])
        assert {len(line) for line in picture["texts"]} == {len(picture["columns"])}
    if picture["kind"] == "diagram":
        assert len({box["id"] for box in picture["boxes"]}) == len(picture["boxes"])
        for x, y in [point for wire in picture["wires"] for point in wire["points"]]:
            assert 0 <= x <= picture["size"][0], "wires stay inside"
            assert 0 <= y <= picture["size"][1], "wires stay inside"
    if picture["kind"] == "bars":
        assert len(picture.get("labels", [])) == len(picture["values"])
    if picture["kind"] == "histogram":
        assert len(picture["edges"]) == len(picture["values"]) + 1
    if picture["kind"] == "arcs":
        assert len(picture["labels"]) == len(picture["weights"])
        assert 0 <= picture["selected"] < len(picture["labels"])
    if picture["kind"] == "network":
        known = {node["id"] for node in picture["nodes"]}
        assert len(known) == len(picture["nodes"])
        assert all({edge["from"], edge["to"]} <= known for edge in picture.get("edges", []))
    if picture["kind"] == "curve":
        assert all(len(series["x"]) == len(series["y"]) for series in picture.get("series", []))
    if picture["kind"] == "quiz":
        assert all(len(item["choices"]) == len(item["replies"]) > item["right"] >= 0 for item in picture["items"])
    if picture["kind"] == "tokens" and "shares" in picture:
        assert len(picture["shares"]) == len(picture["pieces"])


@each_lab
def test_a_lab_shows_something_with_its_defaults(lab: Lab) -> None:
    shown = labs.compute(lab, settings_of(lab) if lab.long else {}, wait=True)
    assert "error" not in shown, shown.get("error")
    assert shown["picture"]
    assert shown["values"] == settings_of(lab)
    assert not shown["notes"]
    check(lab, shown)
    assert "{{" not in re.sub(r"\{\{[^|{}]+\|[^{}]*\}\}", "", shown["sentence"]), "every {{key|text}} is well formed"


@each_lab
def test_a_lab_answers_at_the_edges_of_its_controls(lab: Lab) -> None:
    for values in edges(lab):
        shown = labs.compute(lab, values)
        check(lab, shown)
        if not any(isinstance(control, Text) for control in lab.all_controls):
            assert "error" not in shown, (values, shown["error"])
            assert shown["values"] == values


def garbage_for(lab: Lab) -> list[Any]:
    """All of it; of the texts a real-model lab gets every fourth, the next lab the next ones: each runs the model."""
    share = sorted(name for name in LABS if LABS[name].real).index(lab.id) % 4 if lab.real else None
    return GARBAGE if share is None else AWKWARD_VALUES + AWKWARD_TEXT[share::4]


@each_lab
def test_a_lab_answers_whatever_is_sent(lab: Lab, caplog: pytest.LogCaptureFixture) -> None:
    """One control at a time, then all at once. None of it is an accident of the lab's own: nothing is logged."""
    measured = set()
    for junk in garbage_for(lab):
        for names in [
            *([control.name] for control in lab.all_controls),
            [control.name for control in lab.all_controls],
        ]:
            sent = dict.fromkeys(names, junk)
            came_to = json.dumps(lab.clean(sent)[0], sort_keys=True)
            if lab.cached or came_to not in measured:  # what measures time would run anew for the same values
                check(lab, labs.compute(lab, sent))
            measured.add(came_to)
    assert not caplog.records, [record.getMessage() for record in caplog.records]


@settings(deadline=None, max_examples=20)
@given(data=st.data())
@pytest.mark.parametrize("lab", of_labs({name: lab for name, lab in LABS.items() if not lab.real and lab.cached}))
def test_a_lab_answers_any_text_and_any_number(lab: Lab, data: st.DataObject) -> None:
    values = {control.name: data.draw(sent_to(control), label=control.name) for control in lab.controls}
    check(lab, labs.compute(lab, values))


def sent_to(control: Control) -> st.SearchStrategy[Any]:
    """Mostly what a control can have, sometimes anything."""
    if isinstance(control, Slider):
        steps = int((control.high - control.low) / control.step)
        return st.integers(0, steps).map(lambda k: control.low + k * control.step)
    if isinstance(control, Text):
        return st.text(max_size=60) | st.sampled_from(AWKWARD_TEXT)
    if isinstance(control, Pick):
        return st.integers(-2, 40)
    return st.sampled_from([*control.extremes(), *GARBAGE[:12]])


def edges(lab: Lab) -> list[dict[str, Any]]:
    """Each control at each of its extremes with the others as they are, then all low and all high."""
    found = [lab.defaults() | {control.name: value} for control in lab.all_controls for value in control.extremes()]
    for end in (0, -1):
        found.append({control.name: control.extremes()[end] for control in lab.all_controls})
    return found


# --- declarations -----------------------------------------------------------------------------------------------------


def test_labs_have_ids_of_their_own_and_stand_on_their_page() -> None:
    assert len({lab.id for lab in LABS.values()}) == len(LABS)
    for name, lab in LABS.items():
        assert lab.id == name
        assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", lab.name), "a short name that stands in links"
    for chapter in CHAPTERS.values():
        placed = [lab.name for lab in chapter.placed_labs]
        assert sorted(placed) == sorted(chapter.labs), f"{chapter.slug}: every lab stands on its page, once"


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_a_lab_declares_all_that_a_reader_is_told(lab: Lab) -> None:
    assert lab.title.strip()
    assert lab.provenance.strip()
    assert lab.snippet.strip()
    wide, phone = lab.room
    assert 40 <= wide <= phone
    for control in lab.controls:
        assert re.fullmatch(r"[a-z][a-z0-9_]*", control.name), control.name
        assert control.label.strip(), control.name
        assert control.clean(control.default) == (control.default, ""), f"{control.name}: the default is allowed"
        for value in control.extremes():
            assert control.clean(value) == (value, "")
    labels = [control.label for control in lab.controls if not isinstance(control, Pick)]
    assert len(set(labels)) == len(labels), "a label names one control"


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_what_a_preset_sets_is_allowed_and_changes_something(lab: Lab) -> None:
    for preset in lab.presets:
        assert preset.label.strip()
        check_values(lab, preset.values)


def check_values(lab: Lab, sent: Mapping[str, Any]) -> None:
    """Settings that the page offers name the lab's controls, and lie within what these allow."""
    assert sent, "sets something"
    assert set(sent) <= {control.name for control in lab.controls}, set(sent)
    _, notes = lab.clean(sent)
    assert not notes, notes
    for name, value in sent.items():
        control = lab.by_name[name]
        if isinstance(control, Slider):
            assert control.clean(value)[0] == pytest.approx(float(value), abs=1e-9), f"{name}={value} is on a step"


@each_lab
def test_every_preset_shows_something(lab: Lab) -> None:
    for preset in lab.presets:
        shown = labs.compute(lab, preset.values)
        assert "error" not in shown, (preset.label, shown["error"])


# --- links ------------------------------------------------------------------------------------------------------------


def reopened(lab: Lab, link: str) -> dict[str, Any]:
    """The values that a link's query gives, as Flask and as Dash read it."""
    for query in (dict(parse_qsl(link, keep_blank_values=True)), parse_qs(link, keep_blank_values=True)):
        values, notes = lab.clean(lab.from_query(query))
        assert not notes
    return values


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_a_link_brings_the_values_back(lab: Lab) -> None:
    assert lab.query(lab.defaults()) == ""
    for sent in [*edges(lab), *(dict(preset.values) for preset in lab.presets)]:
        values, _ = lab.clean(sent)
        assert reopened(lab, lab.query(values)) == values
    for junk in GARBAGE:
        values, _ = lab.clean({control.name: junk for control in lab.all_controls})
        assert reopened(lab, lab.query(values)) == values


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_a_link_brings_any_values_back(data: st.DataObject) -> None:
    lab = data.draw(st.sampled_from(list(LABS.values())))
    values, _ = lab.clean({control.name: data.draw(sent_to(control)) for control in lab.all_controls})
    assert reopened(lab, lab.query(values)) == values


def test_labs_of_a_page_do_not_share_names_in_links() -> None:
    for chapter in CHAPTERS.values():
        keys = [lab.key(control.name) for lab in chapter.labs.values() for control in lab.controls]
        assert len(set(keys)) == len(keys)
        assert "s" not in keys


# --- code -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_the_code_drawer_shows_engine_functions_and_a_snippet(lab: Lab) -> None:
    assert lab.runs
    for name, source in labs.sources(lab):
        assert name.startswith("engine."), name
        tree = ast.parse(source)
        assert isinstance(tree.body[0], (ast.FunctionDef, ast.ClassDef)), name
    assert "What ran" in code_page(lab, lab.defaults())


@pytest.mark.parametrize("lab", LABS.values(), ids=LABS)
def test_a_snippet_is_python_whatever_the_reader_typed(lab: Lab) -> None:
    for junk in [None, *GARBAGE]:
        values, _ = lab.clean({control.name: junk for control in lab.all_controls})
        tree = ast.parse(labs.snippet(lab, values))
        code_page(lab, values)
        for control in lab.all_controls:
            text = values[control.name]
            if control.name == "sentence" and "{sentence" not in lab.snippet:
                continue  # a lab may look at the model's weights alone
            if isinstance(control, Text) and len(text) > 5 and "(" in text:
                called = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
                assert not any(ast.unparse(call) in text for call in called if ast.unparse(call).startswith("__"))
                assert any(isinstance(node, ast.Constant) and node.value == text for node in ast.walk(tree))


def run(lab: Lab, values: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that the snippet defines, run as in a shell in the project's folder."""
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {"__name__": "__main__"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(labs.snippet(lab, values), f"<snippet of {lab.id}>", "exec"), names)
    return names


@each_lab
def test_the_snippet_gives_the_shown_numbers(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    if lab.long:
        names, data = run(lab, settings_of(lab), monkeypatch), labs.data_of(lab, settings_of(lab), wait=True)
        shared = [name for name in data if name in names]
        assert shared
        assert all(equal(names[name], data[name]) for name in shared)
        return
    low = {control.name: control.extremes()[0] for control in lab.controls if not isinstance(control, Text)}
    high = {control.name: control.extremes()[-1] for control in lab.controls if not isinstance(control, Text)}
    awkward = {c.name: 'It\'s "so" {odd} \\n 🤷 漢' for c in lab.all_controls if isinstance(c, Text)}
    for number, sent in enumerate(({}, low, high, awkward)):
        values, _ = lab.clean(sent)
        if number and "error" in labs.compute(lab, values):
            continue
        data = labs.data_of(lab, values)
        names = run(lab, values, monkeypatch)
        shared = [name for name in data if name in names]
        assert shared, f"defines one of {sorted(data)}"
        if lab.cached:  # what measures time gives other numbers each time
            assert all(equal(names[name], data[name]) for name in shared), (sent, shared)


def equal(mine: Any, theirs: Any) -> bool:
    """Equal words, numbers that agree to float32, or collections of such."""
    a, b = np.asarray(mine), np.asarray(theirs)
    if a.dtype.kind in "fciub" and b.dtype.kind in "fciub":
        return a.shape == b.shape and bool(np.allclose(a, b, rtol=1e-5, atol=1e-6, equal_nan=True))
    return a.shape == b.shape and bool(np.all(a.astype(str) == b.astype(str)))


# --- questions --------------------------------------------------------------------------------------------------------


def needs_model(chapter: Chapter, question: Mapping[str, Any]) -> bool:
    """Does the question ask about a lab that runs the real model?"""
    return "lab" in question and chapter.labs[question["lab"]].real


QUESTIONS = [
    pytest.param(chapter, i, id=f"{slug}-{i}", marks=[pytest.mark.model] if needs_model(chapter, question) else [])
    for slug, chapter in CHAPTERS.items()
    for i, question in enumerate(chapter.questions)
]


@pytest.mark.parametrize(("chapter", "index"), QUESTIONS)
def test_a_question_has_one_right_choice_computed_by_the_engine(chapter: Chapter, index: int) -> None:
    question = chapter.questions[index]
    choices = question["choice"]
    values = [choice["value"] for choice in choices]
    assert len(choices) >= 2
    assert len({json.dumps(value) for value in values}) == len(values), "no two choices are the same"
    assert all(choice["say"].strip() and choice["why"].strip() for choice in choices), "a reply to each choice"
    computed = chapter.compute_answer(question)
    assert type(computed) in (bool, int, float, str), "plain values: NumPy's truth values are none"
    if isinstance(computed, (bool, str)):
        assert [type(value) is type(computed) and value == computed for value in values].count(True) == 1
    else:
        off = sorted(abs(value - computed) for value in values)
        assert off[0] < 0.5 * off[1], f"{computed} is clearly nearest to one of {values}"
    right = right_choice(question, computed)
    for number in range(len(choices)):
        verdict = chapter.judge({"question": index, "choice": number, "values": None})
        assert verdict["right"] == right
        assert verdict["choice"] == number
        assert "{value}" not in verdict["say"]
        assert verdict["say"].strip()
        json.dumps(verdict, allow_nan=False)


@pytest.mark.parametrize(("chapter", "index"), QUESTIONS)
def test_a_question_about_the_readers_own_settings_is_judged_by_them(chapter: Chapter, index: int) -> None:
    question = chapter.questions[index]
    if "lab" not in question:
        return
    for values in [*edges(chapter.labs[question["lab"]]), {"x": 1}, [], None, "x"]:
        verdict = chapter.judge({"question": index, "choice": 0, "values": values})
        assert verdict["say"].strip()
        json.dumps(verdict, allow_nan=False)


@each_chapter
def test_a_chapter_asks_and_its_answers_are_all_used(chapter: Chapter) -> None:
    assert {question["answer"] for question in chapter.questions} == set(chapter.answers)
    if chapter.entry.number:
        assert 2 <= len(chapter.questions) <= 6  # more than a few are a test, not a pause


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)
@pytest.mark.parametrize("junk", [None, True, -1, 10**30, 1e308, math.nan, "x", [], {}], ids=repr)
def test_a_broken_guess_gets_a_sentence(chapter: Chapter, junk: Any) -> None:
    for guess in ({}, {"question": junk}, {"question": 0, "choice": junk}, {"question": junk, "choice": junk}):
        verdict = chapter.judge(guess)
        assert verdict["say"].strip()
        json.dumps(verdict, allow_nan=False)


# --- pages ------------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """The parts of a page that the tests ask for."""

    def __init__(self, markup: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._skipped = 0
        self.feed(markup)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._skipped += tag in ("script", "style", "pre", "code")

    def handle_endtag(self, tag: str) -> None:
        self._skipped -= tag in ("script", "style", "pre", "code")

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self.words.append(data)

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def having(self, attribute: str) -> list[dict[str, str]]:
        return [attributes for _, attributes in self.elements if attribute in attributes]


def page(path: str) -> Page:
    """The first response to an address."""
    return Page(APP.server.test_client().get(path).get_data(as_text=True))


@each_page
def test_ids_are_unique_and_everything_that_refers_to_one_finds_it(path: str) -> None:
    found = page(path)
    ids = Counter(attributes["id"] for attributes in found.having("id"))
    assert [name for name, count in ids.items() if count > 1] == []
    for attribute in ("for", "aria-labelledby", "aria-describedby", "aria-controls"):
        for attributes in found.having(attribute):
            assert set(attributes[attribute].split()) <= set(ids), (attribute, attributes)


@each_page
def test_every_control_has_a_label(path: str) -> None:
    found = page(path)
    labelled = {attributes.get("for") for attributes in found.all("label")}
    for tag in ("input", "select", "textarea"):
        for attributes in found.all(tag):
            named = attributes.get("id") in labelled or attributes.get("aria-label")
            assert named or attributes.get("type") == "hidden", attributes


@each_page
def test_a_page_says_what_it_is(path: str) -> None:
    found = page(path)
    entry = BOOK.at(path)
    assert found.all("html")[0]["lang"] == "en"
    assert len(found.all("h1")) == 1
    assert len(found.all("main")) == 1
    [description] = [a["content"] for a in found.all("meta") if a.get("name") == "description"]
    assert description == entry.idea
    assert all("alt" in attributes for attributes in found.all("img"))
    levels = [int(tag[1]) for tag, _ in found.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), f"no level is left out: {levels}"


@each_page
def test_nothing_of_the_markdown_is_left_over(path: str) -> None:
    text = to_html(page_layout(BOOK.at(path), {}))
    words = " ".join(Page(text).words)
    assert not re.search(r"\{\{|\}\}|:::|\]\(|\*\*|\$[^$\d]|\\[a-z]+\{", words)


@each_page
def test_links_lead_somewhere(path: str) -> None:
    client = APP.server.test_client()
    own = {attributes["id"] for attributes in page(path).having("id")}
    for address in {attributes["href"] for attributes in page(path).all("a")}:
        parts = urlsplit(address)
        if parts.scheme:
            assert parts.scheme == "https", address
            assert parts.netloc, address
            continue
        target = parts.path or path
        assert client.get(target).status_code == 200, address
        if parts.fragment:
            there = own if target == path else {a["id"] for a in page(target).having("id")}
            assert parts.fragment in there, address
        if parts.query:
            keys = {lab.key(c.name) for lab in LABS.values() for c in lab.all_controls}
            assert {name for name, _ in parse_qsl(parts.query)} <= keys, address


@each_page
def test_terms_and_setters_on_a_page_exist(path: str) -> None:
    found = page(path)
    for attributes in found.having("data-term"):
        assert attributes["data-term"] in BOOK.terms
    for attributes in found.having("data-set"):
        assert attributes["data-set"] in LABS, attributes
        check_values(LABS[attributes["data-set"]], json.loads(attributes["data-values"]))


@each_chapter
def test_a_chapter_says_what_it_left_out_and_where_its_numbers_are_from(chapter: Chapter) -> None:
    prose = "".join(section.content for section in chapter.sections if section.kind == "prose")
    headings = re.findall(r"<h2>(.*?)</h2>", prose)
    if chapter.entry.number:
        assert headings[-2:] == ["What we simplified", "Where the numbers come from"]
        sources = prose.rpartition("<h2>Where the numbers come from</h2>")[2]
        assert re.search(r'href="https://', sources), "with its sources as links"
    assert chapter.numbers.keys() <= set(re.findall(r"\{\{ *(\w+) *\}\}", markdown(chapter))), "every number is used"


def markdown(chapter: Chapter) -> str:
    return (chapter.folder / f"{chapter.file}.md").read_text("utf-8")


@each_chapter
def test_computed_numbers_are_computed(chapter: Chapter) -> None:
    for name, function in chapter.numbers.items():
        value = function()
        assert type(value) in (int, float, str), f"{name} is a {type(value).__name__}"
        assert value == value


@pytest.mark.parametrize("chapter", CHAPTERS.values(), ids=CHAPTERS)
def test_hand_sized_labs_have_their_first_picture_in_the_first_response(chapter: Chapter) -> None:
    first = chapter.first_answers({})
    for lab in chapter.placed_labs:
        if lab.real or lab.long or not lab.cached:
            assert "picture" not in first[lab.id]["first"]
        else:
            assert first[lab.id]["first"]["picture"]


def test_every_term_is_one_line() -> None:
    for name, text in BOOK.terms.items():
        assert re.fullmatch(r"[^\n]{10,260}[.?]", text), name


def test_the_book_is_in_order() -> None:
    numbers = [entry.number for entry in BOOK.entries]
    assert numbers == list(range(len(numbers)))
    assert len({entry.path for entry in BOOK.entries}) == len(numbers)
    for entry in BOOK.entries:
        assert entry.written == (entry.slug in BOOK.chapters)
        assert (ROOT / "pages" / f"{entry.slug.replace('-', '_')}.py").is_file() == entry.written


def test_switches_are_truth_values_in_links() -> None:
    switches = [(lab, control) for lab in LABS.values() for control in lab.controls if isinstance(control, Toggle)]
    for lab, control in switches:
        for value in (True, False):
            query = lab.query(lab.defaults() | {control.name: value})
            assert query == ("" if value == control.default else f"{lab.key(control.name)}={int(value)}")
