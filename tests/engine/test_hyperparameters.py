"""The list of trials: what each optimizer takes from it, and that it is that optimizer."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from scaling_study.engine import hyperparameters, optimizers
from scaling_study.engine.hyperparameters import COUNT, RANGES, listed, taken, trials
from scaling_study.engine.optimizers import OPTIMIZERS
from scaling_study.errors import StudyError
from scaling_study.study.study import read_study

LAYER = {"kernel": jnp.array([[0.3, -2.0], [1.5, 0.1]]), "bias": jnp.array([0.2, -0.4])}
SLOPES = [jax.tree.map(lambda x, k=k: jnp.cos(k * x), LAYER) for k in (1.0, 2.0, 3.0)]


def after(optimizer):
    parameters, state = LAYER, optimizer.init(LAYER)
    for slope in SLOPES:
        updates, state = optimizer.update(slope, state, parameters)
        parameters = jax.tree.map(jnp.add, parameters, updates)
    return jnp.concatenate([part.ravel() for part in jax.tree.leaves(parameters)])


def by_hand(rule, place):
    """Return the optimizer with a trial's numbers, from Python's floats."""
    trial = {name: float(column[place]) for name, column in trials()._asdict().items()}
    roles = dict.fromkeys(("b1", "momentum", "beta"), "first")
    roles |= {"b2": "second", "decay": "second"}
    roles |= {"rho": "second", "decay_rate": "second", "eps": "eps", "weight_decay": "weight_decay"}
    arguments = {name: trial[roles[name]] for name in taken(rule) if name != "betas"}
    if "betas" in taken(rule):
        arguments["betas"] = trial["first"], trial["second"]
    return OPTIMIZERS[rule].factory(trial["learning_rate"], **arguments)


@pytest.mark.sweep(6)
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_an_optimizer_at_a_trials_rate_has_that_trials_hyperparameters(rule):
    for place in (0, 11, COUNT - 1):
        rate = trials().learning_rate[place]
        found = jax.jit(lambda rate: after(listed(rate, rule=rule)))(jnp.float32(rate))
        np.testing.assert_allclose(found, after(by_hand(rule, place)), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_many_rates_at_once_are_updated_as_one_or_by_themselves_like_the_optimizer(rule):
    of_list, plain = (
        optimizers.is_elementwise(factory)
        for factory in (lambda rate: listed(rate, rule=rule), OPTIMIZERS[rule].factory)
    )
    assert of_list == plain


def test_the_trials_fill_their_ranges_and_are_in_the_order_of_the_rate():
    found = trials()
    assert (np.diff(found.learning_rate) > 0).all()
    for name, (low, high) in RANGES.items():
        column = getattr(found, name)
        share = 1 - column if name in ("first", "second") else column
        assert len(column) == COUNT
        assert share.min() >= low * 0.99
        assert share.max() <= high * 1.01
        place = np.log(share / low) / np.log(high / low)
        quarters = np.histogram(place, bins=4, range=(0, 1))[0]
        assert quarters.min() >= 4  # of 24; 6 would be even


def test_what_a_trial_sets_is_what_a_factory_has_a_number_for():
    assert taken("sgd") == taken("rprop") == taken("sign_sgd") == []
    assert taken("momentum") == ["momentum"]
    assert taken("adamw") == ["b1", "b2", "eps", "weight_decay"]
    assert taken("prodigy") == ["eps", "weight_decay", "betas"]
    for rule in OPTIMIZERS:
        factory = OPTIMIZERS[rule].factory
        names = inspect.signature(getattr(factory, "func", factory)).parameters
        assert set(taken(rule)) <= set(names)


def test_the_preset_has_the_rates_of_the_list_and_every_optimizer():
    for grid in read_study("benchmark-trials").blocks.values():
        assert grid["learning_rate"] == trials().learning_rate.tolist()
        rules = [dict(optimizer.parameters)["rule"] for optimizer in grid["optimizer"]]
        assert rules == list(OPTIMIZERS)


def test_an_unknown_rule_is_refused():
    with pytest.raises(StudyError, match="did you mean 'adam'"):
        hyperparameters.listed(0.1, rule="adamm")
