"""The range test of JAX: losses by hand, whatever is compiled, and the state as it was."""

import functools
import itertools
import random
import re
import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cyclr import RangeTestError
from cyclr.jax import range_test

RNG = np.random.default_rng(4)
X = RNG.normal(size=(40, 3)).astype("float32")
Y = (X @ np.array([1.0, -2.0, 0.5]) + 0.3 * RNG.normal(size=40)).astype("float32")
BATCHES = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]
SWEEP = {"min_lr": 1e-3, "max_lr": 0.1, "steps": 23, "stop_factor": None}


def loss_of(weights, batch):
    x, y = batch
    return jnp.mean((x @ weights - y) ** 2)


def step(weights, batch, lr):
    loss, gradient = jax.value_and_grad(loss_of)(weights, batch)
    return weights - lr * gradient, loss


def losses_by_hand(rates, batches=BATCHES):
    weights, losses = np.zeros(3), []
    for rate, (x, y) in zip(rates, itertools.cycle(batches), strict=False):
        error = x.astype("float64") @ weights - y
        losses.append(np.mean(error**2))
        weights = weights - rate * 2 * x.T @ error / len(error)
    return losses


@pytest.mark.parametrize("chunk", [None, 1, 4, 10, 100])
def test_losses_are_those_of_the_batches_and_every_rate_is_used(chunk):
    result = range_test(step, jnp.zeros(3), BATCHES, **SWEEP, chunk=chunk)
    assert (result.stop_reason, result.steps) == ("completed", 23)
    np.testing.assert_allclose(result.lr, np.geomspace(1e-3, 0.1, 23), rtol=1e-12)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 3, 10])
def test_batches_of_different_sizes(chunk):
    batches = [(X[i : i + 9], Y[i : i + 9]) for i in range(0, 40, 9)]
    result = range_test(step, jnp.zeros(3), batches, **SWEEP, chunk=chunk)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, batches), rtol=1e-5)


def test_the_state_is_as_it_was_and_any_pytree_will_do():
    state = {"weights": jnp.zeros(3), "rest": (jnp.ones(2), jax.random.key(3))}

    def tree_step(state, batch, lr):
        weights, loss = step(state["weights"], (batch["x"], batch["y"]), lr)
        ones, key = state["rest"]
        return {"weights": weights, "rest": (ones * 0.5, jax.random.split(key)[0])}, loss

    batches = [{"x": x, "y": y} for x, y in BATCHES]
    first = range_test(tree_step, state, batches, **SWEEP)
    np.testing.assert_array_equal(state["weights"], np.zeros(3))
    assert range_test(tree_step, state, batches, **SWEEP) == first
    np.testing.assert_allclose(first.loss, losses_by_hand(first.lr), rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 7, 50])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"max_lr": 1e3, "stop_factor": 1.5, "smoothing": 0.0}, "diverged"),
        ({"max_lr": 1e30, "steps": 60}, "non_finite"),
        ({}, "completed"),
    ],
)
def test_it_stops_for_the_same_reason_at_the_same_step_whatever_runs_in_one_call(chunk, changes, reason):
    result = range_test(step, jnp.zeros(3), BATCHES, **{**SWEEP, **changes}, chunk=chunk)
    assert result.stop_reason == reason
    assert len(result.loss) == len(range_test(step, jnp.zeros(3), BATCHES, **{**SWEEP, **changes}, chunk=1).loss)
    assert np.isfinite(result.loss).all()


@pytest.mark.parametrize("chunk", [None, 1, 10])
def test_an_iterator_is_read_once(chunk):
    result = range_test(step, jnp.zeros(3), iter(BATCHES), **SWEEP, chunk=chunk)
    assert (result.stop_reason, len(result.loss)) == ("data_exhausted", 5)
    endless = itertools.cycle(BATCHES)
    assert range_test(step, jnp.zeros(3), endless, **SWEEP, chunk=chunk).stop_reason == "completed"
    if chunk == 1:
        np.testing.assert_array_equal(next(endless)[0], BATCHES[23 % 5][0])


def test_a_step_is_compiled_once():
    traces = []

    def counted(weights, batch, lr):
        traces.append(0)
        return step(weights, batch, lr)

    range_test(counted, jnp.zeros(3), BATCHES, **{**SWEEP, "steps": 40})
    assert len(traces) == 1


