"""`ScheduleCallback` from one `fit` to the next: what it leaves behind, what it changes, where it goes on."""

import gc

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import Constant, Cyclical, OneCycle, Sequence
from cyclr.keras import AutoCycle, LearningRate, LRFinder, ScheduleCallback, change_schedule, range_test

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
LOW, HIGH = 0.125, 0.5
# XLA takes a second for every model.
QUICKLY = {"jit_compile": False} if BACKEND == "tensorflow" else {}
TOLERANCE = 8 * float(np.finfo("float32").eps) * HIGH
SHORT, LONG = OneCycle(LOW, HIGH, 12), OneCycle(LOW, HIGH, 20, shape="triangular")
MOMENTUM, DECAY = Cyclical(0.25, 0.75, 2), Cyclical(0.0625, 0.25, 2)
several_per_call = pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
compiled_by_xla = pytest.mark.skipif(BACKEND == "torch", reason="torch.compile needs a C++ compiler")
traces = pytest.mark.skipif(BACKEND == "torch", reason="torch compiles nothing")


def assert_rates(run, *parts):
    np.testing.assert_allclose(run.rates, np.concatenate(parts), rtol=0, atol=TOLERANCE)


def rate_of(optimizer):
    return float(ops.convert_to_numpy(optimizer.learning_rate))


class Do(keras.callbacks.Callback):
    """Does something at the end of a batch or of an epoch."""

    def __init__(self, fn, *, batch=None, epoch=None):
        super().__init__()
        self.fn, self.batch, self.epoch = fn, batch, epoch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            self.fn(self.model)

    def on_epoch_end(self, epoch, logs=None):
        if epoch == self.epoch:
            self.fn(self.model)


def interrupt(model):
    raise KeyboardInterrupt


@pytest.mark.parametrize("kind", ["SGD", "Adam", "RMSprop", "Muon"])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_after_training_the_optimizer_is_a_plain_one(kind, scaled, probe):
    make = getattr(keras.optimizers, kind)
    optimizer = make(0.875, momentum=0.5, weight_decay=0.0625) if kind == "SGD" else make(0.875, weight_decay=0.0625)
    kind_before, config = type(optimizer), optimizer.get_config()
    run = probe(keras.optimizers.LossScaleOptimizer(optimizer, initial_scale=4.0) if scaled else optimizer, 5)
    run.model.optimizer.build(run.model.trainable_variables)
    paths = [variable.path for variable in run.model.optimizer.variables]
    attributes = sorted(vars(optimizer))
    run.fit(callbacks=[ScheduleCallback(SHORT, MOMENTUM, DECAY)])
    assert (type(optimizer), optimizer.__class__) == (kind_before, kind_before)
    assert optimizer.get_config() == {**config, "learning_rate": pytest.approx(SHORT(4))}
    # Keras keeps a list of what has no weight decay, once it was asked.
    assert sorted(set(vars(optimizer)) - {"_exclude_from_weight_decay_cache"}) == attributes
    assert [variable.path for variable in run.model.optimizer.variables] == paths
    assert rate_of(optimizer) == pytest.approx(SHORT(4))
    optimizer.learning_rate = 0.25
    assert rate_of(optimizer) == 0.25


def test_what_is_described_in_mid_fit_is_the_plain_optimizer(probe):
    described = []
    run = probe(keras.optimizers.Adam(0.875, weight_decay=0.0625), 5)
    before = keras.saving.serialize_keras_object(run.model.optimizer)
    do = Do(lambda model: described.append(keras.saving.serialize_keras_object(model.optimizer)), batch=2)
    run.fit(callbacks=[ScheduleCallback(SHORT, MOMENTUM, DECAY), do])
    assert described == [before]
    again = keras.saving.deserialize_keras_object(described[0])
    assert type(again) is type(run.model.optimizer)
    assert again.get_config() == before["config"]


