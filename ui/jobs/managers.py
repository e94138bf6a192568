"""Dash's background-callback managers, with a line: who asks stands in it, and what nobody wants any more is ended.

Both keep Dash's protocol: a start gives the signed handles `cacheKey` and `job`, a poll with them gives progress or the
result, `cancelJob` ends the job. Here both handles sign one unguessable name, so nobody guesses another reader's job.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import secrets
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import orjson
import psutil
from dash import CeleryManager, DiskcacheManager
from dash.background_callback.managers import BaseBackgroundCallbackManager
from dash.background_callback.managers.diskcache_manager import _make_job_fn

from ui.jobs.line import LOST, Job, Line
from ui.jobs.store import KEEP, DiskStore, RedisStore, Store, line_cache, new_folder, packed, result_cache, run_cache

log = logging.getLogger("glassbox")
ROOT = Path(__file__).resolve().parents[2]
BLAS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
GONE = {"gone": True}
"""Answer about a job that is not in the line: it was ended because nobody asked, or the server was started again."""


class InLine(BaseBackgroundCallbackManager):
    """What both managers share."""

    line: Line
    results: Store
    runs: Store
    swept = 0.0

    def build_cache_key(self, fn: Any, args: Any, cache_args_to_ignore: Any, triggered: Any) -> str:
        """The job's name. Dash would make equal requests of two readers one job, which each could end for the other."""
        return secrets.token_hex(24)

    def call_job_fn(self, key: str, job_fn: Any, args: Any, context: Any) -> str:
        """Stand in line. Nothing of the request's context (address, headers) goes along."""
        self.sweep()
        asked = args[0]
        if refused := self.line.join(key, asked["reader"]):
            self.answer(key, {"error": refused})
        else:
            self.hand_in(key, job_fn, [{"values": asked["values"], "reader": asked["reader"], "job": key}])
        return key

    def get_progress(self, key: str) -> Any:
        """Where the job stands, in line or in its work; asking keeps it alive."""
        self.line.look(key)
        self.sweep()
        one = self.line.find(key)
        if one is None or one["ended"]:
            return None
        if not one["started"]:
            return [{"before": self.line.before(key)}]
        told = self.told(key)
        return [{"ran": round(time.time() - one["started"], 1), **(told[0] if told else {})}]

    def get_result(self, key: str, job: Any) -> Any:
        """The result, which ends the job; UNDEFINED while there is none."""
        one = self.line.find(key)
        result = self.answered(key)
        if result is self.UNDEFINED:
            if one is not None and not one["ended"]:
                return self.UNDEFINED
            result = GONE if one is None else {"error": one["ended"]}
        self.terminate_job(key)
        return result

    def terminate_job(self, job: str | None) -> None:
        """Take the job out of the line, and end its process if it still runs."""
        one = self.line.leave(job) if job else None
        if job and one is not None:
            self.forget(job)
            if one["started"] and not one["ended"]:
                self.kill(job, one)

    def terminate_unhealthy_job(self, job: str) -> bool:
        return False

    def job_running(self, job: str) -> bool:
        one = self.line.find(job)
        return one is not None and not one["ended"]

    def get_updated_props(self, key: str) -> dict[str, Any]:
        return {}

    def sweep(self) -> None:
        """What any look of any reader does for the line as a whole, at most twice a second."""
        if time.monotonic() - self.swept < 0.5:
            return
        self.swept = time.monotonic()
        self.line.mark_lost()
        for job in self.line.abandoned():
            self.terminate_job(job)

    # -- what differs --------------------------------------------------------------------------------------------------

    def hand_in(self, key: str, job_fn: Any, args: list[Any]) -> None: ...
    def answer(self, key: str, result: Any) -> None: ...
    def answered(self, key: str) -> Any: ...
    def told(self, key: str) -> Any: ...
    def forget(self, key: str) -> None: ...
    def kill(self, job: str, one: Job) -> None: ...


class LocalLine(Line):
    """A line whose jobs are processes of this machine: one that was killed is missed at once."""

    def alive(self, job: str, one: Job) -> bool:
        return super().alive(job, one) and ("pid" not in one or process_of(one) is not None)