def test_on_step_is_called_for_every_point():
    seen = []
    range_test(step, jnp.zeros(3), BATCHES, **SWEEP, on_step=lambda test: seen.append(test.recorded))
    assert seen == list(range(1, 24))


@pytest.mark.parametrize("batches", [[], iter([])])
def test_no_data_is_an_error(batches):
    with pytest.raises(RangeTestError, match="needs at least one finite loss"):
        range_test(step, jnp.zeros(3), batches, **SWEEP)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"chunk": 0}, ValueError, "chunk must be an integer of at least 1; got chunk=0"),
        ({"chunk": 2.5}, TypeError, "chunk must be an integer"),
        ({"min_lr": 0.0}, ValueError, "min_lr must be"),
        ({"step_fn": None}, TypeError, "step_fn must be a function of state, batch, lr; got"),
    ],
)
def test_a_wrong_argument_is_refused_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        range_test(**{"step_fn": step, "state": jnp.zeros(3), "batches": BATCHES, **arguments})


@pytest.mark.parametrize("chunk", [1, 10])
def test_torch_tensors_in_batches_raise_with_a_remedy(chunk):
    torch = pytest.importorskip("torch")
    batches = [(torch.tensor(x), torch.tensor(y)) for x, y in BATCHES]
    with pytest.raises(
        TypeError, match=r"^batches must hold arrays of JAX or NumPy; got Tensor of torch\. Convert it to"
    ):
        range_test(step, jnp.zeros(3), batches, **SWEEP, chunk=chunk)

    def converting(weights, batch, lr):
        return step(weights, tuple(part.numpy() for part in batch), lr)

    result = range_test(converting, jnp.zeros(3), batches, **SWEEP, chunk=None)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 4, 10])
def test_several_updates_make_one_point_of_their_mean_loss(chunk):
    result = range_test(step, jnp.zeros(3), BATCHES, **SWEEP, updates_per_rate=3, chunk=chunk)
    by_hand = losses_by_hand(np.repeat(result.lr, 3))
    np.testing.assert_allclose(result.loss, np.reshape(by_hand, (23, 3)).mean(1), rtol=1e-5)


@pytest.mark.parametrize("updates", [1, 3])
def test_an_evaluation_is_of_the_state_after_the_updates_of_a_rate(updates):
    whole = [(X, Y)]
    result = range_test(
        step, jnp.zeros(3), whole, **SWEEP, updates_per_rate=updates, evaluate=lambda weights: loss_of(weights, (X, Y))
    )
    by_hand = losses_by_hand([*np.repeat(result.lr, updates), 0.0], whole)
    np.testing.assert_allclose(result.loss, by_hand[updates::updates], rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 10])
def test_an_evaluation_is_at_the_end_of_its_rate_also_if_batches_differ_in_size(chunk):
    seen = []

    def counting(state, batch, lr):
        return (state[0] + 1, lr), jnp.float32(1.0)

    def evaluate(state):
        seen.append((int(state[0]), float(state[1])))
        return 1.0

    data = [np.zeros(rows, "float32") for rows in (4, 4, 2)]
    sweep = {"min_lr": 1, "max_lr": 6, "steps": 6, "spacing": "linear", "updates_per_rate": 2, "evaluate": evaluate}
    range_test(counting, (jnp.int32(0), jnp.float32(0)), data, **sweep, chunk=chunk)
    assert seen == [(2 * rate, rate) for rate in range(1, 7)]


def test_a_step_that_is_not_compiled_takes_any_batch_also_with_an_evaluation():
    rows, texts = [], [("a", BATCHES[0]), ("b", BATCHES[1])]

    def named(weights, batch, lr):
        name, arrays = batch
        rows.append(name)
        return step(weights, arrays, lr)

    sweep = {**SWEEP, "steps": 3, "updates_per_rate": 2, "evaluate": lambda weights: 1.0}
    range_test(named, jnp.zeros(3), texts, **sweep, chunk=None)
    # Some are called twice, with another rate.
    assert [name for name, _ in itertools.groupby(rows)] == ["a", "b"] * 3


