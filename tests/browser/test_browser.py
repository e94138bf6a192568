"""What a reader meets in a browser, on every written page and in every lab of the registry."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from reader import Reader, callback_of, differences

from app import app as APP
from engine.model import available
from ui import figures
from ui import lab as labs
from ui.chapter import BOOK, Chapter
from ui.controls import Choice, Control, Pick, Slider, Text, Toggle, Trail
from ui.lab import DEFAULT_SENTENCE, LABS, Lab

assert APP
WRITTEN = {entry.path: BOOK.chapters[entry.slug] for entry in BOOK.entries if entry.slug in BOOK.chapters}
UNWRITTEN = [entry.path for entry in BOOK.entries if not entry.written]
MODEL = bool(available())
OTHER_SENTENCE = "Rain in Spain falls mainly on the plain, they say."

each_page = pytest.mark.parametrize("path", WRITTEN)
Read = Callable[..., Reader]


def working(chapter: Chapter) -> list[Lab]:
    """The page's labs in order that answer by themselves, those of the real model only where it is installed."""
    return [lab for lab in chapter.placed_labs if not lab.long and (MODEL or not lab.real)]


def hand_sized(path: str) -> list[Lab]:
    return [lab for lab in WRITTEN[path].placed_labs if not lab.real and lab.cached and not lab.long]


def a_slider(*, steps: int) -> tuple[str, Lab, Slider]:
    """A page with a hand-sized lab and one of its sliders, with at least that many steps."""
    for path in WRITTEN:
        for lab in hand_sized(path):
            for control in lab.controls:
                if isinstance(control, Slider) and (control.high - control.low) / control.step >= steps:
                    return path, lab, control
    return pytest.skip("There is no such slider.")


# --- pages ------------------------------------------------------------------------------------------------------------

SHIFTS = """
  window.shifts = [];
  new PerformanceObserver(list => list.getEntries().forEach(entry => {
    if (!entry.hadRecentInput) window.shifts.push([entry.value, entry.startTime, entry.sources.map(s => {
      const node = s.node && (s.node.nodeType === 1 ? s.node : s.node.parentElement);
      return node ? node.tagName + '#' + node.id + '.' + node.className : '?';
    }).join(' ')]);
  })).observe({ type: 'layout-shift', buffered: true });
"""


# Quantities named in a sentence that light up nothing else in their lab.
LONELY = """() => [...document.querySelectorAll('.lab-sentence [data-key]')].filter(node => {
  const key = CSS.escape(node.dataset.key);
  return node.closest('section').querySelectorAll(`[data-key="${key}"]`).length < 2;
}).map(node => node.closest('section').id + ' ' + node.dataset.key)"""


@pytest.mark.parametrize(("width", "theme"), [(1300, "light"), (360, "dark")], ids=["wide light", "phone dark"])
@each_page
def test_a_page_loads_without_a_problem(read: Read, path: str, width: int, theme: str) -> None:
    """No console message, no failed request, none to elsewhere, no sideways scrolling, no shift of what is read."""
    reader = read(path, width=width, theme=theme, open=False)
    reader.page.add_init_script(SHIFTS)
    reader.open(path)
    reader.page.wait_for_timeout(300)
    shifts = reader.run("() => window.shifts")
    assert sum(shift[0] for shift in shifts) < 0.05, shifts
    assert reader.run("() => document.documentElement.dataset.theme") == theme
    if MODEL:
        reader.see_all()
    assert reader.run("() => document.documentElement.scrollWidth") <= width
    assert not reader.problems
    assert not reader.run(LONELY)
    failed = reader.run("() => [...document.querySelectorAll('.lab.failed')].map(node => node.id)")
    assert not failed
    assert reader.run("() => document.querySelectorAll('.lab.busy, .lab.unseen').length") == 0 or not MODEL


@pytest.mark.parametrize("path", [*UNWRITTEN[:1], "/nope"])
@pytest.mark.parametrize("width", [1300, 360])
def test_pages_without_labs_load_without_a_problem(read: Read, path: str, width: int) -> None:
    reader = read(path, width=width, open=False)
    reader.page.goto(reader.address + path)
    reader.page.wait_for_timeout(500)
    assert reader.page.locator("main h1").locator("visible=true").count() == 1
    assert reader.page.locator("nav.contents a, .menu summary").locator("visible=true").count() > 0
    assert reader.run("() => document.documentElement.scrollWidth") <= width
    assert [problem for problem in reader.problems if "404" not in problem] == []


