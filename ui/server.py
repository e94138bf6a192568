"""The Dash app as it is hosted: first response with prose, compressed static files, security headers, guards."""

from __future__ import annotations

import hashlib
import logging
import mimetypes
import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import dash
from cachetools import LRUCache
from dash import Dash, html
from dash._callback_signing import cache_scope, job_scope, unsign
from flask import Flask, Response, abort, jsonify, request
from flask_compress import Compress
from flask_talisman import Talisman
from werkzeug.datastructures import MultiDict

from ui import lab as labs
from ui.chapter import BOOK
from ui.jobs.managers import open_manager
from ui.prose import code_html, function_html
from ui.shell import page_html

log = logging.getLogger("glassbox")
ASSETS = Path(__file__).resolve().parent.parent / "assets"
MAX_BODY = 256 * 1024
UPDATE = "/_dash-update-component"
FOREVER = "public, max-age=31536000, immutable"


POLICY = {
    "default-src": "'self'",
    "style-src": ["'self'", "'unsafe-inline'"],
    "img-src": ["'self'", "data:", "blob:"],
    "font-src": ["'self'", "data:"],
    "connect-src": "'self'",
    "worker-src": ["'self'", "blob:"],
    "object-src": "'none'",
    "base-uri": "'self'",
    "frame-ancestors": "'self'",
}


class GlassBox(Dash):
    """Dash whose first response is the whole page: prose, controls and first pictures, readable without JavaScript."""

    @cached_property
    def files(self) -> dict[str, str]:
        """Addresses of our own bundled files, with a fingerprint so that browsers keep them for good."""
        named = {name: f"/own/{_fingerprint(content)}/{name}" for name, content in self.bundles.items()}
        return {
            "css": named["book.css"],
            "js": named["book.js"],
            "theme": named["theme.js"],
            "icon": named["icon.svg"],
            "plotly": named["plotly.js"],
        }

    @cached_property
    def bundles(self) -> dict[str, bytes]:
        """Our scripts and styles as one file each; few requests make a quick first paint."""
        plotly = next((ASSETS / "vendor").glob("plotly-cartesian-*.min.js"), None)
        return {
            "book.css": _joined("*.css").replace(b'url("fonts/', b'url("/assets/fonts/'),
            "book.js": _joined("js/*.js"),
            "theme.js": (ASSETS / "theme.js").read_bytes(),
            "plotly.js": plotly.read_bytes() if plotly else b"",
            "icon.svg": (ASSETS / "icon.svg").read_bytes(),
        }

    def interpolate_index(self, **parts: Any) -> str:  # type: ignore[override]
        return page_html(request.path, request.args, self.files, parts)


class Server(Flask):
    """Flask that logs what failed and where, without messages and traces: those may quote a reader."""

    def log_exception(self, exc_info: Any) -> None:
        """One line instead of a trace."""
        log.error("%s failed: %s", request.path, labs.what_failed(exc_info[1]))


def create_app(pages: Path) -> GlassBox:
    """Build the app from the chapters in `pages`, and warm it up before it serves."""
    BOOK.load(pages)
    jobs = open_manager(pages)
    server = Server("glassbox", static_folder=None)
    server.config.update(
        MAX_CONTENT_LENGTH=MAX_BODY,
        COMPRESS_ALGORITHM=["br", "zstd", "gzip"],  # brotli's pages are an eighth smaller, for 25 µs more an answer
        COMPRESS_CACHE_KEY=lambda sent: f"{sent.path}?{sent.args.get('m', '')}",
        COMPRESS_CACHE_BACKEND=StaticFilesOnly,
        COMPRESS_BR_LEVEL=5,
        COMPRESS_MIMETYPES=[
            "text/html",
            "text/css",
            "text/javascript",
            "application/json",
            "image/svg+xml",
            "text/csv",
        ],
        COMPRESS_MIN_SIZE=600,
    )
    app = GlassBox(
        "glassbox",
        server=server,  # type: ignore[arg-type]
        use_pages=True,
        pages_folder=str(pages),
        assets_folder=str(ASSETS),
        assets_ignore=".*",
        suppress_callback_exceptions=True,
        include_pages_meta=False,
        update_title="",
        title="Glass Box",
        use_async=False,
        on_error=_callback_failed,
        health_endpoint="healthz",
        eager_loading=False,
        background_callback_manager=jobs,
    )
    app.layout = html.Div(dash.page_container)
    _install_routes(app)
    _install_guard(app)
    _install_headers(app)
    Compress(server)
    talisman = Talisman(
        server,
        force_https=False,
        session_cookie_secure=False,
        strict_transport_security=False,
        frame_options="SAMEORIGIN",
        referrer_policy="same-origin",
        content_security_policy=dict(POLICY),
    )
    _warm(app)
    # Hashes exist only now: Pages adds an inline callback of its own on the first request.
    talisman.content_security_policy["script-src"] = ["'self'", *app.csp_hashes()]
    jobs.close()  # worker processes open their own
    return app


