"""`CyclicLR` and `AutoCycle` of Keras over several fits, interrupted and continued in any order."""

import math
import shutil
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from keras.callbacks import Callback
from tests.stateful import SCHEDULES, Machine, searched

import cyclr
from cyclr import Bounds
from cyclr.keras import AutoCycle, CyclicLR

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
SIZE = 4
X = np.eye(SIZE, dtype="float32")
BOUNDS = Bounds(0.001, 0.1, "ok", "made up")
QUICKLY = {"jit_compile": False} if BACKEND == "tensorflow" else {}
EXAMPLES = 4 if BACKEND == "torch" else 1


def prediction_and_level(y_true, y_pred):
    """A loss whose gradient is 1, at any level."""
    return keras.ops.mean(y_pred + y_true)


def model_of():
    model = keras.Sequential([keras.Input((SIZE,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.125, momentum=0.5), prediction_and_level, **QUICKLY)
    model.optimizer.build(model.trainable_variables)
    return model


class Interrupted(Exception):  # noqa: N818
    """Ends a fit."""


class StopsAfter(Callback):
    def __init__(self, batch):
        super().__init__()
        self.batch = batch

    def on_train_batch_end(self, batch, logs=None):
        if batch == self.batch:
            raise Interrupted


class Weights:
    """What SGD does, by hand; a state for the core."""

    def __init__(self):
        self.weights, self.velocity, self.updates = np.zeros(SIZE), np.zeros(SIZE), 0

    def copy(self):
        return self.weights.copy(), self.velocity.copy(), self.updates

    def restore(self, copy):
        self.weights, self.velocity, self.updates = copy[0].copy(), copy[1].copy(), copy[2]

    def update(self, sample, rate):
        self.velocity = 0.5 * self.velocity
        self.velocity[sample] -= rate
        self.weights = self.weights + self.velocity
        self.updates += 1


class Training(Machine):
    def fit(self, samples, levels, *callbacks, stop=None, **arguments):
        y = np.array(levels, "float32")[:, None]
        stops = [] if stop is None else [StopsAfter(stop)]
        arguments = {"batch_size": 1, "shuffle": False, "verbose": 0, **arguments}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            if stop is None:
                self.model.fit(X[samples], y, callbacks=[*callbacks], **arguments)
            else:
                with pytest.raises(Interrupted):
                    self.model.fit(X[samples], y, callbacks=[*callbacks, *stops], **arguments)

    def check(self):
        found = self.model.get_weights()[0].ravel()
        np.testing.assert_allclose(found, self.wanted.weights, rtol=1e-4, atol=1e-4)
        assert int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == self.wanted.updates


SAMPLES = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=8)


class ByCyclicLR(Training):
    """The counter is the callback's: it goes on over fits and models, until it is set or reset."""

    @initialize(
        base=st.sampled_from([0.0, 0.01]),
        top=st.sampled_from([0.25, 0.75]),
        size=st.sampled_from([1, 2.0, 2.5, 3.75]),
        mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    )
    def begin(self, base, top, size, mode):
        self.callback = CyclicLR(base, top, size, mode, gamma=0.9)
        self.settings = {"base_lr": base, "max_lr": top, "step_size": size, "mode": mode}
        self.count = self.trained = 0
        self.rates = []
        self.new_model()

    @rule()
    def new_model(self):
        self.model, self.wanted = model_of(), Weights()

    def rate(self):
        base, top, size, mode = self.settings.values()
        t = self.count
        cycle = math.floor(1 + t / (2 * size))
        height = max(0.0, 1 - abs(t / size - 2 * cycle + 1))
        scale = {"triangular": 1.0, "triangular2": 0.5 ** (cycle - 1), "exp_range": 0.9**t}[mode]
        return base + (top - base) * height * scale

    def expect(self, samples):
        for sample in samples:
            self.rates.append(self.rate())
            self.wanted.update(sample, self.rates[-1])
            self.count += 1
            self.trained += 1

    @rule(samples=SAMPLES, epochs=st.integers(1, 2))
    def train(self, samples, epochs):
        self.fit(samples, [1.0] * len(samples), self.callback, epochs=epochs)
        self.expect(samples * epochs)

    @rule(samples=SAMPLES, stop=st.integers(0, 7))
    def interrupt(self, samples, stop):
        stop = min(stop, len(samples) - 1)
        self.fit(samples, [1.0] * len(samples), self.callback, stop=stop)
        self.expect(samples[: stop + 1])

    @rule(samples=SAMPLES)
    def train_without_the_callback(self, samples):
        rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        self.fit(samples, [1.0] * len(samples))
        for sample in samples:
            self.wanted.update(sample, rate)

    @rule(count=st.integers(0, 20) | st.sampled_from([3.0, 10**6]))
    def set_the_counter(self, count):
        self.callback.clr_iterations = count
        self.count = int(count)

    @rule(wrong=st.sampled_from([-1, 1.5, "1", None, True]))
    def a_wrong_counter_changes_nothing(self, wrong):
        with pytest.raises((TypeError, ValueError), match="clr_iterations"):
            self.callback.clr_iterations = wrong

    @rule(top=st.none() | st.sampled_from([0.5, 1.0]), size=st.none() | st.sampled_from([1.5, 4]))
    def reset(self, top, size):
        self.callback.reset(new_max_lr=top, new_step_size=size)
        self.settings["max_lr"] = self.settings["max_lr"] if top is None else top
        self.settings["step_size"] = self.settings["step_size"] if size is None else size
        self.count = 0

    @rule(wrong=st.sampled_from([{"new_max_lr": 0.0}, {"new_step_size": -1}, {"new_base_lr": 5.0}]))
    def a_wrong_reset_changes_nothing(self, wrong):
        with pytest.raises(ValueError, match="must be"):
            self.callback.reset(**wrong)

    @rule(name=st.sampled_from(["max_lr", "step_size", "mode"]), data=st.data())
    def set_an_attribute(self, name, data):
        values = {"max_lr": [0.5, 2.0], "step_size": [1, 2.5], "mode": ["triangular", "triangular2", "exp_range"]}
        self.settings[name] = data.draw(st.sampled_from(values[name]))
        setattr(self.callback, name, self.settings[name])

    @invariant()
    def every_update_had_its_rate(self):
        if not hasattr(self, "wanted"):
            return
        self.check()
        assert self.callback.clr_iterations == self.count
        assert self.callback.clr() == pytest.approx(self.rate(), rel=1e-12)
        assert self.callback.history.get("lr", []) == pytest.approx(self.rates, rel=1e-12)
        assert self.callback.history.get("iterations", []) == [*range(1, self.trained + 1)]


class Records(Callback):
    """Keeps the losses that the core gets."""

    def __init__(self, auto):
        super().__init__()
        self.auto, self.losses = auto, []

    def on_epoch_begin(self, epoch, logs=None):
        core = self.auto.auto
        core.step = lambda loss: (self.losses.append(loss), type(core).step(core, loss))[1]


class ByAutoCycle(Training):
    """The model is the core, which gets the losses that the callback gave its own."""

    @initialize(total=st.integers(20, 200), given=st.sampled_from([None, BOUNDS]) | SCHEDULES)
    def begin(self, total, given):
        self.folder = Path(tempfile.mkdtemp())
        self.total, self.given = total, given
        self.epoch = 0
        self.model, self.wanted = model_of(), Weights()
        self.callback = self.made()
        self.core = self.quiet(lambda: cyclr.AutoCycle(total, given, state=self.wanted, usual_lr=0.01))
        self.backup = None

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    def quiet(self, call):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            return call()

    def made(self):
        return self.quiet(lambda: AutoCycle(self.given, total_steps=self.total, folder=self.folder / "auto"))

    def train(self, samples, levels, stop=None):
        left = self.total - self.core.last_step - 1
        samples, levels = samples[:left], levels[:left]
        if not samples:
            return
        stop = None if stop is None else min(stop, len(samples) - 1)
        made = len(samples) if stop is None else stop + 1
        records = Records(self.callback)
        self.fit(
            *(samples, levels, self.callback, records),
            stop=stop,
            initial_epoch=self.epoch,
            epochs=self.epoch + 1,
        )
        assert len(records.losses) == made
        for sample, level, loss in zip(samples, levels, records.losses, strict=False):
            wanted = self.wanted.weights[sample] + level
            assert loss == pytest.approx(wanted, rel=1e-3, abs=1e-3, nan_ok=True)
            self.wanted.update(sample, self.quiet(lambda: self.core.lr))
            self.quiet(lambda loss=loss: self.core.step(loss))
        if stop is None:
            self.epoch += 1

    @rule(samples=st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=40))
    def calm(self, samples):
        self.train(samples, [1.0] * len(samples))

    @rule(samples=SAMPLES, level=st.sampled_from([math.nan, math.inf, 30.0, 1e6]))
    def bad(self, samples, level):
        self.train(samples, [level] * len(samples))

    @rule(samples=SAMPLES, stop=st.integers(0, 7))
    def interrupt(self, samples, stop):
        """The next fit goes on in the middle of the epoch."""
        self.train(samples, [1.0] * len(samples), stop)

    @precondition(lambda self: self.epoch > 0)
    @rule(samples=SAMPLES, stop=st.integers(0, 7))
    def kill_and_continue(self, samples, stop):
        """A new process has the model and the file of the end of the last epoch."""
        variables = [*self.model.variables, *self.model.optimizer.variables]
        held = [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]
        if not [*(self.folder / "auto").glob(f"autocycle-{self.epoch:06d}.npz")]:
            return
        saved = self.core.state_dict(), self.wanted.copy()
        self.train(samples, [1.0] * len(samples), stop)
        self.model, self.wanted = model_of(), Weights()
        for variable, value in zip([*self.model.variables, *self.model.optimizer.variables], held, strict=True):
            variable.assign(value)
        self.core = self.quiet(lambda: cyclr.AutoCycle(self.total, self.given, state=self.wanted, usual_lr=0.01))
        self.core.load_state_dict(saved[0])
        self.wanted.restore(saved[1])
        if [*(self.folder / "auto").glob(f"autocycle-{self.epoch:06d}.npz")]:
            self.callback = self.made()

    @invariant()
    def the_callback_is_the_core(self):
        if not hasattr(self, "core"):
            return
        self.check()
        own = self.callback.auto
        if own is not None:
            assert (own.last_step, own.factor, own.events) == (
                self.core.last_step,
                self.core.factor,
                self.core.events,
            )


TestByCyclicLR = searched(ByCyclicLR, EXAMPLES, 15)
TestByAutoCycle = searched(ByAutoCycle, EXAMPLES, 12)