@each_page
def test_without_javascript_the_chapter_can_be_read(read: Read, path: str) -> None:
    chapter = WRITTEN[path]
    reader = read(path, java_script_enabled=False, open=False)
    reader.page.goto(reader.address + path)
    text = reader.page.locator("main").inner_text()
    assert chapter.entry.title in text
    prose = "".join(section.content for section in chapter.sections if section.kind == "prose")
    for heading in re.findall(r"<h2>([^<]+)</h2>", prose):
        assert heading in text
    for lab in hand_sized(path):
        assert labs.compute(lab, {})["sentence"].partition("{{")[0].strip() in text, lab.id
    assert not reader.problems


SKELETON = """root => [...root.querySelectorAll('*')]
  .filter(node => !node.closest('.picture, .lab-code, .explain, .lab-sentence, math, option'))
  .map(node => [node.tagName, node.id, ...[...node.classList].sort()].filter(Boolean).join(' '))
  .map(line => line.replace(/ (unseen|busy|failed)\\b/g, ''))"""


@each_page
def test_the_app_takes_over_with_the_same_structure(read: Read, path: str) -> None:
    """Element for element, with ids and classes: otherwise the page would shift or lose its style."""
    reader = read(path)
    first = reader.run(
        f"""async path => {{
          const page = new DOMParser().parseFromString(await (await fetch(path)).text(), 'text/html');
          return ({SKELETON})(page.querySelector('#first #page'));
        }}""",
        path,
    )
    live = reader.run(f"() => ({SKELETON})(document.querySelector('#live #page'))")
    assert live == first


def outline_of(reader: Reader) -> str:
    return reader.page.locator("#page").inner_text()


@each_page
def test_links_inside_the_page_leave_it_as_it_is(read: Read, path: str) -> None:
    """The skip link after a control was moved: Dash hears of the new address and must not draw the page anew."""
    reader = read(path)
    moved = [lab for lab in hand_sized(path) if any(isinstance(control, Slider) for control in lab.controls)]
    if moved:
        slider = next(control for control in moved[0].controls if isinstance(control, Slider))
        reader.see(moved[0].id)
        end = slider.high if slider.default != slider.high else slider.low
        reader.set(moved[0].id, {slider.name: end})
        reader.page.wait_for_timeout(400)
        assert "?" in reader.page.url
    else:
        reader.see_all()  # nothing is still being computed
    before = outline_of(reader)
    reader.run("() => document.querySelector('.skip').click()")
    reader.page.wait_for_timeout(500)
    assert reader.page.url.endswith("#content")
    assert outline_of(reader) == before
    assert not reader.problems


# --- controls ---------------------------------------------------------------------------------------------------------


@each_page
def test_every_control_changes_what_is_shown(read: Read, path: str) -> None:
    """Each control of each lab, moved as a reader moves it, and back with Reset."""
    reader = read(path)
    idle = []
    for lab in working(WRITTEN[path]):
        reader.see(lab.id)
        first = reader.shown(lab.id)
        assert first["sentence"], lab.id
        idle += [f"{lab.id}: {control.name}" for control in lab.controls if not changes(reader, lab, control)]
        reset(reader, lab)
        if lab.cached:
            assert not differences(first, reader.shown(lab.id)), f"{lab.id}: Reset brings back what was shown first"
        assert lab.clean(reader.values(lab.id))[0] == lab.defaults()
    assert not idle
    assert not reader.problems


def reset(reader: Reader, lab: Lab) -> None:
    before = reader.turn(lab.id)
    reader.page.locator(f"#live #{lab.id} [data-tool=reset]").click()
    reader.settle(lab.id, before)


def changes(reader: Reader, lab: Lab, control: Control) -> bool:
    """Does moving the control change the picture, the sentence or the formula, from the start or from a preset?"""
    for preset in [{}, *(dict(preset.values) for preset in lab.presets)]:
        reader.set(lab.id, {name: lab.by_name[name].default for name in lab.defaults() if name != "sentence"} | preset)
        before = reader.shown(lab.id)
        for _ in moves(reader, lab, control):
            after = reader.shown(lab.id)
            answered = isinstance(control, Text) and after["message"]  # such as: there is no word like that
            if answered or after != {**before, "message": after["message"]}:
                return True
    return False


