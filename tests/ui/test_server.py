"""The server: what malformed requests, broken links and failing labs get; headers, compression, files, downloads."""

from __future__ import annotations

import csv
import gzip
import io
import json
import logging
import re
from collections.abc import Iterator
from html import escape
from typing import Any
from urllib.parse import urlencode

import brotli
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app import app as APP
from ui import lab as labs
from ui.chapter import BOOK, Chapter
from ui.controls import Slider, Text
from ui.figures import readouts
from ui.lab import LABS, Lab

UPDATE = "/_dash-update-component"
PATHS = [entry.path for entry in BOOK.entries]
HAND_SIZED = [lab for lab in LABS.values() if not lab.real and lab.cached and not lab.long]
LAB_IDS = sorted(LABS)
PAGES_CALLBACK = ".._pages_content.children..._pages_store.data.."


def request_for(lab_id: str, value: Any) -> dict[str, Any]:
    """The body that the browser sends for a lab."""
    return {
        "output": f"{lab_id}-answer.data",
        "outputs": {"id": f"{lab_id}-answer", "property": "data"},
        "inputs": [{"id": f"{lab_id}-asked", "property": "data", "value": value}],
        "changedPropIds": [f"{lab_id}-asked.data"],
        "state": [],
    }


def pages_request(pathname: Any, search: Any) -> dict[str, Any]:
    """The body with which Dash asks for a page's layout."""
    return {
        "output": PAGES_CALLBACK,
        "outputs": [{"id": "_pages_content", "property": "children"}, {"id": "_pages_store", "property": "data"}],
        "inputs": [
            {"id": "_pages_location", "property": "pathname", "value": pathname},
            {"id": "_pages_location", "property": "search", "value": search},
        ],
        "changedPropIds": ["_pages_location.pathname", "_pages_location.search"],
        "state": [],
    }


GOOD = request_for(HAND_SIZED[0].id, {"values": HAND_SIZED[0].defaults()})


# --- malformed and huge callback requests -----------------------------------------------------------------------------


def test_a_good_request_is_answered(client: Any) -> None:
    answer = client.post(UPDATE, json=GOOD)
    assert answer.status_code == 200
    shown = answer.get_json()["response"][f"{HAND_SIZED[0].id}-answer"]["data"]
    assert shown["picture"]
    assert shown["sentence"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"{not json", "application/json", {400}),
        (b"\xff\xfe{}", "application/json", {400}),
        (b"", "application/json", {400}),
        (b"{}", "text/plain", {400, 415}),
        (b"output=x", "application/x-www-form-urlencoded", {400, 415}),
        (b"[" * 50_000, "application/json", {400, 413}),
        (b'{"output":' * 20_000 + b"1" + b"}" * 20_000, "application/json", {400, 413}),
        (b'{"output": "' + b"x" * 20_000_000 + b'"}', "application/json", {413}),
        (b'{"output": ' + b"9" * 5_000 + b"}", "application/json", {400, 404}),
        (b'{"output": NaN}', "application/json", {400, 404}),
    ],
    ids=["broken", "bytes", "empty", "plain", "form", "deep", "deeper", "20 MB", "long number", "NaN"],
)
def test_what_is_not_a_callback_request_is_refused(client: Any, body: bytes, kind: str, status: set[int]) -> None:
    assert client.post(UPDATE, data=body, content_type=kind).status_code in status


def test_a_body_without_its_length_is_refused_when_it_is_huge(client: Any) -> None:
    answer = client.post(
        UPDATE,
        input_stream=io.BytesIO(b'{"output": "' + b"x" * 2_000_000 + b'"}'),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": ""},
    )
    assert 400 <= answer.status_code < 500


JUNK: list[Any] = [None, True, 0, -1, 1.5, "x", "", [], {}, [None], [[]], [{}], {"id": 1}, "..", "a.b", [1, 2, 3]]


@pytest.mark.parametrize("key", sorted(GOOD))
@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_part_of_a_request_can_be_junk(client: Any, key: str, junk: Any) -> None:
    answer = client.post(UPDATE, json={**GOOD, key: junk})
    harmless = key in {"state", "changedPropIds"} and junk == []
    harmless |= key == "changedPropIds" and isinstance(junk, list) and all(isinstance(name, str) for name in junk)
    assert answer.status_code == 200 if harmless else 400 <= answer.status_code < 500, answer.status_code


