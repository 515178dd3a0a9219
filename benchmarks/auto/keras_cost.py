"""Cost of AutoCycle in Keras: a step of the classic CNN with AutoCycle against a step with a ScheduleCallback.

    KERAS_BACKEND=tensorflow taskset -c 0 python benchmarks/auto/keras_cost.py [--batch 50] [--rounds 3] [--steps 200]

A round has a run with each, of `--steps` updates, in fits of 20 updates that alternate in one process. On one core, the
CPU time of the process excludes other work of the machine. Printed are the median over the rounds of the ratio of the
times, the lowest ratio and the highest ratio. A run makes at most 64 copies of the training state, so the copies cost
less per update in a longer run.
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

FIT = 20
"""Updates in a call of `fit`."""


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
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=200)
    given = parser.parse_args()
    # A ScheduleCallback expects one fit at a time.
    warnings.filterwarnings("ignore", "the schedule has total_steps")
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(FIT * given.batch, 28, 28, 1)).astype("float32")
    y = numbers.integers(0, 10, len(x))
    schedule = cyclr.Cyclical.over(given.steps, 1, 1e-4, 1e-2)
    models = {kind: make() for kind in ("ScheduleCallback", "AutoCycle")}
    # The same callbacks in every round: a new ScheduleCallback would compile the step again.
    callbacks: dict[str, Any] = {
        "ScheduleCallback": ScheduleCallback(schedule),
        "AutoCycle": AutoCycle(schedule, total_steps=given.steps),
    }
    ratios, step = [], 0.0
    for round_ in range(given.rounds + 1):
        seconds = dict.fromkeys(models, 0.0)
        for number in range(given.steps // FIT):
            for kind in list(models) if (round_ + number) % 2 else list(models)[::-1]:
                begin = time.process_time()
                models[kind].fit(x, y, batch_size=given.batch, shuffle=False, verbose=0, callbacks=[callbacks[kind]])
                seconds[kind] += time.process_time() - begin
        # Round 0 compiles.
        if round_ > 0:
            ratios.append(seconds["AutoCycle"] / seconds["ScheduleCallback"])
            step = seconds["ScheduleCallback"] / given.steps * 1e3
        print(*callbacks["AutoCycle"].events, sep="\n")
    print(
        f"{keras.backend.backend()}, batch {given.batch}, {step:.1f} ms a step: {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