def _warm(app: Dash) -> None:
    """Dash sets itself up on the first request and is not thread-safe while it does: make that request now."""
    app.server.config["PROPAGATE_EXCEPTIONS"] = True  # no reader's text here: a broken page shows its author the trace
    with app.server.test_client() as client:
        for entry in BOOK.entries:
            if (status := client.get(entry.path).status_code) != 200:
                raise RuntimeError(f"{entry.path} answers {status}")
        client.get("/_dash-dependencies")
    app.server.config["PROPAGATE_EXCEPTIONS"] = None


def prepare() -> None:
    """First answers that take seconds, computed before the first reader comes. For whoever serves, not for imports."""
    for compute_first in BOOK.before_serving:
        compute_first()


def _callback_failed(problem: Exception) -> Any:
    """The last net under every callback. The type of what failed is logged, never the reader's text."""
    log.error("callback failed: %s", labs.what_failed(problem))
    return dash.no_update


class StaticFilesOnly:
    """Keeps the compressed form of static files; pages and answers are compressed as they come."""

    _kept = LRUCache[str, bytes](maxsize=256)
    _static = re.compile(r"^\w+;/(own|_dash-component-suites|assets)/")

    def get(self, key: str) -> bytes | None:
        return self._kept.get(key)

    def set(self, key: str, content: bytes) -> None:
        if self._static.match(key):
            self._kept[key] = content


def _joined(pattern: str) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(ASSETS.glob(pattern)))


def _fingerprint(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:12]


# --- routes --------------------------------------------------------------------------------------------------------


def _install_routes(app: GlassBox) -> None:
    server = app.server

    @server.get("/own/<mark>/<name>")
    def own(mark: str, name: str) -> Response:
        content = app.bundles.get(name)
        if content is None:
            abort(404)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        current = f"/own/{mark}/{name}" in app.files.values()
        return Response(content, mimetype=kind, headers={"Cache-Control": FOREVER if current else "no-cache"})

    @server.get("/lab/<lab_id>/<what>")
    def lab_part(lab_id: str, what: str) -> Response:
        lab = labs.LABS.get(lab_id)
        if lab is None or what not in {"code", "data.csv", "data.json"}:
            abort(404)
        values, _ = lab.clean(lab.from_query(request.args))
        if what == "code":
            return Response(code_page(lab, values), mimetype="text/html")
        try:
            data = labs.data_of(lab, values, reader=request.headers.get("Glass-Box-Reader", ""))
        except Exception as problem:
            sentence = labs._for_readers(lab, problem)
            return Response(sentence, status=422, mimetype="text/plain")
        body = labs.as_csv(data) if what.endswith("csv") else labs.as_json(lab, values, data)
        kind = "text/csv" if what.endswith("csv") else "application/json"
        name = f'attachment; filename="{lab.id}.{what.rsplit(".", 1)[1]}"'
        return Response(body, mimetype=kind, headers={"Content-Disposition": name})

    @server.get("/robots.txt")
    def robots() -> Response:
        return Response("User-agent: *\nAllow: /\n", mimetype="text/plain")


def code_page(lab: labs.Lab, values: dict[str, Any]) -> str:
    """The code drawer: a snippet that gives the shown numbers, then the engine functions that ran."""
    functions = "".join(function_html(function) for function in lab.runs)
    return (
        "<h4>Get these numbers in a Python shell</h4><p>Start <code>python</code> in the project's folder.</p>"
        f"{code_html(labs.snippet(lab, values))}<h4>What ran</h4>{functions}"
    )


# --- guards --------------------------------------------------------------------------------------------------------


def _install_guard(app: Dash) -> None:
    """Answer malformed callback requests with 4xx before Dash sees them (it would answer many of them with 500)."""

    @app.server.before_request
    def guard() -> Any:
        if request.path.startswith("/_dash-component-suites/") and not _known_file(app, request.path):
            abort(404)
        if request.path != UPDATE or request.method != "POST":
            return None
        if (request.content_length or 0) > MAX_BODY:
            return jsonify(error="request too large"), 413
        try:
            body = request.get_json(silent=True)
        except RecursionError:
            body = None
        problem = callback_problem(app, body) or job_problem(app, body, request.args)
        return None if problem is None else (jsonify(error=problem[1]), problem[0])


