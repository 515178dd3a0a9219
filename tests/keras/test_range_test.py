"""`range_test`: what it records is what was used and what came of it."""

import itertools
import math

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import Constant, Cyclical, RangeTestError
from cyclr.keras import LearningRate, ScheduleCallback, range_test

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
several_per_call = pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
RNG = np.random.default_rng(7)
X = RNG.normal(size=(48, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(48, 1))).astype("float32")
SWEEP = {"min_lr": 1e-3, "max_lr": 0.5, "steps": 20, "batch_size": 8, "shuffle": False, "stop_factor": None}


def dropout_model(optimizer=None):
    # No seed: initial weights and dropout draw from Keras' global generator.
    layers = [keras.Input((3,)), keras.layers.Dense(8, "relu"), keras.layers.Dropout(0.5), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(optimizer or keras.optimizers.SGD(0.01), loss="mse", jit_compile=BACKEND == "jax")
    return model


@pytest.mark.parametrize(
    ("spacing", "momentum"), [("exponential", 0.0), ("exponential", 0.9), ("linear", 0.0)], ids=lambda value: str(value)
)
def test_the_loss_is_that_of_the_very_batch(spacing, momentum, linear_model, losses_by_hand):
    """Keras logs the mean over the epoch so far, which shifts a curve to the right.

    https://github.com/keras-team/tf-keras/issues/393
    """
    model = linear_model(keras.optimizers.SGD(0.05, momentum=momentum), metrics=["mae"])
    sweep = {**SWEEP, "max_lr": 0.05, "spacing": spacing}
    result = range_test(model, X, Y, **sweep)
    assert result.stop_reason == "completed"
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=8, momentum=momentum), rtol=1e-5)


@pytest.mark.every_backend
def test_the_last_and_smaller_batch_counts_as_it_is(linear_model, losses_by_hand):
    result = range_test(linear_model(keras.optimizers.SGD()), X, Y, **{**SWEEP, "batch_size": 20, "max_lr": 0.05})
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=20), rtol=1e-5)


@pytest.mark.every_backend
def test_steps_per_execution_is_set_aside_and_put_back(linear_model, losses_by_hand):
    model = linear_model(keras.optimizers.SGD(0.05), steps_per_execution=4 if BACKEND != "torch" else 1)
    before = model.steps_per_execution
    result = range_test(model, X, Y, **{**SWEEP, "max_lr": 0.05})
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=8), rtol=1e-5)
    assert model.steps_per_execution == before


@pytest.mark.every_backend
@pytest.mark.parametrize("micro_batches", [2, 3])
def test_accumulation_makes_one_point_of_every_update(micro_batches, linear_model, losses_by_hand):
    """https://github.com/Lightning-AI/pytorch-lightning/issues/1726"""
    optimizer = keras.optimizers.SGD(0.05, gradient_accumulation_steps=micro_batches)
    seen = []
    result = range_test(
        linear_model(optimizer),
        X,
        Y,
        **{**SWEEP, "max_lr": 0.05},
        repeats=1,
        on_step=lambda test: seen.append(test.recorded),
    )
    assert seen == list(range(1, 21))
    np.testing.assert_allclose(
        result.loss, losses_by_hand(result.lr, X, Y, batch_size=8, micro_batches=micro_batches), rtol=1e-5
    )


class Watch:
    """Reads, after every update, the rates that a probe's updates used."""

    def __init__(self, run):
        self.run, self.rates = run, np.empty(0)

    def __call__(self, test):
        self.rates = self.run.rates


OPTIMIZERS = {
    "a number": lambda: keras.optimizers.SGD(0.3),
    "our schedule": lambda: keras.optimizers.SGD(LearningRate(Cyclical(0.1, 0.5, 3))),
    "a schedule of Keras": lambda: keras.optimizers.SGD(keras.optimizers.schedules.CosineDecay(0.3, 5)),
    "accumulation": lambda: keras.optimizers.SGD(0.3, gradient_accumulation_steps=2),
    "accumulation, our schedule": lambda: keras.optimizers.SGD(
        LearningRate(Cyclical(0.1, 0.5, 3)), gradient_accumulation_steps=2
    ),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.3)),
    "loss scaling, our schedule": lambda: keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(LearningRate(Cyclical(0.1, 0.5, 3)))
    ),
}


