"""Dask clusters: connecting to a scheduler, and noticing that its workers cannot go on."""

import json
import logging
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from scaling_study.errors import CONTINUE, RunInterrupted, StudyError
from scaling_study.execution import signals
from scaling_study.files import read_text
from scaling_study.study.values import error_context

WAIT = 60  # seconds for a cluster's first worker
PAUSED = 30  # seconds after which paused workers are given up
INTERVAL = 2  # seconds between two looks at the workers
MORE_MEMORY = (
    "give workers more memory (dask worker --memory-limit), or use a smaller --chunk-size in"
    " another folder"
)


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a Dask scheduler, and disconnect at the end.

    Parameters
    ----------
    address : str
        As ``dask scheduler`` prints it, ``tcp://host:8786`` or, under Dask's own TLS
        configuration, ``tls://host:8786``; or the file that ``--scheduler-file`` writes.

    Raises
    ------
    StudyError
        If Dask is not installed, no scheduler answers, or no worker comes.
    """
    try:
        from distributed import Client
    except ImportError:
        raise StudyError(
            "--scheduler needs Dask; install it with: pip install 'scaling-study[cluster]'"
        ) from None
    where = f"--scheduler {address}"
    found = _address_in(Path(address)) or address
    with _without_logging():
        try:
            client = Client(found, timeout="5s")
        except (OSError, ValueError) as error:
            raise StudyError(f"{where}: no Dask scheduler answers ({error})") from error
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT)
            except TimeoutError:
                raise StudyError(
                    f"{where}: no worker in {WAIT} s; start some with: dask worker"
                ) from None
            except (OSError, CancelledError) as error:
                raise StudyError(f"{where}: the scheduler has ended ({error})") from error
            yield client


@contextmanager
def _without_logging() -> Iterator[None]:
    """Hide what Dask logs of a lost connection, except with --verbose."""
    if logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    libraries = ("asyncio", "distributed", "tornado")
    known = logging.root.manager.loggerDict
    names = {*libraries, *(name for name in known if name.startswith(libraries))}
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _address_in(file: Path) -> str | None:
    """Return the address in a scheduler file, waiting for it; None for another argument."""
    if file.suffix != ".json":
        return None
    where = f"--scheduler {file}"
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        signals.check()
        # The file may not be there yet, or be half written.
        with error_context(where), suppress(OSError, json.JSONDecodeError):
            found = json.loads(read_text(file))
            address = found.get("address") if isinstance(found, dict) else None
            if isinstance(address, str) and address:
                return address
            raise StudyError("holds no address; name the file that dask scheduler has written")
        time.sleep(0.1)
    raise StudyError(f"{where}: no address in {WAIT} s; start: dask scheduler")


def failure_reason(error: Exception) -> str:
    """Return in one line why a worker did not return a result."""
    if type(error).__name__ == "KilledWorker":  # after Dask's allowed failures
        return f"workers were killed again and again while they computed a chunk; {MORE_MEMORY}"
    if isinstance(error, CancelledError):
        return "the scheduler has ended, and its tasks are lost"
    first, *_ = str(error).splitlines() or [""]
    return f"a worker failed: {type(error).__name__}: {first}"


class ClusterMonitor:
    """Interrupts a run while Dask's workers are killed or paused and no chunk is finished.

    Dask fails a task after its allowed failures. It does not notice workers that are killed with
    another task each time, nor that it pauses all workers at 80 % of their memory limit.

    Parameters
    ----------
    client : object
        Clients other than a `distributed.Client` are not monitored.
    """

    def __init__(self, client: Any) -> None:
        self._client = client if hasattr(client, "get_events") else None
        self._next = 0.0
        self._workers: dict[str, Any] = {}  # as last seen
        self.reset()

    def reset(self) -> None:
        """Note that a result has arrived."""
        self._deaths: int | None = None  # before the result
        self._paused_since: float | None = None

    def check(self) -> None:
        """Raise a `RunInterrupted` if no further result can be expected."""
        now = time.monotonic()
        if self._client is None or now < self._next:
            return
        self._next = now + INTERVAL
        with suppress(OSError):  # the scheduler has ended, which the future reports
            workers = self._client.scheduler_info(n_workers=-1)["workers"]
            deaths = sum(_is_death(event) for _, event in self._client.get_events("all"))
            self._workers = workers or self._workers
            self._check_deaths(deaths)
            self._check_paused(list(workers.values()), now)

    def _check_deaths(self, deaths: int) -> None:
        import distributed  # noqa: F401  registers Dask's defaults
        from dask import config

        if self._deaths is None:
            self._deaths = deaths
        killed = deaths - self._deaths
        if killed > config.get("distributed.scheduler.allowed-failures") * len(self._workers):
            raise RunInterrupted(
                f"workers{self._limit()} were killed {killed} times without finishing a chunk;"
                f" {MORE_MEMORY}; {CONTINUE}"
            )

    def _check_paused(self, workers: list[Any], now: float) -> None:
        if not workers or not all(_is_stuck(worker) for worker in workers):
            self._paused_since = None
            return
        self._paused_since = self._paused_since or now
        if now - self._paused_since > PAUSED:
            raise RunInterrupted(
                f"all workers{self._limit()} are paused, because they use more than Dask's"
                f" threshold (80 % by default) of it; {MORE_MEMORY}; {CONTINUE}"
            )

    def _limit(self) -> str:
        limits = [worker.get("memory_limit") or 0 for worker in self._workers.values()]
        return f" with a memory limit of {max(limits, default=0) / 2**20:,.0f} MiB"


def _is_death(event: Any) -> bool:
    """Whether a scheduler's event is the unexpected end of a worker that had tasks."""
    expected = event.get("expected", event.get("safe", False))
    return bool(
        event.get("action") == "remove-worker" and event.get("processing-tasks") and not expected
    )


def _is_stuck(worker: Any) -> bool:
    """Whether a worker is paused and computes nothing."""
    executing = worker["metrics"].get("task_counts", {}).get("executing", 0)
    return worker["status"] == "paused" and not executing
