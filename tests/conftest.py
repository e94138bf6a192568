"""Every test runs with the engine's declared shapes checked, and on one BLAS thread as the server does."""

import os
from typing import Any

for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import pytest  # noqa: E402
from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("engine", "beartype.beartype")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the real model are skipped, and say why, where its file is not installed."""
    marked = [item for item in items if "model" in item.keywords]
    if not marked:
        return
    from engine.model import available

    if not (found := available()):
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=found.reason))


@pytest.fixture(scope="session", autouse=True)
def room_for_runs() -> None:
    """Every lab meets the same awkward sentences: runs of the model are kept long enough for all of them."""
    from engine import model

    model.TRACE_BYTES = 2**30


@pytest.fixture(scope="session")
def application() -> Any:
    """The app as it is served."""
    from app import app

    return app


@pytest.fixture
def client(application: Any) -> Any:
    """A caller of the app, without a network. A failure inside becomes a response, as it does for a reader."""
    return application.server.test_client()