@pytest.mark.parametrize("key", sorted(GOOD))
def test_no_part_of_a_request_may_be_missing_where_it_matters(client: Any, key: str) -> None:
    answer = client.post(UPDATE, json={name: part for name, part in GOOD.items() if name != key})
    assert answer.status_code == 200 if key in {"state", "changedPropIds"} else 400 <= answer.status_code < 500


@pytest.mark.parametrize("outputs", JUNK, ids=repr)
@pytest.mark.parametrize("good", [GOOD, pages_request("/", "")], ids=["one output", "two outputs"])
def test_outputs_must_be_the_declared_ones(client: Any, good: dict[str, Any], outputs: Any) -> None:
    assert client.post(UPDATE, json={**good, "outputs": outputs}).status_code == 400
    assert client.post(UPDATE, json={**good, "outputs": [outputs, outputs]}).status_code == 400


def test_one_output_is_not_a_list_of_one_and_two_are_not_one(client: Any) -> None:
    pages = pages_request("/", "")
    assert client.post(UPDATE, json={**GOOD, "outputs": [GOOD["outputs"]]}).status_code == 400
    assert client.post(UPDATE, json={**pages, "outputs": pages["outputs"][0]}).status_code == 400
    assert client.post(UPDATE, json={**pages, "outputs": pages["outputs"][:1]}).status_code == 400
    assert client.post(UPDATE, json={**pages, "outputs": pages["outputs"][::-1]}).status_code == 400


@pytest.mark.parametrize("query", ["cacheKey=x", "job=1&cacheKey=x", "cancelJob=1", "oldJob=1", "job=1&job=2"])
def test_questions_after_background_jobs_find_none(client: Any, query: str) -> None:
    assert client.post(f"{UPDATE}?{query}", json=GOOD).status_code < 500


@pytest.mark.parametrize("method", ["get", "put", "delete", "patch"])
def test_other_methods_are_refused(client: Any, method: str) -> None:
    assert 400 <= getattr(client, method)(UPDATE).status_code < 500


NAMES = sorted({*GOOD, *(output for output in APP.callback_map), "id", "property", "value", "values", "question"})
LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from([*NAMES, "data", "/"])
)
JSON = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=12,
)
QUICK = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUICK
@given(body=JSON)
def test_any_json_gets_an_answer_that_is_not_a_failure(client: Any, body: Any) -> None:
    answer = client.post(UPDATE, data=json.dumps(body), content_type="application/json")
    assert 400 <= answer.status_code < 500


@QUICK
@given(body=st.dictionaries(st.sampled_from(sorted(GOOD)), JSON, max_size=3))
def test_a_good_request_with_parts_exchanged_never_fails(client: Any, body: dict[str, Any]) -> None:
    answer = client.post(UPDATE, data=json.dumps({**GOOD, **body}), content_type="application/json")
    assert answer.status_code < 500


CALLBACKS = [
    call for call in APP._callback_list if not call["clientside_function"] and call["output"] != PAGES_CALLBACK
]


@settings(parent=QUICK, max_examples=200)
@given(call=st.sampled_from(CALLBACKS), value=JSON)
def test_every_callback_takes_any_value(client: Any, call: dict[str, Any], value: Any) -> None:
    output, _, prop = call["output"].rpartition(".")
    body = {
        "output": call["output"],
        "outputs": {"id": output, "property": prop},
        "inputs": [{**one, "value": value} for one in call["inputs"]],
        "changedPropIds": [],
    }
    if output.endswith("-answer") and LABS[output.removesuffix("-answer")].real:
        return  # tests/pages does this with the model
    answer = client.post(UPDATE, data=json.dumps(body), content_type="application/json")
    if output.endswith(("-job", "-stop")):
        assert 400 <= answer.status_code < 500  # tests/ui/test_jobs.py starts and stops jobs
        return
    assert answer.status_code == 200
    assert answer.get_json()["response"][output][prop] is not None


@QUICK
@given(path=JSON | st.sampled_from(PATHS), search=JSON | st.text().map("?{}".format))
def test_the_layout_callback_takes_any_address(client: Any, path: Any, search: Any) -> None:
    answer = client.post(UPDATE, data=json.dumps(pages_request(path, search)), content_type="application/json")
    assert answer.status_code < 500


