"""Settings of a process that change the bits of results, or make runs fail: recorded or pinned.

Settings that change bits and cannot be set for one program are part of a result's identity.
Those that can are pinned while our programs are compiled and run.
"""

import os
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache, wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import jax

from scaling_study.errors import StudyError

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")

# Options of JAX, which are also environment variables in capitals.
PINNED: dict[str, Any] = {
    "jax_check_tracer_leaks": False,
    "jax_debug_infs": False,
    "jax_debug_key_reuse": False,
    "jax_debug_nans": False,
    "jax_default_matmul_precision": "highest",  # a GPU may use TensorFloat-32 otherwise
    "jax_default_prng_impl": "threefry2x32",
    "jax_disable_jit": False,
    "jax_enable_checks": False,
    "jax_enable_custom_prng": False,
    "jax_enable_x64": False,  # a program in float64 says so itself
    "jax_legacy_prng_key": "allow",
    "jax_no_execution": False,
    "jax_no_tracing": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_numpy_rank_promotion": "allow",
    "jax_thread_guard": False,
    "jax_threefry_partitionable": True,
    "jax_transfer_guard": "allow",
}
RECORDED_OPTIONS = (
    *("jax_accurate_erf_inv", "jax_check_static_indices", "jax_custom_jvp3"),
    "jax_disable_most_optimizations",
    *("jax_exec_time_optimization_effort", "jax_explicit_x64_dtypes"),
    *("jax_memory_fitting_effort", "jax_memory_fitting_level", "jax_optimization_level"),
    *("jax_random_seed_offset", "jax_remat3", "jax_scan3", "jax_softmax_custom_jvp"),
    *("jax_threefry_gpu_kernel_lowering", "jax_use_direct_linearize"),
    *("jax_use_hlo_logistic_lowering", "jax_use_simplified_jaxpr_constants"),
)
RECORDED_VARIABLES = (
    *("MKL_CBWR", "NPY_DISABLE_CPU_FEATURES", "NPY_ENABLE_CPU_FEATURES"),
    *("NVIDIA_TF32_OVERRIDE", "OPENBLAS_CORETYPE"),
)
# Flags for the number of devices, and for files beside the results, change no bit.
FLAGS_WITHOUT_EFFECT = (
    "--xla_force_host_platform_device_count",
    "--xla_dump_",
    "--xla_gpu_cuda_data_dir",
)
# Vector instructions of XLA and NumPy, widest first, as Linux names them.
INSTRUCTIONS = ("avx512f", "avx2", "avx", "sse4_2", "sve", "asimd")


def check_platform() -> None:
    """Raise a `StudyError` unless there is a device of the platform that was asked for."""
    asked = os.environ.get("JAX_PLATFORMS") or os.environ.get("JAX_PLATFORM_NAME")
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:
        (why, *_) = str(error).splitlines() or ["JAX finds none"]
        where = f"JAX_PLATFORMS={asked}: " if asked else ""
        raise StudyError(f"{where}no such device here ({why}); unset it, or write cpu") from error


def environment() -> dict[str, str]:
    """Return the settings of this process that change the bits of its results."""
    options = {name: jax.config.values.get(name) for name in RECORDED_OPTIONS}
    variables = {name: os.environ.get(name) for name in RECORDED_VARIABLES}
    found = {
        "device": jax.devices()[0].device_kind,
        "instructions": instructions(),
        "XLA_FLAGS": " ".join(xla_flags()),
        **{name: None if value is None else str(value) for name, value in options.items()},
        **variables,
    }
    return {name: value for name, value in found.items() if value}


def xla_flags() -> list[str]:
    """Return the flags in ``XLA_FLAGS`` that may change bits, the last of each, sorted."""
    text = os.environ.get("XLA_FLAGS", "").strip()
    if text and not text.startswith("-"):  # it names a file
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError):
            text = ""
    flags = {flag.partition("=")[0]: flag for flag in text.split()}
    return sorted(flag for flag in flags.values() if not flag.startswith(FLAGS_WITHOUT_EFFECT))


@cache
def instructions() -> str:
    """Return the widest vector instructions of this machine, or its kind."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() in ("flags", "features"):
            have = set(value.split())
            return next((one for one in INSTRUCTIONS if one in have), platform.machine())
    return platform.machine()


@contextmanager
def pinned() -> Iterator[None]:
    """Set the options in `PINNED` in this thread, those that are not as they should be."""
    with ExitStack() as stack:
        for name, value in PINNED.items():
            option = getattr(jax, name.removeprefix("jax_"), None)  # a release may lack one
            if option is not None and getattr(jax.config, name, None) != value:
                stack.enter_context(option(value))
        yield


def with_pinned(function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    """Return a function that runs under `pinned`."""

    @wraps(function)
    def run(*arguments: Arguments.args, **keywords: Arguments.kwargs) -> Result:
        with pinned():
            return function(*arguments, **keywords)

    return run