@pytest.mark.parametrize(
    "trained_before",
    [pytest.param(False, id="fresh"), pytest.param(True, id="trained", marks=pytest.mark.every_backend)],
)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_rates_recorded_are_the_rates_used(name, trained_before, probe):
    """https://github.com/pytorch/ignite records a rate one step above the one used, and never uses the first."""
    run = probe(OPTIMIZERS[name](), 16, micro_batches=2 if "accumulation" in name else 1)
    if trained_before:
        run.fit(slice(0, 6))
        run.model.layers[0].set_weights([np.zeros((16, 1))])
    watch = Watch(run)
    told = float(ops.convert_to_numpy(run.model.optimizer.learning_rate))
    result = range_test(
        run.model, run.x, run.y, min_lr=1e-3, max_lr=2.0, steps=16, batch_size=1, shuffle=False, on_step=watch
    )
    np.testing.assert_allclose(result.lr, np.geomspace(1e-3, 2.0, 16), rtol=1e-12)
    np.testing.assert_allclose(watch.rates, result.lr, rtol=1e-6)
    assert float(ops.convert_to_numpy(run.model.optimizer.learning_rate)) == told


@pytest.mark.parametrize(
    "make",
    [lambda: LearningRate(Cyclical(0.125, 0.5, 3)), lambda: keras.optimizers.schedules.CosineDecay(0.5, 40)],
    ids=["ours", "CosineDecay"],
)
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_a_schedule_is_back_afterwards_and_works(make, scaled, probe):
    schedule = make()
    inner = keras.optimizers.SGD(schedule)
    run = probe(keras.optimizers.LossScaleOptimizer(inner) if scaled else inner, 12)
    run.fit(slice(0, 4))
    range_test(run.model, run.x, run.y, steps=10, batch_size=1)
    # There is no public way to read it.
    assert inner._learning_rate is schedule
    run.fit(slice(4, None))
    wanted = [float(ops.convert_to_numpy(schedule(ops.convert_to_tensor(t, "int32")))) for t in range(12)]
    np.testing.assert_allclose(run.rates, wanted, rtol=1e-6)


@pytest.mark.every_backend
def test_updates_that_loss_scaling_skips_make_no_point(probe, mixed_float16):
    """https://github.com/davidtvs/pytorch-lr-finder/issues/90"""
    run = probe(keras.optimizers.SGD(0.3), 40)
    run.x *= 64  # times a scale of 2^15 this is above what half precision holds, until the scale has been halved
    watch = Watch(run)
    scale = run.model.optimizer.initial_scale
    result = range_test(
        run.model, run.x, run.y, min_lr=1e-3, max_lr=0.5, steps=20, batch_size=1, shuffle=False, on_step=watch
    )
    skipped = math.ceil(math.log2(64 * scale / float(np.finfo("float16").max)))
    assert skipped > 0
    np.testing.assert_array_equal(watch.rates[:skipped], 0)
    np.testing.assert_allclose(watch.rates[skipped : skipped + 20] / 64, result.lr, rtol=1e-6)
    assert (result.stop_reason, len(result.lr)) == ("completed", 20)
    assert float(ops.convert_to_numpy(run.model.optimizer.dynamic_scale)) == scale


SHUFFLED = {**SWEEP, "shuffle": True, "steps": 8}


@pytest.mark.every_backend
def test_same_seed_same_result_and_other_seeds_others():
    """https://github.com/fastai/fastai/issues/3658"""
    model = dropout_model()
    seeds = (0, 5, 2**32 + 7, 2**64 + 9, 0)
    first, *others, again = (range_test(model, X, Y, **SHUFFLED, seed=seed) for seed in seeds)
    assert first == again
    for one, another in itertools.combinations([first, *others], 2):
        assert not np.array_equal(one.loss, another.loss)


def test_same_seed_same_result_whatever_was_drawn_and_trained_between():
    model = dropout_model()
    weights = model.get_weights()
    first = range_test(model, X, Y, **SHUFFLED, seed=3)
    keras.utils.set_random_seed(99)
    keras.random.normal((3,))
    model.optimizer.learning_rate = 0.5
    model.fit(X, Y, verbose=0)
    model.set_weights(weights)
    second = range_test(model, X, Y, **SHUFFLED, seed=3)
    assert first.lr.tolist() == second.lr.tolist()
    # The seeds of its layers are the model's own, and have moved on.
    assert second == range_test(model, X, Y, **SHUFFLED, seed=3)