def moves(reader: Reader, lab: Lab, control: Control) -> Any:
    """Move the control as a reader does, a few ways; stops after each with the answer on the screen."""
    node = reader.page.locator(f"#live [id='{lab.dom_id(control.name)}']")

    def act(action: Callable[[], Any], needed: bool) -> bool:
        if not needed:
            return False
        before = reader.turn(lab.id)
        action()
        reader.settle(lab.id, before)
        return True

    def now() -> Any:
        return reader.values(lab.id)[control.name]

    if isinstance(control, Slider):
        node.focus()
        for key in ("End", "Home"):
            end = float(node.get_attribute("max" if key == "End" else "min") or 0)
            if act(lambda key=key: node.press(key), float(now()) != end):
                yield
    elif isinstance(control, Toggle):
        if act(node.click, True):
            yield
    elif isinstance(control, Choice):
        for option in control.options:
            if act(lambda option=option: node.select_option(option), now() != option):
                yield
    elif isinstance(control, Text):
        another_digit = re.sub(r"\d", lambda digit: str((int(digit[0]) + 1) % 10), str(now()), count=1)
        for text in ("a*b + 2", "x*x + 2", "Other words 1 2 3", another_digit):
            if act(lambda text=text: node.fill(text), now() != text):
                yield
    elif isinstance(control, (Pick, Trail)):
        picture = reader.page.locator(f"#live #{lab.id} .lab-figure [data-pick]")
        for index in range(min(3, picture.count())):
            before = reader.turn(lab.id)
            picture.nth(index).dispatch_event("click")
            if reader.turn(lab.id) > before:
                reader.settle(lab.id, before)
                yield
        for index in range(4):
            reader.set(lab.id, {control.name: index})
            yield


@pytest.mark.model
@each_page
def test_the_readers_sentence_changes_every_real_lab(read: Read, path: str) -> None:
    real = [lab for lab in working(WRITTEN[path]) if lab.real and "{sentence" in lab.snippet]
    if not real:
        return
    reader = read(path)
    reader.see_all()
    before = {lab.id: reader.shown(lab.id) for lab in real}
    turns = {lab.id: reader.turn(lab.id) for lab in real}
    reader.page.locator("#sentence").fill(OTHER_SENTENCE)
    reader.page.keyboard.press("Enter")
    for lab in real:
        reader.settle(lab.id, turns[lab.id])
    same = [lab for lab in real if reader.shown(lab.id) == before[lab.id]]
    assert not [lab.id for lab in same if not follows_when_asked_to(reader, lab)]
    assert not reader.problems


def follows_when_asked_to(reader: Reader, lab: Lab) -> bool:
    """Does the lab show the reader's sentence after a preset, a toggle or a choice that asks for it?"""
    ways = [dict(preset.values) for preset in lab.presets]
    ways += [{c.name: not c.default} for c in lab.controls if isinstance(c, Toggle)]
    ways += [{c.name: option} for c in lab.controls if isinstance(c, Choice) for option in c.options]
    ways += [{c.name: ""} for c in lab.controls if isinstance(c, Text)]
    return any(follows(reader, lab, lab.defaults() | way) for way in ways)


def follows(reader: Reader, lab: Lab, values: dict[str, Any]) -> bool:
    reader.see(lab.id)
    reader.set(lab.id, {name: value for name, value in values.items() if name != "sentence"})
    shown = []
    for sentence in (DEFAULT_SENTENCE, OTHER_SENTENCE):
        if reader.page.locator("#sentence").input_value() != sentence:
            before = reader.turn(lab.id)
            reader.page.locator("#sentence").fill(sentence)
            reader.page.keyboard.press("Enter")
            reader.settle(lab.id, before)
        shown.append(reader.shown(lab.id))
    return shown[0] != shown[1]


def other_values(lab: Lab) -> dict[str, Any]:
    """Settings away from the defaults that show a picture: a preset, or each control at another value of its own."""
    far = {}
    for control in lab.controls:
        if isinstance(control, Text):
            continue
        others = [value for value in control.extremes() if value != control.default]
        far[control.name] = others[-1] if others else control.default
        if isinstance(control, Pick):
            far[control.name] = 1 if control.default != 1 else 0
    return far