@pytest.mark.every_backend
def test_a_fit_without_the_callback_uses_the_plain_rate_and_momentum(probe):
    run = probe(keras.optimizers.SGD(0.875, momentum=0.5), 8)
    run.fit(slice(0, 4), callbacks=[ScheduleCallback(SHORT, Constant(0.25))])
    run.model.optimizer.learning_rate = 0.25
    weights = run.rates
    run.fit(slice(4, None))
    # Of the weights that no gradient has moved for long, the velocity goes on, by the plain momentum.
    moved = run.rates - weights
    velocity = np.array([SHORT(t) * 0.25 ** (3 - t) for t in range(4)])
    np.testing.assert_allclose(moved[:4], velocity * sum(0.5**n for n in range(1, 5)), rtol=1e-5)
    np.testing.assert_allclose(moved[4:], [0.25 * sum(0.5**n for n in range(m)) for m in (4, 3, 2, 1)], rtol=1e-5)


def test_a_fit_without_the_callback_goes_on_with_the_rate_of_the_last_update(probe):
    run = probe(keras.optimizers.SGD(0.875), 8)
    run.fit(slice(0, 4), callbacks=[ScheduleCallback(SHORT)])
    run.fit(slice(4, 6))
    run.fit(slice(6, None), callbacks=[ScheduleCallback(SHORT)])
    assert_rates(run, SHORT(np.arange(4)), [SHORT(3)] * 2, SHORT(np.arange(6, 8)))


class CountingLoss:
    """How often Python runs a loss: once for every trace, and never for a step that is compiled."""

    def __init__(self):
        self.calls = 0

    def __call__(self, y_true, y_pred):
        self.calls += 1
        return ops.mean(y_pred)


@pytest.mark.every_backend
@traces
@pytest.mark.parametrize("jit_compile", ["auto", True])
def test_the_compiled_step_is_made_once(jit_compile, probe):
    loss = CountingLoss()
    run = probe(keras.optimizers.SGD(0.875, momentum=0.5), 6, jit_compile=jit_compile)
    run.model.compile(run.model.optimizer, loss, jit_compile=jit_compile)
    callback = ScheduleCallback(SHORT, Constant(0.0))
    run.fit(slice(0, 2), callbacks=[callback])
    once = loss.calls
    assert once >= 1
    run.fit(slice(2, 4), callbacks=[callback])
    assert loss.calls == once
    run.fit(slice(0, 1))
    plain = loss.calls
    assert plain > once
    run.fit(slice(4, 5), callbacks=[callback])
    run.fit(slice(0, 1))
    run.fit(slice(5, 6), callbacks=[callback])
    assert loss.calls == plain


@pytest.mark.every_backend
@traces
def test_a_callback_that_only_logs_makes_nothing_anew(probe):
    loss = CountingLoss()
    run = probe(keras.optimizers.SGD(0.875), 4)
    run.model.compile(run.model.optimizer, loss)
    run.fit(slice(0, 2))
    once = loss.calls
    run.fit(slice(2, 4), callbacks=[ScheduleCallback()])
    assert loss.calls == once


@pytest.mark.every_backend
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_an_interrupted_fit_is_followed_by_one_with_a_new_callback_and_a_plain_one(first, probe):
    run = probe(keras.optimizers.SGD(0.875), 10)
    kind = type(run.model.optimizer)
    callbacks = [ScheduleCallback(SHORT), Do(interrupt, batch=2)]
    with pytest.raises(KeyboardInterrupt):
        run.fit(callbacks=callbacks if first else callbacks[::-1])
    run.fit(slice(3, 6), callbacks=[ScheduleCallback(LONG)])
    assert type(run.model.optimizer) is kind
    run.fit(slice(6, None))
    assert_rates(run, SHORT(np.arange(3)), LONG(np.arange(3, 6)), [LONG(5)] * 4)


def test_an_interrupted_fit_goes_on_with_the_same_callback(probe):
    run = probe(keras.optimizers.SGD(0.875), 8)
    callback = ScheduleCallback(SHORT)
    with pytest.raises(KeyboardInterrupt):
        run.fit(callbacks=[callback, Do(interrupt, batch=2)])
    run.fit(slice(3, None), callbacks=[callback])
    assert_rates(run, SHORT(np.arange(8)))


