"""A reader in a browser: opens pages, moves controls, waits for answers, and writes down all that goes wrong."""

from __future__ import annotations

import json
import re
import time
from itertools import zip_longest
from typing import Any

from playwright.sync_api import Page

FIRST_TIME = 15.0
"""Seconds that a real-model lab may take for its first answer."""


class Reader:
    """A page in a browser, with everything that goes wrong on it written down."""

    def __init__(self, page: Page, address: str) -> None:
        self.page, self.address = page, address
        self.problems: list[str] = []
        self.requests: list[Any] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("requestfailed", self._failed)
        page.on("response", lambda r: self.problems.append(f"{r.status}: {r.url}") if r.status >= 400 else None)
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.problems.append(f"console {message.type}: {message.text}")

    def _failed(self, request: Any) -> None:
        if request.failure != "net::ERR_ABORTED":  # what was still under way when the reader left the page
            self.problems.append(f"failed: {request.url} {request.failure}")

    def _request(self, request: Any) -> None:
        self.requests.append(request)
        if not request.url.startswith((self.address, "data:", "blob:")):
            self.problems.append(f"elsewhere: {request.url}")

    def open(self, path: str) -> Reader:
        """Go to a page and wait until the app has taken over."""
        self.page.goto(self.address + path)
        self.page.wait_for_selector("html[data-ready]", timeout=20_000)
        return self

    def run(self, script: str, *arguments: Any) -> Any:
        """Call a JavaScript function in the page; the page's policy allows no other way to wait either."""
        return self.page.evaluate(
            script, list(arguments) if len(arguments) > 1 else arguments[0] if arguments else None
        )

    def until(self, script: str, argument: Any = None, seconds: float = FIRST_TIME) -> Any:
        """Wait until a JavaScript function returns something true, and return it.

        Playwright's own way to wait needs `eval`, which the page's policy forbids.
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if result := self.page.evaluate(script, argument):
                return result
            time.sleep(0.02)
        raise TimeoutError(f"not true after {seconds} s: {script} {argument}")

    # -- labs ---------------------------------------------------------------------------------------------------------

    def see(self, lab_id: str) -> None:
        """Scroll to a lab and wait until it shows its answer."""
        self.run("id => glassbox.section(id).scrollIntoView({block: 'center', behavior: 'instant'})", lab_id)
        self.until("id => { const l = glassbox.labs[id]; return (l.shown || l.seen && l.turn) && !l.inFlight }", lab_id)

    def see_all(self) -> None:
        """Scroll through the page, so that every lab has been in view and has answered."""
        for lab_id in self.run("() => Object.keys(glassbox.labs)"):
            self.see(lab_id)

    def turn(self, lab_id: str) -> int:
        return self.run("id => glassbox.labs[id].turn", lab_id)

    def settle(self, lab_id: str, before: int) -> None:
        """Wait until a lab has asked since turn `before`, and has its answer."""
        self.until("([id, n]) => glassbox.labs[id].turn > n && !glassbox.labs[id].inFlight", [lab_id, before])

    def set(self, lab_id: str, values: dict[str, Any]) -> None:
        """Set controls as the page's own buttons do, and wait for the answer."""
        before = self.turn(lab_id)
        self.run("([id, values]) => glassbox.set(id, values)", lab_id, values)
        self.settle(lab_id, before)

    def shown(self, lab_id: str) -> dict[str, str]:
        """What a lab has on the screen: its picture down to the pixels of a canvas, its sentence, its formula."""
        return self.run(SHOWN, lab_id)

    def values(self, lab_id: str) -> dict[str, Any]:
        return self.run("id => glassbox.labs[id].values", lab_id)


SHOWN = """id => {
  const section = glassbox.section(id), picture = section.querySelector('.picture').cloneNode(true);
  picture.querySelectorAll('.lit, .factor').forEach(node => node.classList.remove('lit', 'factor'));
  picture.querySelectorAll('[tabindex]').forEach(node => node.removeAttribute('tabindex'));
  picture.querySelectorAll('[class=""]').forEach(node => node.removeAttribute('class'));
  const canvases = [...section.querySelectorAll('.picture canvas')].map(canvas => canvas.toDataURL());
  return {
    picture: picture.innerHTML + canvases.join(),
    sentence: section.querySelector('.lab-sentence').textContent,
    formula: section.querySelector('.lab-formula').innerHTML,
    message: section.querySelector('.lab-message').textContent,
  };
}"""


def differences(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Where two answers of `Reader.shown` differ, element by element; empty if they are the same."""
    found = []
    for name in before:
        old, new = (list(map(_in_order, re.split(r"(?=<)", shown[name]))) for shown in (before, after))
        found += [f"{name}: {a[:160]} | {b[:160]}" for a, b in zip_longest(old, new, fillvalue="") if a != b]
    return found[:6]


def _in_order(element: str) -> str:
    """A tag, its attributes and classes by name: their order is that in which a painter happened to set them."""
    tag, end, text = element.partition(">")
    tag = re.sub(r'class="([^"]*)"', lambda found: f'class="{" ".join(sorted(found[1].split()))}"', tag)
    attributes = sorted(re.findall(r'[\w-]+="[^"]*"', tag))
    return re.sub(r'\s+[\w-]+="[^"]*"', "", tag) + " " + " ".join(attributes) + end + text


def callback_of(request: Any) -> str:
    """The output that a callback request asks for, "" for other requests."""
    if "/_dash-update-component" not in request.url:
        return ""
    return json.loads(request.post_data or "{}").get("output", "")
