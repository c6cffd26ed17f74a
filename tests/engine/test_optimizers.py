"""The optimizers: whose defaults hold, and which treat every number apart."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaling_study.engine import optimizers
from scaling_study.engine.optimizers import OPTIMIZERS
from scaling_study.errors import StudyError
from scaling_study.experiment.component import Component

DIALECTS = ("keras", "torch", "optax")
BY_LAYER = {"lamb"}
RATE = 0.1


def clipped(learning_rate, limit=1.0):
    """A user's own that looks at all parameters together."""
    return optax.chain(optax.clip_by_global_norm(limit), optax.sgd(learning_rate))


def clipped_by_layer(learning_rate):
    """A user's own that looks at a layer, yet lets a run explode."""
    return optax.chain(optax.clip_by_block_rms(1e30), optax.sgd(learning_rate))


def clipped_each(learning_rate):
    """A user's own that looks at each number by itself."""
    return optax.chain(optax.clip(0.5), optax.adam(learning_rate))


def centralized(learning_rate):
    """A user's own that takes a mean along an axis."""
    return optax.chain(optax.centralize(), optax.sgd(learning_rate))


def sorted_steps(learning_rate):
    """A user's own that keeps the shape and yet mixes the numbers."""

    def update(updates, state, params=None):
        return jax.tree.map(lambda g: -learning_rate * jnp.sort(g), updates), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def factory_of(name: str, dialect: str = "keras", **parameters):
    return optimizers.build(Component(name, tuple(sorted(parameters.items()))), dialect)


def trajectory(factory, parameters, gradients, rate=RATE):
    """Return the parameters after each of some updates."""
    optimizer = factory(rate)
    state, path = optimizer.init(parameters), []
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, parameters)
        parameters = optax.apply_updates(parameters, updates)
        path.append(parameters)
    return path


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_all_but_those_that_look_at_a_layer_are_elementwise(name):
    assert optimizers.is_elementwise(factory_of(name)) == (name not in BY_LAYER)


@pytest.mark.parametrize(
    ("name", "elementwise"),
    [
        ("clipped", False),
        ("clipped_by_layer", False),
        ("centralized", False),
        ("sorted_steps", False),
        ("clipped_each", True),
    ],
)
def test_a_users_own_optimizer_is_judged_by_what_it_does(name, elementwise):
    assert optimizers.is_elementwise(factory_of(f"{__name__}:{name}")) == elementwise


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("name", OPTIMIZERS)
@settings(max_examples=5, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 5))
def test_elementwise_optimizers_and_no_others_update_parts_as_they_do_the_whole(
    name, dialect, seed, cut
):
    random = np.random.default_rng(seed)
    start, *gradients = random.normal(size=(4, 6)).astype(np.float32)
    factory = factory_of(name, dialect)
    whole = trajectory(factory, start, gradients)[-1]
    parts = [
        trajectory(factory, start[part], [g[part] for g in gradients])[-1]
        for part in (slice(0, cut), slice(cut, 6))
    ]
    same = np.allclose(whole, np.concatenate(parts), rtol=1e-6, atol=1e-7)
    assert same == optimizers.is_elementwise(factory)


