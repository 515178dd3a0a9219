"""`LearningRate`, `ScheduleCallback` and `CyclicLR` in any order of calls: update t uses `schedule(t)`."""

import gc
import shutil
import tempfile
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule
from keras.callbacks import Callback, LearningRateScheduler
from tests.stateful import CYCLES, SCHEDULES, Machine, searched

from cyclr.keras import LearningRate, ScheduleCallback, change_schedule, range_test

BACKEND = keras.backend.backend()
SIZE = 6
"""Samples and weights: sample i is the unit vector i, and the gradient is 1 at weight i."""

X, Y = np.eye(SIZE, dtype="float32"), np.zeros((SIZE, 1), "float32")
# XLA takes a second for every model.
QUICKLY = {"jit_compile": False} if BACKEND == "tensorflow" else {}


def mean_prediction(y_true, y_pred):
    return keras.ops.mean(y_pred)


class Interrupted(Exception):  # noqa: N818
    """Ends a fit."""


class At(Callback):
    """Calls a function before or after batch number `batch`, and keeps the logs."""

    def __init__(self, batch=None, fn=None, before=False):
        super().__init__()
        self.batch, self.fn, self.before, self.logs = batch, fn, before, []

    def on_train_batch_begin(self, batch, logs=None):
        if self.before and batch == self.batch:
            self.fn()

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: value for name, value in logs.items() if name != "loss"})
        if not self.before and batch == self.batch:
            self.fn()


class Weights:
    """What SGD does, by hand."""

    def __init__(self, micro_batches):
        self.weights, self.micro_batches = np.zeros(SIZE), micro_batches
        self.reset()

    def reset(self):
        self.velocity, self.gradient = np.zeros(SIZE), np.zeros(SIZE)
        self.batches = 0

    @property
    def updates(self):
        return self.batches // self.micro_batches

    def batch(self, sample, rate, momentum, decay):
        """One batch, by the values of the update that it belongs to."""
        self.gradient[sample] += 1 / self.micro_batches
        self.batches += 1
        if self.batches % self.micro_batches == 0:
            self.weights -= self.weights * decay * rate
            self.velocity = momentum * self.velocity - rate * self.gradient
            self.weights += self.velocity
            self.gradient = np.zeros(SIZE)

    def copy(self):
        other = Weights(self.micro_batches)
        vars(other).update({name: np.copy(v) if isinstance(v, np.ndarray) else v for name, v in vars(self).items()})
        return other