@pytest.mark.parametrize("chunk", [None, 4, 10])
@pytest.mark.parametrize(("dtype", "x64"), [("bfloat16", False), ("float16", False), ("float32", True)])
def test_parameters_keep_their_dtype(dtype, x64, chunk):
    dtypes = set()

    def typed_step(weights, batch, lr):
        loss, gradient = jax.value_and_grad(loss_of)(weights, tuple(jnp.asarray(part, dtype) for part in batch))
        updated = weights - lr * gradient
        dtypes.add(updated.dtype.name)
        return updated, loss

    with jax.enable_x64(x64):
        result = range_test(typed_step, jnp.zeros(3, dtype), BATCHES, **SWEEP, chunk=chunk)
    assert (result.stop_reason, dtypes) == ("completed", {dtype})
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr), rtol=1e-5 if x64 else 0.1)


# No trace


class BrokenError(Exception):
    """Raised in the middle of a test."""


def state_of_everything():
    """What a range test could change besides what it is given: generators, and JAX' settings."""
    return (
        random.getstate(),
        str(np.random.get_state()),
        jax.config.jax_enable_x64,
        jax.config.jax_disable_jit,
        jax.config.jax_default_matmul_precision,
    )


def bits(tree):
    leaves, structure = jax.tree.flatten(tree)
    plain = [jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x for x in leaves]
    return str(structure), [(id(leaf), np.asarray(x).tobytes()) for leaf, x in zip(leaves, plain, strict=True)]


@jax.jit
def keyed_step(state, batch, lr):
    weights, key = state
    weights, loss = step(weights, batch, lr)
    return (weights, jax.random.split(key)[0]), loss


def raising_step(error, at):
    """A step that raises in its call number `at`."""
    calls = itertools.count()

    def step_fn(state, batch, lr):
        if next(calls) == at:
            raise error
        return keyed_step(state, batch, lr)

    return step_fn


def raising_batches(error, at):
    for number in range(at):
        yield BATCHES[number % 5]
    raise error


def raising_on_step(error, at):
    def on_step(test):
        if test.recorded > at:
            raise error

    return on_step


ERRORS = {"an error": BrokenError(), "Ctrl-C": KeyboardInterrupt()}


PLACES = [
    *(("step_fn", at, None) for at in (0, 1, 22)),
    ("step_fn", 0, 4),  # a compiled step is called by Python once
    *((where, at, chunk) for where in ("batches", "on_step") for at in (0, 9, 22) for chunk in (None, 4)),
]


@pytest.mark.parametrize(("where", "at", "chunk"), PLACES)
@pytest.mark.parametrize("error", ERRORS.values(), ids=ERRORS)
def test_an_error_anywhere_leaves_everything_as_it_was(error, where, at, chunk):
    state, batches = (jnp.ones(3), jax.random.key(3)), list(BATCHES)
    before = bits(state), bits(batches), state_of_everything()
    arguments = {
        "step_fn": {"step_fn": raising_step(error, at)},
        "batches": {"batches": raising_batches(error, at)},
        "on_step": {"on_step": raising_on_step(error, at)},
    }[where]
    with pytest.raises(type(error)):
        range_test(**{"step_fn": keyed_step, "state": state, "batches": batches, **SWEEP, "chunk": chunk, **arguments})
    assert (bits(state), bits(batches), state_of_everything()) == before


@pytest.mark.parametrize("chunk", [None, 4])
@pytest.mark.parametrize("changes", [{}, {"max_lr": 1e30, "steps": 60}], ids=["completed", "non_finite"])
def test_training_goes_on_as_if_there_had_been_no_test(chunk, changes):
    compiled = jax.jit(step)
    ends = []
    for tested in (True, False):
        random.seed(1), np.random.seed(1)
        weights = jnp.ones(3)
        for number in range(12):
            if tested and number % 4 == 3:
                range_test(step, weights, BATCHES, **{**SWEEP, **changes}, chunk=chunk)
            weights, _ = compiled(weights, BATCHES[number % 5], 0.05)
        ends.append((np.asarray(weights).tobytes(), random.random(), np.random.random()))
    assert ends[0] == ends[1]