def test_values_of_the_wrong_kind_become_defaults_with_a_note(client: Any) -> None:
    lab = HAND_SIZED[0]
    for sent in (None, [], "x", 5, {"values": None}, {"values": []}, {"values": {"nothing": 1}}):
        shown = client.post(UPDATE, json=request_for(lab.id, sent)).get_json()["response"][f"{lab.id}-answer"]["data"]
        assert shown["values"] == lab.defaults()


# --- pages and links --------------------------------------------------------------------------------------------------

BROKEN = [
    "abc\0<b>",
    "NaN",
    "1e999",
    "-inf",
    "9" * 5000,
    "",
    " ",
    "\u202eabc",
    "<script>alert(1)</script>",
    "<|endoftext|>",
]


@pytest.mark.parametrize("path", PATHS)
def test_every_page_answers_and_is_whole(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    page = answer.get_data(as_text=True)
    assert page.startswith("<!DOCTYPE html>")
    assert page.rstrip().endswith("</html>")
    assert "<h1" in page


@pytest.mark.parametrize("path", PATHS)
def test_unknown_and_awkward_names_in_a_link_are_ignored(client: Any, path: str) -> None:
    for name in ("self", "entry", "cls", "path", "query", "layout", "s", "present", "a.b", "", "0", "\0", "é"):
        link = urlencode({name: "1"})
        assert client.get(f"{path}?{link}").status_code == 200, name
        assert client.post(UPDATE, json=pages_request(path, f"?{link}")).status_code == 200, name


@pytest.mark.parametrize("lab_id", [lab.id for lab in HAND_SIZED])
@pytest.mark.parametrize("value", BROKEN, ids=lambda value: ascii(value[:12]))
def test_a_broken_link_opens_the_page(client: Any, lab_id: str, value: str) -> None:
    lab = LABS[lab_id]
    path = BOOK.entry(lab.chapter).path
    answer = client.get(path + "?" + urlencode({lab.key(control.name): value for control in lab.controls}))
    assert answer.status_code == 200
    page = answer.get_data(as_text=True)
    assert "<script>alert" not in page
    assert "\0" not in page
    first = boot_of(page)["labs"][lab.id]["first"]
    cleaned, _ = lab.clean({control.name: value for control in lab.controls})
    assert first["values"] == cleaned
    assert first.get("picture") or first["error"]


@pytest.mark.parametrize(
    "value", [*BROKEN, "x" * 100_000, "%ED%A0%80", "\r\nSet-Cookie: a=b"], ids=lambda value: ascii(value[:12])
)
def test_a_broken_sentence_in_a_link_opens_the_page(client: Any, value: str) -> None:
    answer = client.get("/?" + urlencode({"s": value}))
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    sentence, _ = labs.SENTENCE.clean(value)
    page = answer.get_data(as_text=True)
    assert boot_of(page)["sentence"] == sentence
    assert f'value="{escape(sentence)}"' in page


def test_bytes_that_are_no_text_in_a_link_open_the_page(client: Any) -> None:
    assert client.get("/attention?s=%ff%fe%00%ed%a0%80&%ff=%ff&&==&a=1&a=2").status_code == 200


def test_a_repeated_name_counts_once_and_alike_in_both_layouts(client: Any) -> None:
    lab = next(lab for lab in HAND_SIZED if any(isinstance(control, Slider) for control in lab.controls))
    control = next(control for control in lab.controls if isinstance(control, Slider))
    query = urlencode([(lab.key(control.name), control.high), (lab.key(control.name), control.low)])
    path = BOOK.entry(lab.chapter).path
    first = boot_of(client.get(f"{path}?{query}").get_data(as_text=True))["labs"][lab.id]["first"]["values"]
    answer = client.post(UPDATE, json=pages_request(path, "?" + query)).get_json()
    [live] = [node for node in walk(answer) if node.get("id") == lab.dom_id(control.name)]
    assert live["value"] == first[control.name]


def walk(node: Any) -> Iterator[dict[str, Any]]:
    """Every dictionary inside a JSON value."""
    if isinstance(node, dict):
        yield node
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from walk(child)


def boot_of(page: str) -> dict[str, Any]:
    """What the first response hands to the scripts."""
    found = re.search(r'<script type="application/json" id="boot">(.*?)</script>', page, re.S)
    assert found
    return json.loads(found[1])


@pytest.mark.parametrize(
    "path", ["/nope", "/attention/nope", "/favicon.ico", "/%00", "/%ff", "/a" * 1000, "/<b>", "/.env"]
)
def test_what_is_not_there_gets_a_page_that_says_so(client: Any, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    page = answer.get_data(as_text=True)
    assert "There is no such page" in page
    assert 'href="/"' in page
    assert "<b>" not in page.partition("<main")[2].partition("</main>")[0]


@pytest.mark.parametrize(
    "path",
    [
        "/own/x/nope.js",
        "/own/x/../app.py",
        "/assets/../app.py",
        "/assets/%2e%2e/app.py",
        "/assets/nope.css",
        "/_dash-component-suites/",
        "/_dash-component-suites/dash/nope.js",
        "/_dash-component-suites/nope/nope.js",
        "/_dash-component-suites/dash/../../app.py",
        "/_dash-component-suites/dash/%00",
        "/lab/nope/code",
        "/lab/nope/data.csv",
        f"/lab/{LAB_IDS[0]}/nope",
        f"/lab/{LAB_IDS[0]}/data.exe",
        "/lab/%00/code",
    ],
)
def test_files_that_are_not_there_are_404(client: Any, path: str) -> None:
    assert client.get(path).status_code == 404


def test_health_and_robots(client: Any) -> None:
    assert client.get("/healthz").get_data(as_text=True) == "OK"
    robots = client.get("/robots.txt")
    assert robots.mimetype == "text/plain"
    assert "Allow: /" in robots.get_data(as_text=True)


# --- headers ----------------------------------------------------------------------------------------------------------

EVERYWHERE = [
    *PATHS,
    "/nope",
    "/healthz",
    "/robots.txt",
    f"/lab/{LAB_IDS[0]}/code",
    "/_dash-layout",
    *APP.files.values(),
]
EVERYWHERE = [path for path in EVERYWHERE if path.startswith("/")]


@pytest.mark.parametrize("path", EVERYWHERE)
def test_every_response_is_guarded_and_sets_no_cookie(client: Any, path: str) -> None:
    answer = client.get(path)
    assert "Set-Cookie" not in answer.headers
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert answer.headers["X-Frame-Options"] == "SAMEORIGIN"
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["Content-Security-Policy"].split(";"))
    assert policy["default-src"] == "'self'"
    assert policy["object-src"] == "'none'"
    assert "unsafe" not in policy["script-src"]
    assert not re.search(r"https?:|\*", policy["script-src"])
    assert policy["script-src"].startswith("'self' 'sha256-")


def test_every_inline_script_is_named_in_the_policy(client: Any) -> None:
    import base64
    import hashlib

    answer = client.get("/")
    inline = re.findall(r"<script(?![^>]*\bsrc=)([^>]*)>(.*?)</script>", answer.get_data(as_text=True), re.S)
    running = [body for attributes, body in inline if "application/json" not in attributes]
    assert running
    for body in running:
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in answer.headers["Content-Security-Policy"]


def test_errors_are_guarded_too(client: Any) -> None:
    answer = client.post(UPDATE, json={})
    assert answer.status_code == 404
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "Set-Cookie" not in answer.headers


# --- static files -----------------------------------------------------------------------------------------------------

UNPACK = {"gzip": gzip.decompress, "br": brotli.decompress}


@pytest.mark.parametrize("path", [path for path in APP.files.values() if path.startswith("/own/")])
def test_own_files_are_fingerprinted_kept_for_good_and_compressed(client: Any, path: str) -> None:
    plain = client.get(path)
    assert plain.status_code == 200
    assert "immutable" in plain.headers["Cache-Control"]
    assert "max-age=31536000" in plain.headers["Cache-Control"]
    assert "Content-Encoding" not in plain.headers
    for name, unpack in UNPACK.items():
        packed = client.get(path, headers={"Accept-Encoding": name})
        assert "Accept-Encoding" in packed.headers["Vary"]
        if len(plain.data) > 1000:
            assert packed.headers["Content-Encoding"] == name
            assert unpack(packed.data) == plain.data
            assert len(packed.data) < 0.6 * len(plain.data)


def test_a_fingerprint_changes_with_the_content() -> None:
    from ui.server import _fingerprint

    marks = [path.split("/")[2] for path in APP.files.values() if path.startswith("/own/")]
    assert len(set(marks)) == len(marks)
    assert {_fingerprint(content) for content in APP.bundles.values()} == set(marks)
    assert _fingerprint(b"a") != _fingerprint(b"b")


def test_every_address_in_a_page_is_served_from_here(client: Any) -> None:
    page = client.get("/attention").get_data(as_text=True)
    loaded = re.findall(r'<(?:script|link|img)\b[^>]*?(?:src|href)="([^"]*)"', page)
    assert len(loaded) > 8
    for address in loaded:
        assert address.startswith("/"), address
        answer = client.get(address)
        assert answer.status_code == 200, address
        assert "max-age" in answer.headers.get("Cache-Control", ""), address


def test_pages_and_answers_are_compressed(client: Any) -> None:
    for name, unpack in UNPACK.items():
        page = client.get("/attention", headers={"Accept-Encoding": name})
        assert page.headers["Content-Encoding"] == name
        assert unpack(page.data).startswith(b"<!DOCTYPE html>")
        answer = client.post(UPDATE, json=GOOD, headers={"Accept-Encoding": name})
        assert answer.headers.get("Content-Encoding", name) == name


@pytest.mark.parametrize("path", PATHS)
def test_no_document_is_heavy(client: Any, path: str) -> None:
    """A second visit fetches the document and some 12 KB of Dash's own, and should stay below 60 KB."""
    assert len(client.get(path, headers={"Accept-Encoding": "br"}).data) < 45_000


def test_a_page_carries_the_terms_that_it_uses(client: Any) -> None:
    page = client.get("/attention").get_data(as_text=True)
    used = set(re.findall(r'data-term="([^"]+)"', page))
    sent = json.loads(re.search(r'id="boot">(.*?)</script>', page, re.DOTALL)[1])["terms"]  # type: ignore[index]
    assert used == set(sent)
    assert used


def test_nobody_keeps_an_answer_for_another_reader(client: Any) -> None:
    """Compressed pages and answers are not stored: two readers with one address get their own sentences."""
    for sentence in ("one reader", "another reader"):
        page = client.get("/?" + urlencode({"s": sentence}), headers={"Accept-Encoding": "gzip"})
        assert sentence in gzip.decompress(page.data).decode()
        assert "public" not in page.headers.get("Cache-Control", "")


# --- code drawers and downloads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lab_id", LAB_IDS)
def test_the_code_drawer_shows_the_snippet_and_what_ran(client: Any, lab_id: str) -> None:
    lab = LABS[lab_id]
    answer = client.get(f"/lab/{lab_id}/code")
    assert answer.status_code == 200
    page = answer.get_data(as_text=True)
    assert "What ran" in page
    text = re.sub(r"<[^>]+>", "", page)
    for name, source in labs.sources(lab):
        assert name in page
        assert escape(source.strip().splitlines()[0].strip(), quote=False).split("(")[0] in text


@pytest.mark.parametrize(
    "lab_id", [pytest.param(name, marks=[pytest.mark.model] if LABS[name].real else []) for name in LAB_IDS]
)
def test_downloads_hold_the_labs_own_numbers(client: Any, lab_id: str) -> None:
    lab = LABS[lab_id]
    if lab.long:
        return  # tests/ui/test_jobs.py: there are none before it has run
    data = labs.data_of(lab, lab.defaults())
    sent = client.get(f"/lab/{lab_id}/data.json")
    assert sent.status_code == 200
    assert sent.headers["Content-Disposition"] == f'attachment; filename="{lab_id}.json"'
    body = sent.get_json()
    assert body["values"] == lab.defaults()
    assert sorted(body["data"]) == sorted(data)
    table = client.get(f"/lab/{lab_id}/data.csv")
    assert table.mimetype == "text/csv"
    blocks = csv_blocks(table.get_data(as_text=True))
    assert sorted(blocks) == sorted(data)
    if not lab.cached:
        return  # what measures time gives other numbers each time
    for name, value in data.items():
        assert same(body["data"][name], value), name
        rows = np.atleast_2d(np.asarray(value))
        assert same([cell for row in blocks[name] for cell in row], rows.reshape(-1)), name


def csv_blocks(text: str) -> dict[str, list[list[str]]]:
    """Name -> rows, of the file that `as_csv` writes."""
    blocks: dict[str, list[list[str]]] = {}
    name = None
    for row in csv.reader(io.StringIO(text)):
        if not row:
            name = None
        elif name is None:
            name = row[0]
            blocks[name] = []
        else:
            blocks[name].append(row)
    return blocks


def same(sent: Any, computed: Any) -> bool:
    """Equal numbers, or equal words; JSON has null for what is not finite."""
    wanted = np.asarray(computed)
    if wanted.dtype.kind in "fiub":
        got = np.asarray(sent, dtype=object).reshape(-1)
        numbers = [np.nan if x is None or x == "nan" else {"True": 1.0, "False": 0.0}.get(str(x), x) for x in got]
        flat = wanted.astype(np.float64).reshape(-1)
        finite = np.isfinite(flat)
        return len(numbers) == len(flat) and np.allclose(
            np.asarray(numbers, dtype=np.float64)[finite], flat[finite], rtol=1e-12, atol=0
        )
    return [str(x) for x in np.asarray(sent, dtype=object).reshape(-1)] == [str(x) for x in wanted.reshape(-1)]


# --- what is logged ---------------------------------------------------------------------------------------------------

SECRET = "my secret sentence"


def failing(problem: Exception) -> Lab:
    """A lab that cannot be computed, and whose problem quotes the reader."""

    def function(text: str, amount: float) -> Any:
        if amount:
            raise problem
        return readouts([("text", text)]), f"{text}.", "", {"text": np.array([text])}

    return Lab(
        chapter="attention",
        name="failing",
        function=function,
        title="Fails",
        controls=(Text("text", "Text", "a"), Slider("amount", "Amount", 0, 0, 1)),
        runs=(labs.is_sentence,),
        snippet="text = {text!r}",
        provenance="a test",
    )


def logged(caplog: pytest.LogCaptureFixture) -> str:
    """Everything that went to any log, traces included."""
    return caplog.text + "".join(str(record.args) + str(record.exc_info or "") for record in caplog.records)


@pytest.mark.parametrize(
    "problem",
    [
        RuntimeError(SECRET),
        KeyError(SECRET),
        ValueError(f"cannot reshape {SECRET}"),
        MemoryError(SECRET),
        RecursionError(),
    ],
    ids=lambda problem: type(problem).__name__,
)
def test_a_failing_lab_says_so_and_logs_no_reader(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    lab = failing(problem)
    monkeypatch.setitem(LABS, lab.id, lab)
    caplog.set_level(logging.DEBUG)
    shown = labs.compute(lab, {"text": SECRET, "amount": 1})
    assert shown["error"] == "This lab could not compute that. Change a control, or reset it."
    assert "picture" not in shown
    query = urlencode({"failing.text": SECRET, "failing.amount": 1})
    for kind in ("data.csv", "data.json"):
        answer = client.get(f"/lab/{lab.id}/{kind}?{query}")
        assert answer.status_code == 422
        assert answer.get_data(as_text=True) == shown["error"]
    assert f"lab {lab.id}: {type(problem).__name__}" in caplog.text
    assert SECRET not in logged(caplog)


@pytest.mark.parametrize("problem", [labs.ReaderError("Type a sentence."), ValueError("Type a sentence.")])
def test_sentences_for_readers_reach_them_unlogged(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    lab = failing(problem)
    monkeypatch.setitem(LABS, lab.id, lab)
    assert labs.compute(lab, {"text": SECRET, "amount": 1})["error"] == "Type a sentence."
    answer = client.get(f"/lab/{lab.id}/data.csv?failing.amount=1")
    assert (answer.status_code, answer.get_data(as_text=True)) == (422, "Type a sentence.")
    assert not logged(caplog)


def test_a_callback_that_fails_is_caught_and_logs_no_reader(
    client: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(labs, "compute", broken)
    monkeypatch.setattr(Chapter, "judge", broken)
    caplog.set_level(logging.DEBUG)
    answer = client.post(UPDATE, json=request_for(HAND_SIZED[0].id, {"values": {"text": SECRET}}))
    assert answer.status_code < 500
    assert not answer.get_json()["response"]  # the browser says that there was no answer
    assert "RuntimeError" in caplog.text
    assert SECRET not in logged(caplog)


def test_even_a_page_that_fails_logs_no_reader(
    client: Any, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(Chapter, "first_answers", broken)
    caplog.set_level(logging.DEBUG)
    answer = client.get("/attention?" + urlencode({"s": SECRET}))
    assert answer.status_code == 500
    assert SECRET not in answer.get_data(as_text=True)
    assert "Traceback" not in answer.get_data(as_text=True)
    assert "RuntimeError" in caplog.text
    assert SECRET not in logged(caplog) + capsys.readouterr().err
