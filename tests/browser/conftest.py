"""What browser tests share: the app as it is hosted, Debian's Chromium, and a reader who looks at a page."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext
from reader import Reader
from served import ARGUMENTS, CHROMIUM, served

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Browser tests are marked as such; without Chromium they are skipped, except where a machine runs them all."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        item.add_marker(pytest.mark.browser)
        if not Path(CHROMIUM).exists() and os.environ.get("CI") != "true":
            item.add_marker(pytest.mark.skip(reason=f"There is no {CHROMIUM}."))


@pytest.fixture(scope="session")
def browser_type_launch_args() -> dict[str, Any]:
    return {"executable_path": CHROMIUM, "args": ARGUMENTS}


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The app under gunicorn with its own configuration, one worker, on a free port."""
    with served(workers=1) as where:
        yield where


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