@pytest.mark.every_backend
def test_without_a_seed_the_generators_decide():
    model = dropout_model()
    sweep = {**SHUFFLED, "seed": None}
    range_test(model, X, Y, **sweep)  # what is built in the very first one draws from the generators, too
    results = []
    for seed in (11, 11, 12):
        keras.utils.set_random_seed(seed)
        results.append(range_test(model, X, Y, **sweep))
    assert results[0] == results[1]
    assert not np.array_equal(results[0].loss, results[2].loss)


def rows(count, *, bad=()):
    """Batches of 4 rows; those numbered `bad` have a target that is NaN."""
    for index in range(count):
        first = 4 * index % 48
        y = Y[first : first + 4].copy()
        if index in bad:
            y[1] = np.nan
        yield X[first : first + 4], y


STOPS = {
    "completed": (lambda: rows(20), {"max_lr": 0.05}, "completed", 12),
    "completed with the last batch": (lambda: rows(12), {"max_lr": 0.05}, "completed", 12),
    "diverged": (
        lambda: rows(40),
        {"max_lr": 1e3, "steps": 40, "stop_factor": 4.0, "smoothing": 0.0},
        "diverged",
        None,
    ),
    "overflow": (lambda: rows(20), {"max_lr": 1e30}, "non_finite", None),
    "NaN in batch 5": (lambda: rows(20, bad=[5]), {"max_lr": 0.05}, "completed", 12),
    "NaN in batches 5 and 6": (lambda: rows(20, bad=[5, 6]), {"max_lr": 0.05}, "completed", 12),
    "NaN from batch 5 on": (lambda: rows(20, bad=range(5, 16)), {"max_lr": 0.05}, "non_finite", 5),
    "NaN from batch 1 on": (lambda: rows(20, bad=range(1, 12)), {"max_lr": 0.05}, "non_finite", 1),
    "NaN in the last batch": (lambda: rows(12, bad=[11]), {"max_lr": 0.05}, "data_exhausted", 11),
    "NaN after the last batch": (lambda: rows(20, bad=[12]), {"max_lr": 0.05}, "completed", 12),
    "generator of 7": (lambda: rows(7), {"max_lr": 0.05}, "data_exhausted", 7),
    "generator of 1": (lambda: rows(1), {"max_lr": 0.05}, "data_exhausted", 1),
    "stopped by on_step": (
        lambda: rows(20),
        {"max_lr": 0.05, "on_step": lambda test: test.stop("interrupted") if test.recorded == 3 else None},
        "interrupted",
        3,
    ),
}


@pytest.mark.parametrize(("data", "arguments", "reason", "points"), STOPS.values(), ids=STOPS)
def test_it_stops_for_the_reason_it_states(data, arguments, reason, points, linear_model):
    """https://github.com/pytorch/ignite/issues/2200, https://github.com/Lightning-AI/pytorch-lightning/issues/5044"""
    model = linear_model(keras.optimizers.SGD(0.05))
    steps = []
    sweep = {"min_lr": 1e-3, "steps": 12, "stop_factor": None, "on_step": steps.append, **arguments}
    result = range_test(model, data(), **sweep)
    assert result.stop_reason == reason
    assert np.isfinite(result.loss).all()
    if points is None:
        assert 1 <= len(result.lr) < sweep["steps"]
    else:
        assert len(result.lr) == points
    np.testing.assert_allclose(
        result.lr, np.geomspace(1e-3, sweep["max_lr"], sweep["steps"])[: len(result.lr)], rtol=1e-12
    )


class Listed(keras.utils.PyDataset):
    def __init__(self, batches):
        super().__init__()
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


