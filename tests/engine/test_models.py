"""The networks: what they compute, how they start, and where a feature enters."""

import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine import models
from scaling_study.engine.models import ACROSS_AN_AXIS, ACTIVATIONS, INITIALIZERS, MODELS, UNROLLED
from scaling_study.errors import StudyError
from scaling_study.study.component import Component

FEATURES = 3
X = np.random.default_rng(0).normal(size=(5, FEATURES)).astype(np.float32)


class OddOneOut(nn.Module):
    """A user's own: a hidden layer as wide as there are features, after a scaling of them."""

    @nn.compact
    def __call__(self, x):
        x = nn.Dense(FEATURES, name="inner", use_bias=False)(x)
        return nn.Dense(1, name="outer")(jnp.tanh(x))[..., 0]


class OneUnit(nn.Module):
    """A user's own that is a linear model by another name."""

    @nn.compact
    def __call__(self, x):
        return nn.Dense(1, name="unit")(x)[..., 0]


class Headless(nn.Module):
    """A user's own that multiplies no kernel of a row per feature."""

    @nn.compact
    def __call__(self, x):
        return x.sum(axis=-1) * self.param("scale", nn.initializers.ones, ())


def not_a_model():
    return 3


def build(name: str, **parameters) -> nn.Module:
    return models.build(Component(name, tuple(sorted(parameters.items()))))


def initial(model: nn.Module, seed: int = 0):
    return model.init(jax.random.key(seed), jnp.zeros((1, FEATURES)))


def by_hand(parameters, x: np.ndarray, activation=lambda x: x) -> np.ndarray:
    layers = parameters["params"]
    for i in range(len(layers)):
        x = x @ np.asarray(layers[f"Dense_{i}"]["kernel"]) + np.asarray(
            layers[f"Dense_{i}"]["bias"]
        )
        x = np.asarray(activation(x)) if i < len(layers) - 1 else x
    return x[..., 0]


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_number_a_row(name):
    model = build(name)
    assert model.apply(initial(model), X).shape == (len(X),)


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_a_kernel_that_the_features_enter(name):
    parameters = initial(build(name))
    kernel = models.first_kernel(parameters, FEATURES)
    np.testing.assert_array_equal(kernel, parameters["params"]["Dense_0"]["kernel"])


@pytest.mark.sweep(10)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [4, (4,), (4, FEATURES, 2)], ids=str)
def test_a_network_is_its_matrix_products(activation, hidden):
    model = build("mlp", hidden=hidden, activation=activation)
    parameters = initial(model)
    expected = by_hand(parameters, X, ACTIVATIONS[activation])
    np.testing.assert_allclose(model.apply(parameters, X), expected, rtol=1e-5, atol=1e-6)


def test_the_linear_model_is_a_weight_for_each_feature_and_a_bias():
    model = build("linear")
    parameters = initial(model)
    assert jax.tree.map(jnp.shape, parameters) == {
        "params": {"Dense_0": {"kernel": (FEATURES, 1), "bias": (1,)}}
    }
    np.testing.assert_allclose(model.apply(parameters, X), by_hand(parameters, X), rtol=1e-6)


@pytest.mark.parametrize("hidden", [1, 7, (3, 2)], ids=str)
def test_layers_are_as_wide_as_asked(hidden):
    widths = [FEATURES, *np.atleast_1d(hidden), 1]
    layers = initial(build("mlp", hidden=hidden))["params"]
    shapes = [layers[f"Dense_{i}"]["kernel"].shape for i in range(len(layers))]
    assert shapes == list(itertools.pairwise(widths))


@pytest.mark.parametrize("name", MODELS)
def test_keras_start_holds_by_default(name):
    # Glorot uniform: within sqrt(6 / (fan_in + fan_out)), and the biases are zero.
    for seed in range(5):
        for layer in initial(build(name), seed)["params"].values():
            bound = np.sqrt(6 / sum(layer["kernel"].shape))
            assert 0 < np.abs(layer["kernel"]).max() <= bound
            assert not np.any(layer["bias"])


def test_glorot_uniform_fills_its_range():
    kernels = [initial(build("linear"), seed)["params"]["Dense_0"]["kernel"] for seed in range(300)]
    bound = np.sqrt(6 / (FEATURES + 1))
    # The variance of a uniform number in (-b, b) is b²/3; 900 numbers tell it to some 3 %.
    np.testing.assert_allclose(np.var(kernels), bound**2 / 3, rtol=0.1)
    np.testing.assert_allclose(np.mean(kernels), 0, atol=4 * bound / np.sqrt(3 * 900))


