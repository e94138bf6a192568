"""How attached a slider feels: python tests/benchmarks/bench_slider.py [--steps 60] [--labs attention-scores ...]

For each hand-sized lab with a slider, in one run and interleaved:

a  the slider as readers have it: from the input event over the server to the changed picture in the next frame;
b  the same slider and the same picture, without a server: a Dash clientside callback on the slider's value paints an
   answer that the browser already holds (a second app that has these callbacks, in a second page of the browser).

Printed: the medians and the median of the ratios a/b of neighbouring steps (wanted: at most 1.5); the server's own time
of the callback over 200 distinct settings, 95th percentile (wanted: below 30 ms); and, of a drag of 60 moves, the time
from the last move to the last value on the screen as a share of two single steps (wanted: at most 1), with the largest
number of the lab's requests under way at once (wanted: 1).
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import sys
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

DISTINCT = 200
DRAGS = 5
MOVES = 60

# In the app of kind b every slider has a Dash clientside callback. It paints from answers that the browser holds.
PAINT = """
function (value) {
  const bench = window.bench;
  if (bench && bench.answers[value]) glassbox.show(glassbox.labs[bench.lab], bench.answers[value]);
}
"""

# The time of the input event, and of the frame that shows the change it made to picture or sentence.
OBSERVE = """
([id, control, answers]) => {
  const bench = window.bench = { lab: id, control, answers, asked: 0, painted: 0 };
  if (answers) glassbox.ask = () => {};
  window.addEventListener("input", () => { bench.asked = performance.now(); bench.painted = 0; }, true);
  bench.observer = new MutationObserver(() => requestAnimationFrame(() => { bench.painted = performance.now(); }));
  const figure = glassbox.section(id).querySelector(".lab-figure");
  bench.observer.observe(figure, { childList: true, subtree: true, characterData: true, attributes: true });
}
"""

STEP = """
async value => {
  const lab = glassbox.labs[bench.lab], node = glassbox.field(bench.lab, bench.control);
  const pause = ms => new Promise(done => setTimeout(done, ms));
  await pause(40 + 17 * Math.random());  // at any moment between two frames
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(node, value);
  node.dispatchEvent(new Event("input", { bubbles: true }));
  for (let wait = 0; wait < 60 && (!bench.painted || lab.inFlight); wait++) await pause(10);
  return bench.painted ? bench.painted - bench.asked : null;
}
"""


def clientside_server() -> Any:
    """The app with the clientside callbacks of kind b."""
    from dash import Input

    import ui.server as hosting
    from ui.controls import Slider
    from ui.lab import LABS

    warm = hosting._warm

    def with_callbacks(app: Any) -> None:
        for lab in LABS.values():
            for control in lab.controls:
                if isinstance(control, Slider):
                    app.clientside_callback(PAINT, Input(lab.dom_id(control.name), "value"), prevent_initial_call=True)
        warm(app)

    hosting._warm = with_callbacks
    return hosting.create_app(ROOT / "pages").server


def timed_server() -> Any:
    """The app as readers have it, telling with each answer how long it took in the server."""
    from app import server

    inner = server.wsgi_app

    def timed(environ: dict[str, Any], start_response: Any) -> Any:
        start = time.perf_counter()

        def respond(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            spent = (time.perf_counter() - start) * 1000
            return start_response(status, [*headers, ("Server-Timing", f"app;dur={spent:.3f}")], *rest)

        return inner(environ, respond)

    server.wsgi_app = timed
    return server


COLUMNS = ["lab", "slider", "a ms", "b ms", "a/b", "server p95", "after a drag", "at once"]
LINE = "{:28}{:14}{:>8}{:>8}{:>7}{:>12}{:>14}{:>9}"


def main() -> None:
    """Serve, measure lab by lab, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60, help="single steps of each kind")
    parser.add_argument("--labs", nargs="*", help="ids of labs; all hand-sized ones with a slider unless given")
    options = parser.parse_args()

    from served import chromium, served

    from app import app
    from ui.lab import LABS

    assert app
    wanted = [lab for lab in LABS.values() if not options.labs or lab.id in options.labs]
    chosen = [(lab, slider) for lab in wanted if (slider := longest_slider(lab))]
    worst: dict[str, float] = {}
    print(LINE.format(*COLUMNS))
    with (
        served("bench_slider:timed_server()", 1) as server,
        served("bench_slider:clientside_server()", 1) as clientside,
        chromium() as browser,
    ):
        for lab, slider in chosen:
            found = measure(browser, server, clientside, lab, slider, options.steps)
            found["server"] = server_time(server, lab)
            shown = [f"{found['a']:.1f}", f"{found['b']:.1f}", f"{found['ratio']:.2f}", f"{found['server']:.1f} ms"]
            print(
                LINE.format(lab.id, slider.name, *shown, f"{found['drag']:.2f}", f"{found['at once']:.0f}"), flush=True
            )
            worst = {name: max(value, worst.get(name, 0.0)) for name, value in found.items()}
    print(
        f"worst: a/b {worst['ratio']:.2f} (at most 1.5), server p95 {worst['server']:.1f} ms (below 30), "
        f"after a drag {worst['drag']:.2f} of two steps (at most 1), at once {worst['at once']:.0f} (1)"
    )


