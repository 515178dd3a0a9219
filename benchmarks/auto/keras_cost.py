"""What AutoCycle costs in Keras: a step of the classic CNN with it against one with a ScheduleCallback.

    KERAS_BACKEND=tensorflow python benchmarks/auto/keras_cost.py [--batch 128] [--rounds 5]

Runs alternate in one process, so that whatever else the machine does befalls both alike. Printed are the median over
the rounds of the ratio of the times, and the range of the middle half.
"""

import argparse
import statistics
import time
import warnings
from typing import Any

import keras
import numpy as np

import cyclr
from cyclr.keras import AutoCycle, ScheduleCallback

STEPS = 24
SCHEDULE = cyclr.Cyclical.over(STEPS, 1, 1e-5, 1e-4)


def make() -> Any:
    layers = keras.layers
    model = keras.Sequential(
        [
            *(keras.Input((28, 28, 1)), layers.Conv2D(32, 3, activation="relu")),
            *(layers.Conv2D(64, 3, activation="relu"), layers.MaxPooling2D(), layers.Dropout(0.25)),
            *(layers.Flatten(), layers.Dense(128, activation="relu"), layers.Dropout(0.5), layers.Dense(10)),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(1e-5, momentum=0.9), loss, metrics=["accuracy"])
    return model


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    # The schedule is shorter than all rounds together.
    warnings.filterwarnings("ignore", "the schedule has total_steps")
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(STEPS * given.batch, 28, 28, 1)).astype("float32")
    y = numbers.integers(0, 10, len(x))
    models = {kind: make() for kind in (ScheduleCallback, AutoCycle)}
    # The same callback in every round: a new ScheduleCallback would compile the step again.
    callbacks = {kind: kind(SCHEDULE) for kind in models}
    seconds: dict[Any, list[float]] = {kind: [] for kind in models}
    for round_ in range(given.rounds + 1):
        for kind in list(models) if round_ % 2 else reversed(models):
            begin = time.perf_counter()
            models[kind].fit(x, y, batch_size=given.batch, shuffle=False, verbose=0, callbacks=[callbacks[kind]])
            if round_ > 0:
                seconds[kind].append(time.perf_counter() - begin)
    ratios = [a / b for a, b in zip(seconds[AutoCycle], seconds[ScheduleCallback], strict=True)]
    low, median, high = statistics.quantiles(ratios, n=4)
    step = statistics.median(seconds[ScheduleCallback]) / STEPS * 1e3
    print(
        f"{keras.backend.backend()}, batch {given.batch}, {step:.1f} ms a step: {median:.3f} ({low:.3f} to {high:.3f})"
    )


if __name__ == "__main__":
    main()
