"""The chapter on training. Its labs are declared in training.py, _training_more.py and _training_scaling.py."""

from __future__ import annotations

from pathlib import Path

from ui.chapter import Chapter

chapter = Chapter("pages.training", Path(__file__).parent)