class DiskJobs(InLine, DiskcacheManager):
    """Jobs as processes of this machine, over a disk cache. Each is a fresh Python, not a fork of a threaded server:
    a fork would inherit locks that other threads hold at that moment."""

    def __init__(self, folder: Path, pages: Path) -> None:
        self.folder, self.pages = folder, pages
        cache = line_cache(folder)
        self.line = LocalLine(DiskStore(cache), slots())
        self.results, self.runs = DiskStore(result_cache(folder)), DiskStore(run_cache(folder))
        self.processes: list[subprocess.Popen[bytes]] = []
        self._cleaner: threading.Thread | None = None
        DiskcacheManager.__init__(self, cache)

    def make_job_fn(self, fn: Any, progress: Any, key: str | None = None) -> Any:
        made = _make_job_fn(fn, self.handle, progress)
        made.key = key  # by which the job's process finds it again
        return made

    def hand_in(self, key: str, job_fn: Any, args: list[Any]) -> None:
        self.handle.set(f"{key}-task", (job_fn.key, args))
        self._clean_up()
        self.advance()

    def sweep(self) -> None:
        super().sweep()
        self.advance()

    def advance(self) -> None:
        """Start what waits, as far as there is room."""
        self.processes = [process for process in self.processes if process.poll() is None]
        for job in self.line.start_next():
            try:
                process = self._launch(job)
                self.processes.append(process)
                self.line.change(job, pid=process.pid, born=psutil.Process(process.pid).create_time())
            except (OSError, psutil.Error) as problem:  # no memory for one more, or it has ended at once
                log.error("a job's process did not start: %s", type(problem).__name__)
                self.line.end(job, LOST)

    def _launch(self, job: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, **dict.fromkeys(BLAS, "1"), "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
        return subprocess.Popen(
            [sys.executable, "-m", "ui.jobs.process", str(self.folder), str(self.pages), job],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def task(self, job: str) -> tuple[str, list[Any]] | None:
        """What a job's process has to do."""
        return self.handle.get(f"{job}-task")

    def answer(self, key: str, result: Any) -> None:
        self.handle.set(key, result)

    def answered(self, key: str) -> Any:
        return self.handle.get(key, self.UNDEFINED)

    def told(self, key: str) -> Any:
        return self.handle.get(self._make_progress_key(key))

    def forget(self, key: str) -> None:
        for name in (key, f"{key}-task", self._make_progress_key(key)):
            self.handle.delete(name)

    def kill(self, job: str, one: Job) -> None:
        if process := process_of(one):
            with contextlib.suppress(psutil.Error):
                process.kill()

    def close(self) -> None:
        """Shut the files, before worker processes part."""
        self.handle.close()
        self.results.cache.close()  # type: ignore[attr-defined]

    def end_all(self) -> None:
        """The server ends: so do its jobs."""
        for job in list(self.line._jobs()):
            self.terminate_job(job)

    def _clean_up(self) -> None:
        """From the first job on, delete what has expired; the cache itself would only when something new comes."""
        if self._cleaner is None or not self._cleaner.is_alive():
            self._cleaner = threading.Thread(target=self._clean_forever, daemon=True)
            self._cleaner.start()

    def _clean_forever(self) -> None:
        while True:
            time.sleep(30)
            try:
                self.sweep()
                self.handle.expire()
                for kept in (self.results, self.runs):
                    kept.cache.expire()  # type: ignore[attr-defined]
            except Exception as problem:
                log.error("cleaning after jobs failed: %s", type(problem).__name__)
                return


def slots() -> int:
    """How many jobs run at once on this machine: one processor is always left to readers who move a slider."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, processors - 1)


def process_of(one: Job) -> psutil.Process | None:
    """The job's process if it still runs, and is not another one with the same number."""
    with contextlib.suppress(psutil.Error, KeyError):
        process = psutil.Process(one["pid"])
        if process.create_time() == one["born"] and process.status() != psutil.STATUS_ZOMBIE:
            return process
    return None


class CeleryJobs(InLine, CeleryManager):
    """Jobs in Celery's workers, over Redis: they leave the web machine."""

    def __init__(self, url: str) -> None:
        import redis
        from celery.signals import task_failure, task_postrun

        client = redis.Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        store = RedisStore(client)
        self.line, self.results, self.runs = Line(store, None), store, store
        self.client = client
        task_postrun.connect(self._task_ended, weak=False)
        task_failure.connect(self._task_lost, weak=False)
        CeleryManager.__init__(self, celery_app(url))

    def get_or_create_signing_secret(self, generate: Any) -> Any:
        """One secret for all machines; Dash's would go with the results after an hour."""
        self.client.set("glassbox:secret", generate(), nx=True)
        return self.client.get("glassbox:secret")

    def hand_in(self, key: str, job_fn: Any, args: list[Any]) -> None:
        try:
            job_fn.apply_async((key, self._make_progress_key(key), args, {}), task_id=key)
        except Exception:
            self.line.leave(key)
            raise

    def _task_ended(self, task_id: str = "", **_: Any) -> None:
        self.line.end(task_id)

    def _task_lost(self, task_id: str = "", **_: Any) -> None:
        """Told by Celery's main process, when the process that ran the job is gone."""
        self.line.end(task_id, LOST)

    def answer(self, key: str, result: Any) -> None:
        self.handle.backend.set(key, packed(result))

    def answered(self, key: str) -> Any:
        found = self.handle.backend.get(key)
        return self.UNDEFINED if found is None else orjson.loads(found)

    def told(self, key: str) -> Any:
        found = self.handle.backend.get(self._make_progress_key(key))
        return None if found is None else orjson.loads(found)

    def forget(self, key: str) -> None:
        for name in (key, self._make_progress_key(key)):
            self.handle.backend.delete(name)

    def kill(self, job: str, one: Job) -> None:
        self.handle.control.terminate(job)

    def close(self) -> None:
        """Let go of connections, before worker processes part."""
        self.client.close()
        self.handle.close()


def celery_app(url: str) -> Any:
    """Celery over Redis as broker and for results, which expire."""
    from celery import Celery

    app = Celery("glassbox", broker=url, backend=url)
    app.conf.update(
        result_expires=KEEP,
        task_ignore_result=True,
        worker_prefetch_multiplier=1,
        broker_connection_retry_on_startup=True,
        broker_transport_options={"socket_timeout": 5, "socket_connect_timeout": 2},
        worker_send_task_events=False,
    )
    return app


CURRENT: DiskJobs | CeleryJobs | None = None
"""The manager of this process's app."""


def open_manager(pages: Path, folder: Path | None = None) -> DiskJobs | CeleryJobs:
    """Jobs in Celery's workers where REDIS_URL says where Redis is, and as processes of this machine otherwise."""
    global CURRENT
    if url := os.environ.get("REDIS_URL"):
        CURRENT = CeleryJobs(url)
    else:
        CURRENT = DiskJobs(folder or new_folder(), pages)
        if folder is None:
            _end_with_this_process(CURRENT)
    return CURRENT


def _end_with_this_process(manager: DiskJobs) -> None:
    mine = os.getpid()

    def end() -> None:
        if os.getpid() == mine:
            with contextlib.suppress(Exception):
                manager.end_all()

    atexit.register(end)
