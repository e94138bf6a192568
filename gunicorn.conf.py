"""How the app is served, by `make run` and by Procfile alike. HOST, PORT and WEB_CONCURRENCY change it."""

import os
import socket
from typing import Any

# Under load, the BLAS threads of several workers fight; one each, set before NumPy is imported.
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from gunicorn.glogging import Logger  # noqa: E402

_host = os.environ.get("HOST", "127.0.0.1")
_port = int(os.environ.get("PORT", "8050"))
_address = f"[{_host}]:{_port}" if ":" in _host else f"{_host}:{_port}"

bind = _address
proc_name = "glass-box"

# The app is loaded and warmed up once, then forked: workers share the weights, and no first request waits or races.
preload_app = True
worker_class = "gthread"
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
threads = 8
timeout = 60
graceful_timeout = 10
keepalive = 15
if os.access("/dev/shm", os.W_OK):
    worker_tmp_dir = "/dev/shm"  # the heartbeat of a worker must not wait for a disk
control_socket_disable = True

# A link carries a reader's sentence and every control; anything longer is not ours. The app limits bodies.
limit_request_line = 8190
limit_request_fields = 60
limit_request_field_size = 8190


class PrivateLogger(Logger):
    """Keeps readers' text out of the log: addresses are cut before their query."""

    def exception(self, msg: str, *args: Any, **kwargs: Any) -> None:
        super().exception(msg, *(arg.partition("?")[0] if isinstance(arg, str) else arg for arg in args), **kwargs)


# No access log, and no warnings either: those of malformed requests quote them.
accesslog = None
loglevel = "error"
logger_class = PrivateLogger


def on_starting(server: Any) -> None:
    """Say in a sentence that the port is taken; else compute what takes seconds, once, before the workers start.

    gunicorn itself would retry the port and then fail with a trace.
    """
    family = socket.AF_INET6 if ":" in _host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_host, _port))
        except OSError as problem:
            raise SystemExit(
                f"{_address} cannot be used ({problem.strerror}). Try another: PORT=8051 make run"
            ) from None
    from ui.server import prepare

    prepare()


def post_worker_init(worker: Any) -> None:
    """Tell the reader once the first worker takes requests: the sockets are open and the app is warm."""
    if worker.age == 1:
        shown = f"127.0.0.1:{_port} and on this machine's other addresses" if _host in ("0.0.0.0", "::") else _address
        print(f"Glass Box is open at http://{shown}", flush=True)