@pytest.mark.every_backend
@pytest.mark.parametrize("read_once", [True, False])
@pytest.mark.parametrize("bad", [[0], [5], [1, 7, 12]], ids=str)
def test_a_broken_batch_is_left_out_bit_for_bit(bad, read_once):
    """https://github.com/fastai/fastai/issues/3476, https://github.com/keras-team/keras/issues/4848"""
    data = list(rows(60))
    broken = [(x, y * (np.float32("nan") if number in bad else 1)) for number, (x, y) in enumerate(data)]
    clean = [batch for number, batch in enumerate(data) if number not in bad]
    results = []
    for batches in (broken, clean):
        keras.utils.set_random_seed(3)
        layers = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dense(1)]
        model = keras.Sequential([keras.Input((3,)), *layers])
        model.compile(keras.optimizers.Adam(0.01), "mse")
        before = [np.array(variable) for variable in model.variables]
        source = (batch for batch in batches) if read_once else Listed(batches)
        result = range_test(model, source, steps=14, min_lr=1e-3, max_lr=0.05, stop_factor=None, shuffle=False)
        for value, variable in zip(before, model.variables, strict=True):
            np.testing.assert_array_equal(value, np.array(variable))
        results.append(result)
    found, wanted = results
    assert (found.stop_reason, found.loss.tolist()) == (wanted.stop_reason, wanted.loss.tolist())
    assert [met.update for met in found.left_out] == bad
    assert "left out" in found.bounds.reason


@pytest.mark.parametrize("batches", [1, 3])
def test_a_small_data_set_is_repeated(batches, linear_model, losses_by_hand):
    """https://github.com/pytorch/ignite/issues/2200"""
    x, y = X[: 8 * batches], Y[: 8 * batches]
    sweep = {**SWEEP, "max_lr": 0.05, "steps": 20}
    result = range_test(linear_model(keras.optimizers.SGD()), x, y, **sweep)
    assert (result.stop_reason, len(result.loss)) == ("completed", 20)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, x, y, batch_size=8), rtol=1e-5)


def test_on_step_is_called_once_for_every_point_with_the_running_test(linear_model):
    seen = []

    def progress(test):
        seen.append((test.recorded, len(test), test.smoothed_loss, test.stopped))

    result = range_test(linear_model(keras.optimizers.SGD()), X, Y, **{**SWEEP, "smoothing": 0.0}, on_step=progress)
    recorded, length, losses, stopped = zip(*seen, strict=True)
    assert recorded == tuple(range(1, 21))
    assert set(length) == {20}
    np.testing.assert_allclose(losses, result.loss, rtol=1e-12)
    assert stopped == (*[False] * 19, True)


@pytest.mark.parametrize("monitor", ["mae", "mean_squared_error"])
def test_any_name_in_the_logs_can_be_recorded(monitor, linear_model):
    model = linear_model(keras.optimizers.SGD(), metrics=["mae", "mean_squared_error"])
    result = range_test(model, X, Y, **{**SWEEP, "max_lr": 0.05}, monitor=monitor)
    loss = range_test(model, X, Y, **{**SWEEP, "max_lr": 0.05}).loss
    if monitor == "mae":
        assert np.all(np.abs(result.loss - loss) > 1e-3)
    else:
        np.testing.assert_allclose(result.loss, loss, rtol=1e-6)


def test_the_loss_of_one_output_can_be_recorded():
    inputs = keras.Input((3,))
    outputs = {name: keras.layers.Dense(1, name=name)(inputs) for name in ("left", "right")}
    model = keras.Model(inputs, outputs)
    model.compile("sgd", loss={"left": "mse", "right": "mae"})
    sweep = {**SWEEP, "max_lr": 0.05}
    left, right, both = (
        range_test(model, X, {"left": Y, "right": Y}, **sweep, monitor=name).loss
        for name in ("left_loss", "right_loss", "loss")
    )
    np.testing.assert_allclose(left + right, both, rtol=1e-5)
    assert not np.allclose(left, right)


def test_a_name_that_is_not_in_the_logs_is_an_error_that_lists_them(linear_model):
    model = linear_model(keras.optimizers.SGD(), metrics=["mae"])
    with pytest.raises(
        RangeTestError, match=r"monitor must name a loss.*got monitor='nope'\. The logs contain loss, mae\."
    ):
        range_test(model, X, Y, **SWEEP, monitor="nope")


@pytest.mark.every_backend
def test_nothing_is_printed(capfd, linear_model):
    range_test(linear_model(keras.optimizers.SGD()), X, Y, **{**SWEEP, "steps": 9})
    assert capfd.readouterr().out == ""


