"""AutoCycle in JAX: states are values, and one that was donated is copied."""

import functools
import pickle
import threading

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import cyclr
from cyclr import AutoCycleError
from cyclr.jax import AutoCycle

TOTAL = 120
RNG = np.random.default_rng(4)
X = RNG.normal(size=(TOTAL, 16, 4)).astype("float32")
Y = (X @ np.array([1.0, -2.0, 0.5, 3.0]) + 0.1 * RNG.normal(size=(TOTAL, 16))).astype("float32")
OPTIMIZER = optax.inject_hyperparams(functools.partial(optax.sgd, momentum=0.9))(learning_rate=0.0)


def cycle(max_lr):
    return cyclr.Cyclical.over(TOTAL, 1, max_lr / 10, max_lr)


def start():
    params = {"weights": jnp.zeros(4)}
    return {"params": params, "optimizer": OPTIMIZER.init(params), "key": jax.random.key(0), "count": np.zeros(1)}


def update(state, x, y, lr):
    key, own = jax.random.split(state["key"])
    optimizer = state["optimizer"]
    optimizer.hyperparams["learning_rate"] = lr

    def loss_of(params):
        kept = jax.random.bernoulli(own, 0.9, x.shape)
        return jnp.mean(((x * kept) @ params["weights"] - y) ** 2)

    loss, gradient = jax.value_and_grad(loss_of)(state["params"])
    updates, optimizer = OPTIMIZER.update(gradient, optimizer, state["params"])
    params = optax.apply_updates(state["params"], updates)
    return {"params": params, "optimizer": optimizer, "key": key, "count": state["count"]}, loss


PLAIN, DONATING = jax.jit(update), jax.jit(update, donate_argnums=0)


def made(state, max_lr=0.01):
    return AutoCycle(state, total_steps=TOTAL, schedule=cycle(max_lr))


def test_an_event_warns_at_the_line_of_the_loop():
    auto = made(state := start())
    with pytest.warns(UserWarning, match="The batch was left out") as warned:
        auto.lr, auto.step(np.nan, state)
    assert {warning.filename for warning in warned} == {__file__}


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_state_with_nan_is_not_kept_whatever_the_loss_is(bad):
    auto = AutoCycle({"weight": jnp.ones(2), "best": jnp.ones(1)}, total_steps=TOTAL, schedule=cycle(0.1))
    state = {"weight": jnp.ones(2), "best": jnp.ones(1)}
    for step in range(TOTAL):
        state = {**state, "weight": state["weight"] * (1 - auto.lr)}
        if step == 30:
            state = {**state, "best": jnp.array([bad])}
        state = auto.step(state["weight"][0] ** 2, state)
    # An infinite value may be meant, such as the lowest loss before the first.
    assert [(event.step, event.what) for event in auto.events] == ([(30, "left_out")] if np.isnan(bad) else [])
    assert not np.isnan(state["best"]).any()


def train(auto, state, steps, step=PLAIN, x=X):
    """The state after these steps, and the losses. What NumPy holds is changed in place."""
    losses = []
    for t in steps:
        count = state.pop("count")
        given = {**state, "count": jnp.zeros(1)}
        state["count"] = count
        after, loss = step(given, x[t], Y[t], jnp.float32(auto.lr))
        count += 1
        state = auto.step(loss, {**after, "count": count})
        losses.append(float(loss))
    return state, losses


def leaves(state):
    return [
        np.asarray(jax.random.key_data(leaf) if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf)
        for leaf in jax.tree.leaves(state)
    ]


def assert_equal(state, other):
    assert jax.tree.structure(state) == jax.tree.structure(other)
    for leaf, another in zip(leaves(state), leaves(other), strict=True):
        np.testing.assert_array_equal(leaf, another)


@pytest.mark.parametrize("step", [PLAIN, DONATING], ids=["plain", "donating"])
def test_a_calm_run_is_the_run_by_the_plain_schedule(step):
    auto = made(state := start())
    trained, losses = train(auto, state, range(TOTAL), step)
    state, expected = start(), []
    for t in range(TOTAL):
        state, loss = PLAIN({**state, "count": jnp.zeros(1)}, X[t], Y[t], jnp.float32(cycle(0.01)(t)))
        expected.append(float(loss))
    assert losses == expected
    assert auto.events == ()
    assert_equal(trained["params"], state["params"])


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("step", [PLAIN, DONATING], ids=["plain", "donating"])
def test_a_hot_run_goes_back_to_its_start_more_than_once(step):
    auto = made(state := start(), max_lr=10.0)
    trained, losses = train(auto, state, range(TOTAL), step)
    assert [event.what for event in auto.events].count("lowered") >= 2
    assert np.mean(losses[-10:]) < 0.3 * losses[0]
    # The counter in the state went back with it, and that of the run did not.
    assert trained["count"] < TOTAL == auto.last_step + 1


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("step", [PLAIN, DONATING], ids=["plain", "donating"])
@pytest.mark.parametrize("at", [2, 60, 100])
def test_a_bad_batch_costs_that_batch_and_restores_the_whole_state(step, at):
    x = X.copy()
    x[at] = np.nan
    auto = made(state := start())
    trained, losses = train(auto, state, range(TOTAL), step, x)
    assert [(event.step, event.what) for event in auto.events] == [(at, "left_out")]
    assert auto.factor == 1.0
    assert np.isnan(losses).sum() == 1
    assert all(np.isfinite(leaf).all() for leaf in leaves(trained))
    every = TOTAL // 64
    assert TOTAL - trained["count"] == (at + 1 if at < 0.2 * TOTAL else at % every + 1)


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("step", [PLAIN, DONATING], ids=["plain", "donating"])
@pytest.mark.parametrize("split", [1, 30, 61])
def test_a_run_that_is_pickled_and_resumed_equals_the_whole_run(step, split):
    x = X.copy()
    x[[20, 60, 61, 90]] = np.nan
    auto = made(state := start(), max_lr=0.3)
    whole, losses = train(auto, state, range(TOTAL), step, x)
    first = made(state := start(), max_lr=0.3)
    state, before = train(first, state, range(split), step, x)
    state, saved = pickle.loads(pickle.dumps((state, first.state_dict())))  # noqa: S301
    second = made(state, max_lr=0.3)
    second.load_state_dict(saved)
    resumed, after = train(second, state, range(split, TOTAL), step, x)
    np.testing.assert_array_equal(before + after, losses)
    assert second.events == auto.events
    assert_equal(resumed, whole)


