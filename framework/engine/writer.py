"""Writing in the background, one thing at a time."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class Writer:
    """Runs jobs in a thread while the training goes on; never two at once.

    An error of a job is raised at the next call of any method.
    """

    def __init__(self) -> None:
        self._job: Future[None] | None = None

    def start(self, job: Callable[[], None]) -> None:
        """Wait for the job before, then begin this one."""
        self.wait()
        pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint-writer")
        self._job = pool.submit(job)
        pool.shutdown(wait=False)  # its thread ends with the job

    def check(self) -> None:
        """Raise the error of a job that has failed; do not wait."""
        if self._job is not None and self._job.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written."""
        job, self._job = self._job, None
        if job is not None:
            job.result()
