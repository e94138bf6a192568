"""What a visit transfers, and whether what is read moves: python tests/benchmarks/bench_pages.py [/attention ...]

For each written page, as Chromium counts it (compressed, with headers): bytes of a first visit until the page is at
rest, of the same visit after scrolling through all labs (charts load their library only then), and of a second visit
with the browser's cache. Wanted: first below 1.2 MB, second below 60 KB. Layout shift while loading and while
scrolling, on a wide screen and a phone; wanted: below 0.05. And the five largest responses.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(Path(__file__).parent)]

FIRST, SECOND, SHIFT = 1_200_000, 60_000, 0.05
OBSERVE = """
  window.shift = 0;
  new PerformanceObserver(list => list.getEntries().forEach(entry => { if (!entry.hadRecentInput) window.shift += entry.value; }))
    .observe({ type: "layout-shift", buffered: true });
"""  # noqa: E501


def main() -> None:
    """Serve, visit, print."""
    from served import chromium, served

    from app import app
    from ui.chapter import BOOK

    assert app
    paths = sys.argv[1:] or [entry.path for entry in BOOK.entries if entry.slug in BOOK.chapters]
    print(
        f"{'page':20}{'first':>10}{'of limit':>9}{'scrolled':>11}{'second':>9}{'of limit':>9}{'shift':>8}{'phone':>8}"
    )
    with served() as address, chromium() as browser:
        for path in paths:
            wide, largest = visits(browser, address + path, 1300)
            phone, _ = visits(browser, address + path, 360)
            print(
                f"{path:20}{wide['first'] / 1e3:7.0f} KB{wide['first'] / FIRST:9.2f}{wide['scrolled'] / 1e3:8.0f} KB"
                f"{wide['second'] / 1e3:6.1f} KB{wide['second'] / SECOND:9.2f}{wide['shift']:8.3f}{phone['shift']:8.3f}"
            )
            print("    " + ", ".join(f"{name} {size / 1e3:.0f} KB" for name, size in largest))


def visits(browser: Any, address: str, width: int) -> tuple[dict[str, float], list[tuple[str, float]]]:
    """A first and a second visit with one cache -> bytes and layout shift; the largest responses of the first."""
    context = browser.new_context(viewport={"width": width, "height": 900 if width > 600 else 740})
    context.add_init_script(OBSERVE)
    result: dict[str, float] = {}
    page = context.new_page()
    sizes = listen(page)
    load(page, address)
    result["first"] = sum(sizes.values())
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    scroll(page)
    result["scrolled"] = sum(sizes.values())
    result["shift"] = page.evaluate("() => window.shift")
    page.close()
    page = context.new_page()
    sizes = listen(page)
    load(page, address)
    result["second"] = sum(sizes.values())
    context.close()
    return result, [(name.rpartition("/")[2].partition("?")[0] or name, size) for name, size in largest]


def listen(page: Any) -> dict[str, float]:
    """Bytes over the network by address, filled while the page loads."""
    sizes: dict[str, float] = {}
    names: dict[str, str] = {}
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.on("Network.requestWillBeSent", lambda event: names.update({event["requestId"]: event["request"]["url"]}))

    def finished(event: dict[str, Any]) -> None:
        name = names.get(event["requestId"], "?")
        sizes[name] = sizes.get(name, 0.0) + event["encodedDataLength"]

    session.on("Network.loadingFinished", finished)
    return sizes


def load(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("html[data-ready]")
    page.wait_for_load_state("networkidle")


def scroll(page: Any) -> None:
    """Through the whole page, as one who reads on; labs of the real model answer on the way."""
    height = page.evaluate("() => document.body.scrollHeight")
    for y in range(0, height, 500):
        page.evaluate("y => scrollTo({ top: y, behavior: 'instant' })", y)
        page.wait_for_timeout(120)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)


if __name__ == "__main__":
    main()