@each_page
def test_a_link_reproduces_what_was_shown(read: Read, path: str) -> None:
    """Everything on the page away from its defaults; the copied link of each lab, and the address for all together."""
    reader = read(path)
    if MODEL and any(lab.real for lab in WRITTEN[path].placed_labs):
        reader.see_all()
        reader.page.locator("#sentence").fill(OTHER_SENTENCE)
        reader.page.keyboard.press("Enter")
    shown = {}
    for lab in working(WRITTEN[path]):
        reader.see(lab.id)
        if lab.controls:
            reader.set(lab.id, other_values(lab))
        shown[lab.id] = reader.shown(lab.id)
        values, _ = lab.clean(reader.values(lab.id))
        link = urlsplit(reader.run("id => glassbox.link(glassbox.labs[id])", lab.id))
        assert (link.path, link.fragment) == (path, lab.id)
        query = dict(parse_qsl(link.query, keep_blank_values=True))
        again, notes = lab.clean(lab.from_query(query))
        assert again == values
        assert not notes
        assert set(query) <= {lab.key(control.name) for control in lab.all_controls}, "only what belongs to the lab"
    whole = reader.run("() => glassbox.link()")
    other = read(whole)
    for lab in working(WRITTEN[path]):
        other.see(lab.id)
        then, now = shown[lab.id], other.shown(lab.id)
        if (
            then["message"] and not now["picture"]
        ):  # settings that the lab refuses: the first page still shows its last picture
            assert now["message"] == then["message"]
        elif lab.cached:  # what measures time shows other numbers each time
            assert not differences(then, now), lab.id
    assert not reader.problems + other.problems


def test_copy_link_puts_the_labs_link_on_the_clipboard(read: Read) -> None:
    path, lab, slider = a_slider(steps=2)
    reader = read(path)
    reader.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    reader.see(lab.id)
    reader.set(lab.id, {slider.name: slider.low if slider.default != slider.low else slider.high})
    reader.page.locator(f"#live #{lab.id} [data-tool=link]").click()
    reader.until("() => !document.getElementById('banner').hidden")
    copied = reader.run("() => navigator.clipboard.readText()")
    assert copied == reader.address + reader.run("id => glassbox.link(glassbox.labs[id])", lab.id)
    assert f"{lab.name}.{slider.name}=" in copied


def test_a_broken_link_shows_the_page_and_says_what_was_done(read: Read) -> None:
    path, lab, slider = a_slider(steps=2)
    reader = read(f"{path}?{lab.key(slider.name)}={quote('abc')}%00<b>&nonsense=1&self=2#{lab.id}")
    note = reader.page.locator(f"#live [id='{lab.dom_id(slider.name)}-note']")
    assert "not a number" in note.inner_text()
    assert reader.shown(lab.id)["sentence"]
    assert not reader.problems


def test_what_a_link_got_wrong_is_still_said_when_a_job_waits_for_run(read: Read) -> None:
    path, lab, slider = next(
        (path, lab, control)
        for path, chapter in WRITTEN.items()
        for lab in chapter.placed_labs
        for control in lab.controls
        if lab.long and not lab.real and isinstance(control, Slider)
    )
    reader = read(f"{path}?{lab.key(slider.name)}={slider.high * 1000}")
    reader.see(lab.id)
    note = reader.page.locator(f"#live [id='{lab.dom_id(slider.name)}-note']")
    assert str(slider.high).removesuffix(".0") in note.inner_text()
    reader.set(lab.id, {slider.name: slider.low})
    assert not note.inner_text()
    assert not reader.problems


# --- keyboard and accessibility ---------------------------------------------------------------------------------------

axe = Axe()


@pytest.mark.parametrize("theme", ["light", "dark"])
@each_page
def test_axe_finds_nothing_serious(read: Read, path: str, theme: str) -> None:
    reader = read(path, theme=theme)
    if MODEL:
        reader.see_all()
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if theme == "dark":  # nothing but the colours is another
        options["runOnly"] = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
    if (term := reader.page.locator("#live .term")).count():
        term.first.click()
    for tool in reader.page.locator("#live [data-tool=code]").all()[:1]:
        tool.click()
        reader.page.wait_for_selector("#live .lab-code .code")
    found = axe.run(reader.page, options=options).response["violations"]
    serious = [
        (violation["id"], [node["html"][:200] for node in violation["nodes"][:3]])
        for violation in found
        if violation["impact"] in ("serious", "critical")
    ]
    assert not serious


