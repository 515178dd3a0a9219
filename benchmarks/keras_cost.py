"""Cost of a schedule: `fit` with a schedule against `fit` with a constant learning rate, on all Keras backends.

    python benchmarks/keras_cost.py [backend ...]

Runs alternate in one process, so that other work of the machine affects all of them equally. A cell is the median over
the rounds of (time with a schedule) / (time with a constant learning rate), and the range of the middle half. The tiny
model shows the largest relative cost. The CNN is the classic small CNN, with batches of 50.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from typing import Any

import numpy as np

import cyclr

ROUNDS = 11
SCHEDULE = cyclr.Cyclical(1e-5, 1e-4, step_size=200)
CASES = ("constant", "constant again", "LearningRate", "ScheduleCallback", "with momentum")
TASKS = {"tiny": 1500, "CNN": 60}
"""Steps of one call of `fit`."""


def layers(task: str) -> list[Any]:
    from keras import Input
    from keras.layers import Conv2D, Dense, Dropout, Flatten, MaxPooling2D

    if task == "tiny":
        return [Input((16,)), Dense(16, "relu"), Dense(1)]
    return [
        *(Input((28, 28, 1)), Conv2D(32, 3, activation="relu"), Conv2D(64, 3, activation="relu"), MaxPooling2D()),
        *(Dropout(0.25), Flatten(), Dense(128, "relu"), Dropout(0.5), Dense(1)),
    ]


def make(task: str, case: str) -> tuple[Any, list[Any]]:
    import keras

    from cyclr.keras import LearningRate, ScheduleCallback

    rate = LearningRate(SCHEDULE) if case == "LearningRate" else 1e-5
    model = keras.Sequential(layers(task))
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), "mse")
    callbacks = {
        "ScheduleCallback": [ScheduleCallback(SCHEDULE)],
        "with momentum": [ScheduleCallback(SCHEDULE, SCHEDULE.mirrored(0.85, 0.95))],
    }
    return model, callbacks.get(case, [])


def measure(task: str) -> dict[str, list[float]]:
    """Seconds of every round, by case."""
    steps, batch = TASKS[task], 32 if task == "tiny" else 50
    shape = (16,) if task == "tiny" else (28, 28, 1)
    x = np.random.default_rng(0).normal(size=(steps * batch, *shape)).astype("float32")
    y = x.reshape(len(x), -1)[:, :1]
    made = {case: make(task, case) for case in CASES}
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    for round_ in range(ROUNDS + 1):
        order = CASES[round_ % len(CASES) :] + CASES[: round_ % len(CASES)]
        for case in order:
            model, callbacks = made[case]
            begin = time.perf_counter()
            model.fit(x, y, batch_size=batch, shuffle=False, verbose=0, callbacks=callbacks)
            if round_ > 0:
                seconds[case].append(time.perf_counter() - begin)
    return seconds


def main() -> None:
    for backend in sys.argv[1:] or ["tensorflow", "jax", "torch"]:
        environment = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3", "COST_CELLS": "1"}
        done = subprocess.run([sys.executable, __file__], env=environment, check=True, capture_output=True, text=True)
        for task, seconds in json.loads(done.stdout.splitlines()[-1]).items():
            step = statistics.median(seconds["constant"]) / TASKS[task] * 1e6
            print(f"{backend}, {task} model, {step:.0f} µs a step, {ROUNDS} rounds")
            for case in CASES[1:]:
                ratios = [a / b for a, b in zip(seconds[case], seconds["constant"], strict=True)]
                low, median, high = statistics.quantiles(ratios, n=4)
                print(f"  {case:18} {median:6.3f}  ({low:.3f} to {high:.3f})", flush=True)


if __name__ == "__main__":
    if "COST_CELLS" in os.environ:
        print(json.dumps({task: measure(task) for task in TASKS}))
    else:
        main()