class Shuffled:
    """Batches in an order of NumPy's and Python's generators."""

    def __iter__(self):
        random.random()
        return (BATCHES[index] for index in np.random.permutation(5))


@pytest.mark.parametrize("fails", [False, True])
def test_the_generators_that_batches_draw_from_are_put_back(fails):
    before = state_of_everything()
    results = []
    for _ in range(2):
        if fails:
            with pytest.raises(BrokenError):
                range_test(step, jnp.zeros(3), Shuffled(), **SWEEP, on_step=raising_on_step(BrokenError(), 9))
        else:
            results.append(range_test(step, jnp.zeros(3), Shuffled(), **SWEEP))
        assert state_of_everything() == before
    assert results[1:] == results[:-1]


def test_batches_of_a_torch_loader_come_in_the_same_order_after_a_test():
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1)
    rows = torch.utils.data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y))

    class Loader(torch.utils.data.DataLoader):
        def __iter__(self):
            return ((x.numpy(), y.numpy()) for x, y in super().__iter__())

    for loader in (Loader(rows, 8, shuffle=True), Loader(rows, 8, shuffle=True, generator=generator)):
        orders = []
        for tested in (False, True):
            torch.manual_seed(2), generator.manual_seed(2)
            if tested:
                range_test(step, jnp.zeros(3), loader, **SWEEP)
            orders.append([y.tolist() for _, y in loader])
        assert orders[0] == orders[1]


@pytest.mark.parametrize(("chunk", "steps", "traces"), [(10, 40, 1), (10, 45, 2), (1, 40, 1), (40, 40, 1)])
def test_nothing_is_traced_again(chunk, steps, traces):
    """Once for every length of a chunk; so the last one, if it is shorter, is a second."""
    seen = []

    def counted(weights, batch, lr):
        seen.append(lr)
        return step(weights, batch, lr)

    range_test(counted, jnp.zeros(3), BATCHES, **{**SWEEP, "steps": steps}, chunk=chunk)
    assert len(seen) == traces


def test_a_long_chunk_is_no_longer_program(monkeypatch):
    """Compiling would take many times as long as the updates."""
    lengths = set()

    def measured(function):
        def noted(*given):
            lengths.add(len(jax.make_jaxpr(function)(*given).eqns))
            lengths.add(len(jax.tree.leaves(given)))
            return function(*given)

        return noted

    # What stacks batches of JAX is compiled for their number.
    monkeypatch.delattr(jnp, "stack")
    monkeypatch.setattr(jax, "jit", measured)
    seen = []
    for chunk in (2, 30):
        lengths.clear()
        range_test(step, jnp.zeros(3), BATCHES[:4] * 10, **{**SWEEP, "steps": 30}, chunk=chunk)
        seen.append(set(lengths))
    assert seen[0] == seen[1]


def test_a_step_that_is_compiled_already_is_not_traced_again():
    seen = []

    @jax.jit
    def compiled(weights, batch, lr):
        seen.append(lr)
        return step(weights, batch, lr)

    for _ in range(2):
        range_test(compiled, jnp.zeros(3), BATCHES, **SWEEP, chunk=None)
    compiled(jnp.zeros(3), BATCHES[0], 0.1)
    assert len(seen) == 1


@pytest.mark.parametrize("bad", [[0], [5], [1, 7, 12], [9, 10], [*range(4, 14)]], ids=str)
@pytest.mark.parametrize(
    "changes", [{}, {"chunk": None}, {"chunk": 1}, {"updates_per_rate": 2}, {"evaluate": True}], ids=str
)
def test_a_broken_batch_is_left_out(bad, changes):
    """https://github.com/fastai/fastai/issues/3476"""
    rng = np.random.default_rng(2)
    data = [(rng.normal(size=(8, 3)).astype("float32"), rng.normal(size=8).astype("float32")) for _ in range(60)]
    broken = [(x * np.float32(np.nan if number in bad else 1), y) for number, (x, y) in enumerate(data)]
    clean = [batch for number, batch in enumerate(data) if number not in bad]

    def step(weights, batch, lr):
        loss, gradient = jax.value_and_grad(lambda w: jnp.mean((batch[0] @ w - batch[1]) ** 2))(weights)
        return weights - lr * gradient, loss

    if "evaluate" in changes:
        changes = {"evaluate": lambda weights: jnp.sum(weights**2), "updates_per_rate": 3}
    sweep = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 14, "stop_factor": None, **changes}
    found, wanted = (range_test(step, jnp.ones(3), batches, **sweep) for batches in (broken, clean))
    assert (found.stop_reason, wanted.stop_reason) == ("completed", "completed")
    np.testing.assert_allclose(found.loss, wanted.loss, rtol=1e-5)
    assert [met.update for met in found.left_out] == bad


