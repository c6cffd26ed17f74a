"""Compiled programs kept on disk, by JAX's persistent cache, in the user's cache folder."""

import logging
import os
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeVar

import jax
from jax.experimental.compilation_cache import compilation_cache

log = logging.getLogger(__name__)
UNREADABLE = "Error reading persistent compilation cache entry"
Result = TypeVar("Result")


@cache
def keep_programs() -> None:
    """Keep compiled programs in the user's cache folder, unless JAX was told another way."""
    # JAX warns of an entry that it cannot read; here that is an error, to be caught below. Set
    # once, because filters that are set and unset in several threads get mixed up.
    warnings.filterwarnings("error", message=UNREADABLE)
    told = jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache
    if not told:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "scaling-study" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def without_unreadable(compute: Callable[[], Result]) -> Result:
    """Return what a function computes, without entries of the cache that cannot be read.

    JAX writes an entry in place, so that a process killed meanwhile leaves a part of it, which
    JAX never replaces. Such entries are deleted, and the program is compiled. Where that does
    not help, because an entry is another user's, say, this process goes on without the cache.
    """
    keep_programs()
    for mend in (_delete_unreadable, _keep_no_programs):
        try:
            return compute()
        except Exception as error:  # a component's own error may carry the warning's words
            if UNREADABLE not in str(error):
                raise
        mend()
    return compute()


def _keep_no_programs() -> None:
    log.warning("the compilation cache cannot be read; this process compiles without it")
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX asks whether there is one only once


def _delete_unreadable() -> None:
    folder = Path(jax.config.jax_compilation_cache_dir or "")
    for entry in folder.glob("jit_*-cache"):
        with suppress(OSError):  # another process may have been faster
            if not _is_whole(entry.read_bytes()):
                entry.unlink()


def _is_whole(entry: bytes) -> bool:
    """Say whether an entry can be unpacked, by whichever library JAX has packed it."""
    for decompress in _decompressors():
        with suppress(Exception):  # each library has an error of its own
            decompress(entry)
            return True
    return False


def _decompressors() -> Iterator[Callable[[bytes], bytes]]:
    yield zlib.decompress
    with suppress(ImportError):
        yield import_module("zstandard").ZstdDecompressor().decompress
    with suppress(ImportError):
        yield import_module("compression.zstd").decompress
