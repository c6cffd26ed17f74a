"""Where chunks are computed: on this machine's devices, or by anything that has ``submit``.

Whole chunks are sent, and their rows come back; whoever asked writes them.
"""

import json
import logging
import math
import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from scaling_study.errors import RunInterrupted, StudyError
from scaling_study.execution import signals
from scaling_study.files import read_text
from scaling_study.study.conditions import Chunk, Group
from scaling_study.study.values import error_context

WAIT = 60  # seconds for a cluster's first worker


class Executor(Protocol):
    """What a run needs of wherever its chunks are computed.

    Attributes
    ----------
    platform, kind : str
        As JAX names them: ``"cpu"``, and the device's own name.
    names : list of str
        Of the devices.
    environment : dict of str to str
        The settings there that change bits.
    ahead : int
        How many chunks may be under way.
    """

    platform: str
    kind: str
    environment: dict[str, str]
    names: list[str]
    ahead: int

    def batches(self, todo: Sequence[Chunk]) -> list[list[Chunk]]:
        """Return the chunks by what may be under way together."""
        ...

    def prepare(self, own: Group, record: str, chunks: int) -> None:
        """Compile a group's program wherever some chunks of it will run."""
        ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call."""
        ...

    def close(self) -> None:
        """Begin nothing more."""
        ...


class LocalDevices:
    """All devices of this machine, or as many as were asked for; see `Executor`.

    A second thread for each device draws and writes while the first computes. One CPU device
    is one core, and whoever asks for it wants the others for something else.

    Parameters
    ----------
    count : int, optional
        How many; all by default, on a CPU as many as there are cores.
    """

    def __init__(self, count: int | None = None) -> None:
        from scaling_study.engine.environment import environment

        self.devices = local_devices(count)
        self.platform, self.kind = self.devices[0].platform, self.devices[0].device_kind
        self.environment = environment()
        self.names = [str(device) for device in self.devices]
        alone = len(self.devices) == 1 and self.platform == "cpu"
        threads = 1 if alone else 2 * len(self.devices)
        self.ahead = 2 * threads
        self._threads = ThreadPoolExecutor(threads)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for device in self.devices:
            self._free.put(device)

    def batches(self, todo: Sequence[Chunk]) -> list[list[Chunk]]:
        """Return the chunks group by group: one is compiled before its first chunk begins."""
        groups: dict[int, list[Chunk]] = {}
        for chunk in todo:
            groups.setdefault(chunk.group, []).append(chunk)
        return [groups[index] for index in sorted(groups)]

    def prepare(self, own: Group, record: str, chunks: int) -> None:
        """Compile a group's program on every device that one of its chunks will run on."""
        import jax

        from scaling_study.engine.compiling import compiled

        def compile_on(device: Any) -> None:
            # What cannot be compiled is told of each chunk, as data.
            with suppress(Exception), jax.default_device(device):
                compiled(own, record)

        for future in [self._threads.submit(compile_on, d) for d in self.devices[:chunks]]:
            result_of(future)

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call, which takes a device while it needs one."""
        return self._threads.submit(function, *arguments, on_device=self._on_device)

    @contextmanager
    def _on_device(self) -> Iterator[None]:
        import jax

        device = self._free.get()
        try:
            with jax.default_device(device):
                yield
        finally:
            self._free.put(device)

    def close(self) -> None:
        """Begin nothing more, and wait for nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)


class RemoteExecutor:
    """Whatever has ``submit(function, *arguments)`` and returns futures; see `Executor`.

    Parameters
    ----------
    client : object
        A `distributed.Client`, a `concurrent.futures` executor of spawned processes, and the
        like. What computes must have this package, and code that a study names, in the
        versions that are here.
    ahead : int
        How many chunks may be under way.
    """

    def __init__(self, client: Any, ahead: int = 64) -> None:
        from scaling_study.engine.chunk import described

        if not hasattr(client, "submit"):
            raise StudyError(f"client has no submit(function, *arguments): {client!r}")
        self._client, self.ahead = client, ahead
        self.platform, self.kind, self.environment = result_of(self.submit(described))
        self.names = [str(client)]

    def batches(self, todo: Sequence[Chunk]) -> list[list[Chunk]]:
        """Return all chunks: each worker compiles what it is sent."""
        return [list(todo)] if todo else []

    def prepare(self, own: Group, record: str, chunks: int) -> None:
        """Do nothing: workers compile when they are sent a chunk."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call."""
        return _Answer(self._client.submit(function, *arguments))

    def close(self) -> None:
        """Leave the client to whoever made it."""


class _Answer:
    """A future whose failure, but for what a study is to blame for, is that of a machine."""

    def __init__(self, future: Any) -> None:
        self._future = future

    def result(self, timeout: float | None = None) -> Any:
        """Return the result, or raise a `TimeoutError` if it is not there in time."""
        _wait_for(self._future, timeout)
        try:
            return self._future.result()
        except StudyError:
            raise
        except Exception as error:
            raise RunInterrupted(
                f"{_why(error)}; all that is stored is whole, run the same command again to"
                " continue"
            ) from error

    def cancel(self) -> None:
        self._future.cancel()


