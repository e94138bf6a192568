"""A long lab in a browser: run, progress, stop, reload, other readers, killed processes, a server that ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser
from reader import Reader
from served import jobs_of, served

LAB = "demo-count"
Open = Callable[..., Reader]


@pytest.fixture(scope="module")
def demo() -> Iterator[str]:
    """The tests' own pages, under two workers: what one starts, the other can be asked about."""
    with served("demo_app:server", workers=2) as where:
        yield where


@pytest.fixture
def visit(browser: Browser, demo: str) -> Iterator[Open]:
    """Open the page as a new reader, in the order of the calls."""
    contexts = []

    def visit(query: str = "", address: str = demo, **options: Any) -> Reader:
        context = browser.new_context(viewport={"width": 1300, "height": 900}, **options)
        contexts.append(context)
        reader = Reader(context.new_page(), address).open("/" + (f"?{query}" if query else ""))
        reader.see(LAB)
        return reader

    yield visit
    for context in contexts:
        for page in context.pages:
            stop = page.locator("[data-job=stop]:visible")
            if stop.count():
                stop.first.click()
                page.wait_for_timeout(200)
        context.close()


def press(reader: Reader, what: str, lab: str = LAB) -> None:
    reader.page.locator(f"#live #{lab} [data-job={what}]").click()


def words(reader: Reader, lab: str = LAB) -> str:
    return reader.page.locator(f"#live #{lab} .job-words").inner_text()


def message(reader: Reader, lab: str = LAB) -> str:
    return reader.page.locator(f"#live #{lab} .lab-message").inner_text()


def until_words(reader: Reader, text: str, lab: str = LAB, seconds: float = 20) -> None:
    script = "([id, text]) => glassbox.section(id).querySelector('.job-words').textContent.includes(text)"
    reader.until(script, [lab, text], seconds)


def until_message(reader: Reader, text: str, seconds: float = 30) -> None:
    script = "([id, text]) => glassbox.section(id).querySelector('.lab-message').textContent.includes(text)"
    reader.until(script, [LAB, text], seconds)


def until_done(reader: Reader, seconds: float = 30, lab: str = LAB) -> None:
    reader.until("id => !glassbox.labs[id].job", lab, seconds)


def test_a_job_runs_tells_its_progress_and_shows_its_result(visit: Open) -> None:
    reader = visit("count.to=6&count.pause=0.5")
    assert "Run starts it; it takes a few seconds." in words(reader)
    assert not reader.page.locator(f"#live #{LAB} [data-job=stop]").is_visible()
    press(reader, "run")
    until_words(reader, "number 4 of 6")
    assert 0 < reader.run("id => glassbox.section(id).querySelector('progress').value", LAB) < 1
    partly = reader.shown(LAB)
    assert partly["sentence"] in ("Counted to 1.", "Counted to 3.")
    until_done(reader)
    assert reader.shown(LAB)["sentence"] == "Counted to 6."
    assert words(reader) == message(reader) == ""
    assert reader.page.locator(f"#live #{LAB} [data-job=run]").is_visible()
    assert not reader.page.locator(f"#live #{LAB} progress").is_visible()
    assert not reader.problems


