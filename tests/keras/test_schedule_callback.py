"""`ScheduleCallback`: momentum and weight decay in the very update, its logs, its errors, and what it leaves behind.

Which learning rates it uses is tested with every other form of a schedule in tests/keras/test_conformance.py.
"""

import math

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import Constant, Cyclical, OneCycle
from cyclr.keras import CyclicLR, LearningRate, LRFinder, ScheduleCallback, change_schedule

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
UPDATES, SHAPE = 10, (4, 3)
RATE = OneCycle(0.02, 0.2, UPDATES, rise=0.4, final_lr=0.01)
MOMENTUM = Cyclical(0.1, 0.9, 3).mirrored(0.2, 0.9)
DECAY = Cyclical(0.05, 0.4, 2)
EPSILON = float(np.finfo("float32").eps)
several_per_call = pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
compiled_by_xla = pytest.mark.skipif(BACKEND == "torch", reason="torch.compile needs a C++ compiler")
compiles = pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing")

RNG = np.random.default_rng(11)
START = RNG.normal(size=SHAPE).astype("float32")


def inner_product(y_true, y_pred):
    """A loss that is linear in the weights: its gradient is the outer product of x and y, whatever the weights are."""
    return ops.sum(y_true * y_pred)


class Weights(keras.callbacks.Callback):
    """The weights and the logs after every batch, and the logs after every epoch."""

    def __init__(self):
        super().__init__()
        self.weights, self.batches, self.epochs = [], [], []

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.model.get_weights()[0])
        self.batches.append(dict(logs))

    def on_epoch_end(self, epoch, logs=None):
        self.epochs.append(dict(logs))


class Linear:
    """A model whose gradients are known, whatever its weights are: a new one for every batch."""

    def __init__(self, optimizer, batches=UPDATES, loss=inner_product, **compile_arguments):
        self.model = keras.Sequential([keras.Input(SHAPE[:1]), keras.layers.Dense(SHAPE[1], use_bias=False)])
        self.model.set_weights([START])
        self.model.compile(optimizer, loss, **compile_arguments)
        rng = np.random.default_rng(7)
        self.x, self.y = (rng.normal(size=(batches, size)).astype("float32") for size in SHAPE)
        self.kept = Weights()

    @property
    def optimizer(self):
        return self.model.optimizer

    def fit(self, *callbacks, begin=0, end=None, **arguments):
        arguments = {"batch_size": 1, "shuffle": False, "verbose": 0, **arguments}
        part = slice(begin, end)
        return self.model.fit(self.x[part], self.y[part], callbacks=[*callbacks, self.kept], **arguments)

    def gradients(self, micro_batches=1):
        every = self.x[:, :, None].astype("float64") * self.y[:, None, :]
        return every.reshape(-1, micro_batches, *SHAPE).mean(axis=1)


def sgd_by_hand(gradients, rate, momentum, decay=lambda t: 0.0, nesterov=False):
    weights, velocity = START.astype("float64"), np.zeros(SHAPE)
    for t, gradient in enumerate(gradients):
        weights = weights - weights * decay(t) * rate(t)
        velocity = momentum(t) * velocity - rate(t) * gradient
        weights = weights + (momentum(t) * velocity - rate(t) * gradient if nesterov else velocity)
        yield weights


def adam_by_hand(gradients, rate, beta_1, decay=lambda t: 0.0, beta_2=0.999, epsilon=1e-7):
    weights, mean, square = START.astype("float64"), np.zeros(SHAPE), np.zeros(SHAPE)
    for t, gradient in enumerate(gradients):
        weights = weights - weights * decay(t) * rate(t)
        alpha = rate(t) * math.sqrt(1 - beta_2 ** (t + 1)) / (1 - beta_1(t) ** (t + 1))
        mean = mean + (gradient - mean) * (1 - beta_1(t))
        square = square + (gradient**2 - square) * (1 - beta_2)
        weights = weights - mean * alpha / (np.sqrt(square) + epsilon)
        yield weights


def rmsprop_by_hand(gradients, rate, rho, momentum=lambda t: 0.0, epsilon=1e-7):
    weights, square, velocity = START.astype("float64"), np.zeros(SHAPE), np.zeros(SHAPE)
    for t, gradient in enumerate(gradients):
        square = rho(t) * square + (1 - rho(t)) * gradient**2
        velocity = momentum(t) * velocity + rate(t) * gradient / np.sqrt(square + epsilon)
        weights = weights - velocity
        yield weights