@pytest.mark.parametrize("kernel_init", INITIALIZERS)
@pytest.mark.parametrize("name", MODELS)
def test_an_initializer_is_used(name, kernel_init):
    kernel = initial(build(name, kernel_init=kernel_init))["params"]["Dense_0"]["kernel"]
    key = jax.random.key(0)
    assert np.any(kernel) == (kernel_init != "zeros")
    other = initial(build(name, kernel_init="zeros"))["params"]["Dense_0"]["kernel"]
    assert kernel.shape == other.shape
    spread = np.std(INITIALIZERS[kernel_init]()(key, (400, 400)))
    wide = initial(build("mlp", hidden=(400, 400), kernel_init=kernel_init))
    np.testing.assert_allclose(np.std(wide["params"]["Dense_1"]["kernel"]), spread, rtol=0.02)


@pytest.mark.parametrize("hidden", [0, -1, 2.5, True, (), (4, 0), (4, "4")], ids=str)
def test_widths_that_make_no_sense_are_refused(hidden):
    with pytest.raises(StudyError, match="hidden"):
        build("mlp", hidden=hidden)


@pytest.mark.parametrize(
    ("name", "parameter", "value", "near"),
    [
        ("mlp", "activation", "rellu", "relu"),
        ("mlp", "kernel_init", "glorot", "glorot_"),
        ("linear", "kernel_init", "zero", "zeros"),
        ("mlp", "hiden", 3, "hidden"),
        ("linear", "hidden", 3, "kernel_init"),
    ],
)
def test_a_wrong_parameter_is_refused_with_the_nearest(name, parameter, value, near):
    with pytest.raises(StudyError, match=near):
        build(name, **{parameter: value})


@pytest.mark.parametrize("activation", ACROSS_AN_AXIS)
def test_an_activation_across_an_axis_is_refused_and_says_why(activation):
    assert callable(getattr(nn, activation))
    with pytest.raises(StudyError, match=r"acts across the units of a layer.*leaky_relu"):
        build("mlp", activation=activation)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_an_activation_is_flaxs_and_acts_on_each_number_by_itself(activation):
    function = ACTIVATIONS[activation]
    assert function is getattr(nn, activation, function)
    x = np.linspace(-5, 5, 24, dtype=np.float32)
    together = function(x.reshape(2, 3, 4)).ravel()
    np.testing.assert_allclose(together, [function(own) for own in x], rtol=1e-6, atol=1e-7)


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(StudyError, match="did you mean 'linear'"):
        build("liner")


def test_what_makes_no_module_is_refused():
    with pytest.raises(StudyError, match="Module"):
        build(f"{__name__}:not_a_model")


@pytest.mark.parametrize("name", [*MODELS, f"{__name__}:OddOneOut"])
def test_only_a_single_affine_map_is_linear(name):
    assert models.is_linear(build(name)) == (name == "linear")


def test_a_users_own_model_shows_its_first_kernel():
    parameters = initial(build(f"{__name__}:OddOneOut"))
    kernel = models.first_kernel(parameters, FEATURES)
    np.testing.assert_array_equal(kernel, parameters["params"]["inner"]["kernel"])


def test_a_model_that_the_features_do_not_enter_by_rows_is_refused():
    with pytest.raises(StudyError, match=f"{FEATURES} rows"):
        models.first_kernel(initial(build(f"{__name__}:Headless")), FEATURES)


# Over a block of runs -----------------------------------------------------------------------

FORWARD = [
    ({"name": "linear"}, 1),
    ({"name": "mlp", "hidden": 1}, 1),
    ({"name": "mlp", "hidden": 6}, 1),
    ({"name": "mlp", "hidden": UNROLLED}, 1),
    ({"name": "mlp", "hidden": UNROLLED + 1}, 1),
    ({"name": "mlp", "hidden": (6, 5), "activation": "tanh"}, 1),
    ({"name": "mlp", "hidden": (6, 5), "activation": "tanh"}, 5),
    ({"name": "test_models:OddOneOut"}, 5),
    *(
        ({"name": "mlp", "hidden": (6, 5), "activation": activation}, 5)
        for activation in ACTIVATIONS
    ),
]