def test_after_an_interrupted_fit_detach_gives_the_plain_optimizer(probe):
    run = probe(keras.optimizers.SGD(0.875), 6)
    callback = ScheduleCallback(SHORT)
    with pytest.raises(KeyboardInterrupt):
        run.fit(callbacks=[callback, Do(interrupt, batch=2)])
    callback.detach()
    assert type(run.model.optimizer) is type(keras.optimizers.SGD())
    run.fit(slice(3, None))
    assert_rates(run, SHORT(np.arange(3)), [SHORT(2)] * 3)


def by_an_interrupted_fit(run, callback):
    with pytest.raises(KeyboardInterrupt):
        run.fit(callbacks=[callback, Do(interrupt, batch=2)])


def by_hand(run, callback):
    callback.attach(run.model)
    batch_by_batch(run, slice(0, 3))


@pytest.mark.every_backend
@pytest.mark.parametrize("attached", [by_an_interrupted_fit, by_hand])
def test_a_range_test_suspends_what_is_attached_and_puts_it_back(attached, probe):
    run, plain = (probe(keras.optimizers.SGD(0.875, momentum=0.5), 8) for _ in range(2))
    callback, detached = ScheduleCallback(SHORT, Constant(0.0)), ScheduleCallback(SHORT, Constant(0.0))
    attached(run, callback), attached(plain, detached)
    detached.detach()
    sweep = {"min_lr": 0.125, "max_lr": 0.5, "steps": 8, "batch_size": 1, "shuffle": False, "stop_factor": None}
    moved = []
    for model in (run.model, plain.model):
        model.set_weights([np.zeros((8, 1))])
        range_test(
            model, run.x, run.y, **sweep, on_step=lambda test, model=model: moved.append(model.get_weights()[0].ravel())
        )
    np.testing.assert_array_equal(moved[:8], moved[8:])
    batch_by_batch(run, slice(3, 4))
    run.fit(slice(4, None), callbacks=[callback])
    assert_rates(run, [0.0] * 3, SHORT(np.arange(3, 8)))


@pytest.mark.parametrize("error", [KeyboardInterrupt, ArithmeticError])
def test_an_interrupted_range_test_puts_back_what_is_attached(error, probe):
    def stop(test):
        raise error

    run = probe(keras.optimizers.SGD(0.875), 6)
    callback = ScheduleCallback(SHORT)
    callback.attach(run.model)
    with pytest.raises(error):
        range_test(run.model, run.x, run.y, batch_size=1, on_step=stop)
    batch_by_batch(run, slice(0, 6))
    callback.detach()
    assert_rates(run, SHORT(np.arange(6)))


def test_detach_of_a_callback_that_was_never_attached_does_nothing():
    ScheduleCallback(SHORT).detach()


def test_detach_after_a_fit_that_was_refused_does_nothing(probe):
    run = probe(keras.optimizers.SGD(0.875), 4)
    run.fit(slice(0, 2))
    callback = ScheduleCallback(SHORT, MOMENTUM)
    with pytest.raises(ValueError, match="created without one"):
        run.fit(callbacks=[callback])
    callback.detach()
    assert rate_of(run.model.optimizer) == 0.875


def test_detach_after_a_fit_does_nothing(probe):
    run = probe(keras.optimizers.SGD(0.875), 4)
    callback = ScheduleCallback(SHORT)
    run.fit(callbacks=[callback])
    run.model.optimizer.learning_rate = 0.875
    callback.detach()
    assert rate_of(run.model.optimizer) == 0.875


def test_detach_leaves_what_another_callback_has_attached(probe):
    run = probe(keras.optimizers.SGD(0.875), 6)
    callback, another = ScheduleCallback(SHORT), ScheduleCallback(LONG)
    run.fit(slice(0, 3), callbacks=[callback])
    another.attach(run.model)
    callback.change(Constant(HIGH))
    callback.detach()
    batch_by_batch(run, slice(3, None))
    another.detach()
    assert_rates(run, SHORT(np.arange(3)), LONG(np.arange(3, 6)))