# A step that does not use its rate


def recorded(step_fn, of_lr=lambda lr: lr):
    """The step, with the rate in its state."""

    def with_rate(state, batch, lr):
        inner, loss = step_fn(state[0], batch, lr)
        return (inner, state[1] + of_lr(lr)), loss

    return with_rate


def ignoring(weights, batch, lr):
    return step(weights, batch, 0.01)


def forgetful(weights, batch, lr):
    return weights, step(weights, batch, lr)[1]


USELESS = {
    "its own rate": (ignoring, jnp.zeros(3)),
    "a rate that is only recorded": (recorded(ignoring), (jnp.zeros(3), 0.0)),
    "a rate that is only recorded, as a logarithm": (recorded(ignoring, jnp.log), (jnp.zeros(3), 0.0)),
    "a state that is not returned": (forgetful, jnp.zeros(3)),
}


@pytest.mark.parametrize("chunk", [None, 1, 10])
@pytest.mark.parametrize(("step_fn", "state"), USELESS.values(), ids=USELESS)
def test_a_step_that_does_not_use_its_rate_gets_no_bounds(step_fn, state, chunk):
    with pytest.raises(RangeTestError, match=r"^step_fn must use its argument lr and return the state that it changes"):
        range_test(step_fn, state, BATCHES, max_lr=1.0, chunk=chunk)


@pytest.mark.parametrize("chunk", [None, 10])
def test_optimizers_that_do_not_use_the_rate_get_no_bounds(chunk):
    optax = pytest.importorskip("optax")
    inject = optax.inject_hyperparams(optax.adam)
    scheduled = inject(learning_rate=lambda count: 0.01)

    def overridden(state, batch, lr):
        weights, inner = state
        inner.hyperparams["learning_rate"] = lr
        loss, gradient = jax.value_and_grad(loss_of)(weights, batch)
        updates, inner = scheduled.update(gradient, inner, weights)
        return (weights + updates, inner), loss

    with pytest.raises(RangeTestError, match=r"^step_fn must use"):
        range_test(overridden, (jnp.zeros(3), scheduled.init(jnp.zeros(3))), BATCHES, chunk=chunk)
    for make in (lambda lr: optax.adam(0.01), inject):
        with pytest.raises(RangeTestError, match=r"^optimizer must use the learning rate that it is called with"):
            range_test(loss_of, jnp.zeros(3), BATCHES, optimizer=make, chunk=chunk)


def warming_up(state, batch, lr):
    weights, loss = step(state[0], batch, lr * jnp.clip(state[1] - 25, 0, 30) / 30)
    return (weights, state[1] + 1), loss


MASKED = [(x * 0, y) for x, y in BATCHES * 5]
USEFUL = {
    "warm-up from 0": (warming_up, (jnp.zeros(3), jnp.float32(0)), BATCHES),
    "first batches masked": (step, jnp.zeros(3), [*MASKED, *BATCHES * 40]),
    "first batch broken": (step, jnp.zeros(3), [(X[:8] * np.nan, Y[:8]), *BATCHES * 40]),
    "a branch": (lambda w, b, lr: step(w, b, jnp.where(lr > 0.01, lr, 0.0)), jnp.zeros(3), BATCHES),
    "bfloat16": (
        lambda w, b, lr: step(w, tuple(jnp.asarray(part, "bfloat16") for part in b), lr),
        jnp.zeros(3, "bfloat16"),
        BATCHES,
    ),
}


@pytest.mark.parametrize("chunk", [None, 10])
@pytest.mark.parametrize(("step_fn", "state", "batches"), USEFUL.values(), ids=USEFUL)
def test_a_step_that_uses_its_rate_late_gets_its_bounds(step_fn, state, batches, chunk):
    assert range_test(step_fn, state, batches, chunk=chunk).bounds.usable