def _why(error: Exception) -> str:
    """Say in a line why a cluster did not return a chunk."""
    if type(error).__name__ == "KilledWorker":  # after as many as Dask allows
        return (
            "workers ended again and again while they computed one chunk, as they do where the"
            " system ends them for want of memory; give them more (dask worker --memory-limit),"
            " or try a smaller --chunk-size in another folder"
        )
    if isinstance(error, CancelledError):
        return "the scheduler is gone, and with it what it was asked for"
    (first, *_) = str(error).splitlines() or [""]
    return f"a worker failed: {type(error).__name__}: {first}"


def result_of(future: Any) -> Any:
    """Return a future's result, looking meanwhile whether a signal came.

    Raises
    ------
    KeyboardInterrupt
        If one did.
    """
    while True:
        signals.check()
        try:
            return future.result(timeout=signals.POLL)
        except TimeoutError:
            if getattr(future, "done", bool)():  # by now, or the error is the function's own
                return future.result()


def _wait_for(future: Any, timeout: float | None) -> None:
    """Wait until a future of whatever kind is done, as far as it can say whether it is."""
    done = getattr(future, "done", None)
    end = math.inf if timeout is None else time.monotonic() + timeout
    pause = 1e-3
    while done is not None and not done():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(pause)
        pause = min(2 * pause, 0.05)


def local_devices(count: int | None = None) -> list[Any]:
    """Return the devices to use, making CPU devices first where nobody else decided.

    Parameters
    ----------
    count : int, optional
        How many; all by default.
    """
    import jax

    from scaling_study.engine.environment import check_platform

    asked = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if not asked and jax.config.jax_num_cpu_devices in (None, -1):
        with suppress(RuntimeError):  # the backend has started; what it has is what there is
            jax.config.update("jax_num_cpu_devices", max(count or 1, os.cpu_count() or 1))
    check_platform()
    devices = jax.local_devices()
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise StudyError(f"--devices {count}: between 1 and {len(devices)} are here")
    return devices[:count]


@contextmanager
def scheduler(address: str) -> Iterator[Any]:
    """Connect to a Dask scheduler, and part from it in the end.

    Parameters
    ----------
    address : str
        As ``dask scheduler`` prints it, ``tcp://host:8786`` or, under Dask's own TLS
        configuration, ``tls://host:8786``; or the file that ``--scheduler-file`` writes.

    Raises
    ------
    StudyError
        If Dask is not installed, nothing answers there, or no worker comes.
    """
    try:
        from distributed import Client
    except ImportError:
        raise StudyError(
            "--scheduler needs Dask; install it with: pip install 'scaling-study[cluster]'"
        ) from None
    named = _address_in(Path(address)) or address
    with _without_its_words():
        try:
            client = Client(named, timeout="5s")
        except (OSError, ValueError) as error:
            raise StudyError(
                f"--scheduler {address}: no Dask scheduler answers ({error})"
            ) from error
        with client:
            try:
                client.wait_for_workers(1, timeout=WAIT)
            except TimeoutError:
                raise StudyError(
                    f"--scheduler {address}: no worker in {WAIT} s; start some with: dask worker"
                ) from None
            except (OSError, CancelledError) as error:
                raise StudyError(f"--scheduler {address}: it is gone ({error})") from error
            yield client


@contextmanager
def _without_its_words() -> Iterator[None]:
    """Keep what Dask logs of a lost connection from the terminal, unless --verbose was said."""
    if logging.getLogger().isEnabledFor(logging.INFO):
        yield
        return
    whose = ("asyncio", "distributed", "tornado")
    names = {*whose, *(name for name in logging.root.manager.loggerDict if name.startswith(whose))}
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def _address_in(file: Path) -> str | None:
    """Return the address that a scheduler writes into its file, once it has; None for no file.

    Raises
    ------
    StudyError
        If there is something else in it, or nothing for a minute.
    """
    if file.suffix != ".json":
        return None
    where = f"--scheduler {file}"
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        signals.check()
        with (
            error_context(where),
            suppress(OSError, json.JSONDecodeError),
        ):  # not there, or half written
            found = json.loads(read_text(file))
            address = found.get("address") if isinstance(found, dict) else None
            if isinstance(address, str) and address:
                return address
            raise StudyError("holds no address; name the file that dask scheduler has written")
        time.sleep(0.1)
    raise StudyError(f"{where}: no address there in {WAIT} s; start: dask scheduler")


def in_order(
    executor: Executor, items: Sequence[Any], submit: Callable[[Any], Any]
) -> Iterator[tuple[Any, Any]]:
    """Yield items and the results of what was submitted for them, a bounded number under way."""
    pending: deque[tuple[Any, Any]] = deque()
    try:
        for item in items:
            pending.append((item, submit(item)))
            if len(pending) >= executor.ahead:
                item, future = pending.popleft()
                yield item, result_of(future)
        while pending:
            item, future = pending.popleft()
            yield item, result_of(future)
    finally:
        for _, future in pending:
            future.cancel()
