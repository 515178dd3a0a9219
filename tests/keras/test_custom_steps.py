"""Training steps of one's own: several optimizers, optimizers in others, several updates a batch or none."""

import keras
import numpy as np
import pytest

import cyclr
from cyclr.errors import RangeTestError
from cyclr.keras import CycleEnd, CyclicLR, LearningRate, LRFinder, ScheduleCallback, range_test

BACKEND = keras.backend.backend()
X = np.ones((80, 1), "float32")
CYCLE = cyclr.Cyclical(0.01, 0.05, step_size=4)
not_on_jax = pytest.mark.skipif(BACKEND == "jax", reason="a training step of Keras on JAX has one optimizer")


def update(optimizer, layer):
    """One update for a loss that is the layer's only weight: plain SGD lowers the weight by its rate."""
    weight = layer.trainable_variables[0]
    optimizer.apply([keras.ops.ones_like(weight)], [weight])
    return keras.ops.sum(weight)


class Custom(keras.Model):
    """A model whose batches make `updates` of it, by optimizers that `compile` gets."""

    def __init__(self, step, **attributes):
        super().__init__()
        self.first, self.second = (keras.layers.Dense(1, use_bias=False) for _ in range(2))
        for layer in (self.first, self.second):
            layer.build((None, 1))
        self.built, self.step, self.batches = True, step, 0
        for name, value in attributes.items():
            setattr(self, name, value)

    def train_step(self, data):
        self.batches += 1
        if BACKEND != "torch":
            return {"loss": self.step(self)}
        import torch

        with torch.no_grad():
            return {"loss": self.step(self).clone()}


def gan(form):
    """A model of two optimizers, besides the unused one of `super().compile()`."""
    d, g = keras.optimizers.SGD(0.001), keras.optimizers.SGD(0.001)
    if form == "attributes":
        model = Custom(lambda m: update(m.d, m.first) + update(m.g, m.second), d=d, g=g)
    elif form == "list":
        model = Custom(lambda m: update(m.both[0], m.first) + update(m.both[1], m.second), both=[d, g])
    elif form == "dict":
        model = Custom(lambda m: update(m.by["d"], m.first) + update(m.by["g"], m.second), by={"d": d, "g": g})
    else:
        # Keras' model does not know these optimizers, but its weights move.
        model = Custom(lambda m: update(d, m.first) + update(g, m.second))
    model.compile()
    return model, d, g


FORMS = {"attributes": r"model\.d \(SGD\) and model\.g", "list": r"model\.both\[0\]", "dict": r"model\.by\['d'\]"}
CALLBACKS = {
    "ScheduleCallback": lambda: ScheduleCallback(CYCLE),
    "CyclicLR": lambda: CyclicLR(0.01, 0.05, 4),
    "CycleEnd": lambda: CycleEnd(lambda model, step: None, CYCLE),
    "LRFinder": lambda: LRFinder(1e-4, 1e-1, batches_lr_update=2),
}


@not_on_jax
@pytest.mark.parametrize("form", [*FORMS, "hidden"])
@pytest.mark.parametrize("name", CALLBACKS)
def test_optimizers_that_update_in_place_of_the_compiled_one_are_named(name, form):
    model, *_ = gan(form)
    by = FORMS.get(form, "an optimizer that the model does not hold")
    for size, made in ((8, 10), (4, 16)):
        ended = []
        count = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs, ended=ended: ended.append(batch))
        message = rf"{name} follows model\.optimizer .*made no update in {made} batches.*made by {by}"
        with pytest.raises(ValueError, match=message):
            model.fit(X, X, batch_size=size, callbacks=[count, CALLBACKS[name]()], verbose=0)
        assert len(ended) == made