def test_detach_from_a_model_without_an_optimizer_does_nothing():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    callback = ScheduleCallback(SHORT)
    with pytest.raises(ValueError, match="got optimizer=None"):
        callback.attach(model)
    callback.detach()


WAYS = [
    {},
    {"run_eagerly": True},
    pytest.param({"jit_compile": True}, marks=compiled_by_xla),
    pytest.param({"steps_per_execution": 2}, marks=several_per_call),
]


@pytest.mark.every_backend
@pytest.mark.parametrize("compile_arguments", WAYS, ids=["default", "run_eagerly", "jit_compile", "several per call"])
def test_a_change_during_fit_takes_effect_at_the_very_next_update(compile_arguments, probe):
    run = probe(keras.optimizers.SGD(0.875), 8, **compile_arguments)
    callback = ScheduleCallback(SHORT)
    logged = []
    seen = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: logged.append(logs["learning_rate"]))
    change = Do(lambda model: callback.change(LONG), batch=3)
    run.fit(callbacks=[callback, change, seen])
    assert_rates(run, SHORT(np.arange(4)), LONG(np.arange(4, 8)))
    assert logged == [LONG(7)]


def test_a_change_of_the_optimizer_s_own_schedule_leaves_no_scheduled_momentum_behind(probe):
    def train(*callbacks):
        run = probe(keras.optimizers.SGD(LearningRate(SHORT), momentum=0.5), 8)
        run.fit(slice(0, 6), callbacks=[ScheduleCallback(momentum=Constant(0.25)), *callbacks])
        run.fit(slice(6, 8))
        return run.rates

    change = Do(lambda model: change_schedule(model, OneCycle(LOW, HIGH, 12)), batch=3)
    np.testing.assert_array_equal(train(change), train())


def test_after_such_a_change_the_same_callback_goes_on(probe):
    run = probe(keras.optimizers.SGD(LearningRate(SHORT), momentum=0.5), 8)
    callback = ScheduleCallback(momentum=Constant(0.0))
    run.fit(slice(0, 4), callbacks=[callback, Do(lambda model: change_schedule(model, LONG), batch=1)])
    run.fit(slice(4, None), callbacks=[callback])
    assert_rates(run, SHORT(np.arange(2)), LONG(np.arange(2, 8)))


@pytest.mark.every_backend
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_a_change_at_the_end_of_an_epoch_takes_effect_at_the_very_next_update(first, probe):
    run = probe(keras.optimizers.SGD(0.875), 4)
    callback = ScheduleCallback(SHORT)
    change = Do(lambda model: callback.change(LONG), epoch=1)
    run.fit(epochs=3, callbacks=[callback, change] if first else [change, callback])
    wanted = np.concatenate([SHORT(np.arange(8)), LONG(np.arange(8, 12))]).reshape(3, 4).sum(axis=0)
    np.testing.assert_allclose(run.rates, wanted, rtol=0, atol=3 * TOLERANCE)
    assert type(run.model.optimizer) is type(keras.optimizers.SGD())
    assert rate_of(run.model.optimizer) == pytest.approx(LONG(11))


def test_a_change_between_fits_extends_a_run(probe):
    run = probe(keras.optimizers.SGD(0.875), 20)
    callback = ScheduleCallback(SHORT)
    run.fit(slice(0, 12), callbacks=[callback])
    assert rate_of(run.model.optimizer) == pytest.approx(SHORT.final_lr)
    callback.change(LONG)
    run.fit(slice(12, None), callbacks=[callback])
    assert_rates(run, SHORT(np.arange(12)), LONG(np.arange(12, 20)))


def test_a_change_before_the_first_fit_counts(probe):
    run = probe(keras.optimizers.SGD(0.875), 4)
    callback = ScheduleCallback(SHORT)
    callback.change(LONG)
    run.fit(callbacks=[callback])
    assert_rates(run, LONG(np.arange(4)))


