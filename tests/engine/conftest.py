"""What tests of the engine share: the real models, and a tiny one of random weights."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_model import CONFIG, write_package

from engine import minilm_file, weights
from engine.memo import Memo
from engine.model import Model, load
from engine.retrieval import Encoder
from engine.weights import load_weights


@pytest.fixture(scope="session")
def smollm2():
    return load()


@pytest.fixture(scope="session")
def encoder():
    """MiniLM; without its file, which is a package of its own, the tests that need it are skipped and say why."""
    if not (found := minilm_file.available()):
        pytest.skip(found.reason)
    return Encoder.load()


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Llama of random weights, in float64."""
    folder = tmp_path_factory.mktemp("packages")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        patch.setitem(weights.SOURCES, "tiny", write_package(folder))
        patch.setenv("GLASS_BOX_CACHE", str(folder / "cache"))
        patch.setenv("MODEL", "1")
        return Model(CONFIG, load_weights("tiny"), Memo(2**20)).astype(np.float64)
