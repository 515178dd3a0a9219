"""The learning rate that every update really uses, in different training loops, in one table for all Keras backends.

    python benchmarks/keras_clock.py [backend ...]

Update t moves only weight t, with gradient 1 and no momentum, so the weights are the negative learning rates. Every
cell is the largest difference from schedule(t), in units of max_lr. The last row tests the momentum: every update moves
two weights with a known gradient, and they are compared with the same updates by hand in float64.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import cyclr

UPDATES = 40
SCHEDULE = cyclr.Cyclical(0.01, 0.05, step_size=7, shape="sinusoidal", decay=cyclr.Exponential(0.99))
MOMENTUM = SCHEDULE.mirrored(0.5, 0.95)


def mean_prediction(y: Any, prediction: Any) -> Any:
    import keras

    return keras.ops.mean(prediction)


class Run:
    """A model whose weights record the learning rate of every update, with the schedule in one of two forms."""

    def __init__(self, form: str, micro_batches: int = 1, **compile_arguments: Any) -> None:
        import keras

        from cyclr.keras import LearningRate, ScheduleCallback

        accumulation = micro_batches if micro_batches > 1 else None
        in_graph = form == "LearningRate"
        rate = LearningRate(SCHEDULE) if in_graph else 0.9
        layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
        self.model = keras.Sequential([keras.Input((UPDATES,)), layer])
        self.model.compile(
            keras.optimizers.SGD(rate, gradient_accumulation_steps=accumulation),
            loss=mean_prediction,
            **compile_arguments,
        )
        self.callback = ScheduleCallback() if in_graph else ScheduleCallback(SCHEDULE)
        self.x = np.repeat(np.eye(UPDATES, dtype="float32"), micro_batches, axis=0)
        self.y = np.zeros((len(self.x), 1), "float32")

    def fit(self, samples: slice = slice(None), **arguments: Any) -> "Run":
        arguments = {"batch_size": 1, "shuffle": False, "verbose": 0, **arguments}
        self.model.fit(self.x[samples], self.y[samples], callbacks=[self.callback], **arguments)
        return self

    def difference(self) -> float:
        used = -np.asarray(self.model.get_weights()[0], dtype=np.float64).ravel()
        return float(np.abs(used - SCHEDULE(np.arange(UPDATES))).max() / SCHEDULE.max_lr)


def several_per_call(form: str) -> float | None:
    import keras

    if keras.backend.backend() == "torch":
        return None
    return Run(form, steps_per_execution=6).fit().difference()


def with_xla(form: str) -> float | None:
    import keras

    if keras.backend.backend() == "torch":
        return None
    return Run(form, jit_compile=True).fit().difference()


def mixed_precision(form: str) -> float:
    """Loss scaling skips two updates, because the gradients of the first and of the last sample overflow."""
    import keras

    keras.config.set_dtype_policy("mixed_float16")
    try:
        run = Run(form)
        run.x = np.insert(run.x, [0, 10], np.inf, axis=0)
        run.y = np.zeros((len(run.x), 1), "float32")
        return run.fit().difference()
    finally:
        keras.config.set_dtype_policy("float32")


def later_epoch(form: str) -> float:
    run = Run(form).fit(slice(0, 10))
    return run.fit(slice(10, None), epochs=2, initial_epoch=1).difference()


def saved_and_loaded(form: str) -> float:
    import keras

    run = Run(form).fit(slice(0, 17))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.keras"
        run.model.save(path)
        run.model = keras.saving.load_model(path, custom_objects={"mean_prediction": mean_prediction})
    return run.fit(slice(17, None)).difference()


def by_train_on_batch(form: str) -> float:
    run = Run(form)
    if form == "ScheduleCallback":
        run.callback.attach(run.model)
    for t in range(UPDATES):
        run.model.train_on_batch(run.x[t : t + 1], run.y[t : t + 1])
    return run.difference()


def custom_loop(form: str) -> float:
    """The gradients are passed to the optimizer directly."""
    import keras

    run = Run(form)
    if form == "ScheduleCallback":
        run.callback.attach(run.model)
    optimizer = run.model.optimizer
    if not optimizer.built:
        optimizer.build(run.model.trainable_variables)
    for t in range(UPDATES):
        optimizer.apply([keras.ops.convert_to_tensor(run.x[t][:, None])], run.model.trainable_variables)
    return run.difference()


def momentum(form: str) -> float:
    """SGD with weights that all updates move."""
    import keras

    from cyclr.keras import LearningRate, ScheduleCallback

    in_graph = form == "LearningRate"
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((2,)), layer])
    optimizer = keras.optimizers.SGD(LearningRate(SCHEDULE) if in_graph else 0.9, momentum=0.9)
    model.compile(optimizer, loss=mean_prediction)
    callback = ScheduleCallback(None if in_graph else SCHEDULE, MOMENTUM)
    gradients = np.random.default_rng(0).normal(size=(UPDATES, 2)).astype("float32")
    weights, velocity = np.zeros(2), np.zeros(2)
    for t, gradient in enumerate(gradients.astype("float64")):
        velocity = MOMENTUM(t) * velocity - SCHEDULE(t) * gradient
        weights = weights + velocity
    model.fit(gradients, np.zeros((UPDATES, 1)), batch_size=1, shuffle=False, verbose=0, callbacks=[callback])
    return float(np.abs(model.get_weights()[0].ravel() - weights).max())


ROWS: dict[str, Callable[[str], float | None]] = {
    "one fit": lambda form: Run(form).fit().difference(),
    "run_eagerly": lambda form: Run(form, run_eagerly=True).fit().difference(),
    "accumulation of 4": lambda form: Run(form, micro_batches=4).fit().difference(),
    "steps_per_execution=6": several_per_call,
    "jit_compile (XLA)": with_xla,
    "mixed_float16, 2 skipped": mixed_precision,
    "initial_epoch": later_epoch,
    "saved and loaded": saved_and_loaded,
    "train_on_batch": by_train_on_batch,
    "custom loop": custom_loop,
    "momentum (weights)": momentum,
}
FORMS = ("LearningRate", "ScheduleCallback")


def measure() -> None:
    """Print this backend's cells as JSON."""
    print(json.dumps({name: [row(form) for form in FORMS] for name, row in ROWS.items()}))


def main() -> None:
    backends = sys.argv[1:] or ["tensorflow", "jax", "torch"]
    cells: dict[str, list[float | None]] = {name: [] for name in ROWS}
    for backend in backends:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "CLOCK_CELLS": "1"}
        done = subprocess.run([sys.executable, __file__], env=environment, check=True, capture_output=True, text=True)
        for name, values in json.loads(done.stdout.splitlines()[-1]).items():
            cells[name] += values
    print(f"{'':26}" + "".join(f"{backend:^26}" for backend in backends))
    print(
        f"{'':26}" + "".join(f"{form:>17}" if form == FORMS[1] else f"{form:>13}" for _ in backends for form in FORMS)
    )
    for name, values in cells.items():
        shown = ["-" if value is None else f"{value:.1e}" for value in values]
        print(f"{name:26}" + "".join(f"{v:>17}" if i % 2 else f"{v:>13}" for i, v in enumerate(shown)))


if __name__ == "__main__":
    measure() if "CLOCK_CELLS" in os.environ else main()