@pytest.mark.parametrize("refused", [{"lr": LONG}, {"momentum": MOMENTUM}], ids=["lr", "momentum"])
def test_a_refused_change_changes_nothing(refused, probe):
    """One has a schedule of its own, the other was made without a momentum."""
    if "lr" in refused:
        run, callback = probe(keras.optimizers.SGD(LearningRate(SHORT), momentum=0.5), 6), {"momentum": Constant(0.0)}
    else:
        run, callback = probe(keras.optimizers.SGD(0.875), 6), {"lr": SHORT}
    callback = ScheduleCallback(**callback)
    callback.attach(run.model)
    batch_by_batch(run, slice(0, 2))
    with pytest.raises(ValueError, match=r"created with a schedule|created without one"):
        callback.change(**refused)
    batch_by_batch(run, slice(2, 4))
    run.fit(slice(4, None), callbacks=[callback])
    assert_rates(run, SHORT(np.arange(6)))
    callback.detach()
    assert type(run.model.optimizer) is type(keras.optimizers.SGD())


def test_a_sequence_lets_a_new_schedule_begin_at_its_own_step_0(probe):
    run = probe(keras.optimizers.SGD(0.875), 9)
    callback = ScheduleCallback(SHORT)
    run.fit(callbacks=[callback, Do(lambda model: callback.change(Sequence([SHORT, LONG], lengths=[5])), batch=4)])
    assert_rates(run, SHORT(np.arange(5)), LONG(np.arange(4)))


def test_a_change_of_momentum_leaves_the_rate_and_may_be_the_first(probe):
    run = probe(keras.optimizers.SGD(0.875, momentum=0.5), 8)
    callback = ScheduleCallback(Constant(0.25))
    run.fit(callbacks=[callback, Do(lambda model: callback.change(momentum=Constant(0.75)), batch=3)])
    velocity, total = np.zeros(8), np.zeros(8)
    for t in range(8):
        velocity = velocity * (0.5 if t < 4 else 0.75) + 0.25 * np.eye(8)[t]
        total += velocity
    np.testing.assert_allclose(run.rates, total, rtol=1e-6)


@pytest.mark.parametrize("micro_batches", [1, 3])
def test_the_next_update_takes_the_start_step(micro_batches, probe):
    accumulate = micro_batches if micro_batches > 1 else None
    run = probe(keras.optimizers.SGD(0.875, gradient_accumulation_steps=accumulate), 12, micro_batches=micro_batches)
    logged = []
    seen = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: logged.append(logs["learning_rate"]))
    run.fit(slice(0, 2 * micro_batches))
    callback = ScheduleCallback(SHORT, start_step=5)
    run.fit(slice(2 * micro_batches, 6 * micro_batches), callbacks=[callback, seen])
    assert rate_of(run.model.optimizer) == pytest.approx(SHORT(8))
    callback.change(LONG)
    run.fit(slice(6 * micro_batches, None), callbacks=[callback, seen])
    assert_rates(run, [0.875] * 2, SHORT(np.arange(5, 9)), LONG(np.arange(9, 15)))
    wanted = np.repeat([*SHORT(np.arange(5, 9)), *LONG(np.arange(9, 15))], micro_batches)
    assert logged == wanted.tolist()


def test_without_start_step_the_optimizer_s_own_count_goes_on(probe):
    run = probe(keras.optimizers.SGD(0.875), 8)
    run.fit(slice(0, 3))
    run.fit(slice(3, None), callbacks=[ScheduleCallback(SHORT)])
    assert_rates(run, [0.875] * 3, SHORT(np.arange(3, 8)))


def batch_by_batch(run, part):
    for x, y in zip(run.x[part], run.y[part], strict=True):
        run.model.train_on_batch(x[None], y[None])


