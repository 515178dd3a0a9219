"""What members cost in Keras: an update beside `Snapshots`, a prediction, memory and files, as ratios.

    KERAS_BACKEND=tensorflow python benchmarks/members/keras_cost.py [ROUNDS]

The classic CNN of 856,074 parameters, batches of 50 random images, on one thread. Printed are medians over the rounds,
by default 9, in each of which all sides alternate. Times are CPU times, so that other programs disturb them little.
"""

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import keras
import numpy as np

import cyclr
from cyclr.experiments.workloads import classic_cnn
from cyclr.keras import LearningRate, Snapshots, average, ensemble

UPDATES = 20


def seconds(function) -> float:
    began = time.process_time()
    function()
    return time.process_time() - began


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    random = np.random.default_rng(0)
    x = random.random((UPDATES * 50, 28, 28, 1), dtype=np.float32)
    y = random.integers(0, 10, UPDATES * 50)
    with tempfile.TemporaryDirectory() as folder:
        runs = []
        for callbacks in ([], [Snapshots()], [Snapshots(folder=folder)]):
            keras.utils.set_random_seed(0)
            model = classic_cnn((28, 28, 1), 10)
            optimizer = keras.optimizers.SGD(LearningRate(cyclr.WarmRestarts(0.0, 0.001, UPDATES)))
            model.compile(optimizer, "sparse_categorical_crossentropy")
            runs.append((model, callbacks))

        def cycle(run) -> None:
            model, callbacks = run
            model.fit(x, y, batch_size=50, shuffle=False, verbose=0, callbacks=[*callbacks])

        for run in runs:
            cycle(run)
        times = [[seconds(lambda run=run: cycle(run)) for run in runs] for _ in range(rounds)]
        for number, name in ((1, "memory"), (2, "a folder")):
            ratio = statistics.median(row[number] / row[0] for row in times)
            print(f"{UPDATES} updates with a member in {name}, by {UPDATES} updates without: {ratio:.3f}")
        model, members = runs[0][0], runs[1][1][0].members[:5]
        size = sum(value.nbytes for value in members[0].state)
        parameters = 4 * model.count_params()
        print(f"a member in memory, by the parameters: {size / parameters:.3f}")
        size = next(Path(folder).glob("member-*")).stat().st_size
        print(f"a member in a file, by the parameters: {size / parameters:.3f}")
        filed = runs[2][1][0].members[:5]
        made = (model, ensemble(model, members), ensemble(model, filed), average(model, members))
        many = random.random((5000, 28, 28, 1), dtype=np.float32)
        predict = [lambda one=one: one.predict(many, batch_size=500, verbose=0) for one in made]
        for one in predict:
            one()
        times = [[seconds(one) for one in predict] for _ in range(rounds)]
        for number, name in ((1, "5 members"), (2, "5 members in a folder"), (3, "an average")):
            ratio = statistics.median(row[number] / row[0] for row in times)
            print(f"a prediction of 5,000 images by {name}, by one of the model: {ratio:.2f}")


if __name__ == "__main__":
    main()