@pytest.mark.sweep(3)
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize(("model", "rows"), FORWARD, ids=str)
def test_forward_over_a_block_is_apply_over_each_run(model, rows, shared):
    model = build(**model)
    runs = 2, 3
    seeds = jnp.arange(6).reshape(runs)
    parameters = jax.vmap(jax.vmap(lambda s: initial(model, s), out_axes=-1), out_axes=-2)(seeds)
    x = np.random.default_rng(1).normal(size=(rows, FEATURES, 1 if shared else 2, 3))
    forward = models.forward(model)
    with jax.enable_x64(True):
        parameters = jax.tree.map(lambda p: p.astype(np.float64), parameters)
        out, pull_back = jax.vjp(lambda p: forward(p, jnp.asarray(x)), parameters)
        slopes = pull_back(jnp.ones_like(out))[0]
        assert out.shape == (rows, *runs)
        for place in np.ndindex(runs):
            own = jax.tree.map(lambda p, i=place: p[(..., *i)], parameters)
            data = jnp.asarray(x[..., 0 if shared else place[0], place[1]])
            expected, back = jax.vjp(lambda p, d=data: model.apply(p, d), own)
            np.testing.assert_allclose(out[(..., *place)], expected, rtol=1e-12)
            for a, b in zip(
                jax.tree.leaves(slopes),
                jax.tree.leaves(back(jnp.ones_like(expected))[0]),
                strict=True,
            ):
                np.testing.assert_allclose(a[(..., *place)], b, rtol=1e-10, atol=1e-12)


@pytest.mark.sweep(2)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_trains_over_a_block_as_it_does_run_by_run(activation):
    model = build("mlp", hidden=(6, 5), activation=activation)
    forward = models.forward(model)
    random = np.random.default_rng(2)
    with jax.enable_x64(True):
        x, y = jnp.asarray(random.normal(size=(8, FEATURES))), jnp.asarray(random.normal(size=8))
        single = [initial(model, seed) for seed in range(3)]
        single = jax.tree.map(lambda p: p.astype(np.float64), single)
        block = jax.tree.map(lambda *p: jnp.stack(p, axis=-1)[..., None, :], *single)

        def apart(parameters):
            return ((model.apply(parameters, x) - y) ** 2).mean()

        def together(parameters):
            out = forward(parameters, x[..., None, None])
            return ((out - y[:, None, None]) ** 2).mean(axis=0).sum()

        def step(loss, parameters):
            return jax.tree.map(lambda p, g: p - 0.05 * g, parameters, jax.grad(loss)(parameters))

        for _ in range(5):
            block, single = step(together, block), [step(apart, own) for own in single]
        for seed, own in enumerate(single):
            for p, q in zip(jax.tree.leaves(own), jax.tree.leaves(block), strict=True):
                np.testing.assert_allclose(q[..., 0, seed], p, rtol=1e-10, atol=1e-12)


# A normalising input layer ------------------------------------------------------------------

NORMALIZED = "scaling_study.engine.models:normalized_mlp"


@pytest.mark.parametrize("norm", models.NORMS)
def test_a_normalised_network_is_its_network_of_normalised_rows(norm):
    model = build(NORMALIZED, norm=norm, hidden=4, activation="tanh")
    parameters = initial(model)
    axis = 0 if norm == "batch" else 1
    mean, variance = X.mean(axis=axis, keepdims=True), X.var(axis=axis, keepdims=True)
    z = (X - mean) / np.sqrt(variance + models.NORM_EPS)
    inner = {"params": parameters["params"]["MLP_0"]}
    np.testing.assert_allclose(
        model.apply(parameters, X), by_hand(inner, z, jnp.tanh), rtol=1e-4, atol=1e-6
    )


def test_batch_normalisation_undoes_units_and_offsets():
    model = build(NORMALIZED, norm="batch", hidden=4)
    parameters, rows = initial(model), 10 * X
    moved = model.apply(parameters, rows * np.array([1.0, 1000.0, 50.0], np.float32) + 3)
    np.testing.assert_allclose(moved, model.apply(parameters, rows), rtol=1e-3, atol=1e-4)


def test_a_normalised_network_has_a_kernel_that_the_features_enter_and_knows_its_classes():
    model = models.build(Component(NORMALIZED, (("hidden", 4),)), 3)
    assert model.apply(initial(model), X).shape == (len(X), 3)
    assert models.first_kernel(initial(model), FEATURES).shape == (FEATURES, 4)
    assert not models.can_fold(model)


def test_an_unknown_norm_is_refused():
    with pytest.raises(StudyError, match="did you mean 'batch'"):
        build(NORMALIZED, norm="batsh")