def longest_slider(lab: Any) -> Any:
    """The slider with the most steps of a hand-sized lab, or None."""
    from ui.controls import Slider

    sliders = [control for control in lab.controls if isinstance(control, Slider)]
    if lab.real or not lab.cached or not sliders:
        return None
    most = max(sliders, key=lambda slider: (slider.high - slider.low) / slider.step)
    return most if (most.high - most.low) / most.step >= 10 else None


def measure(browser: Any, server: str, clientside: str, lab: Any, slider: Any, steps: int) -> dict[str, float]:
    """Medians of both kinds of steps, their ratio, and what a drag adds."""
    from ui.lab import compute

    count = min(steps, int((slider.high - slider.low) / slider.step / 2))
    values = [slider.clean(slider.low + slider.step * k)[0] for k in range(2 * count)]
    random.Random(0).shuffle(values)
    answers = {f"{value:.12g}": compute(lab, lab.defaults() | {slider.name: value}) for value in values}
    pages = {
        "a": opened(browser, server, lab, slider, None),
        "b": opened(browser, clientside, lab, slider, answers),
    }
    times: dict[str, list[float]] = {"a": [], "b": []}
    ratios = []
    for pair in zip(values[0::2], values[1::2], strict=True):
        took = {kind: pages[kind].evaluate(STEP, value) for kind, value in zip("ab", pair, strict=True)}
        if took["a"] and took["b"]:  # a step that changed nothing on the screen took no time
            ratios.append(took["a"] / took["b"])
            for kind, value in took.items():
                times[kind].append(value)
    single = median(times["a"])
    pages["b"].close()
    drags = [drag(pages["a"], lab, slider) for _ in range(DRAGS)]
    pages["a"].close()
    return {
        "a": single,
        "b": median(times["b"]),
        "ratio": median(ratios),
        "drag": median(after for after, _ in drags) / (2 * single),
        "at once": max(most for _, most in drags),
    }


def opened(browser: Any, address: str, lab: Any, slider: Any, answers: Any) -> Any:
    """A page with the lab in view, observed."""
    from ui.chapter import BOOK

    page = browser.new_page(viewport={"width": 1300, "height": 900})
    page.goto(address + BOOK.entry(lab.chapter).path)
    page.wait_for_selector("html[data-ready]")
    field = f"#live [id='{lab.dom_id(slider.name)}']"
    page.locator(field).evaluate("node => node.scrollIntoView({ block: 'center', behavior: 'instant' })")
    page.wait_for_timeout(500)
    page.evaluate(OBSERVE, [lab.id, slider.name, answers])
    return page


def drag(page: Any, lab: Any, slider: Any) -> tuple[float, int]:
    """60 moves over the slider -> ms from the last one to the last value on screen, most requests at once."""
    under_way: set[Any] = set()
    most = 0

    def started(request: Any) -> None:
        nonlocal most
        if "/_dash-update-component" in request.url:
            under_way.add(request)
            most = max(most, len(under_way))

    def ended(request: Any) -> None:
        under_way.discard(request)

    listeners = {"request": started, "requestfinished": ended, "requestfailed": ended}
    for event, listener in listeners.items():
        page.on(event, listener)
    box = page.locator(f"#live [id='{lab.dom_id(slider.name)}']").bounding_box()
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + 10, y)
    page.mouse.down()
    for move in range(1, MOVES + 1):
        page.mouse.move(box["x"] + 10 + (box["width"] - 20) * move / MOVES, y)
    page.mouse.up()
    page.wait_for_timeout(500)
    for event, listener in listeners.items():
        page.remove_listener(event, listener)
    if not most:
        raise RuntimeError(f"dragging {lab.id} {slider.name} asked the server nothing")
    return max(0.0, page.evaluate("() => bench.painted - bench.asked")), most


def server_time(address: str, lab: Any) -> float:
    """95th percentile, in ms, of what the server spends on the lab's callback over distinct settings."""
    connection = http.client.HTTPConnection(address.removeprefix("http://"))
    output = f"{lab.id}-answer"
    spent = []
    for values in distinct(lab):
        body = {
            "output": f"{output}.data",
            "outputs": {"id": output, "property": "data"},
            "inputs": [{"id": f"{lab.id}-asked", "property": "data", "value": {"values": values}}],
            "changedPropIds": [f"{lab.id}-asked.data"],
        }
        headers = {"Content-Type": "application/json", "Accept-Encoding": "br"}
        connection.request("POST", "/_dash-update-component", json.dumps(body), headers)
        answer = connection.getresponse()
        answer.read()
        assert answer.status == 200
        spent.append(float(answer.headers["Server-Timing"].partition("dur=")[2]))
    return quantiles(spent, n=20)[-1]


def distinct(lab: Any) -> list[dict[str, Any]]:
    """Up to 200 different settings of the lab's controls."""
    from ui.controls import Slider, Text

    rng = random.Random(1)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(20 * DISTINCT):
        values = lab.defaults()
        for control in lab.controls:
            if isinstance(control, Slider):
                steps = int((control.high - control.low) / control.step)
                values[control.name] = control.clean(control.low + rng.randint(0, steps) * control.step)[0]
            elif not isinstance(control, Text):
                values[control.name] = rng.choice(control.extremes())
        found[json.dumps(values)] = values
        if len(found) == DISTINCT:
            break
    return list(found.values())


if __name__ == "__main__":
    main()