# Models with a training step of their own. Each backend has its own form of it.


def tensorflow_step(model, optimizer, layers, loss_of, data):
    import tensorflow as tf

    weights = [weight for layer in layers for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        loss = loss_of(model, data)
    optimizer.apply(tape.gradient(loss, weights), weights)
    return loss


def torch_step(model, optimizer, layers, loss_of, data):
    import torch

    weights = [weight for layer in layers for weight in layer.trainable_weights]
    loss = loss_of(model, data)
    gradients = torch.autograd.grad(loss, [weight.value for weight in weights])
    with torch.no_grad():
        optimizer.apply(list(gradients), weights)
    return loss


def squared_error(model, data):
    x, y = data
    return ops.mean(ops.square(model(x, training=True) - y))


class CustomStep(keras.Model):
    """Linear regression by a `train_step` of its own, with a tracker of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tracker = keras.metrics.Mean(name="own_loss")

    def train_step(self, *args):
        if BACKEND == "jax":
            return self._train_step_of_jax(*args)
        step = {"tensorflow": tensorflow_step, "torch": torch_step}[BACKEND]
        self.tracker.update_state(step(self, self.optimizer, [self], squared_error, args[0]))
        return {"own_loss": self.tracker.result()}

    def _train_step_of_jax(self, state, data):
        import jax

        trainable, others, optimizer, metrics = state
        x, y = data

        def loss_of(trainable, others):
            prediction, others = self.stateless_call(trainable, others, x, training=True)
            return ops.mean(ops.square(prediction - y)), others

        (loss, others), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, others)
        trainable, optimizer = self.optimizer.stateless_apply(optimizer, gradients, trainable)
        own = self.metrics.index(self.tracker)
        first = sum(len(metric.variables) for metric in self.metrics[:own])
        size = len(self.tracker.variables)
        updated = self.tracker.stateless_update_state(metrics[first : first + size], loss)
        logs = {"own_loss": self.tracker.stateless_result(updated)}
        return logs, (trainable, others, optimizer, [*metrics[:first], *updated, *metrics[first + size :]])


@pytest.mark.every_backend
def test_a_training_step_of_ones_own(state_of, losses_by_hand):
    inputs = keras.Input((3,))
    model = CustomStep(inputs, keras.layers.Dense(1)(inputs))
    model.layers[-1].set_weights([np.array([[0.5], [0.25], [-0.5]]), np.array([0.125])])
    model.compile(keras.optimizers.SGD(0.05))
    before = state_of(model)
    result = range_test(model, X, Y, **{**SWEEP, "max_lr": 0.05}, monitor="own_loss")
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=8), rtol=1e-5)
    for old, new in zip(before, state_of(model), strict=False):
        np.testing.assert_array_equal(old, new)


class TinyGAN(keras.Model):
    """Two networks and two optimizers, as in Keras' guide: `compile` leaves an optimizer that nothing uses."""

    def __init__(self, g_optimizer, d_optimizer):
        super().__init__()
        self.generator = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, kernel_initializer="ones")])
        self.discriminator = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones")])
        self.g_tracker, self.d_tracker = keras.metrics.Mean(name="g_loss"), keras.metrics.Mean(name="d_loss")
        self.built = True
        self.compile(jit_compile=False)
        self.g_optimizer, self.d_optimizer = g_optimizer, d_optimizer

    def train_step(self, data):
        step = {"tensorflow": tensorflow_step, "torch": torch_step}[BACKEND]
        d_loss = step(self, self.d_optimizer, [self.discriminator], discriminator_loss, data)
        g_loss = step(self, self.g_optimizer, [self.generator], generator_loss, data)
        self.g_tracker.update_state(g_loss)
        self.d_tracker.update_state(d_loss)
        return {"g_loss": self.g_tracker.result(), "d_loss": self.d_tracker.result()}


def discriminator_loss(model, data):
    noise, real = data
    fake = model.discriminator(model.generator(noise))
    return ops.mean(ops.square(model.discriminator(real) - 1)) + ops.mean(ops.square(fake))


