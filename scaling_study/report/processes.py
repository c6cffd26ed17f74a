"""Work on a report that other processes do, where that pays: starting them takes a second."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import joblib
from joblib.externals.loky import get_reusable_executor


def each(function: Callable[..., Any], items: Iterable[Any]) -> Iterator[Any]:
    """Return the function's value of each item, in order; other processes have begun with them.

    A machine of one core computes each as it is asked for. Functions need not be importable, and
    a user's script needs no ``if __name__ == "__main__"``.
    """
    cores = joblib.cpu_count()
    if cores == 1:
        return map(function, items)
    call = joblib.delayed(function)
    start = joblib.Parallel(n_jobs=cores, return_as="generator", pre_dispatch="all")
    return _until_done(start(call(item) for item in items))


def _until_done(values: Any) -> Iterator[Any]:
    """Yield the values, and end the processes, which would wait for minutes for more work."""
    try:
        yield from values
    finally:
        get_reusable_executor().shutdown(wait=True)