def test_a_step_that_only_later_donates_is_an_error():
    auto = made(state := start())
    state, _ = train(auto, state, range(60))
    kept = auto.state_dict()["copies"]["kept"]
    jax.jit(lambda state: state, donate_argnums=0)({**kept, "count": jnp.zeros(1)})
    with pytest.raises(cyclr.AutoCycleError, match="Use the same donate_argnums"):
        auto.step(float("nan"), state)


def test_the_compiled_step_is_compiled_once_and_a_list_changed_in_place_is_restored():
    traces = []

    @jax.jit
    def step(weights, lr):
        traces.append(lr)
        return weights - lr * 2 * weights, jnp.sum(weights**2)

    state = [jnp.ones(3)]
    auto = AutoCycle(state, total_steps=50, schedule=cyclr.Cyclical.over(50, 1, 0.01, 0.1))
    for t in range(50):
        state[0], loss = step(state[0], auto.lr)
        if t == 30:
            # The state is spoiled in place.
            state[0] = state[0] * jnp.nan
            with pytest.warns(UserWarning, match="left out"):
                state = auto.step(jnp.nan, state)
        else:
            state = auto.step(loss, state)
    assert len(traces) == 1
    assert 0 < float(state[0][0]) < 1


def test_a_run_without_a_schedule_starts_with_a_range_test_that_is_undone():
    @jax.jit
    def step(weights, lr):
        error = jnp.array([1.0, -2.0, 3.0]) - weights
        return weights + lr * 2 * error, jnp.sum(error**2)

    weights = jnp.zeros(3)
    auto = AutoCycle(weights, total_steps=1500)
    while auto.testing:
        weights, loss = step(weights, auto.lr)
        weights = auto.step(loss, weights)
    assert auto.range_test.bounds.usable
    np.testing.assert_array_equal(weights, jnp.zeros(3))


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_state_that_skip_restores_must_be_read():
    auto = AutoCycle(state := jnp.zeros(3), total_steps=50, schedule=cyclr.Cyclical.over(50, 1, 0.01, 0.1))
    for _ in range(5):
        assert not auto.skip(0.5)
        state = auto.step(0.5, state + auto.lr)
    for _ in range(2):
        assert auto.skip(jnp.nan)
        assert auto.state is state
    assert auto.skip(jnp.nan)
    for call in (auto.skip, lambda loss: auto.step(loss, state)):
        with pytest.raises(AutoCycleError, match=r"Write: if auto\.skip\(loss\): state = auto\.state; continue"):
            call(0.5)
    np.testing.assert_array_equal(auto.state, jnp.zeros(3))
    assert not auto.skip(0.5)


@pytest.mark.parametrize("state", [None, (), {"lr": 1.0}, "weights"])
def test_a_state_without_arrays_is_an_error(state):
    with pytest.raises(TypeError, match="state must hold the arrays"):
        AutoCycle(state, total_steps=10)


def test_a_state_that_cannot_be_copied_is_an_error():
    state = (jnp.zeros(3), threading.Lock())
    auto = AutoCycle(state, total_steps=10)
    with pytest.raises(TypeError, match="can be copied"):
        auto.lr  # noqa: B018


@pytest.mark.parametrize("library", ["equinox", "flax"])
def test_models_of_equinox_and_nnx_go_back(library):
    if library == "equinox":
        eqx = pytest.importorskip("equinox")
        model = eqx.nn.MLP(4, "scalar", 8, 1, key=jax.random.key(0))
    else:
        nnx = pytest.importorskip("flax.nnx")

        class Net(nnx.Module):
            def __init__(self, rngs):
                self.layer = nnx.Linear(4, 1, rngs=rngs)

            def __call__(self, x):
                return self.layer(x)[0]

        model = Net(nnx.Rngs(0))
    start = [np.asarray(leaf) for leaf in jax.tree.leaves(model) if hasattr(leaf, "shape")]
    auto = AutoCycle(model, total_steps=50, schedule=cyclr.Cyclical.over(50, 1, 0.01, 0.1))
    assert auto.lr > 0
    if library == "equinox":
        spoiled = jax.tree.map(lambda leaf: leaf * jnp.nan if eqx.is_array(leaf) else leaf, model)
    else:
        # In place, as nnx.Optimizer.update does.
        model.layer.kernel[...] = model.layer.kernel[...] * jnp.nan
        spoiled = model
    with pytest.warns(UserWarning, match="left out"):
        restored = auto.step(jnp.nan, spoiled)
    after = [np.asarray(leaf) for leaf in jax.tree.leaves(restored) if hasattr(leaf, "shape")]
    for leaf, another in zip(start, after, strict=True):
        np.testing.assert_array_equal(leaf, another)
    assert np.isfinite(restored(jnp.ones(4)))