def callback_problem(app: Dash, body: Any) -> tuple[int, str] | None:
    """(status, what is wrong) with a callback request, or None if it has the form that Dash expects."""
    if not isinstance(body, dict):
        return 400, "a JSON object is expected"
    output = body.get("output")
    if not isinstance(output, str) or output not in app.callback_map:
        return 404, "there is no such callback"
    declared = next(c for c in app._callback_list if c["output"] == output)
    for part in ("inputs", "state"):
        if not _same_shape(body.get(part, []), declared[part]):
            return 400, f"{part} do not have the declared form"
    if not _names(body.get("outputs"), output):
        return 400, "outputs do not have the declared form"
    changed = body.get("changedPropIds", [])
    if not isinstance(changed, list) or not all(isinstance(name, str) for name in changed):
        return 400, "changedPropIds must be a list of names"
    return None


def job_problem(app: Dash, body: Any, handles: MultiDict[str, str]) -> tuple[int, str] | None:
    """(status, what is wrong) with a callback request that concerns a job, or None.

    The handles in the address are signed by the server: who has them has started the job.
    """
    output = body["output"]
    if not all(handle.isascii() for _, handle in handles.items(multi=True)):
        return 404, "there is no such job"  # Dash cannot compare such a signature, and would fail
    if app.callback_map[output].get("background"):
        if "cacheKey" in handles or "job" in handles:
            named = {_signed(app, cache_scope, handles.get("cacheKey")), _signed(app, job_scope, handles.get("job"))}
            return None if len(named) == 1 and None not in named else (404, "there is no such job")
        return _start_problem(body["inputs"][0].get("value"))
    if output.endswith("-stop.id") and _signed(app, job_scope, handles.get("cancelJob")) is None:
        return 404, "there is no such job"
    return None


def _start_problem(asked: Any) -> tuple[int, str] | None:
    """What starts a job is {values, reader}; the reader's name is 32 hexadecimal digits that the browser has drawn."""
    if not isinstance(asked, dict) or not isinstance(asked.get("values"), dict):
        return 400, "an object with values is expected"
    if not isinstance(asked.get("reader"), str) or not re.fullmatch(r"[0-9a-f]{32}", asked["reader"]):
        return 400, "a reader's name is expected"
    return None


def _signed(app: Dash, scope: Callable[[str | None], str], handle: str | None) -> str | None:
    """What a handle of Dash's names, if this server has signed it; for any page load: a reload keeps the job."""
    return unsign(app._get_signing_secret(), scope(None), handle)


def _same_shape(sent: Any, declared: list[dict[str, Any]]) -> bool:
    if not isinstance(sent, list) or len(sent) != len(declared):
        return False
    return all(
        isinstance(one, dict) and one.get("id") == wanted["id"] and one.get("property") == wanted["property"]
        for one, wanted in zip(sent, declared, strict=True)
    )


def _names(outputs: Any, declared: str) -> bool:
    """Do `outputs` name what the callback's own output string says?"""
    several = declared.startswith("..")
    if isinstance(outputs, list) != several:
        return False
    many = outputs if several else [outputs]
    if not all(isinstance(one, dict) for one in many):
        return False
    names = "...".join(f"{one.get('id')}.{one.get('property')}" for one in many)
    return declared == (f"..{names}.." if several else names)


def _known_file(app: Dash, path: str) -> bool:
    from dash.fingerprint import check_fingerprint

    package, _, rest = path.removeprefix("/_dash-component-suites/").partition("/")
    name, _ = check_fingerprint(rest)
    return name in app.registered_paths.get(package, ()) and not name.endswith(".map")


def _install_headers(app: Dash) -> None:
    @app.server.after_request
    def headers(response: Response) -> Response:
        path = request.path
        if path.startswith("/_dash-component-suites/") and response.status_code == 200:
            response.headers.setdefault("Cache-Control", "public, max-age=86400")
        if path.startswith("/assets/fonts/"):
            response.headers["Cache-Control"] = FOREVER
        soft_404 = request.endpoint is not None and request.endpoint.endswith("<path:path>")
        if soft_404 and response.status_code == 200 and BOOK.at(path) is None:
            response.status_code = 404
        return response
