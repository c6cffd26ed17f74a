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
    """Keep compiled programs in the user's cache folder, unless JAX is configured otherwise."""
    # JAX warns of an unreadable entry; here that is an error, which is caught below. Set once,
    # because setting filters is not thread-safe.
    warnings.filterwarnings("error", message=UNREADABLE)
    configured = jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache
    if not configured:
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "scaling-study" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def without_unreadable(compute: Callable[[], Result]) -> Result:
    """Return what a function computes, without unreadable entries of the cache.

    JAX writes an entry in place, so that a process that is killed leaves a part of it, which JAX
    never replaces. Such entries are deleted, and the program is compiled. If that does not help,
    for instance because an entry is another user's, this process continues without the cache.
    """
    keep_programs()
    for repair in (_delete_unreadable, _disable_cache):
        try:
            return compute()
        except Exception as error:  # a component's own error may contain the text
            if UNREADABLE not in str(error):
                raise
        repair()
    return compute()


def _disable_cache() -> None:
    log.warning("the compilation cache cannot be read; this process compiles without it")
    jax.config.update("jax_enable_compilation_cache", False)
    compilation_cache.reset_cache()  # JAX looks for one only once


def _delete_unreadable() -> None:
    folder = Path(jax.config.jax_compilation_cache_dir or "")
    for entry in folder.glob("jit_*-cache"):
        with suppress(OSError):  # another process may have been faster
            if not _is_whole(entry.read_bytes()):
                entry.unlink()


def _is_whole(entry: bytes) -> bool:
    """Return whether an entry can be unpacked, with any library that JAX uses."""
    for decompress in _decompressors():
        with suppress(Exception):  # each library has its own error
            decompress(entry)
            return True
    return False


def _decompressors() -> Iterator[Callable[[bytes], bytes]]:
    yield zlib.decompress
    with suppress(ImportError):
        yield import_module("zstandard").ZstdDecompressor().decompress
    with suppress(ImportError):
        yield import_module("compression.zstd").decompress
