"""The labs without a web app: what a job's process needs of the pages."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from dash._callback_context import context_value
from dash._utils import AttributeDict

from ui.chapter import BOOK


def load_labs(pages: Path) -> None:
    """Import the chapters that are written; their labs and callbacks register themselves, their pages do not."""
    BOOK.load(pages)
    context_value.set(AttributeDict(ignore_register_page=True))
    for entry in BOOK.entries:
        path = pages / f"{entry.slug.replace('-', '_')}.py"
        if path.exists():
            _import(f"{pages.name}.{path.stem}", path)


def _import(name: str, path: Path) -> None:
    found = importlib.util.spec_from_file_location(name, path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules[name] = module
    found.loader.exec_module(module)
