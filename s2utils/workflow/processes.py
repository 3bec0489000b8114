"""Processes that work side by side for one job, and end with it."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context, parent_process


@contextlib.contextmanager
def pool(workers: int) -> Iterator[ProcessPoolExecutor | None]:
    """A pool of that many fresh processes, None for one: the job then does the work itself.

    Work that has not begun when the block ends is left. Trap: what is submitted must be a function of a module.
    """
    executor = ProcessPoolExecutor(workers, get_context("spawn"), initializer=_die_with_parent) if workers > 1 else None
    try:
        yield executor
    finally:
        if executor:
            executor.shutdown(cancel_futures=True)


def _die_with_parent() -> None:
    """End this worker when the job that started it is killed; it would wait for work forever."""

    def watch() -> None:
        parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