@not_on_jax
@pytest.mark.parametrize("others", [1, 5, 12], ids=["even and odd", "five critic steps", "twelve critic steps"])
@pytest.mark.parametrize("name", [*CALLBACKS, "range_test"])
def test_a_model_may_alternate_between_optimizers(name, others):
    """The followed optimizer, of `second`, makes the last of every `others + 1` updates."""

    def step(model):
        is_critic = (model.batches - 1) % (others + 1) < others
        return update(model.d, model.first) if is_critic else update(model.optimizer, model.second)

    model = Custom(step, d=keras.optimizers.SGD(0.001))
    model.compile(keras.optimizers.SGD(0.5), run_eagerly=True)
    data, ends = np.ones((10 * (others + 1), 1), "float32"), []
    if name == "range_test":
        result = range_test(model, data, data, batch_size=1, steps=8, stop_factor=None)
        assert result.stop_reason == "completed"
        return
    weight = model.second.get_weights()[0].item()
    made = {"CycleEnd": lambda: CycleEnd(lambda model, step: ends.append(step), CYCLE)}
    callback = made.get(name, CALLBACKS[name])()
    model.fit(data, data, batch_size=1, callbacks=[callback], verbose=0)
    way = weight - model.second.get_weights()[0].item()
    if name == "LRFinder":
        assert (callback.iteration, way) == (10, 0)
    else:
        assert way == pytest.approx(5 if name == "CycleEnd" else CYCLE(np.arange(10)).sum(), rel=1e-3)
    assert ends == ([8] if name == "CycleEnd" else [])


@not_on_jax
def test_an_epoch_of_one_batch_names_them_too():
    model, *_ = gan("attributes")
    with pytest.raises(ValueError, match=r"made by model\.d \(SGD\) and model\.g"):
        model.fit(X, X, batch_size=80, callbacks=[ScheduleCallback(CYCLE)], verbose=0)


@not_on_jax
@pytest.mark.parametrize("form", [*FORMS, "hidden"])
@pytest.mark.parametrize("given", [False, True], ids=["default", "optimizer="])
def test_a_range_test_of_an_optimizer_that_makes_no_update_ends_at_once(form, given):
    model, *_ = gan(form)
    before = model.get_weights()
    unused = {}
    if given:
        model.unused = keras.optimizers.SGD(0.1)
        unused = {"optimizer": model.unused}
    with pytest.raises(ValueError, match=r"range_test follows model\.(optimizer|unused) .*made no update in"):
        range_test(model, X, X, steps=20, batch_size=8, **unused)
    np.testing.assert_array_equal(before, model.get_weights())


@not_on_jax
def test_a_range_test_without_any_update_ends():
    model = Custom(lambda m: keras.ops.sum(m.first.kernel))
    model.compile(run_eagerly=True)
    with pytest.raises(RangeTestError, match="made no update in 100 batches"):
        range_test(model, X, X, steps=20, batch_size=8)
    assert model.batches < 110


@not_on_jax
@pytest.mark.parametrize("form", FORMS)
def test_a_chosen_optimizer_is_swept(form):
    model, _, g = gan(form)
    result = range_test(model, X, X, steps=10, batch_size=8, optimizer=g, stop_factor=None)
    np.testing.assert_allclose(-np.diff(result.loss), result.lr[1:] + 0.001, rtol=1e-2)


@not_on_jax
@pytest.mark.filterwarnings("ignore:Your input ran out of data")
@pytest.mark.parametrize("name", ["ScheduleCallback()", "ScheduleCallback", "CyclicLR", "CycleEnd"])
def test_every_counter_is_right_when_data_of_unknown_length_ends(name):
    tf = pytest.importorskip("tensorflow")
    model, d, g = gan("list")
    model.compile(g)
    data = tf.data.Dataset.from_tensor_slices((X[:40], X[:40])).batch(8).filter(lambda x, y: True)
    callback = CALLBACKS.get(name, ScheduleCallback)()
    model.fit(data, epochs=3, callbacks=[callback], shuffle=False, verbose=0)
    assert [int(keras.ops.convert_to_numpy(held.iterations)) for held in (d, g)] == [15, 15]