def generator_loss(model, data):
    noise, _ = data
    return ops.mean(ops.square(model.discriminator(model.generator(noise)) - 1))


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "jax", reason="a training step with two optimizers needs state of one's own on JAX")
@pytest.mark.parametrize("built", [(True, True), (False, True), (False, False)], ids=str)
def test_one_of_two_optimizers_is_swept_and_both_are_put_back(built, state_of):
    """https://github.com/davidtvs/pytorch-lr-finder/issues/16, https://github.com/mosaicml/composer/issues/2361"""
    real = X[:, :2] + 2
    rates = []

    def gan():
        model = TinyGAN(keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.02, momentum=0.5))
        for optimizer, part, ready in zip(
            (model.g_optimizer, model.d_optimizer), (model.generator, model.discriminator), built, strict=True
        ):
            if ready:
                optimizer.build(part.trainable_variables)
        return model

    model, other = gan(), gan()

    def watch(test):
        rates.append([float(ops.convert_to_numpy(o.learning_rate)) for o in (model.g_optimizer, model.d_optimizer)])

    sweep = {**SWEEP, "max_lr": 0.1, "optimizer": model.g_optimizer, "monitor": "g_loss"}
    result = range_test(model, X, real, **sweep, repeats=1, on_step=watch)
    swept, constant = np.transpose(rates)
    np.testing.assert_allclose(swept, result.lr, rtol=1e-6)
    np.testing.assert_allclose(constant, 0.02, rtol=1e-6)
    assert range_test(model, X, real, **sweep, repeats=1) == result

    histories = [m.fit(X, real, shuffle=False, epochs=2, verbose=0).history for m in (model, other)]
    assert histories[0] == histories[1]
    for one, another in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, another)


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND == "jax", reason="a training step with two optimizers needs state of one's own on JAX")
def test_schedules_attached_to_another_optimizer_than_the_swept_are_suspended():
    class Holder(TinyGAN):
        d_optimizer = property(lambda model: model.optimizer, lambda model, optimizer: model.compile(optimizer))

    real = X[:, :2] + 2
    results = []
    for schedule in (None, Constant(0.5)):
        model = Holder(keras.optimizers.SGD(0.01), keras.optimizers.SGD(0.02))
        model.d_optimizer.build(model.discriminator.trainable_variables)
        if schedule is not None:
            ScheduleCallback(schedule).attach(model)
        sweep = {**SWEEP, "max_lr": 0.1, "optimizer": model.g_optimizer, "monitor": "g_loss"}
        results.append(range_test(model, X, real, **sweep, repeats=1))
    assert results[0] == results[1]
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == 0.5


HOLDERS = {
    "a list": (lambda model, optimizer: setattr(model, "held", [optimizer]), lambda model: model.held[0]),
    "a dict": (lambda model, optimizer: setattr(model, "held", {0: (optimizer,)}), lambda model: model.held[0][0]),
    "a compiled part": (
        lambda model, optimizer: model.discriminator.compile(optimizer),
        lambda model: model.discriminator.optimizer,
    ),
}


@pytest.mark.skipif(BACKEND == "jax", reason="a training step with two optimizers needs state of one's own on JAX")
@pytest.mark.parametrize(("hold", "held"), HOLDERS.values(), ids=HOLDERS)
def test_an_optimizer_is_put_back_wherever_the_model_holds_it(hold, held, state_of):
    class Holder(TinyGAN):
        d_optimizer = property(held, hold)

    optimizers = keras.optimizers.Adam(0.01), keras.optimizers.SGD(0.02, momentum=0.5)
    model = Holder(*optimizers)
    for optimizer, part in zip(optimizers, (model.generator, model.discriminator), strict=True):
        optimizer.build(part.trainable_variables)
    real = X[:, :2] + 2
    model.fit(X, real, shuffle=False, verbose=0)
    before = state_of(model, *optimizers)
    range_test(model, X, real, **{**SWEEP, "max_lr": 0.1}, optimizer=optimizers[0], monitor="g_loss", repeats=1)
    for old, new in zip(before, state_of(model, *optimizers), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.any_backend
def test_no_data_is_refused():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(), "mse")
    with pytest.raises(TypeError, match=r"x must hold the training data; got x=None\. Write range_test\(model, x, y"):
        range_test(model)