@pytest.mark.every_backend
def test_attached_by_hand_it_holds_until_it_is_detached(probe):
    run = probe(keras.optimizers.SGD(0.875), 10)
    kind = type(run.model.optimizer)
    callback = ScheduleCallback(SHORT)
    batch_by_batch(run, slice(0, 2))
    callback.attach(run.model)
    batch_by_batch(run, slice(2, 5))
    run.fit(slice(5, 7), callbacks=[callback])
    batch_by_batch(run, slice(7, 8))
    callback.detach()
    assert type(run.model.optimizer) is kind
    batch_by_batch(run, slice(8, 9))
    run.fit(slice(9, 10))
    assert_rates(run, [0.875] * 2, SHORT(np.arange(2, 8)), [SHORT(7)] * 2)


def test_a_change_while_attached_by_hand_takes_effect_at_the_very_next_update(probe):
    run = probe(keras.optimizers.SGD(0.875), 6)
    callback = ScheduleCallback(SHORT)
    callback.attach(run.model)
    batch_by_batch(run, slice(0, 3))
    callback.change(LONG)
    batch_by_batch(run, slice(3, None))
    callback.detach()
    assert_rates(run, SHORT(np.arange(3)), LONG(np.arange(3, 6)))


@pytest.mark.parametrize("by_hand", [False, True], ids=["fit", "by hand"])
def test_one_callback_serves_one_model_after_another(by_hand, probe):
    """Each of them counts from where its own optimizer is."""
    callback = ScheduleCallback(SHORT, start_step=2)
    first, second = probe(keras.optimizers.SGD(0.875), 8), probe(keras.optimizers.SGD(0.875), 8)
    second.fit(slice(0, 3))
    for run, begin in ((first, 0), (second, 3)):
        if by_hand:
            callback.attach(run.model)
            batch_by_batch(run, slice(begin, 6))
            callback.detach()
        else:
            run.fit(slice(begin, 6), callbacks=[callback])
    assert_rates(first, SHORT(np.arange(2, 8)), [0, 0])
    assert_rates(second, [0.875] * 3, SHORT(np.arange(2, 5)), [0, 0])


@pytest.mark.every_backend
@pytest.mark.parametrize("by_hand", [False, True], ids=["fit", "by hand"])
def test_a_model_compiled_again_is_trained_with_its_new_loss_and_optimizer(by_hand, probe):
    def train(part):
        if by_hand:
            callback.attach(run.model)
            batch_by_batch(run, part)
            callback.detach()
        else:
            run.fit(part, callbacks=[callback])

    callback = ScheduleCallback(SHORT)
    run = probe(keras.optimizers.SGD(0.875), 9)
    train(slice(0, 3))
    run.model.compile(run.model.optimizer, lambda y_true, y_pred: 0.5 * ops.mean(y_pred))
    train(slice(3, 6))
    run.model.compile(keras.optimizers.SGD(0.875), lambda y_true, y_pred: 0.25 * ops.mean(y_pred))
    train(slice(6, 9))
    assert_rates(run, SHORT(np.arange(3)), 0.5 * SHORT(np.arange(3, 6)), 0.25 * SHORT(np.arange(3)))


USES = {
    "range test": lambda run, used: range_test(run.model, run.x, run.y, batch_size=1, steps=6, verbose=False),
    "fit": lambda run, used: run.fit(slice(0, 2), callbacks=[used]),
    "attach": lambda run, used: (used.attach(run.model), used.detach()),
    "interrupted fit": lambda run, used: interrupted(run, used),
    "LRFinder": lambda run, used: run.fit(slice(0, 4), epochs=3, callbacks=[LRFinder(0.001, 0.01)]),
    "AutoCycle": lambda run, used: run.fit(slice(0, 4), callbacks=[AutoCycle(Constant(0.25))]),
}


def interrupted(run, used):
    with pytest.raises(KeyboardInterrupt):
        run.fit(slice(0, 4), callbacks=[used, Do(interrupt, batch=1)])