@each_page
def test_tab_reaches_every_control(read: Read, path: str) -> None:
    reader = read(path)
    wanted = {
        lab.dom_id(control.name)
        for lab in working(WRITTEN[path])
        for control in lab.controls
        if not isinstance(control, (Pick, Trail))
    }
    wanted |= {"sentence"}
    seen: Counter[str] = Counter()
    for _ in range(1500):
        reader.page.keyboard.press("Tab")
        here = reader.run("() => document.activeElement === document.body ? '' : document.activeElement.id || '-'")
        if not here and seen:
            break
        seen[here] += 1
        if wanted <= set(seen):
            break
    assert wanted <= set(seen), wanted - set(seen)
    reader.page.keyboard.press("Shift+Tab")
    assert reader.run("() => document.activeElement !== document.body"), "and back again"


def test_arrow_keys_move_a_slider_by_a_step(read: Read) -> None:
    path, lab, slider = a_slider(steps=4)
    reader = read(path)
    reader.see(lab.id)
    start = slider.low
    reader.set(lab.id, {slider.name: start})
    before, turn = reader.shown(lab.id), reader.turn(lab.id)
    node = reader.page.locator(f"#live [id='{lab.dom_id(slider.name)}']")
    node.focus()
    node.press("ArrowRight")
    reader.settle(lab.id, turn)
    assert reader.values(lab.id)[slider.name] == pytest.approx(start + slider.step)
    assert reader.shown(lab.id) != before


def test_the_first_tab_offers_to_skip_the_navigation(read: Read) -> None:
    reader = read(next(iter(WRITTEN)))
    reader.page.keyboard.press("Tab")
    assert reader.run("() => document.activeElement.className") == "skip"
    assert reader.page.locator(".skip").bounding_box()["x"] >= 0


# --- dragging ---------------------------------------------------------------------------------------------------------


def test_a_drag_never_queues_and_ends_on_the_last_value(read: Read) -> None:
    """60 moves: at most one request of the lab is under way at any time, and the last value is what is shown."""
    path, lab, slider = a_slider(steps=40)
    reader = read(path)
    page = reader.page
    reader.see(lab.id)
    under_way, most, sent = set(), 0, 0

    def started(request: Any) -> None:
        nonlocal most, sent
        if callback_of(request) == f"{lab.id}-answer.data":
            under_way.add(request)
            most, sent = max(most, len(under_way)), sent + 1

    page.on("request", started)
    page.on("requestfinished", lambda request: under_way.discard(request))
    page.on("requestfailed", lambda request: under_way.discard(request))
    turn = reader.turn(lab.id)
    node = page.locator(f"#live [id='{lab.dom_id(slider.name)}']")
    box = node.bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 4, y)
    page.mouse.down()
    for move in range(1, 61):
        page.mouse.move(box["x"] + 4 + (box["width"] - 40) * move / 60, y)
    page.mouse.up()
    reader.settle(lab.id, turn)
    values = reader.values(lab.id)
    assert most == 1
    assert 2 <= sent <= 61
    assert float(node.input_value()) == values[slider.name]
    assert values[slider.name] > slider.low + 0.5 * (float(node.get_attribute("max") or 0) - slider.low)
    assert reader.shown(lab.id)["sentence"] == said(lab, values)
    assert not reader.problems


def said(lab: Lab, values: dict[str, Any]) -> str:
    """The sentence that the engine gives for these values, computed here."""
    return re.sub(r"\{\{[^|{}]+\|([^{}]*)\}\}", r"\1", labs.compute(lab, values)["sentence"])


# --- the shell --------------------------------------------------------------------------------------------------------


def test_the_sentence_is_kept_and_is_in_the_link(read: Read) -> None:
    paths = list(WRITTEN)
    reader = read(paths[0])
    page = reader.page
    assert page.locator("#sentence").input_value() == DEFAULT_SENTENCE
    page.locator("#sentence").fill(OTHER_SENTENCE)
    page.keyboard.press("Enter")
    reader.until("() => new URLSearchParams(location.search).has('s')")
    assert dict(parse_qsl(urlsplit(page.url).query))["s"] == OTHER_SENTENCE
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.locator("#sentence").input_value() == OTHER_SENTENCE
    reader.open(paths[1])
    assert page.locator("#sentence").input_value() == OTHER_SENTENCE
    assert dict(parse_qsl(urlsplit(reader.run("() => glassbox.link()")).query))["s"] == OTHER_SENTENCE
    other = read(paths[1] + "?s=" + quote("Somebody else's <b>words</b>."))
    assert other.page.locator("#sentence").input_value() == "Somebody else's <b>words</b>."
    assert not reader.problems + other.problems