def test_a_running_job_is_accessible_on_a_phone(visit: Open) -> None:
    reader = visit("count.to=50&count.pause=0.3")
    reader.page.set_viewport_size({"width": 360, "height": 740})
    press(reader, "run")
    until_words(reader, "of 50")
    found = Axe().run(reader.page, context="#live #demo-count").response["violations"]
    assert not [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    assert reader.run("() => document.documentElement.scrollWidth") <= 360


def test_a_changed_control_starts_nothing_and_says_what_the_picture_shows(visit: Open) -> None:
    reader = visit("count.to=4&count.pause=0")
    press(reader, "run")
    until_done(reader)
    reader.set(LAB, {"to": 31})
    assert "other settings" in words(reader)
    assert reader.shown(LAB)["sentence"] == "Counted to 4."
    assert not reader.run("id => glassbox.labs[id].job", LAB)
    reader.set(LAB, {"to": 4})
    assert words(reader) == ""


def test_a_finished_result_is_there_at_once_for_everybody_and_by_link(visit: Open) -> None:
    first = visit("count.to=7&count.pause=0")
    press(first, "run")
    until_done(first)
    second = visit("count.to=7&count.pause=0")
    assert second.shown(LAB)["sentence"] == "Counted to 7."
    assert second.page.locator(f"#live #{LAB} .job-words").inner_text() == ""
    third = visit()
    third.set(LAB, {"to": 7, "pause": 0})
    assert third.shown(LAB)["sentence"] == "Counted to 7."
    assert not any("-job" in (request.post_data or "") for request in [*second.requests, *third.requests])


def test_a_job_can_be_stopped_and_its_process_ends(visit: Open) -> None:
    reader = visit("count.to=100&count.pause=0.3")
    press(reader, "run")
    until_words(reader, "of 100")
    assert len(jobs_of(reader.address)) == 1
    press(reader, "stop")
    assert words(reader) == "Stopped. The picture shows how far it came. Run starts it again."
    assert reader.page.evaluate("document.activeElement.dataset.job") == "run"
    wait_until(lambda: not jobs_of(reader.address))
    press(reader, "run")
    until_words(reader, "of 100")
    assert not reader.problems


def test_a_reload_finds_the_running_job_again(visit: Open) -> None:
    reader = visit("count.to=14&count.pause=0.5")
    press(reader, "run")
    until_words(reader, "of 14")
    [process] = jobs_of(reader.address)
    reader.page.reload()
    reader.page.wait_for_selector("html[data-ready]")
    until_words(reader, "of 14")
    assert [one.pid for one in jobs_of(reader.address)] == [process.pid]
    until_done(reader)
    assert reader.shown(LAB)["sentence"] == "Counted to 14."
    assert not reader.problems


def test_another_reader_waits_in_line_and_sees_nothing_of_the_first_one(visit: Open) -> None:
    first = visit("count.to=100&count.pause=0.2")
    press(first, "run")
    until_words(first, "of 100")
    second = visit("count.to=100&count.pause=0.2")
    assert words(second).startswith("Run starts it")
    assert second.shown(LAB)["picture"] == ""
    assert second.run("() => sessionStorage.getItem('glassbox.job.demo-count')") is None
    assert second.run(READER) != first.run(READER)
    second.set(LAB, {"to": 3, "pause": 0})
    press(second, "run")
    until_words(second, "1 job is before yours.")
    handles = first.run("() => JSON.parse(sessionStorage.getItem('glassbox.job.demo-count'))")
    assert second.run(FORGED, [handles["cacheKey"].partition("~")[0], handles["job"].partition("~")[0]]) == [404, 404]
    press(first, "stop")
    until_done(second)
    assert second.shown(LAB)["sentence"] == "Counted to 3."


READER = "() => sessionStorage.getItem('glassbox.reader')"

# Even with the names of another reader's job, and handles of its own, a browser can neither ask about it nor stop it.
FORGED = """async ([key, job]) => {
  const mine = JSON.parse(sessionStorage.getItem('glassbox.job.demo-count'));
  const sign = (name, handle) => name + '~' + handle.split('~')[1];
  const ask = async (output, property, input, handles, value) => (await fetch(
    '/_dash-update-component?' + new URLSearchParams(handles), {
    method: 'POST', headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ output: output + '.' + property, outputs: { id: output, property },
      inputs: [{ id: input, property: 'data', value }], changedPropIds: [input + '.data'] }) })).status;
  return [
    await ask('demo-count-job', 'data', 'demo-count-run',
      { cacheKey: sign(key, mine.cacheKey), job: sign(job, mine.job) }, null),
    await ask('demo-count-stop', 'id', 'demo-count-stop', { cancelJob: sign(job, mine.job) }, 1),
  ];
}"""


def test_a_third_job_of_one_reader_gets_a_sentence(visit: Open) -> None:
    reader = visit("count.to=100&count.pause=0.2")
    press(reader, "run")
    until_words(reader, "of 100")
    other = reader.page.context.new_page()  # a copy of the tab shares its session's name of the reader
    other.add_init_script(f"sessionStorage.setItem('glassbox.reader', {reader.run(READER)!r})")
    copy = Reader(other, reader.address).open("/?count.to=90")
    copy.see(LAB)
    press(copy, "run")
    until_words(copy, "1 job is before yours.")
    copy.see("demo-echo")
    press(copy, "run", "demo-echo")
    until_done(copy, lab="demo-echo")
    assert message(copy, "demo-echo").startswith("You have 2 long jobs already. Stop one of them, or wait")
    press(copy, "stop")


@pytest.mark.parametrize(
    ("way", "sentence"),
    [("asks", "Count to what?"), ("fails", "This lab could not compute that."), ("dies", "The job's process ended")],
)
def test_what_goes_wrong_is_a_sentence(visit: Open, way: str, sentence: str) -> None:
    reader = visit(f"count.way={way}&count.pause=0.3")
    press(reader, "run")
    until_message(reader, sentence)
    assert reader.page.locator(f"#live #{LAB} [data-job=run]").is_visible()
    assert not reader.problems
    reader.set(LAB, {"way": "well", "to": 2})
    press(reader, "run")
    until_done(reader)
    assert reader.shown(LAB)["sentence"] == "Counted to 2."
    assert message(reader) == ""


def test_a_process_killed_from_outside_is_missed(visit: Open) -> None:
    reader = visit("count.to=100&count.pause=0.5")
    press(reader, "run")
    until_words(reader, "of 100")
    [process] = jobs_of(reader.address)
    process.kill()
    until_message(reader, "The job's process ended before the job was finished.", seconds=10)


def test_a_restarted_server_is_told_in_a_sentence(visit: Open) -> None:
    with served("demo_app:server", workers=1) as address:
        reader = visit("count.to=100&count.pause=0.5", address=address)
        press(reader, "run")
        until_words(reader, "of 100")
        port = int(address.rpartition(":")[2])
        jobs = jobs_of(address)
    assert jobs
    wait_until(lambda: not any(process.is_running() for process in jobs))
    until_words(reader, "The server does not answer; trying again")
    with served("demo_app:server", workers=1, port=port):
        until_message(reader, "The job is no longer there")
        assert reader.page.locator(f"#live #{LAB} [data-job=run]").is_visible()
        reader.set(LAB, {"to": 2, "pause": 0})
        press(reader, "run")
        until_done(reader)
        assert reader.shown(LAB)["sentence"] == "Counted to 2."


def wait_until(true: Callable[[], Any], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
