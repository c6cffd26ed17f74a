"""One thread for linear algebra on the host.

The matrices of a study are small and many. With a thread for each core, BLAS waits for its threads
at each matrix, which takes up to a hundred times as long where other work keeps the cores busy;
and the last bits of a result would depend on the number of cores.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from threadpoolctl import ThreadpoolController

_lock = threading.Lock()
_inside = 0  # calls, of any thread, that are inside; the limit is the whole process's
_limit = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread; it has its own number again after the last concurrent call."""
    global _inside, _limit
    with _lock:
        if _inside == 0:
            _limit = _controller().limit(limits=1, user_api="blas")
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if _inside == 0 and _limit is not None:
                _limit.restore_original_limits()


@cache
def _controller() -> ThreadpoolController:
    import numpy.linalg  # noqa: F401  both bring a library of their own, which must be loaded
    import scipy.linalg  # noqa: F401

    return ThreadpoolController()