@pytest.mark.every_backend
@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_a_model_compiled_again_trains_as_it_says(use, probe):
    """JAX keeps traces by function, as long as it lives, and all steps of a model are the same function to it."""
    run = probe(keras.optimizers.SGD(0.25, weight_decay=0.5), 6, **QUICKLY)
    used = ScheduleCallback(weight_decay=DECAY)
    gc.disable()
    try:
        run.fit(slice(0, 1))
        use(run, used)
        run.model.compile(keras.optimizers.SGD(0.25, weight_decay=0.25), lambda y, prediction: -ops.mean(prediction))
        before = run.model.get_weights()[0].ravel()
        run.fit(slice(5, 6))
    finally:
        gc.enable()
    wanted = before * (1 - 0.25 * 0.25) + 0.25 * (np.arange(6) == 5)
    np.testing.assert_allclose(run.model.get_weights()[0].ravel(), wanted, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("swapped", [False, True])
def test_two_schedule_callbacks_at_once_are_refused(swapped, probe):
    """The second would take the place of the first, whose rates would then stand in the logs alone."""
    run = probe(keras.optimizers.SGD(0.875, momentum=0.5), 6)
    kind = type(run.model.optimizer)
    callbacks = [ScheduleCallback(SHORT), ScheduleCallback(momentum=MOMENTUM)]
    with pytest.raises(ValueError, match=r"another ScheduleCallback replaced them.*Pass all schedules to one"):
        run.fit(callbacks=callbacks[::-1] if swapped else callbacks)
    np.testing.assert_array_equal(run.rates, 0)
    assert type(run.model.optimizer) is kind


@pytest.mark.parametrize("attached", [by_an_interrupted_fit, by_hand])
@pytest.mark.parametrize("then", [lambda run, callback: run.fit(callbacks=[callback]), by_hand], ids=["fit", "by hand"])
def test_another_model_takes_the_callback_from_the_one_that_it_is_attached_to(attached, then, probe):
    first, second = probe(keras.optimizers.SGD(0.875), 5), probe(keras.optimizers.SGD(0.875), 3)
    callback = ScheduleCallback(SHORT)
    attached(first, callback)
    then(second, callback)
    callback.detach()
    for run in (first, second):
        assert type(run.model.optimizer) is type(keras.optimizers.SGD())
        assert rate_of(run.model.optimizer) == pytest.approx(SHORT(2))
    first.fit(slice(3, None))
    assert_rates(first, SHORT(np.arange(3)), [SHORT(2)] * 2)
    assert_rates(second, SHORT(np.arange(3)))


@pytest.mark.parametrize("changed", [False, True])
def test_an_optimizer_compiled_in_after_attaching_by_hand_is_refused_until_detach(probe, changed):
    run = probe(keras.optimizers.SGD(0.875), 3)
    callback = ScheduleCallback(LONG if changed else SHORT)
    callback.attach(run.model)
    run.model.compile(keras.optimizers.SGD(0.875), run.model.loss)
    if changed:
        callback.change(SHORT)
    with pytest.raises(ValueError, match=r"compiled again with another optimizer.*call detach\(\)"):
        run.fit(callbacks=[callback])
    np.testing.assert_array_equal(run.rates, 0)
    callback.detach()
    run.fit(callbacks=[callback])
    assert_rates(run, SHORT(np.arange(3)))


@pytest.mark.every_backend
def test_a_model_that_keras_calls_built_may_have_no_weights_yet(built_by_shape):
    model, x = built_by_shape(keras.optimizers.SGD(0.875), (None, 3)), np.ones((4, 3), "float32")
    model.fit(x, x[:, :1], batch_size=1, verbose=0, callbacks=[ScheduleCallback(SHORT)])
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 4
    assert rate_of(model.optimizer) == pytest.approx(SHORT(3))


@traces
def test_the_log_of_a_schedule_that_was_assigned_by_hand_is_what_updates_used():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(LearningRate(Constant(HIGH))), "mse", **QUICKLY)
    x = np.ones((4, 1), "float32")
    model.fit(x, x, batch_size=1, verbose=0)
    model.optimizer.learning_rate = LearningRate(Constant(0.0))
    before = model.get_weights()[0].copy()
    history = model.fit(x, -x, batch_size=1, verbose=0, callbacks=[ScheduleCallback()])
    assert history.history["learning_rate"] == [0.0]
    np.testing.assert_array_equal(model.get_weights()[0], before)
