"""Executors compute chunks: on this machine's devices, or by anything that has ``submit``.

A worker (a thread, a process or another machine) draws the data of a chunk, trains its runs and
encodes their rows as bytes. Only the process that submits chunks writes files.
"""

import os
import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol

from scaling_study.errors import CONTINUE, RunInterrupted, StudyError
from scaling_study.execution import signals
from scaling_study.execution.cluster import ClusterMonitor, failure_reason
from scaling_study.study.conditions import Group

# Programs that are compiled at once, and ahead of the one that is used.
COMPILERS = max(2, (os.cpu_count() or 1) // 4)
HOST_THREADS = 8  # that draw data and encode rows beside a GPU


class Executor(Protocol):
    """Computes chunks.

    Attributes
    ----------
    platform, kind : str
        Platform and kind of device as JAX names them, for example ``"gpu"`` and ``"NVIDIA H100"``.
    names : list of str
        Name of each device.
    memory : int or None
        Bytes of memory of one device; None on a CPU, or where it is not known.
    environment : dict of str to str
        The settings of the devices' process that change the bits of results.
    max_pending : int
        Largest number of chunks that are submitted and not yet returned.
    """

    platform: str
    kind: str
    environment: dict[str, str]
    names: list[str]
    memory: int | None
    max_pending: int

    def compile(self, group: Group, record: str) -> Any:
        """Begin to compile a group's program, and return a future; None if workers do that."""
        ...

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call.

        An executor of local devices adds the keyword argument ``on_device``, a function that
        returns a context manager: the call enters it while it needs a device. Other executors
        leave it out, and the function uses the worker's default device.
        """
        ...

    def close(self) -> None:
        """Start no more calls."""
        ...


class LocalDevices:
    """The devices of this machine, or some of them; an `Executor`.

    Calls that need a device take turns at its slots: a CPU has one for each core, so that all
    cores share the programs compiled for it, and any other device has one. There are more
    threads than slots: while some compute on a device, the others draw data or encode rows. On a
    CPU one more is enough, since they all share its cores.

    Parameters
    ----------
    count : int, optional
        Number of slots; by default one for each core of a CPU, or one for each other device.
    """

    def __init__(self, count: int | None = None) -> None:
        from scaling_study.engine.environment import environment

        self._slots = device_slots(count)
        first = self._slots[0]
        self.platform, self.kind = first.platform, first.device_kind
        self.environment = environment()
        self.names = [str(device) for device in self._slots]
        self.memory = device_memory()
        slots, cores = len(self._slots), os.cpu_count() or 1
        if self.platform == "cpu":
            threads, compilers = 1 if slots == 1 else slots + 1, min(COMPILERS, slots)
        else:
            threads, compilers = slots * min(HOST_THREADS, max(2, cores // slots)), COMPILERS
        self.max_pending = 2 * threads
        self._threads = ThreadPoolExecutor(threads)
        self._compiler = ThreadPoolExecutor(compilers)
        self._free: queue.SimpleQueue[Any] = queue.SimpleQueue()
        for device in self._slots:
            self._free.put(device)

    def compile(self, group: Group, record: str) -> Any:
        """Begin to compile a group's program for each device, and return a future."""
        import jax

        from scaling_study.engine.compiling import compiled

        def compile_on_devices() -> None:
            for device in dict.fromkeys(self._slots):
                # An error is raised again when a chunk runs, and stored with its rows.
                with suppress(Exception), jax.default_device(device):
                    compiled(group, record)

        return self._compiler.submit(compile_on_devices)

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
        """Start no more calls, without waiting for those that run."""
        for threads in (self._compiler, self._threads):
            threads.shutdown(wait=False, cancel_futures=True)


class RemoteExecutor:
    """Anything that has ``submit(function, *arguments)`` and returns futures; an `Executor`.

    Parameters
    ----------
    client : object
        For example a `distributed.Client`, or a `concurrent.futures` executor of spawned
        processes. Its workers need this package, and code that a study names, in the versions
        of this process.
    max_pending : int
        Largest number of chunks that are submitted and not yet returned.
    """

    def __init__(self, client: Any, max_pending: int = 64) -> None:
        from scaling_study.engine.chunk import describe_device

        if not hasattr(client, "submit"):
            raise StudyError(f"client has no submit(function, *arguments): {client!r}")
        self._client, self.max_pending = client, max_pending
        self._monitor = ClusterMonitor(client)
        self.platform, self.kind, self.environment = wait_for_result(self.submit(describe_device))
        self.names = [str(client)]
        on_cpu = self.platform == "cpu"
        self.memory = None if on_cpu else wait_for_result(self.submit(device_memory))

    def compile(self, group: Group, record: str) -> None:
        """Do nothing: each worker compiles when it receives a chunk."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return the future of a call."""
        return _RemoteFuture(self._client.submit(function, *arguments), self._monitor)

    def close(self) -> None:
        """Do nothing: the client belongs to the caller."""


class _RemoteFuture:
    """A future that raises a `RunInterrupted` where a worker failed, but not the study."""

    def __init__(self, future: Any, monitor: ClusterMonitor) -> None:
        self._future, self._monitor = future, monitor

    def result(self, timeout: float) -> Any:
        """Return the result, or raise a `TimeoutError` if it is not there in time."""
        done, end, pause = getattr(self._future, "done", None), time.monotonic() + timeout, 1e-3
        while done is not None and not done():
            if time.monotonic() > end:
                self._monitor.check()
                raise TimeoutError
            time.sleep(pause)
            pause = min(2 * pause, 0.05)
        self._monitor.reset()
        try:
            return self._future.result()
        except StudyError:
            raise
        except Exception as error:
            raise RunInterrupted(f"{failure_reason(error)}; {CONTINUE}") from error

    def cancel(self) -> None:
        self._future.cancel()


def wait_for_result(future: Any) -> Any:
    """Return a future's result, and check for signals while waiting.

    Raises
    ------
    KeyboardInterrupt
        If there was a signal.
    """
    while True:
        signals.check()
        try:
            return future.result(timeout=signals.POLL)
        except TimeoutError:
            if getattr(future, "done", bool)():  # by now, or the error is the function's own
                return future.result()


def in_order(
    executor: Executor, items: Sequence[Any], submit: Callable[[Any], Any]
) -> Iterator[tuple[Any, Any]]:
    """Yield items and their results in order, with at most ``executor.max_pending`` submitted."""
    pending: deque[tuple[Any, Any]] = deque()
    try:
        for item in items:
            pending.append((item, submit(item)))
            if len(pending) >= executor.max_pending:
                item, future = pending.popleft()
                yield item, wait_for_result(future)
        while pending:
            item, future = pending.popleft()
            yield item, wait_for_result(future)
    finally:
        for _, future in pending:
            future.cancel()


def device_memory() -> int | None:
    """Return the bytes of this process's first device, None if it is a CPU."""
    import jax

    device = jax.local_devices()[0]
    return None if device.platform == "cpu" else (device.memory_stats() or {}).get("bytes_limit")


def device_slots(count: int | None = None) -> list[Any]:
    """Return the device of each call that may compute at the same time.

    Parameters
    ----------
    count : int, optional
        Number of slots; by default one for each core of a CPU, or one for each other device.
    """
    import jax

    from scaling_study.engine.environment import check_platform

    check_platform()
    devices = jax.local_devices()
    if devices[0].platform == "cpu":
        devices = devices[:1] * (os.cpu_count() or 1)
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise StudyError(f"--devices {count}: must be between 1 and {len(devices)} on this machine")
    return devices[:count]
