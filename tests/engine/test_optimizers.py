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
from scaling_study.study.component import Component

FRAMEWORKS = ("keras", "torch", "optax")
# A norm over a layer, a factor of a matrix, or one distance or weight for all parameters.
BY_LAYER = {
    *("adafactor", "sm3", "novograd", "lamb", "lars", "muon", "prodigy", "dadapt_adamw", "dowg"),
    *("schedule_free_adamw", "schedule_free_sgd"),
}
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


def factory_of(name: str, framework: str = "keras", **parameters):
    return optimizers.build(Component(name, tuple(sorted(parameters.items()))), framework)


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


ALL_APART = [(name, "optax") for name in OPTIMIZERS if name not in BY_LAYER] + [
    (name, framework)
    for name, own in OPTIMIZERS.items()
    for framework in FRAMEWORKS
    if getattr(own, framework) and name not in BY_LAYER
]


@pytest.mark.sweep(8)
@pytest.mark.parametrize(("name", "framework"), ALL_APART)
@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(1, 5))
def test_elementwise_optimizers_update_parts_as_they_do_the_whole(name, framework, seed, cut):
    random = np.random.default_rng(seed)
    start, *gradients = random.normal(size=(4, 6)).astype(np.float32)
    factory = factory_of(name, framework)
    whole = trajectory(factory, start, gradients)[-1]
    parts = [
        trajectory(factory, start[part], [g[part] for g in gradients])[-1]
        for part in (slice(0, cut), slice(cut, 6))
    ]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-6, atol=1e-7)


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


def _nesterov(rate=RATE):
    w, trace = 1.0, 0.0
    for g in (2.0, -1.0):
        trace = 0.9 * trace + g
        w -= rate * (g + 0.9 * trace)
        yield w


def _centred(decay, eps, inside):
    def path(rate=RATE):
        w, m, v = 1.0, 0.0, 0.0
        for g in (2.0, -1.0):
            m, v = decay * m + (1 - decay) * g, decay * v + (1 - decay) * g**2
            spread = v - m**2
            w -= rate * g / (np.sqrt(spread + eps) if inside else np.sqrt(spread) + eps)
            yield w

    return path


def _amsgrad(eps):
    """Optax' own: the largest of the corrected second moments; torch takes it before that."""

    def path(rate=RATE, b1=0.9, b2=0.999):
        w, m, v, most = 1.0, 0.0, 0.0, 0.0
        for t, g in enumerate((2.0, -1.0), start=1):
            m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
            most = max(most, v / (1 - b2**t))
            w -= rate * m / (1 - b1**t) / (np.sqrt(most) + eps)
            yield w

    return path


def _adamax(eps):
    def path(rate=RATE, b1=0.9, b2=0.999):
        w, m, most = 1.0, 0.0, 0.0
        for t, g in enumerate((2.0, -1.0), start=1):
            m, most = b1 * m + (1 - b1) * g, max(b2 * most, abs(g) + eps)
            w -= rate * m / (1 - b1**t) / most
            yield w

    return path


def _adadelta(rho, eps):
    def path(rate=RATE):
        w, v, moved = 1.0, 0.0, 0.0
        for g in (2.0, -1.0):
            v = rho * v + (1 - rho) * g**2
            step = np.sqrt(moved + eps) / np.sqrt(v + eps) * g
            moved = rho * moved + (1 - rho) * step**2
            w -= rate * step
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
    ("amsgrad", "keras"): _amsgrad(1e-7),
    ("amsgrad", "torch"): _amsgrad(1e-8),
    ("amsgrad", "optax"): _amsgrad(1e-8),
    ("adamax", "keras"): _adamax(1e-7),
    ("adamax", "torch"): _adamax(1e-8),
    ("adamax", "optax"): _adamax(1e-8),
    ("adadelta", "keras"): _adadelta(0.95, 1e-7),
    ("adadelta", "torch"): _adadelta(0.9, 1e-6),
    ("adadelta", "optax"): _adadelta(0.9, 1e-6),
    ("rmsprop_centred", "keras"): _centred(0.9, 1e-7, inside=True),
    ("rmsprop_centred", "torch"): _centred(0.99, 1e-8, inside=False),
    ("rmsprop_centred", "optax"): _centred(0.9, 1e-8, inside=True),
    **{("nesterov", framework): _nesterov for framework in FRAMEWORKS},
    **{("sgd", framework): _sgd(0.0) for framework in FRAMEWORKS},
    **{("momentum", framework): _sgd(0.9) for framework in FRAMEWORKS},
}


@pytest.mark.sweep(10)
@pytest.mark.parametrize("key", RULES, ids="-".join)
def test_the_defaults_of_a_framework_give_its_rule(key):
    with jax.enable_x64(True):
        gradients = [jnp.array([g], jnp.float64) for g in (2.0, -1.0)]
        path = trajectory(factory_of(*key), jnp.array([1.0], jnp.float64), gradients)
    np.testing.assert_allclose(np.ravel(path), list(RULES[key]()), rtol=1e-10)


def test_every_optimizer_that_a_framework_changes_has_a_rule_here():
    changed = {name for name, own in OPTIMIZERS.items() if own.keras or own.torch or own.optax}
    assert changed <= {name for name, _ in RULES}
    assert len(RULES) == len(FRAMEWORKS) * len({name for name, _ in RULES})


def test_a_users_hyperparameter_replaces_the_frameworks():
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
    home, _, factory = text.split(";")[0].partition("(")[0].rpartition(".")
    assert hasattr({"optax": optax, "optax.contrib": optax.contrib}[home], factory)
    for framework in FRAMEWORKS:
        for key, value in getattr(OPTIMIZERS[name], framework).items():
            assert f"{key}={value}" in text.partition(f"{framework}: ")[2].partition(";")[0]


CLIPPED = "scaling_study.engine.optimizers:clipped"


def test_clipped_sgd_warms_up_and_bounds_the_norm_of_all_gradients():
    factory = factory_of(CLIPPED, rule="sgd", max_norm=1.0, warmup=2)
    start = {"kernel": jnp.zeros(2), "bias": jnp.zeros(1)}
    steep = {"kernel": jnp.array([30.0, 0.0]), "bias": jnp.array([40.0])}
    first, second, third = trajectory(factory, start, [steep] * 3, rate=1.0)
    np.testing.assert_allclose(first["kernel"], [-0.3, 0], rtol=1e-6)  # half the rate, of norm 1
    np.testing.assert_allclose(second["bias"], [-0.4 - 0.8], rtol=1e-6)
    np.testing.assert_allclose(third["bias"], [-0.4 - 1.6], rtol=1e-6)
    flat = {"kernel": jnp.array([0.3, 0.0]), "bias": jnp.array([0.4])}
    (kept,) = trajectory(factory, start, [flat], rate=1.0)
    np.testing.assert_allclose(kept["kernel"], [-0.15, 0], rtol=1e-6)  # a small one is not clipped


def test_clipped_adam_is_adam_where_nothing_is_clipped():
    own, plain = factory_of(CLIPPED, rule="adam", warmup=1), factory_of("adam")
    start, gradients = jnp.ones(3), [jnp.array([0.1, -0.2, 0.3]), jnp.array([0.2, 0.1, -0.1])]
    for one, other in zip(
        trajectory(own, start, gradients), trajectory(plain, start, gradients), strict=True
    ):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_clipping_looks_at_a_whole_run_and_an_unknown_rule_is_refused():
    assert not optimizers.is_elementwise(factory_of(CLIPPED, rule="sgd"))
    with pytest.raises(StudyError, match="did you mean 'adam'"):
        factory_of(CLIPPED, rule="adan")(0.1)