def test_a_constant_loss_is_flat_and_few_points_are_few():
    assert range_test(lambda w, b, lr: (w, 1.0), jnp.zeros(3), BATCHES).bounds.status == "flat"
    few = range_test(step, jnp.ones(3), iter(BATCHES), min_lr=1e-12)
    assert few.bounds.status == "too_few_points"


def test_updates_are_made_twice_only_until_the_rate_shows():
    rates = []

    def counted(weights, batch, lr):
        rates.append(float(lr))
        return step(weights, batch, lr)

    result = range_test(counted, jnp.zeros(3), BATCHES, **SWEEP, chunk=None)
    assert rates == pytest.approx([*np.repeat(result.lr[:2], 2) * [1, 2, 1, 2], *result.lr[2:]])


# Steps that change what they get


def in_dict(state, batch, lr):
    state["weights"], loss = step(state["weights"], batch, lr)
    state["calls"].append(1)
    return state, loss


def in_numpy(state, batch, lr):
    loss, gradient = jax.value_and_grad(loss_of)(jnp.asarray(state["weights"]), batch)
    state["weights"] -= np.asarray(lr * gradient)
    return state, loss


class Held:
    """A state that JAX does not know."""

    def __init__(self):
        self.weights = jnp.zeros(3)

    def step(self, batch, lr):
        self.weights, loss = step(self.weights, batch, lr)
        return self, loss


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize(
    ("step_fn", "make"),
    [
        (in_dict, lambda: {"weights": jnp.zeros(3), "calls": []}),
        (in_numpy, lambda: {"weights": np.zeros(3, "float32")}),
        (lambda state, batch, lr: state.step(batch, lr), Held),
        (jax.jit(step, donate_argnums=0), lambda: jnp.zeros(3)),
    ],
    ids=["dict", "NumPy", "object", "donated"],
)
def test_a_step_that_changes_its_state_in_place_leaves_it_as_it_was(step_fn, make, broken):
    state, data = make(), [(X[:8] * np.nan, Y[:8]), *BATCHES] if broken else BATCHES
    result = range_test(step_fn, state, [*BATCHES, *data, *BATCHES * 5], **SWEEP, chunk=None)
    kept = vars(state) if isinstance(state, Held) else state if isinstance(state, dict) else {"weights": state}
    assert not np.any(kept["weights"])
    assert not kept.get("calls")
    assert len(result.left_out) == broken
    wanted = range_test(step, jnp.zeros(3), [*BATCHES, *data, *BATCHES * 5], **SWEEP)
    np.testing.assert_allclose(result.loss, wanted.loss, rtol=1e-5)


def test_a_batch_that_a_step_deletes_is_a_copy():
    def step_fn(weights, batch, lr):
        following, loss = step(weights, batch, lr)
        batch[0].delete()
        return following, loss

    batches = [tuple(map(jnp.asarray, batch)) for batch in BATCHES]
    range_test(step_fn, jnp.zeros(3), batches, **SWEEP, chunk=None)
    assert not any(part.is_deleted() for batch in batches for part in batch)


def test_a_state_that_cannot_be_copied_is_named():
    with pytest.raises(TypeError, match=r"^state must hold values that can be copied; got <unlocked"):
        range_test(lambda s, b, lr: (s, 1.0), threading.Lock(), BATCHES, chunk=None)


