"""One job in a process of its own: python -m ui.jobs.process FOLDER PAGES JOB. Started by `managers.DiskJobs`."""

import os

os.nice(19)  # before anything is imported: readers who move a slider come first

import sys  # noqa: E402
from pathlib import Path  # noqa: E402

from ui.jobs.load import load_labs  # noqa: E402
from ui.jobs.managers import DiskJobs, open_manager  # noqa: E402


def main(folder: str, pages: str, job: str) -> None:
    """Find what the job has to do, do it, and leave."""
    manager = open_manager(Path(pages), Path(folder))
    assert isinstance(manager, DiskJobs)
    load_labs(Path(pages))
    task = manager.task(job)
    if task is None or not manager.line.wanted(job):
        return
    key, args = task
    manager.func_registry[key](job, manager._make_progress_key(job), args, {})
    manager.line.end(job)


if __name__ == "__main__":
    main(*sys.argv[1:])