def assert_weights(got, wanted, tolerance=64 * EPSILON):
    np.testing.assert_allclose(np.array(got), np.array(list(wanted)), rtol=tolerance, atol=4 * tolerance)


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay", [None, DECAY])
def test_sgd_uses_momentum_and_weight_decay_of_every_update(nesterov, decay):
    """Keras bakes the number that it finds at the first step into the compiled one, and says nothing."""
    run = Linear(keras.optimizers.SGD(0.9, momentum=0.5, nesterov=nesterov))
    run.fit(ScheduleCallback(RATE, MOMENTUM, decay))
    wanted = sgd_by_hand(run.gradients(), RATE, MOMENTUM, decay or Constant(0.0), nesterov)
    assert_weights(run.kept.weights, wanted)


def test_momentum_alone_leaves_the_rate_of_the_optimizer():
    run = Linear(keras.optimizers.SGD(0.125, momentum=0.5))
    run.fit(ScheduleCallback(momentum=MOMENTUM))
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), Constant(0.125), MOMENTUM))


def test_weight_decay_alone_leaves_rate_and_momentum():
    run = Linear(keras.optimizers.SGD(0.125, momentum=0.5, weight_decay=0.9))
    run.fit(ScheduleCallback(weight_decay=DECAY))
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), Constant(0.125), Constant(0.5), DECAY))


@pytest.mark.every_backend
def test_momentum_goes_with_a_learning_rate_in_the_graph():
    run = Linear(keras.optimizers.SGD(LearningRate(RATE), momentum=0.5))
    run.fit(ScheduleCallback(momentum=MOMENTUM))
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), RATE, MOMENTUM))


@pytest.mark.every_backend
def test_momentum_may_pass_through_0():
    """Keras asks whether there is a momentum at all, and drops the velocity if there is none."""
    momentum = Cyclical(0.0, 0.9, 2)
    run = Linear(keras.optimizers.SGD(0.9, momentum=0.5))
    run.fit(ScheduleCallback(RATE, momentum))
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), RATE, momentum))


def test_momentum_of_rmsprop_may_pass_through_0():
    momentum = Cyclical(0.0, 0.9, 2)
    run = Linear(keras.optimizers.RMSprop(0.9, rho=0.75, momentum=0.5))
    run.fit(ScheduleCallback(RATE, momentum))
    assert_weights(run.kept.weights, rmsprop_by_hand(run.gradients(), RATE, Constant(0.75), momentum))


@pytest.mark.parametrize("decay", [None, DECAY])
def test_adam_uses_beta_1_of_every_update(decay):
    run = Linear(keras.optimizers.Adam(0.9))
    run.fit(ScheduleCallback(RATE, MOMENTUM, decay))
    assert_weights(run.kept.weights, adam_by_hand(run.gradients(), RATE, MOMENTUM, decay or Constant(0.0)), 1e-4)


def test_rmsprop_made_without_momentum_uses_rho_of_every_update():
    run = Linear(keras.optimizers.RMSprop(0.9))
    run.fit(ScheduleCallback(RATE, MOMENTUM))
    assert_weights(run.kept.weights, rmsprop_by_hand(run.gradients(), RATE, MOMENTUM))


def test_rmsprop_made_with_momentum_uses_that_of_every_update():
    run = Linear(keras.optimizers.RMSprop(0.9, rho=0.75, momentum=0.5))
    run.fit(ScheduleCallback(RATE, MOMENTUM))
    assert_weights(run.kept.weights, rmsprop_by_hand(run.gradients(), RATE, Constant(0.75), MOMENTUM))


OTHERS = {
    "AdamW": ("AdamW", {"weight_decay": 0.1}, "beta_1"),
    "Adam with amsgrad": ("Adam", {"amsgrad": True}, "beta_1"),
    "Nadam": ("Nadam", {}, "beta_1"),
    "Adamax": ("Adamax", {}, "beta_1"),
    "Lion": ("Lion", {}, "beta_1"),
    "Lamb": ("Lamb", {}, "beta_1"),
    "Adadelta": ("Adadelta", {"epsilon": 0.1}, "rho"),
    "RMSprop, centered": ("RMSprop", {"centered": True, "epsilon": 0.1}, "rho"),
    "Muon": ("Muon", {}, "momentum"),
}


