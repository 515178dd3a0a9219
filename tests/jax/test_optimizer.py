"""A range test of a loss and an Optax optimizer: its updates, what it may be, models of Equinox and Flax."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cyclr.jax import range_test

optax = pytest.importorskip("optax")
contrib = pytest.importorskip("optax.contrib")

RNG = np.random.default_rng(4)
X = RNG.normal(size=(160, 4)).astype("float32")
Y = (X @ np.array([1.0, -2.0, 0.5, 1.0]) + 0.3 * RNG.normal(size=160)).astype("float32")
BATCHES = [(X[i : i + 16], Y[i : i + 16]) for i in range(0, 160, 16)]
PARAMS = {"w": jnp.zeros(4), "b": jnp.zeros(())}
SWEEP = {"min_lr": 1e-3, "max_lr": 0.5, "steps": 33, "stop_factor": None}


def loss_of(params, batch):
    x, y = batch
    return jnp.mean((x @ params["w"] + params["b"] - y) ** 2)


def losses_by_hand(make, rates, params=PARAMS, loss_of=loss_of):
    """The usual loop of Optax, with an optimizer made for every rate."""

    @jax.jit
    def update(params, state, batch, lr):
        loss, gradient = jax.value_and_grad(loss_of)(params, batch)
        updates, state = make(lr).update(gradient, state, params)
        return optax.apply_updates(params, updates), state, loss

    state, losses = make(0.1).init(params), []
    for rate, batch in zip(rates, itertools.cycle(BATCHES), strict=False):
        params, state, loss = update(params, state, batch, float(rate))
        losses.append(float(loss))
    return losses


def clipped(lr):
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lr, weight_decay=0.1))


OPTIMIZERS = {
    "a factory": optax.adamw,
    "partial": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "clipping and weight decay": clipped,
    "an injected factory inside": lambda lr: optax.chain(
        optax.inject_hyperparams(optax.scale_by_adam)(b1=lambda count: 0.9 - 0.001 * count), optax.scale(-lr)
    ),
    "masked weight decay": lambda lr: optax.adamw(lr, mask=lambda p: jax.tree.map(lambda leaf: leaf.ndim > 0, p)),
    "a schedule inside": lambda lr: optax.sgd(lambda count: lr * jnp.minimum(1.0, (count + 1) / 10)),
    "one of Optax inside": lambda lr: optax.adamw(optax.linear_schedule(0.1 * lr, lr, 10)),
    "accumulation": lambda lr: optax.MultiSteps(optax.adamw(lr), 3),
    "two optimizers": lambda lr: optax.multi_transform(
        {"one": optax.adam(lr), "two": optax.sgd(0.1 * lr)}, {"w": "one", "b": "two"}
    ),
    "schedule-free": lambda lr: contrib.schedule_free_adamw(lr, warmup_steps=5),
    "SAM": lambda lr: contrib.sam(optax.sgd(lr), optax.sgd(0.05)),
    "a part frozen": lambda lr: optax.chain(optax.adam(lr), optax.masked(optax.set_to_zero(), {"w": False, "b": True})),
}


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_updates_are_those_of_the_optimizer_made_with_the_rate(make):
    result = range_test(loss_of, PARAMS, BATCHES, optimizer=make, **SWEEP)
    np.testing.assert_allclose(result.loss, losses_by_hand(make, result.lr), rtol=1e-6)
    assert np.ptp(result.loss) > 0


def test_weight_decay_and_clipping_move_the_bounds():
    """Why nobody should rebuild an optimizer for the test."""
    plain, whole = (
        range_test(loss_of, PARAMS, BATCHES, optimizer=make, max_lr=100.0).bounds.max_lr
        for make in (optax.sgd, clipped)
    )
    assert whole != plain


@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_every_chunk_gives_the_same_losses_in_the_dtype_of_the_parameters(chunk):
    dtypes = set()

    def typed(params, batch):
        dtypes.update(str(leaf.dtype) for leaf in jax.tree.leaves(params))
        return loss_of(params, batch)

    params = jax.tree.map(lambda leaf: leaf.astype("bfloat16"), PARAMS)
    result = range_test(typed, params, BATCHES, optimizer=clipped, **SWEEP, chunk=chunk)
    assert dtypes == {"bfloat16"}
    np.testing.assert_allclose(result.loss, losses_by_hand(clipped, result.lr, params), rtol=0.05)


@pytest.mark.parametrize("params", [{"w": np.zeros(4), "b": 0.0}, {"w": np.zeros(4, "float32"), "b": np.zeros(())}])
@pytest.mark.parametrize("chunk", [None, 10])
def test_numbers_and_arrays_of_numpy_are_trained(params, chunk):
    result = range_test(loss_of, params, BATCHES, optimizer=optax.sgd, **SWEEP, chunk=chunk)
    np.testing.assert_allclose(result.loss, losses_by_hand(optax.sgd, result.lr), rtol=1e-5)


def test_loss_and_optimizer_are_traced_once():
    traces = []

    def counted(params, batch):
        traces.append("loss")
        return loss_of(params, batch)

    def make(lr):
        if isinstance(lr, jax.core.Tracer):
            traces.append("optimizer")
        return optax.adamw(lr)

    range_test(counted, PARAMS, BATCHES, optimizer=make, **{**SWEEP, "steps": 40})
    assert traces == ["loss", "optimizer"]


def test_rest_is_handed_on_and_evaluated():
    counts = []

    def noisy(params, rest, batch):
        key, number = rest
        key, now = jax.random.split(key)
        return loss_of(params, batch) + jax.random.uniform(now), (key, number + 1)

    def evaluate(params, rest):
        counts.append(int(rest[1]))
        return loss_of(params, (X, Y))

    rest = jax.random.key(2), jnp.int32(0)
    result = range_test(noisy, PARAMS, BATCHES, optimizer=optax.sgd, rest=rest, **SWEEP, evaluate=evaluate)
    assert counts == list(range(1, 34))
    assert int(rest[1]) == 0
    alone = range_test(
        loss_of, PARAMS, BATCHES, optimizer=optax.sgd, **SWEEP, evaluate=lambda params: loss_of(params, (X, Y))
    )
    np.testing.assert_allclose(result.loss, alone.loss, rtol=1e-6)


def test_other_returned_values_are_ignored():
    both = range_test(lambda p, b: (loss_of(p, b), {"n": 1}), PARAMS, BATCHES, optimizer=optax.sgd, **SWEEP)
    assert both == range_test(loss_of, PARAMS, BATCHES, optimizer=optax.sgd, **SWEEP)


SLIPS = {
    "an optimizer": ("optimizer must be a function of the learning rate.*is fixed", {"optimizer": optax.adam(0.1)}),
    "injected": ("got an Optax optimizer", {"optimizer": optax.inject_hyperparams(optax.adam)(learning_rate=0.1)}),
    "a rate given before": ("optimizer must take one", {"optimizer": functools.partial(optax.sgd, learning_rate=0.1)}),
    "evaluate of two": (r"evaluate must take one argument, \(params\)", {"evaluate": lambda params, batch: 1.0}),
    "a name": ("got 'adam'. Pass optax.adamw", {"optimizer": "adam"}),
    "a number": ("optimizer must be a function", {"optimizer": 0.1}),
    "no optimizer made": ("a function that returns <function adam", {"optimizer": lambda lr: optax.adam}),
    "a schedule that looks at its peak": (
        "optimizer must be a function that JAX can trace.*with peak 1",
        {"optimizer": lambda lr: optax.adam(optax.warmup_cosine_decay_schedule(0.0, lr, 10, 100))},
    ),
    "float() of the rate": ("optimizer must be a function that JAX", {"optimizer": lambda lr: optax.sgd(float(lr))}),
    "a dict": ("loss_of must return the loss as a number.*got dict", {"loss_of": lambda p, b: {"loss": loss_of(p, b)}}),
    "three values": ("got tuple of 3", {"loss_of": lambda p, b: (loss_of(p, b), 1, 2)}),
    "every sample": (r"shape \(16,\)\. If each sample has a loss", {"loss_of": lambda p, b: b[0] @ p["w"]}),
    "None": ("loss_of must return.*got NoneType", {"loss_of": lambda p, b: None}),
    "no rest returned": (
        r"loss_of must return \(loss, rest\)",
        {"loss_of": lambda p, r, b: loss_of(p, b), "rest": 1.0},
    ),
    "another rest": (
        r"loss_of must return \(loss, rest\), with the structure",
        {"loss_of": lambda p, r, b: (loss_of(p, b), (r, r)), "rest": 1.0},
    ),
    "no place for rest": (r"three arguments, \(params, rest, batch\)", {"rest": 1.0}),
    "x and y": (r"two arguments.*lambda params, batch: loss_of\(params, \*batch\)", {"loss_of": lambda p, x, y: 0}),
    "a step": (r"loss_of must take two arguments", {"loss_of": lambda state, batch, lr: (state, 0)}),
    "a loss without optimizer": ("step_fn must take three.*pass optimizer=", {"optimizer": None}),
    "float()": ("loss_of must be a function that JAX", {"loss_of": lambda p, b: jnp.float32(float(loss_of(p, b)))}),
    "integers": ("params must hold arrays of floating", {"params": {"w": np.zeros(4, int), "b": 0}}),
}


@pytest.mark.parametrize(("message", "changes"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_named(message, changes):
    given = {"loss_of": loss_of, "params": PARAMS, "optimizer": optax.adam, **changes}
    with pytest.raises(TypeError, match=f"(?s)^[^\n]*{message}"):
        range_test(given.pop("loss_of"), given.pop("params"), BATCHES, **given)


def test_rest_without_an_optimizer_is_refused():
    with pytest.raises(ValueError, match="rest= needs optimizer="):
        range_test(lambda state, batch, lr: (state, 0.0), PARAMS, BATCHES, rest=1.0)


@pytest.mark.parametrize("chunk", [None, 10])
def test_an_nnx_model_trains_as_in_its_own_loop_and_stays_as_it_was(chunk):
    nnx = pytest.importorskip("flax.nnx")

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.hidden = nnx.Linear(4, 8, rngs=rngs)
            self.norm = nnx.BatchNorm(8, rngs=rngs)
            self.dropout = nnx.Dropout(0.2, rngs=rngs)
            self.output = nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x):
            return self.output(self.dropout(nnx.relu(self.norm(self.hidden(x)))))

    def loss_of(model, batch):
        return jnp.mean((model(batch[0])[:, 0] - batch[1]) ** 2)

    def values(model):
        leaves = jax.tree.leaves(nnx.state(model))
        return [
            np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x) for x in leaves
        ]

    model = Net(nnx.Rngs(0))
    before = values(model)
    sweep = {**SWEEP, "steps": 12, "spacing": "linear"}
    evaluated = []

    def evaluate(model):
        evaluated.append(values(model))
        return 1.0

    def make(lr):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(lr, momentum=0.9))

    range_test(loss_of, model, BATCHES, optimizer=make, **sweep, chunk=chunk, evaluate=evaluate)
    result = range_test(loss_of, model, BATCHES, optimizer=make, **sweep, chunk=chunk)
    assert all(np.array_equal(old, new) for old, new in zip(before, values(model), strict=True))

    @nnx.jit
    def update(model, optimizer, batch):
        loss, gradient = nnx.value_and_grad(loss_of)(model, batch)
        optimizer.update(model, gradient)
        return loss

    losses = []
    optimizer = nnx.Optimizer(model, make(lambda count: jnp.asarray(result.lr)[count]), wrt=nnx.Param)
    for _, batch in zip(result.lr, itertools.cycle(BATCHES), strict=False):
        losses.append(float(update(model, optimizer, batch)))
    np.testing.assert_allclose(result.loss, losses, rtol=1e-3)
    for found, wanted in zip(evaluated[-1], values(model), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-2, atol=1e-3)


def test_an_equinox_model_is_taken_as_it_is():
    eqx = pytest.importorskip("equinox")

    class Net(eqx.Module):
        layers: eqx.nn.MLP
        dropout: eqx.nn.Dropout

        def __call__(self, x, key):
            return self.dropout(self.layers(x), key=key)[0]

    model = Net(eqx.nn.MLP(4, 1, 8, 2, key=jax.random.key(0)), eqx.nn.Dropout(0.2))

    def loss_of(model, key, batch):
        key, now = jax.random.split(key)
        return jnp.mean((jax.vmap(model)(batch[0], jax.random.split(now, 16)) - batch[1]) ** 2), key

    result = range_test(loss_of, model, BATCHES, optimizer=clipped, rest=jax.random.key(1), **SWEEP)

    @eqx.filter_jit
    def update(model, state, key, batch, lr):
        (loss, key), gradient = eqx.filter_value_and_grad(loss_of, has_aux=True)(model, key, batch)
        updates, state = clipped(lr).update(gradient, state, eqx.filter(model, eqx.is_inexact_array))
        return eqx.apply_updates(model, updates), state, key, loss

    losses, state, key = [], clipped(0.1).init(eqx.filter(model, eqx.is_inexact_array)), jax.random.key(1)
    for rate, batch in zip(result.lr, itertools.cycle(BATCHES), strict=False):
        model, state, key, loss = update(model, state, key, batch, jnp.asarray(float(rate)))
        losses.append(float(loss))
    np.testing.assert_allclose(result.loss, losses, rtol=1e-4)


def test_nnx_models_in_a_container_are_models():
    nnx = pytest.importorskip("flax.nnx")
    pair = {"first": nnx.Linear(4, 4, rngs=nnx.Rngs(0)), "second": nnx.Dropout(0.5, rngs=nnx.Rngs(1))}

    def loss_of(models, batch):
        return jnp.mean((models["second"](models["first"](batch[0])) - 1) ** 2)

    result = range_test(loss_of, pair, BATCHES[:1], optimizer=optax.sgd, **{**SWEEP, "max_lr": 1.1e-3})
    # Other entries are dropped in every update.
    assert np.abs(np.diff(result.loss)).min() > 1e-3
    assert int(pair["second"].rngs.count[...]) == 0


class Dropped:
    """A linear model in NNX with dropout, whose keys are from outside."""

    def __new__(cls):
        nnx = pytest.importorskip("flax.nnx")

        class Model(nnx.Module):
            def __init__(self):
                self.linear = nnx.Linear(4, 1, rngs=nnx.Rngs(0))
                self.dropout = nnx.Dropout(0.5)

            def __call__(self, x, rngs):
                return self.linear(self.dropout(x, rngs=rngs))[:, 0]

        return Model()


@pytest.mark.parametrize("chunk", [None, 10])
def test_nnx_keys_are_accepted_as_rest_but_not_from_outside(chunk):
    nnx = pytest.importorskip("flax.nnx")
    model, rngs = Dropped(), nnx.Rngs(dropout=1)

    def by_rest(model, rngs, batch):
        return jnp.mean((model(batch[0], rngs) - batch[1]) ** 2), rngs

    def from_outside(model, batch):
        return by_rest(model, rngs, batch)[0]

    counts = []
    sweep = {**SWEEP, "steps": 12, "chunk": chunk, "optimizer": optax.sgd}
    evaluate = lambda model, rngs: counts.append(int(rngs.dropout.count[...])) or 1.0  # noqa: E731
    range_test(by_rest, model, BATCHES, rest=rngs, **sweep, evaluate=evaluate)
    assert counts == list(range(1, 13))
    if chunk is not None:
        with pytest.raises(TypeError, match="loss_of must change only NNX objects in its arguments"):
            range_test(from_outside, model, BATCHES, **sweep)
    assert int(rngs.dropout.count[...]) == 0


@pytest.mark.parametrize("copy", [False, True])
def test_a_split_nnx_model_is_merged_with_or_without_a_copy(copy):
    nnx = pytest.importorskip("flax.nnx")
    rngs = nnx.Rngs(0)
    model = nnx.Sequential(nnx.Linear(4, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs), nnx.Dropout(0.1, rngs=rngs))
    graph, parameters, rest = nnx.split(model, nnx.Param, ...)

    def split_loss(parameters, rest, batch):
        model = nnx.merge(graph, parameters, rest, copy=copy)
        return jnp.mean((model(batch[0]) - batch[1][:, None]) ** 2), nnx.state(model, nnx.Not(nnx.Param))

    def whole_loss(model, batch):
        return jnp.mean((model(batch[0]) - batch[1][:, None]) ** 2)

    split = range_test(split_loss, parameters, BATCHES, optimizer=optax.sgd, rest=rest, **SWEEP)
    assert split == range_test(whole_loss, model, BATCHES, optimizer=optax.sgd, **SWEEP)