def test_the_theme_is_kept(read: Read) -> None:
    reader = read("/", theme="light")
    theme = "() => document.documentElement.dataset.theme"
    ground = "() => getComputedStyle(document.body).backgroundColor"
    light = reader.run(ground)
    reader.page.locator("[data-theme-switch]").click()
    assert reader.run(theme) == "dark"
    assert reader.run(ground) != light
    reader.open(list(WRITTEN)[1])
    assert reader.run(theme) == "dark"
    reader.page.locator("[data-theme-switch]").click()
    reader.page.reload()
    assert reader.run(theme) == "light"
    assert not reader.problems


def test_back_restores_what_was_shown(read: Read) -> None:
    path, lab, slider = a_slider(steps=2)
    reader = read(path)
    page = reader.page
    reader.see(lab.id)
    reader.set(lab.id, {slider.name: slider.low if slider.default != slider.low else slider.high})
    shown, length = reader.shown(lab.id), reader.run("() => history.length")
    reader.until("() => location.search.length > 1")
    assert reader.run("() => history.length") == length, "a moved control makes no history"
    page.locator("nav.contents a, .menu a").locator("visible=true").first.click()
    page.wait_for_selector("html[data-ready]")
    page.go_back()
    page.wait_for_selector("html[data-ready]")
    reader.see(lab.id)
    assert reader.shown(lab.id) == shown
    assert not reader.problems


def test_a_server_that_is_gone_is_said_and_a_later_move_recovers(read: Read) -> None:
    path, lab, slider = a_slider(steps=4)
    reader = read(path)
    page = reader.page
    reader.see(lab.id)
    page.route("**/_dash-update-component", lambda route: route.abort())
    before = reader.shown(lab.id)
    reader.run("([id, values]) => glassbox.set(id, values)", lab.id, {slider.name: slider.high})
    page.wait_for_selector("#banner:not([hidden])", timeout=5000)
    assert page.locator("#banner").inner_text().endswith(".")
    assert reader.shown(lab.id) == before
    reader.until("id => !glassbox.labs[id].inFlight", lab.id)
    page.unroute("**/_dash-update-component")
    reader.set(lab.id, {slider.name: slider.low})
    assert page.locator("#banner").is_hidden()
    assert reader.shown(lab.id)["sentence"] == said(lab, reader.values(lab.id))
    for status in (500, 413, 404):
        page.route("**/_dash-update-component", answer_with(status))
        reader.run("([id, values]) => glassbox.set(id, values)", lab.id, {slider.name: slider.high})
        page.wait_for_selector("#banner:not([hidden])", timeout=5000)
        reader.until("id => !glassbox.labs[id].inFlight", lab.id)
        page.unroute("**/_dash-update-component")
        reader.set(lab.id, {slider.name: slider.low})
        assert page.locator("#banner").is_hidden()


def answer_with(status: int) -> Callable[[Any], None]:
    """A server that answers everything with one status."""
    return lambda route: route.fulfill(status=status, body="x")


def test_a_slow_answer_shows_that_it_is_being_computed(read: Read) -> None:
    path, lab, slider = a_slider(steps=4)
    reader = read(path)
    reader.see(lab.id)
    held: list[Any] = []
    reader.page.route("**/_dash-update-component", lambda route: held.append(route))
    reader.run("([id, values]) => glassbox.set(id, values)", lab.id, {slider.name: slider.high})
    reader.page.wait_for_selector(f"#live #{lab.id}.busy", timeout=5000)
    reader.run("([id, values]) => glassbox.set(id, values)", lab.id, {slider.name: slider.low})
    assert len(held) == 1, "the second move waits for the first answer"
    held.pop().continue_()
    reader.page.unroute("**/_dash-update-component")
    reader.until("id => !glassbox.labs[id].inFlight", lab.id)
    assert reader.page.locator(f"#live #{lab.id}.busy").count() == 0
    assert reader.shown(lab.id)["sentence"] == said(lab, reader.values(lab.id))


def test_a_term_opens_its_definition(read: Read) -> None:
    for path in WRITTEN:
        reader = read(path)
        terms = reader.page.locator("#live .term")
        if terms.count():
            break
    else:
        pytest.skip("No page has a term.")
    terms.first.click()
    box = reader.page.locator("#term")
    assert box.inner_text() == BOOK.terms[terms.first.get_attribute("data-term") or ""]
    reader.page.keyboard.press("Escape")
    assert box.is_hidden()
    terms.first.click()
    reader.page.locator("h1").click()
    assert box.is_hidden()