# The first two updates of a parameter that starts from 1 with gradients 2 and -1, by each
# framework's documented rule. Keras: keras.optimizers; torch: torch.optim.
def _adam(eps, decay):
    def path(rate=RATE, b1=0.9, b2=0.999):
        w, m, v = 1.0, 0.0, 0.0
        for t, g in enumerate((2.0, -1.0), start=1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            w -= rate * (m / (1 - b1**t) / (np.sqrt(v / (1 - b2**t)) + eps) + decay * w)
            yield w

    return path


def _sgd(momentum):
    def path(rate=RATE):
        w, trace = 1.0, 0.0
        for g in (2.0, -1.0):
            trace = momentum * trace + g
            w -= rate * trace
            yield w

    return path


def _rmsprop(decay, eps, inside):
    def path(rate=RATE):
        w, v = 1.0, 0.0
        for g in (2.0, -1.0):
            v = decay * v + (1 - decay) * g**2
            w -= rate * g / (np.sqrt(v + eps) if inside else np.sqrt(v) + eps)
            yield w

    return path


def _adagrad(start, eps):
    def path(rate=RATE):
        w, total = 1.0, start
        for g in (2.0, -1.0):
            total += g**2
            w -= rate * g / np.sqrt(total + eps)
            yield w

    return path


def _lion(decay, b1=0.9, b2=0.99):
    def path(rate=RATE):
        w, m = 1.0, 0.0
        for g in (2.0, -1.0):
            w -= rate * (np.sign(b1 * m + (1 - b1) * g) + decay * w)
            m = b2 * m + (1 - b2) * g
            yield w

    return path


RULES = {
    ("adam", "keras"): _adam(1e-7, 0),
    ("adam", "torch"): _adam(1e-8, 0),
    ("adam", "optax"): _adam(1e-8, 0),
    ("adamw", "keras"): _adam(1e-7, 4e-3),
    ("adamw", "torch"): _adam(1e-8, 1e-2),
    ("adamw", "optax"): _adam(1e-8, 1e-4),
    ("rmsprop", "keras"): _rmsprop(0.9, 1e-7, inside=True),
    ("rmsprop", "torch"): _rmsprop(0.99, 1e-8, inside=False),
    ("rmsprop", "optax"): _rmsprop(0.9, 1e-8, inside=True),
    ("adagrad", "keras"): _adagrad(0.1, 1e-7),
    ("adagrad", "torch"): _adagrad(0.0, 1e-10),
    ("adagrad", "optax"): _adagrad(0.1, 1e-7),
    ("lion", "keras"): _lion(0.0),
    ("lion", "torch"): _lion(1e-3),
    ("lion", "optax"): _lion(1e-3),
    **{("sgd", dialect): _sgd(0.0) for dialect in DIALECTS},
    **{("momentum", dialect): _sgd(0.9) for dialect in DIALECTS},
}


@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_a_dialect_is_its_frameworks_rule(key):
    with jax.enable_x64(True):
        gradients = [jnp.array([g], jnp.float64) for g in (2.0, -1.0)]
        path = trajectory(factory_of(*key), jnp.array([1.0], jnp.float64), gradients)
    np.testing.assert_allclose(np.ravel(path), list(RULES[key]()), rtol=1e-10)


def test_every_elementwise_optimizer_of_every_dialect_has_a_rule_here():
    assert {name for name, _ in RULES} == set(OPTIMIZERS) - BY_LAYER
    assert len(RULES) == len(DIALECTS) * (len(OPTIMIZERS) - len(BY_LAYER))


def test_a_users_hyperparameter_wins_over_the_dialects():
    with jax.enable_x64(True):
        start, gradients = jnp.array([1.0]), [jnp.array([2.0]), jnp.array([-1.0])]
        path = trajectory(factory_of("adam", eps=0.5, b1=0.5), start, gradients)
    np.testing.assert_allclose(np.ravel(path), list(_adam(0.5, 0)(b1=0.5)), rtol=1e-10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_learning_rate_is_no_hyperparameter(name):
    with pytest.raises(StudyError, match="axis of its own"):
        factory_of(name, learning_rate=1.0)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_hyperparameter_that_an_optimizer_does_not_take_is_refused(name):
    with pytest.raises(StudyError, match="unknown parameter 'epsilon_'"):
        factory_of(name, epsilon_=1.0)


def test_an_unknown_optimizer_is_refused_with_the_nearest():
    with pytest.raises(StudyError, match="did you mean 'rmsprop'"):
        factory_of("rmsprob")


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_description_names_the_factory_and_every_default_that_differs(name):
    text = optimizers.describe(name)
    assert text.startswith("optax.")
    assert hasattr(optax, text.split(";")[0].removeprefix("optax."))
    for dialect in DIALECTS:
        for key, value in getattr(OPTIMIZERS[name], dialect).items():
            assert f"{key}={value}" in text.partition(f"{dialect}: ")[2].partition(";")[0]
