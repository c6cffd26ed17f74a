"""The same workload by other means, in one sitting; what is not installed is skipped."""

import ctypes
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
THREADS = 2
PEERS = {
    "keras_fit": ("linear", "Keras fit, one run", 1, 1),
    "torch_loop": ("linear", "PyTorch loop, one run", 1, 5),
    "torch_vmap": ("linear", "torch.func.vmap, 8,192 runs", 8192, 2),
    "plain_vmap": ("linear", "jax.vmap(train), Flax + Optax, 1,024 runs", 1024, 3),
    "sgd_regressor": ("linear", "scikit-learn SGDRegressor, joblib, 2 processes", 400, 3),
    "mlp_regressor": ("network", "scikit-learn MLPRegressor(16), joblib, 2 processes", 24, 3),
}


class Peer:
    """A peer in a process of its own: called, it trains once."""

    def __init__(self, name: str, runs: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "peers.py"), name, str(runs)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.expect("ready")

    def expect(self, word: str) -> None:
        assert self.process.stdout is not None
        heard = self.process.stdout.readline().strip()
        if heard.endswith("not installed"):
            pytest.skip(heard)
        assert heard == word, heard

    def __call__(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.expect("done")


@pytest.fixture(params=PEERS)
def peer(request) -> Iterator[tuple[Peer, str, str, int, int]]:
    kind, name, runs, rounds = PEERS[request.param]
    started = Peer(request.param, runs)
    yield started, kind, name, runs, rounds
    started.process.stdin.close()  # its end: joblib's workers go with it
    started.process.wait(timeout=60)


def test_peer(measure, peer):
    train, kind, name, runs, rounds = peer
    measure(train, runs, rounds, kind=kind, name=name)


def test_kernel(measure, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler is here")
    library, seeds, conditions = tmp_path / "kernel.so", 64, 1024
    flags = ["-O3", "-march=native", "-fno-math-errno", "-shared", "-fPIC", "-o", str(library)]
    subprocess.run([compiler, *flags, str(HERE / "kernel.c"), "-lm", "-lpthread"], check=True)
    weights = (ctypes.c_float * (seeds * conditions))()
    train = ctypes.CDLL(str(library)).train
    runs = seeds * conditions
    name = f"C kernel by hand, {THREADS} threads"
    measure(lambda: train(seeds, conditions, THREADS, weights), runs, 15, kind="linear", name=name)