def eagerly(optimizer, gradients, attribute, decay):
    """The weights after every update of an optimizer whose attributes are set before it: eagerly, nothing is baked in.

    A model is used, as Muon tells layers by the names of its weights.
    """
    model = Linear(optimizer).model
    optimizer.build(model.trainable_variables)
    for t, gradient in enumerate(gradients):
        optimizer.learning_rate = RATE(t)
        if attribute is not None:
            setattr(optimizer, attribute, MOMENTUM(t))
        if decay is not None:
            optimizer.weight_decay = decay(t)
        optimizer.apply([ops.convert_to_tensor(gradient, "float32")])
        yield model.get_weights()[0]


@pytest.mark.parametrize(("name", "arguments", "attribute"), OTHERS.values(), ids=OTHERS)
def test_every_optimizer_does_what_it_does_when_its_attributes_are_set(name, arguments, attribute):
    decay = None if "weight_decay" in arguments else DECAY
    kind = getattr(keras.optimizers, name)
    run = Linear(kind(0.9, **arguments))
    run.fit(ScheduleCallback(RATE, MOMENTUM, decay))
    wanted = list(eagerly(kind(0.9, **arguments), run.gradients(), attribute, decay))
    assert_weights(run.kept.weights, wanted, 1e-4)
    fixed = eagerly(kind(0.9, **arguments), run.gradients(), None, decay)
    assert np.abs(np.array(list(fixed)) - wanted).max() > 1e-2


WAYS = {
    "one fit": ({}, {}),
    "run_eagerly": ({}, {"run_eagerly": True}),
    "jit_compile": ({}, {"jit_compile": True}),
    "steps_per_execution": ({}, {"steps_per_execution": 3}),
    "accumulation": ({"gradient_accumulation_steps": 3}, {}),
    "accumulation, jit_compile": ({"gradient_accumulation_steps": 3}, {"jit_compile": True}),
    "accumulation, steps_per_execution": ({"gradient_accumulation_steps": 2}, {"steps_per_execution": 4}),
}


def marks(way):
    return [
        mark
        for option, mark in (("jit_compile", compiled_by_xla), ("steps_per_execution", several_per_call))
        if option in WAYS[way][1]
    ]


def after_updates(run, micro_batches, steps_per_execution=1, batches=None):
    """Of all updates, those after which the weights were looked at; and where that was among the batches."""
    batches = batches or len(run.x)
    ends = [min(end, batches) for end in range(steps_per_execution, batches + steps_per_execution, steps_per_execution)]
    looked_at = [index for index, end in enumerate(ends) if end % micro_batches == 0]
    return looked_at, [ends[index] // micro_batches - 1 for index in looked_at]


@pytest.mark.every_backend
@pytest.mark.parametrize(
    ("way", "kind"),
    [
        *(pytest.param(way, "SGD", marks=marks(way)) for way in WAYS),
        *(
            pytest.param(way, "Adam", marks=marks(way))
            for way in ("one fit", "accumulation", "accumulation, jit_compile")
        ),
    ],
)
def test_no_way_of_training_changes_momentum_and_weight_decay(way, kind):
    arguments, compile_arguments = WAYS[way]
    arguments = {**arguments, **({"momentum": 0.5, "nesterov": True} if kind == "SGD" else {})}
    micro_batches = arguments.get("gradient_accumulation_steps", 1)
    run = Linear(getattr(keras.optimizers, kind)(0.9, **arguments), UPDATES * micro_batches, **compile_arguments)
    run.fit(ScheduleCallback(RATE, MOMENTUM, DECAY), end=4 * micro_batches)
    run.fit(ScheduleCallback(RATE, MOMENTUM, DECAY), begin=4 * micro_batches)
    gradients = run.gradients(micro_batches)
    by_hand = (
        sgd_by_hand(gradients, RATE, MOMENTUM, DECAY, nesterov=True)
        if kind == "SGD"
        else adam_by_hand(gradients, RATE, MOMENTUM, DECAY)
    )
    by_hand = np.array(list(by_hand))
    per_call = compile_arguments.get("steps_per_execution", 1)
    first, updates = after_updates(run, micro_batches, per_call, 4 * micro_batches)
    calls = math.ceil(4 * micro_batches / per_call)
    second, later = after_updates(run, micro_batches, per_call, 6 * micro_batches)
    looked_at = [*first, *(calls + index for index in second)]
    assert len(run.kept.weights) == calls + math.ceil(6 * micro_batches / per_call)
    got = [run.kept.weights[index] for index in looked_at]
    assert_weights(
        got, by_hand[[*updates, *(4 + update for update in later)]], 1e-4 if kind == "Adam" else 64 * EPSILON
    )


@pytest.mark.every_backend
def test_momentum_and_weight_decay_count_updates_and_not_those_that_loss_scaling_skips(mixed_float16):
    run = Linear(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.9, momentum=0.5), initial_scale=16.0))
    run.x = np.round(run.x * 8) / 8
    run.y = np.round(run.y * 8) / 8
    gradients = np.delete(run.gradients(), [2, 5], axis=0)
    run.x[[2, 5]] = np.inf
    run.fit(ScheduleCallback(RATE, MOMENTUM, DECAY))
    assert_weights(np.delete(run.kept.weights, [2, 5], axis=0), sgd_by_hand(gradients, RATE, MOMENTUM, DECAY))
    assert [batch["momentum"] for batch in run.kept.batches] == [MOMENTUM(t) for t in (0, 1, 2, 2, 3, 4, 4, 5, 6, 7)]