def test_functions_in_the_state_are_compiled_once():
    traces = []

    @functools.partial(jax.jit, static_argnums=1)
    def updated(weights, function, batch, lr):
        traces.append(1)
        return step(weights, batch, lr)

    def step_fn(state, batch, lr):
        weights, loss = updated(*state, batch, lr)
        return (weights, state[1]), loss

    range_test(step_fn, (jnp.zeros(3), jax.nn.relu), BATCHES, **SWEEP, chunk=None)
    assert len(traces) == 1


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("chunk", [None, 10])
def test_nnx_objects_in_the_state_stay_as_they_were_and_others_are_refused(chunk, jit):
    nnx, optax = pytest.importorskip("flax.nnx"), pytest.importorskip("optax")
    model = nnx.Linear(3, 1, rngs=nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.inject_hyperparams(optax.sgd)(learning_rate=0.1), wrt=nnx.Param)

    def update(state, batch, lr):
        model, optimizer = state
        loss, gradient = nnx.value_and_grad(lambda model: jnp.mean((model(batch[0])[:, 0] - batch[1]) ** 2))(model)
        optimizer.opt_state.hyperparams["learning_rate"][...] = lr
        optimizer.update(model, gradient)
        return state, loss

    update = nnx.jit(update) if jit else update

    def outside(state, batch, lr):
        return state, update((model, optimizer), batch, lr)[1]

    def values():
        return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(nnx.state((model, optimizer)))]

    def by_hand(state, batch, lr):
        loss, gradient = nnx.value_and_grad(lambda model: jnp.mean((model(batch[0])[:, 0] - batch[1]) ** 2))(model)
        nnx.update(model, jax.tree.map(lambda w, g: w - lr * g, nnx.state(model), gradient))
        return state, loss

    before = values()
    if chunk is not None:
        with pytest.raises(
            TypeError, match="step_fn must change only NNX objects in its arguments; got an object from outside"
        ):
            range_test(by_hand, jnp.zeros(3), BATCHES, chunk=chunk)
    assert range_test(update, (model, optimizer), BATCHES, chunk=chunk).bounds.usable
    with pytest.raises(TypeError, match="got a function that uses optimizer, an nnx"):
        range_test(outside, jnp.zeros(3), BATCHES, chunk=chunk)
    assert values() == before


# Generators of the data

GENERATOR = np.random.default_rng(5)


class OwnGenerators:
    def __init__(self, kind):
        torch = pytest.importorskip("torch")
        self.kind, self.numpy, self.python = kind, np.random.default_rng(1), random.Random(2)
        rows = torch.utils.data.TensorDataset(torch.arange(5))
        self.torch = torch.Generator().manual_seed(4)
        self.loader = torch.utils.data.DataLoader(rows, shuffle=True, generator=torch.Generator().manual_seed(3))

    def __iter__(self):
        torch = pytest.importorskip("torch")
        orders = {
            "attribute": lambda: self.numpy.permutation(5),
            "Python": lambda: self.python.sample(range(5), 5),
            "global": lambda: GENERATOR.permutation(5),
            "torch": lambda: torch.randperm(5, generator=self.torch),
            "loader": lambda: [int(index) for (index,) in self.loader],
        }
        GENERATOR  # noqa: B018
        return iter([BATCHES[index] for index in orders[self.kind]()])


@pytest.mark.parametrize("kind", ["attribute", "Python", "global", "torch", "loader"])
def test_generators_that_the_data_hold_are_restored(kind):
    data = OwnGenerators(kind)
    first = range_test(step, jnp.zeros(3), data, **SWEEP)
    assert range_test(step, jnp.zeros(3), data, **SWEEP) == first
    assert range_test(step, jnp.zeros(3), data, **{**SWEEP, "min_lr": 2e-3}) != first


W, XS = jnp.zeros(4), np.ones((8, 4), np.float32)
DATA = [(XS, XS.sum(1))] * 20


def descend(weights, batch, lr):
    loss, gradient = jax.value_and_grad(lambda w: jnp.mean((batch[0] @ w - batch[1]) ** 2))(weights)
    return weights - lr * gradient, loss


def without_loss(state, batch, lr):
    return descend(state, batch, lr)[0]


class EagerTensor:
    __module__ = "tensorflow.python.framework.ops"