class Training(Machine):
    """A model that is trained in pieces. `offset` is the step of the next update less the optimizer's count."""

    @initialize(
        in_graph=st.booleans(),
        lr=SCHEDULES,
        momentum=st.none() | CYCLES,
        decay=st.none() | CYCLES,
        per_call=st.sampled_from([1] if BACKEND == "torch" else [1, 1, 3]),
        micro_batches=st.sampled_from([1, 1, 2]),
        start=st.sampled_from([None, None, 5]),
    )
    def begin(self, in_graph, lr, momentum, decay, per_call, micro_batches, start):
        self.folder = Path(tempfile.mkdtemp())
        self.in_graph, self.per_call, self.micro_batches = in_graph, per_call, micro_batches
        self.schedules = {"lr": lr, "momentum": momentum, "weight_decay": decay}
        self.start = start
        self.model = keras.Sequential(
            [keras.Input((SIZE,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
        )
        self.saved = []
        self.compile()
        self.wanted = Weights(micro_batches)
        self.callback = self.made()

    def compile(self):
        rate = LearningRate(self.schedules["lr"], self.start or 0) if self.in_graph else 0.125
        optimizer = keras.optimizers.SGD(
            rate,
            momentum=0.5 if self.schedules["momentum"] else 0.0,
            weight_decay=0.25 if self.schedules["weight_decay"] else None,
            gradient_accumulation_steps=self.micro_batches if self.micro_batches > 1 else None,
        )
        self.model.compile(optimizer, mean_prediction, steps_per_execution=self.per_call, **QUICKLY)
        # Keras cannot load what it saves of an optimizer that is not built.
        optimizer.build(self.model.trainable_variables)
        self.offset = self.start or 0
        self.rate = 0.125
        self.attached = self.attached_by_hand = False

    def made(self):
        self.begins = self.start is not None
        """The step of the callback's first update is given, whenever that will be."""
        given = {name: schedule for name, schedule in self.schedules.items() if schedule is not None}
        if self.in_graph:
            given.pop("lr")
        return ScheduleCallback(**given, start_step=None if self.in_graph and not given else self.start)

    def teardown(self):
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)
            self.model = self.callback = None
            gc.collect()

    # What is to be

    def value(self, name, default):
        schedule = self.schedules[name]
        return default if schedule is None else schedule(self.wanted.updates + self.offset)

    def expect(self, samples, scheduled=True):
        for sample in samples:
            values = (self.value("lr", 0.125), self.value("momentum", 0.0), self.value("weight_decay", 0.0))
            if not scheduled:
                momentum, decay = (
                    (0.5 if self.schedules["momentum"] else 0.0),
                    (0.25 if self.schedules["weight_decay"] else 0),
                )
                values = (values[0] if self.in_graph else self.rate, momentum, decay)
            self.wanted.batch(sample, *values)

    def check(self):
        found = self.model.get_weights()[0].ravel()
        np.testing.assert_allclose(found, self.wanted.weights, rtol=2e-5, atol=2e-5)
        assert int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == self.wanted.updates

    def fit(self, samples, *callbacks, epochs=1):
        self.begins = self.begins and self.callback not in callbacks
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "the schedule has total_steps")
            self.model.fit(
                X[samples], Y[samples], batch_size=1, shuffle=False, verbose=0, epochs=epochs, callbacks=[*callbacks]
            )

    def ended(self):
        """After a fit with the callback the optimizer has the rate of the last update."""
        self.attached = self.attached_by_hand
        if not self.in_graph and self.wanted.updates + self.offset > 0:
            self.rate = self.schedules["lr"](self.wanted.updates + self.offset - 1)
            if not self.attached:
                held = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
                assert held == pytest.approx(self.rate, rel=1e-6)

    # Training

    SAMPLES = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=6)

    @rule(samples=SAMPLES, epochs=st.integers(1, 2))
    def train(self, samples, epochs):
        kept = At()
        first = self.wanted.updates
        self.fit(samples, self.callback, kept, epochs=epochs)
        self.expect(samples * epochs)
        self.check()
        self.ended()
        if self.per_call == 1 and self.micro_batches == 1:
            steps = range(first + self.offset, first + self.offset + len(kept.logs))
            lr = self.schedules["lr"]
            assert [logs["learning_rate"] for logs in kept.logs] == [lr(step) for step in steps]

    @precondition(lambda self: self.per_call == 1)
    @rule(samples=SAMPLES, at=st.integers(0, 5), before=st.booleans(), first=st.booleans())
    def interrupt(self, samples, at, before, first):
        at = min(at, len(samples) - 1)

        def stop():
            raise Interrupted

        stops = At(at, stop, before)
        with pytest.raises(Interrupted):
            self.fit(samples, *([stops, self.callback] if first else [self.callback, stops]))
        self.expect(samples[: at if before else at + 1])
        self.check()
        self.attached = True

    @precondition(lambda self: self.per_call == 1)
    @rule(samples=SAMPLES, at=st.integers(0, 5), lr=SCHEDULES)
    def change_during_fit(self, samples, at, lr):
        """From the next update on."""
        at = min(at, len(samples) - 1)
        self.fit(samples, self.callback, At(at, lambda: self.to_schedule(lr)))
        self.expect(samples[: at + 1])
        self.schedules["lr"] = lr
        self.expect(samples[at + 1 :])
        self.check()
        self.ended()

    def to_schedule(self, lr):
        if self.in_graph:
            change_schedule(self.model, lr)
        else:
            self.callback.change(lr=lr)

    @rule(lr=SCHEDULES)
    def change(self, lr):
        self.to_schedule(lr)
        self.schedules["lr"] = lr

    @rule(momentum=CYCLES)
    def change_momentum(self, momentum):
        if self.schedules["momentum"]:
            self.callback.change(momentum=momentum)
            self.schedules["momentum"] = momentum

    @rule()
    def detach(self):
        self.callback.detach()
        if self.attached:
            self.attached_by_hand = False
            self.ended()

    @rule()
    def attach(self):
        self.callback.attach(self.model)
        self.begins = False
        self.attached = self.attached_by_hand = True

    @precondition(lambda self: self.per_call == 1 and not self.begins)
    @rule(samples=SAMPLES)
    def train_by_hand(self, samples):
        for sample in samples:
            self.model.train_on_batch(X[[sample]], Y[[sample]])
        self.expect(samples, scheduled=self.attached)
        self.check()

    @precondition(lambda self: not self.attached and not self.begins)
    @rule(samples=SAMPLES)
    def train_without_the_callback(self, samples):
        self.fit(samples)
        self.expect(samples, scheduled=False)
        self.check()

    @rule(by_hand=st.booleans())
    def another_callback(self, by_hand):
        """A new one goes on where the optimizer is; one with a start_step would begin there."""
        if self.start is None or self.wanted.updates == 0:
            self.callback.detach()
            if self.attached:
                self.attached_by_hand = False
                self.ended()
            self.callback = self.made()

    @rule(samples=SAMPLES)
    def second_scheduler_is_refused(self, samples):
        other = LearningRateScheduler(lambda epoch, rate: 0.5)
        with pytest.raises(ValueError, match="sets the learning rate, and nothing else can"):
            self.fit(samples, self.callback, other)
        self.check()

    @rule()
    def range_test(self):
        """It leaves no trace."""
        range_test(self.model, X, Y, batch_size=1, steps=8, min_lr=1e-4, max_lr=1e-2, verbose=False)
        self.check()

    @rule()
    def compile_again(self):
        self.callback.detach()
        self.compile()
        self.wanted.reset()
        self.callback = self.made()

    # Saving and loading

    @rule()
    def save(self):
        path = self.folder / f"{len(self.saved)}.keras"
        self.model.save(path)
        self.saved.append((path, dict(self.schedules), self.wanted.copy(), self.offset))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), same_callback=st.booleans())
    def load(self, data, same_callback):
        path, schedules, wanted, offset = data.draw(st.sampled_from(self.saved))
        self.model = keras.saving.load_model(path, custom_objects={"mean_prediction": mean_prediction})
        self.wanted = wanted.copy()
        self.attached = self.attached_by_hand = False
        self.rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        if self.in_graph:
            self.schedules["lr"] = schedules["lr"]
            self.offset = offset
        self.check()
        if not same_callback or self.start is not None:
            self.start = None if self.wanted.updates + offset == 0 and not self.in_graph else offset + wanted.updates
            if self.in_graph:
                self.start = offset + wanted.updates
            self.schedules |= {} if self.in_graph else {"lr": schedules["lr"]}
            self.callback = self.made()
        self.offset = offset


# A compiled step takes a second.
TestTraining = searched(Training, 8 if BACKEND == "torch" else 2, 15)