@pytest.mark.parametrize("name", ["Adagrad", "Adafactor", "Ftrl"])
def test_momentum_of_an_optimizer_that_has_none_is_refused(name):
    run = Linear(getattr(keras.optimizers, name)(0.1))
    message = (
        r"needs an optimizer with momentum: momentum in SGD, Muon and RMSprop, beta_1 in Adam, AdamW, Adamax, Lamb, "
        rf"Lion and Nadam, rho in Adadelta and RMSprop; got {name}\."
    )
    with pytest.raises(ValueError, match=message):
        run.fit(ScheduleCallback(RATE, MOMENTUM))
    np.testing.assert_array_equal(run.model.get_weights()[0], START)
    run.fit(ScheduleCallback(RATE), end=2)
    assert run.kept.batches[1]["learning_rate"] == RATE(1)


def test_momentum_of_sgd_made_without_is_refused():
    run = Linear(keras.optimizers.SGD(0.1))
    with pytest.raises(
        ValueError, match=r"created without one.*got SGD\(momentum=0\.0\)\. Create it with momentum=0\.9"
    ):
        run.fit(ScheduleCallback(RATE, MOMENTUM))
    np.testing.assert_array_equal(run.model.get_weights()[0], START)
    assert type(run.optimizer) is type(keras.optimizers.SGD())


@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: LearningRate(Constant(0.1)),
        lambda: LearningRate(RATE, start_step=1),
        lambda: keras.optimizers.schedules.CosineDecay(0.1, 10),
        lambda: lambda: 0.1,
    ],
    ids=["another", "another step", "of Keras", "function"],
)
def test_an_optimizer_with_another_schedule_is_refused(make, scaled):
    optimizer = keras.optimizers.SGD(make())
    run = Linear(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer)
    name = type(optimizer._learning_rate).__name__
    with pytest.raises(ValueError, match=rf"created with a schedule; got {name}\..*SGD\(0\.01\)"):
        run.fit(ScheduleCallback(RATE))
    np.testing.assert_array_equal(run.model.get_weights()[0], START)


@pytest.mark.parametrize("start_step", [0, 1])
def test_a_schedule_that_is_no_longer_that_of_the_optimizer_is_refused_with_the_way_out(start_step):
    run = Linear(keras.optimizers.SGD(LearningRate(RATE, start_step)), 6)
    callback = ScheduleCallback(RATE)
    if start_step == 0:
        run.fit(callback, end=2)
        change_schedule(run.model, Constant(0.5))
    with pytest.raises(
        ValueError, match=r"or their start_step differ.*after change_schedule\. Pass ScheduleCallback\(\) without lr"
    ):
        run.fit(callback, begin=2)
    run.fit(ScheduleCallback(), begin=2)
    assert len(run.kept.batches) == (6 if start_step == 0 else 4)