@each_page
def test_every_question_can_be_answered_right_and_wrong(read: Read, path: str) -> None:
    chapter = WRITTEN[path]
    reader = read(path)
    for index, question in enumerate(chapter.questions):
        asked = reader.page.locator(f"#live .question[data-question='{index}']")
        right = 0
        for number in range(len(question["choice"])):
            asked.locator(f"[data-choice='{number}']").click()
            reader.until(
                "([i, n]) => document.querySelector(`#live .question[data-question='${i}'] [data-choice='${n}']`)"
                ".matches('.right, .wrong')",
                [index, number],
            )
            right += asked.locator("[data-choice].right").count()
            assert asked.locator(".verdict").inner_text().strip()
        assert right == 1
    assert not reader.problems


def test_words_in_the_prose_set_a_labs_controls(read: Read) -> None:
    found = False
    for path in WRITTEN:
        reader = read(path)
        reader.page.emulate_media(reduced_motion="reduce")  # no click at what is still scrolling
        for setter in reader.page.locator("#live .prose [data-set]").all()[:3]:
            lab = LABS[setter.get_attribute("data-set") or ""]
            if lab.real and not MODEL:
                continue
            reader.see(lab.id)  # else its first answer could pass for the answer to the click
            turn = reader.turn(lab.id)
            setter.click()
            reader.settle(lab.id, turn)
            wanted, _ = lab.clean(json.loads(setter.get_attribute("data-values") or "{}") | {})
            got, _ = lab.clean(reader.values(lab.id))
            names = json.loads(setter.get_attribute("data-values") or "{}")
            assert {name: got[name] for name in names} == {name: wanted[name] for name in names}
            found = True
        assert not reader.problems
    if not found:
        pytest.skip("No prose sets a control.")


@each_page
def test_the_tools_of_a_lab_work(read: Read, path: str) -> None:
    """The picture of every hand-sized lab; code, CSV and JSON, which tests/ui fetches of all, of one."""
    reader = read(path)
    page = reader.page
    for number, lab in enumerate(hand_sized(path)):
        tools = page.locator(f"#live #{lab.id}")
        reader.see(lab.id)
        if number == 0:
            tools.locator("[data-tool=code]").click()
            page.wait_for_selector(f"#live #{lab.id} .lab-code .code")
            assert tools.locator("[data-tool=code]").get_attribute("aria-expanded") == "true"
        for tool in ("csv", "json", "picture") if number == 0 else ("picture",):
            with page.expect_download() as download:
                tools.locator(f"[data-tool={tool}]").click()
            content = download.value.path().read_bytes()
            assert download.value.suggested_filename.startswith(lab.id)
            assert len(content) > 20
            if tool == "json":
                assert json.loads(content)["lab"] == lab.id
    assert not reader.problems


def test_progress_is_marked_in_the_contents(read: Read) -> None:
    path = next(iter(WRITTEN))
    reader = read(path)
    slug = WRITTEN[path].slug
    assert reader.page.locator(f".contents [data-slug='{slug}'].visited").count() == 1
    assert reader.page.locator(f".contents [data-slug='{slug}'].finished").count() == 0
    reader.run("() => scrollTo(0, document.body.scrollHeight)")
    reader.until("slug => document.querySelector(`.contents [data-slug='${slug}'].finished`)", slug)
    reader.open(list(WRITTEN)[1])
    assert reader.page.locator(f".contents [data-slug='{slug}'].finished").count() == 1


# --- painters ---------------------------------------------------------------------------------------------------------

ODD_TEXT = "\u202e<img src=x onerror=alert(1)>\n\t漢🤷🏽‍♀️ {{a|b}}"
LONG = [f"{ODD_TEXT} {i}" for i in range(20)]
BAD = [float("nan"), float("inf"), float("-inf"), 0.0, -0.0, 1e-300, -1e300, 5e-324]


