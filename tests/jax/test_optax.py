"""Every schedule is an Optax schedule as it is: eager, compiled, in a scan, over a batch of runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cyclr

optax = pytest.importorskip("optax")

STEPS = 40
SCHEDULES = {
    "Cyclical": cyclr.Cyclical(0.01, 0.1, 7),
    "decaying": cyclr.Cyclical(0.01, 0.1, 7, shape="sinusoidal", decay=cyclr.Exponential(0.95, "both")),
    "OneCycle": cyclr.OneCycle(0.01, 0.1, 30),
    "WarmRestarts": cyclr.WarmRestarts(0.0, 0.1, 5, growth=1.5),
    "Warmup": cyclr.Warmup(cyclr.WarmRestarts(0.0, 0.1, 5), 3, every_cycle=True),
    "Sequence": cyclr.Sequence([cyclr.Constant(0.02), cyclr.Cyclical(0.01, 0.1, 7)], [9]),
    "mirrored": cyclr.OneCycle(0.01, 0.1, 30).mirrored(0.5, 0.9),
}


def rates_used(optimizer, run):
    """Update t moves weight t alone, with gradient 1."""

    def update(carry, gradient):
        weights, state = carry
        updates, state = optimizer.update(gradient, state, weights)
        return (optax.apply_updates(weights, updates), state), None

    weights = jnp.zeros(STEPS)
    (weights, _), _ = run(update, (weights, optimizer.init(weights)), jnp.eye(STEPS))
    return -np.asarray(weights, dtype=np.float64)


def in_a_loop(update, carry, gradients):
    compiled = jax.jit(update)
    for gradient in gradients:
        carry, _ = compiled(carry, gradient)
    return carry, None


@pytest.mark.parametrize("run", [in_a_loop, jax.lax.scan], ids=["jit", "scan"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_update_t_uses_the_value_at_t(name, run):
    schedule = SCHEDULES[name]
    used = rates_used(optax.sgd(schedule), run)
    np.testing.assert_allclose(used, schedule(np.arange(STEPS)), rtol=0, atol=2e-7)


def test_many_runs_at_once():
    schedule = SCHEDULES["Cyclical"]
    steps = jnp.arange(STEPS).reshape(4, 10)
    np.testing.assert_allclose(jax.vmap(schedule)(steps), schedule(np.asarray(steps)), rtol=0, atol=2e-8)
    np.testing.assert_allclose(jax.vmap(jax.vmap(schedule))(steps), schedule(np.asarray(steps)), rtol=0, atol=2e-8)


def test_momentum_and_rate_by_inject_hyperparams():
    cycle = cyclr.OneCycle(0.01, 0.1, 30)
    momentum = cycle.mirrored(0.5, 0.9)
    optimizer = optax.inject_hyperparams(optax.sgd)(learning_rate=cycle, momentum=momentum)
    weights = jnp.zeros(2)
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    gradients = np.random.default_rng(0).normal(size=(STEPS, 2))
    by_hand, velocity = np.zeros(2), np.zeros(2)
    for step, gradient in enumerate(gradients):
        updates, state = update(jnp.asarray(gradient, jnp.float32), state, weights)
        weights = optax.apply_updates(weights, updates)
        velocity = momentum(step) * velocity + gradient
        by_hand = by_hand - cycle(step) * velocity
        assert float(state.hyperparams["learning_rate"]) == pytest.approx(cycle(step), rel=1e-5)
    np.testing.assert_allclose(weights, by_hand, rtol=0, atol=1e-6)


def test_a_schedule_is_traced_once():
    traces = []
    schedule = SCHEDULES["Cyclical"]

    def counted(step):
        traces.append(0)
        return schedule(step)

    optimizer = optax.sgd(counted)
    weights = jnp.zeros(2)
    state, update = optimizer.init(weights), jax.jit(optimizer.update)
    before = len(traces)
    for _ in range(20):
        _, state = update(jnp.ones(2), state, weights)
    assert len(traces) == before + 1
