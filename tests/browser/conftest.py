"""What browser tests share: the app as it is hosted, Debian's Chromium, and a reader who looks at a page."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext
from reader import Reader

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests are marked as such; without Chromium they are skipped, except where a machine runs them all."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        if not CHROMIUM.exists() and os.environ.get("CI") != "true":
            item.add_marker(pytest.mark.skip(reason=f"There is no {CHROMIUM}."))


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    return {"executable_path": str(CHROMIUM), "args": ARGUMENTS}


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The app under gunicorn with its own configuration, one worker, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "HOST": "127.0.0.1", "PORT": str(port), "WEB_CONCURRENCY": "1"}
    command = [sys.executable, "-m", "gunicorn", "--config", "gunicorn.conf.py", "app:server"]
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL)
    where = f"http://127.0.0.1:{port}"
    try:
        _wait_for(where, process)
        yield where
    finally:
        process.terminate()
        process.wait(timeout=15)


def _wait_for(where: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended while starting"
        try:
            with urllib.request.urlopen(f"{where}/healthz", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not start within a minute")


@pytest.fixture
def read(browser: Browser, address: str) -> Iterator[Callable[..., Reader]]:
    """Open a page as a new reader: nothing in storage. `width` and `theme` say with what device."""
    contexts: list[BrowserContext] = []

    def read(path: str, *, width: int = 1300, theme: str = "light", open: bool = True, **options: Any) -> Reader:
        context = browser.new_context(
            viewport={"width": width, "height": 900 if width > 600 else 740}, color_scheme=theme, **options
        )
        contexts.append(context)
        reader = Reader(context.new_page(), address)
        return reader.open(path) if open else reader

    yield read
    for context in contexts:
        context.close()