@not_on_jax
def test_the_log_of_several_updates_a_batch_has_a_rate_that_it_used():
    model = Custom(lambda m: [update(m.optimizer, m.first) for _ in range(3)][-1])
    model.compile(keras.optimizers.SGD(LearningRate(CYCLE)))
    rates, calls = [], []
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rates.append(logs["learning_rate"]))
    ends = CycleEnd(
        lambda model, step: calls.append((step, int(keras.ops.convert_to_numpy(model.optimizer.iterations))))
    )
    for _ in range(2):
        model.fit(X, X, batch_size=8, callbacks=[ScheduleCallback(), keep, ends], verbose=0)
    np.testing.assert_allclose(rates, [CYCLE(t) for t in range(0, 60, 3)])
    assert calls == [(t, 3 * (t // 3) + 3) for t in range(8, 60, 8)]


@not_on_jax
@pytest.mark.parametrize("first", [0, 3], ids=["updates first", "accumulates first"])
def test_the_log_of_accumulation_by_hand_has_the_rate_of_its_update(first):
    def step(model):
        last = (model.batches - 1) % 4 == first
        return update(model.optimizer, model.first) if last else keras.ops.sum(model.first.kernel)

    model = Custom(step)
    model.compile(keras.optimizers.SGD(LearningRate(CYCLE)), run_eagerly=True)
    rates, calls = [], []
    keep = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: rates.append(logs["learning_rate"]))
    ends = CycleEnd(lambda model, step: calls.append((step, model.batches)))
    model.fit(np.ones((96, 1)), np.ones((96, 1)), batch_size=2, callbacks=[ScheduleCallback(), keep, ends], verbose=0)
    np.testing.assert_allclose(rates[first::4], [CYCLE(t) for t in range(12)])
    assert calls == [(8, 8 * 4 + first + 1)]


@not_on_jax
def test_several_updates_a_batch_are_refused_where_the_rate_is_set_between_batches():
    def model(rate):
        made = Custom(lambda m: [update(m.optimizer, m.first) for _ in range(3)][-1])
        made.compile(keras.optimizers.SGD(rate))
        return made

    with pytest.raises(ValueError, match=r"CyclicLR needs .* one update with every batch; got one that made 3"):
        model(0.1).fit(X, X, batch_size=8, callbacks=[CyclicLR(0.01, 0.05, 6)], verbose=0)
    with pytest.raises(ValueError, match=r"range_test needs .* one update with every batch; got one that made 3"):
        range_test(model(LearningRate(CYCLE)), X, X, batch_size=8, steps=9)
    result = range_test(model(0.1), X, X, batch_size=8, steps=9, stop_factor=None)
    np.testing.assert_allclose(-np.diff(result.loss), 3 * result.lr[1:], rtol=1e-2)


def use(name, model):
    if name == "range_test":
        range_test(model, X, X)
    else:
        model.fit(X, X, callbacks=[CALLBACKS[name]()], verbose=0)


class Holder(keras.optimizers.Optimizer):
    """Hands every update to an optimizer inside, and counts its own."""

    def __init__(self, held):
        super().__init__(learning_rate=0.123)
        self.held = held

    def build(self, variables):
        super().build(variables)
        for optimizer in self.held if isinstance(self.held, list) else [self.held]:
            optimizer.build(variables)

    def apply(self, grads, trainable_variables=None):
        for optimizer in self.held if isinstance(self.held, list) else [self.held]:
            optimizer.apply(grads, trainable_variables)
        self._iterations.assign_add(1)


def multi(held):
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(held))


@pytest.mark.parametrize("hold", [Holder, lambda held: Holder([held]), multi], ids=["attribute", "list", "multi"])
@pytest.mark.parametrize("name", [*CALLBACKS, "range_test"])
@pytest.mark.parametrize("scaled", [False, True], ids=["plain", "loss scaling"])
def test_an_optimizer_that_lets_others_update_is_refused_before_the_first_update(name, hold, scaled):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    optimizer = hold(keras.optimizers.SGD(0.001))
    model.compile(keras.optimizers.LossScaleOptimizer(optimizer) if scaled else optimizer, "mse")
    before = model.get_weights()
    with pytest.raises(ValueError, match=rf"{name} needs .* one optimizer; got a (Holder|MultiOptimizer).* to SGD"):
        use(name, model)
    for weight, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, after)


@pytest.mark.parametrize("name", [*CALLBACKS, "range_test"])
def test_a_schedule_that_is_not_made_a_learning_rate_is_refused(name):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(CYCLE), "mse")
    with pytest.raises(ValueError, match=r"Write keras\.optimizers\.SGD\(cyclr\.keras\.LearningRate\(schedule\)\)"):
        use(name, model)


def test_models_of_keras_2_are_refused():
    class Model:
        __module__ = "tf_keras.src.engine.training"

    for use in (lambda model: range_test(model, X, X), *(make().set_model for make in CALLBACKS.values())):
        with pytest.raises(TypeError, match=r"model of Keras 3; got a Model of tf_keras, which is Keras 2\. Create it"):
            use(Model())


def linear():
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
    model.compile(keras.optimizers.SGD(0.5), lambda y, prediction: prediction)
    return model