SLIPS = {
    "only the state": ("step_fn must return two values", {"step_fn": without_loss}),
    "three values": ("step_fn must return two values", {"step_fn": lambda s, b, lr: (*descend(s, b, lr), {})}),
    "swapped values": ("step_fn must return the next state first", {"step_fn": lambda *a: descend(*a)[::-1]}),
    "None": ("step_fn must return two values", {"step_fn": lambda s, b, lr: None}),
    "None, not compiled": ("step_fn must return two values", {"step_fn": lambda s, b, lr: None, "chunk": None}),
    "another dtype": (
        "step_fn must return the next state first.*float16",
        {"step_fn": lambda s, b, lr: (s.astype("float16"), jnp.float32(1))},
    ),
    "another structure": ("step_fn must return the next state first", {"step_fn": lambda s, b, lr: ([s], 1.0)}),
    "loss and metrics": ("where loss is a number", {"step_fn": lambda s, b, lr: (s, (1.0, 2.0))}),
    "a dict as loss": ("where loss is a number", {"step_fn": lambda s, b, lr: (s, {"loss": 1.0})}),
    "no loss": ("where loss is a number", {"step_fn": lambda s, b, lr: (s, None)}),
    "float()": ("step_fn must be a function that JAX can", {"step_fn": lambda s, b, lr: (s, float(s.sum()))}),
    "if": ("step_fn must be a function that JAX can", {"step_fn": lambda s, b, lr: (s, 1.0 if lr > 0 else 0.0)}),
    "two arguments": ("step_fn must take three", {"step_fn": lambda s, b: (s, 1.0)}),
    "no iterable": ("batches must be an iterable", {"batches": 3}),
    "forgotten batches": ("batches must be an iterable", {"batches": None}),
    "(x, y)": ("batches must be an iterable.*one tuple of arrays", {"batches": (XS, XS.sum(1))}),
    "(x, y) of two dimensions": ("one tuple of arrays", {"batches": (XS, XS.sum(1, keepdims=True))}),
    "strings": ("batches must hold arrays of numbers", {"batches": [("a", "b")] * 20}),
    "a dict of arrays": ("batches must hold arrays of numbers", {"batches": {"x": XS, "y": XS}}),
    "objects": ("batches must hold arrays of numbers", {"batches": [np.array([None])] * 20}),
    "swapped state and batches": ("batches must be an iterable.*Swap them", {"state": DATA, "batches": W}),
    "a state that holds no arrays": ("state must be a pytree of arrays.*optimizer=", {"state": {"w": W, "name": "a"}}),
    "no state": ("state must hold the parameters", {"state": None}),
    "evaluate of two": (r"evaluate must take one argument, \(state\)", {"evaluate": lambda state, batch: 1.0}),
    "tensors of another library": ("got EagerTensor of tensorflow", {"batches": [EagerTensor()]}),
    "evaluate": (r"evaluate\(\) must be a number", {"evaluate": lambda state: None}),
}


@pytest.mark.parametrize(("message", "changes"), SLIPS.values(), ids=SLIPS)
def test_a_slip_is_named_without_the_words_of_jax(message, changes):
    arguments = {"step_fn": descend, "state": W, "batches": DATA, "steps": 15, **changes}
    with pytest.raises(TypeError, match=f"(?s)^[^\n]*{message}"):
        range_test(arguments.pop("step_fn"), arguments.pop("state"), arguments.pop("batches"), **arguments)


def test_an_error_of_the_step_is_left_as_it_is():
    def failing(state, batch, lr):
        raise TypeError("my own")

    with pytest.raises(TypeError, match=r"^my own"):
        range_test(failing, W, DATA, steps=15)


@pytest.mark.parametrize("sweep", [{}, {"min_lr": 1e-4}, {"max_lr": 0.3}, {"max_lr": 1e4}], ids=str)
def test_a_reward_is_named(sweep):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(10, 32, 4)).astype("float32")

    def ascend(weights, batch, lr):
        reward, gradient = jax.value_and_grad(lambda w: -jnp.mean((batch @ w - batch.sum(1)) ** 2))(weights)
        return weights + lr * gradient, reward

    bounds = range_test(ascend, W, list(x), **sweep).bounds
    assert (bounds.usable, bounds.status) == (False, "flat")
    assert "as it learned, like a reward. If the training step maximizes a reward, return" in bounds.reason


@pytest.mark.parametrize("min_lr", [1e-6, 1e-4])
def test_a_step_that_adds_gradients_is_named(min_lr):
    def add(weights, batch, lr):
        following, loss = descend(weights, batch, -lr)
        return following, loss

    assert re.search("adds? gradients instead of sub", range_test(add, W, DATA, min_lr=min_lr).bounds.reason)


def test_another_order_of_arguments_is_named():
    for order in ((W, descend, DATA), (DATA, W, descend)):
        with pytest.raises(TypeError, match="step_fn, state, batches in this order"):
            range_test(*order)