def test_an_optimizer_with_the_same_schedule_is_taken():
    run = Linear(keras.optimizers.SGD(LearningRate(RATE)))
    run.fit(ScheduleCallback(RATE))
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), RATE, Constant(0.0)))
    assert [batch["learning_rate"] for batch in run.kept.batches] == [RATE(t) for t in range(UPDATES)]


class SetRate(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.optimizer.learning_rate = 0.1


@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
@pytest.mark.parametrize(
    "make",
    [
        lambda: keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.01),
        lambda: keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=1e9),
        lambda: CyclicLR(0.1, 0.5, 2),
        lambda: LRFinder(0.1, 0.5),
        lambda: SetRate(),
    ],
    ids=["LearningRateScheduler", "ReduceLROnPlateau", "CyclicLR", "LRFinder", "one of its own"],
)
def test_another_callback_that_sets_the_rate_is_noticed(make, first):
    run = Linear(keras.optimizers.SGD(0.9))
    callbacks = [ScheduleCallback(RATE), make()]
    with pytest.raises(
        ValueError, match=r"(sets the learning rate, and nothing|learning_rate is set by a ScheduleCallback, so).*Take"
    ):
        run.fit(*(callbacks if first else callbacks[::-1]), epochs=4)
    assert not run.kept.batches


def test_another_callback_may_set_the_rate_where_this_one_does_not():
    run = Linear(keras.optimizers.SGD(0.9, momentum=0.5))
    run.fit(ScheduleCallback(momentum=MOMENTUM), CyclicLR(0.125, 0.5, 4))
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), Cyclical(0.125, 0.5, 4), MOMENTUM))


def test_momentum_cannot_be_set_meanwhile():
    run = Linear(keras.optimizers.SGD(0.9, momentum=0.5))

    class Set(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.optimizer.momentum = 0.1

    with pytest.raises(ValueError, match=r"momentum is set by a ScheduleCallback.*got momentum=0\.1"):
        run.fit(ScheduleCallback(momentum=MOMENTUM), Set())


@pytest.mark.parametrize("name", ["lr", "momentum", "weight_decay"])
@pytest.mark.parametrize(
    "wrong", [0.1, "triangular", Cyclical, lambda step: 0.1], ids=["number", "text", "class", "fn"]
)
def test_anything_but_a_schedule_is_refused(name, wrong):
    message = rf"{name} must be a cyclr schedule; got {name}=.*or cyclr\.Cyclical\(base_lr"
    with pytest.raises(TypeError, match=message):
        ScheduleCallback(**{name: wrong})
    callback = ScheduleCallback(RATE)
    with pytest.raises(TypeError, match=message):
        callback.change(**{"lr": Constant(0.5), name: wrong})


def test_a_change_that_is_refused_changes_nothing():
    callback = ScheduleCallback(RATE)
    with pytest.raises(TypeError, match=r"momentum must be a cyclr schedule"):
        callback.change(lr=Constant(0.5), momentum=0.1)
    run = Linear(keras.optimizers.SGD(0.9), 3)
    run.fit(callback)
    assert_weights(run.kept.weights, sgd_by_hand(run.gradients(), RATE, Constant(0.0)))


@pytest.mark.parametrize(("wrong", "error"), [(-1, ValueError), (0.5, TypeError), ("3", TypeError), (True, TypeError)])
def test_a_start_step_that_is_no_step_is_refused(wrong, error):
    with pytest.raises(error, match="start_step must be an integer"):
        ScheduleCallback(RATE, start_step=wrong)


def test_a_model_without_an_optimizer_is_refused():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    with pytest.raises(ValueError, match=r"compiled model with one optimizer; got optimizer=None. Call model\.compile"):
        ScheduleCallback(RATE).attach(model)


def test_several_optimizers_in_one_are_refused():
    """Keras looks for rate and momentum in the inner ones, and would go on by theirs."""
    first, other = keras.optimizers.SGD(0.1, momentum=0.5), keras.optimizers.SGD(0.2, momentum=0.5)
    both = keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(other, {"dense/.*": first}))
    run = Linear(both)
    with pytest.raises(
        ValueError, match=r"ScheduleCallback needs .* one optimizer; got a MultiOptimizer.*LearningRate"
    ):
        run.fit(ScheduleCallback(RATE))
    np.testing.assert_array_equal(run.model.get_weights()[0], START)