def odd_pictures() -> dict[str, Any]:
    """Every kind of picture with numbers that are not finite, huge or none at all, and text of every sort."""
    wide = [[*BAD, *([1.0] * 12)]] * 20
    nodes = [
        {"id": "a", "label": ODD_TEXT, "value": float("nan"), "column": 0, "row": 0},
        {"id": "b", "label": "", "value": float("inf"), "column": 1, "row": 0},
    ]
    pieces, shares = [{"text": text, "id": 1} for text in LONG], [*BAD, *[0.5] * 12]
    return {
        "grid": figures.matrix([BAD, BAD], title=ODD_TEXT, tensor="q", name="g", rows=LONG[:2], columns=LONG[:8]),
        "grid picked": figures.matrix([[1, 2]], title="", tensor="q", name="p", pick="x", picked=0, rows=["a"]),
        "heatmap": figures.matrix(wide, title=ODD_TEXT, tensor="q", name="h", rows=LONG, columns=LONG),
        "heatmap picked": figures.matrix(wide, title="", tensor="q", name="i", pick="x", picked=3, rows=LONG),
        "bars": figures.bars(LONG[:8], BAD, title=ODD_TEXT, tensor="logits", marked=[1], notes=["a"]),
        "no bars": figures.bars([], [], title="", tensor="logits"),
        "curve": figures.curve([("a", range(8), BAD), ("b", [], [])], title="", x_label="x", y_label="y"),
        "log": figures.curve([("a", BAD, BAD)], title="", x_label="x", y_label="y", log_x=True, log_y=True),
        "flat": figures.curve([("a", [1], [1])], title="", x_label="x", y_label="y", marker=(1, float("nan"))),
        "tokens": figures.tokens(pieces, shares=shares, pick="x", picked=2),
        "bytes": figures.tokens([{"hex": "e6 bc", "id": 2}, {"text": ""}], show=["bytes"]),
        "no tokens": figures.tokens([]),
        "arcs": figures.arcs(LONG[:8], BAD, title="", selected=7, pick="x"),
        "one arc": figures.arcs(["a"], [1.0], title="", selected=0),
        "network": figures.network(nodes, [{"from": "a", "to": "b", "value": float("nan")}], title=""),
        "readouts": figures.readouts([(ODD_TEXT, ODD_TEXT)]),
        "table": figures.table([ODD_TEXT], [[ODD_TEXT], [float("nan")], [None], [3]], title="t"),
        "words": figures.words(ODD_TEXT * 50),
        "histogram": figures.histogram([0.0, *BAD], BAD, title=ODD_TEXT, tensor="ffn", marker=1.0, shade=(0, 1)),
        "no histogram": figures.histogram([0], [], title="", tensor="ffn"),
        "plane": figures.plane(
            [{"x": x, "y": y, "label": ODD_TEXT, "note": ODD_TEXT} for x, y in itertools.pairwise(BAD)], title=ODD_TEXT,
            arrows=[{"x0": 0.0, "y0": 0.0, "x1": x, "y1": x, "label": ODD_TEXT} for x in BAD], pick="x", picked=1,
        ),
        "round": figures.plane([{"x": 0.0, "y": 0.0}], title="", circle=1.0, limit=2.0),
        "thumbnails": figures.thumbnails([[[BAD] * 8] * 3] * 2, title=ODD_TEXT, pick=["x", "y"], picked=[1, 2]),
        "one thumbnail": figures.thumbnails([[[[1.0]]]], title="", pick=["x", "y"], picked=[0, 0]),
        "nothing": figures.plane([], title="", equal=False),
        "row": figures.row(figures.sign("="), figures.words("x"), figures.words("y")),
    }  # fmt: skip


def test_painters_draw_whatever_a_lab_returns(read: Read) -> None:
    reader = read(next(path for path in WRITTEN if hand_sized(path)))
    pictures = odd_pictures()
    problems = reader.run(
        """pictures => {
          const lab = Object.values(glassbox.labs).find(l => l.shown), node = document.createElement('div');
          node.className = 'picture';
          document.querySelector('#live #page').append(node);
          const names = Object.keys(pictures), bad = [];
          // In a row, then each after each other one: painters update in place, and must notice another shape.
          for (const name of [...names, ...names.flatMap(a => [a, names[0], a])]) {
            try { glassbox.paint(node, pictures[name], lab); glassbox.repaint(); }
            catch (error) { bad.push(name + ': ' + error); }
            if (node.querySelector('img')) bad.push(name + ': markup of a reader was used');
          }
          return [...new Set(bad)];
        }""",
        pictures,
    )
    assert not problems
    assert not reader.problems
    assert reader.run("() => document.documentElement.scrollWidth") <= 1300