@pytest.mark.parametrize("hooks", ["on_batch", "on_train_batch"])
@pytest.mark.parametrize("name", CALLBACKS)
def test_hooks_driven_by_hand_work(name, hooks):
    model, callback, calls = linear(), CALLBACKS[name](), []
    if name == "CycleEnd":
        callback = CycleEnd(lambda model, step: calls.append(step), CYCLE)
    callback.set_params({"steps": 10, "epochs": 1})
    callback.set_model(model)
    callback.on_train_begin()
    weights = [0.0]
    for batch in range(10):
        getattr(callback, f"{hooks}_begin")(batch)
        before = model.get_weights()[0].item()
        loss = model.train_on_batch(X[:8], X[:8])
        weights.append(before - model.get_weights()[0].item())
        getattr(callback, f"{hooks}_end")(batch, {"loss": loss})
    callback.on_train_end()
    expected = {"LRFinder": lambda: callback.learning_rates.repeat(2), "CycleEnd": lambda: [0.5] * 10}
    np.testing.assert_allclose(weights[1:], expected.get(name, lambda: [CYCLE(t) for t in range(10)])(), rtol=1e-3)
    assert calls == ([8] if name == "CycleEnd" else [])


@pytest.mark.parametrize("name", ["CyclicLR", "LRFinder"])
def test_the_missing_call_of_hooks_driven_by_hand_is_named(name):
    model, callback = linear(), CALLBACKS[name]()
    callback.set_params({"steps": 10, "epochs": 1})
    callback.set_model(model)
    callback.on_train_begin()
    with pytest.raises(ValueError, match=rf"{name}\.on_train_batch_end was called without on_train_batch_begin"):
        callback.on_batch_end(0, {"loss": model.train_on_batch(X[:8], X[:8])})


def test_a_schedule_callback_that_was_never_attached_is_named():
    callback = ScheduleCallback(CYCLE)
    callback.set_model(linear())
    with pytest.raises(ValueError, match=r"got on_train_batch_begin without on_train_begin.*attach\(model\)"):
        callback.on_batch_begin(0)


class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule of a user around another one."""

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, step):
        return 2.0 * self.inner(step)

    def get_config(self):
        return {}


def accumulated_rates(rate, probe, accumulation=4):
    run = probe(keras.optimizers.SGD(rate, gradient_accumulation_steps=accumulation), 8, micro_batches=4)
    run.fit()
    return run.rates


def test_a_schedule_that_cannot_know_its_accumulation_is_refused(probe):
    with pytest.raises(ValueError, match=r"Write LearningRate\(schedule, gradient_accumulation_steps=4\)"):
        accumulated_rates(Scaled(LearningRate(CYCLE)), probe)
    with pytest.raises(
        ValueError, match=r"must be equal in LearningRate and the optimizer; got LearningRate\(\.\.\., 3\).*=4"
    ):
        accumulated_rates(LearningRate(CYCLE, gradient_accumulation_steps=3), probe)


@pytest.mark.parametrize("wrap", [Scaled, lambda rate: rate], ids=["wrapped", "plain"])
def test_the_accumulation_given_to_a_learning_rate_decides_and_is_saved(wrap, probe):
    saved = LearningRate(CYCLE, gradient_accumulation_steps=4)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(saved))
    expected = [(2 if wrap is Scaled else 1) * CYCLE(t) for t in range(8)]
    for rate in (saved, again):
        assert "gradient_accumulation_steps=4" in repr(rate)
        np.testing.assert_allclose(accumulated_rates(wrap(rate), probe), expected, rtol=1e-5)


def test_a_wrapped_schedule_without_accumulation_needs_no_number(probe):
    run = probe(keras.optimizers.SGD(Scaled(LearningRate(CYCLE))), 8)
    run.fit()
    np.testing.assert_allclose(run.rates, [2 * CYCLE(t) for t in range(8)], rtol=1e-5)


@pytest.mark.parametrize("wrong", [0, 1.5, "4"])
def test_an_accumulation_that_is_no_count_is_refused(wrong):
    with pytest.raises((TypeError, ValueError), match="gradient_accumulation_steps must be an integer"):
        LearningRate(CYCLE, gradient_accumulation_steps=wrong)


def test_a_learning_rate_called_once_an_epoch_is_refused():
    scheduler = keras.callbacks.LearningRateScheduler(LearningRate(CYCLE))
    with pytest.raises(ValueError, match=r"counts optimizer updates; got an epoch from LearningRateSch"):
        linear().fit(X, X, callbacks=[scheduler], verbose=0)
