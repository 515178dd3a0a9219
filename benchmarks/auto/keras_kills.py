"""Runs with AutoCycle in Keras that are killed at random moments of their training, and resumed.

    KERAS_BACKEND=tensorflow python benchmarks/auto/keras_kills.py [--kills 20]

The bounds of the run are ten times too high, so AutoCycle restores earlier states. A process trains until it is killed
by SIGKILL, at a random moment of the training time, and the next process continues. A finished run starts again in an
empty folder, until the number of kills is reached. The end of every run is compared with the end of a run that was not
killed: the events, the weights and the variables of the optimizer, bit for bit.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

BATCH, BATCHES, EPOCHS = 16, 20, 12


def train(folder: Path) -> None:
    import keras

    import cyclr
    from cyclr.keras import AutoCycle

    class Begun(keras.callbacks.Callback):  # type: ignore[misc]
        def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
            (folder / "begun").touch()
            time.sleep(0.005)

    warnings.simplefilter("ignore")
    numbers = np.random.default_rng(0)
    y = numbers.integers(0, 4, BATCHES * BATCH)
    x = numbers.normal(size=(4, 8))[y] + 0.5 * numbers.normal(size=(len(y), 8))
    keras.utils.set_random_seed(1)
    layers = keras.layers
    parts = [layers.Dense(32, activation="tanh"), layers.BatchNormalization(), layers.Dropout(0.2), layers.Dense(4)]
    model = keras.Sequential([keras.Input((8,)), *parts])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    auto = AutoCycle(cyclr.Cyclical.over(BATCHES * EPOCHS, 1, 0.1, 3.0), folder=folder / "auto")
    backup = keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True)
    given = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0}
    model.fit(x.astype("float32"), y, callbacks=[auto, backup, Begun()], **given)
    values = [*model.get_weights(), *map(keras.ops.convert_to_numpy, model.optimizer.variables)]
    np.savez(folder / "end.npz", events=np.array([str(event) for event in auto.events]), **dict(enumerated(values)))


def enumerated(values: list[Any]) -> list[tuple[str, Any]]:
    return [(str(number), value) for number, value in enumerate(values)]


def run(folder: Path, seconds: float = float("inf")) -> tuple[bool, float]:
    """Train until `seconds` after the first batch. Return True if the run finished, and the seconds that it took."""
    folder.mkdir(exist_ok=True)
    (folder / "begun").unlink(missing_ok=True)
    process = subprocess.Popen([sys.executable, __file__, "--train", str(folder)], stderr=subprocess.DEVNULL)
    while process.poll() is None and not (folder / "begun").exists():
        time.sleep(0.001)
    begin = time.perf_counter()
    while process.poll() is None and time.perf_counter() < begin + seconds:
        time.sleep(0.001)
    process.kill()
    code = process.wait()
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"a process ended with {code}; start one by hand: {__file__} --train {folder}")
    return code == 0, time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--train", type=Path)
    given = parser.parse_args()
    if given.train is not None:
        train(given.train)
        return
    moments = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as root:
        whole, killed = Path(root) / "whole", Path(root) / "killed"
        _, seconds = run(whole)
        with np.load(whole / "end.npz") as file:
            expected = {name: file[name] for name in file.files}
        kills = ends = different = 0
        while kills < given.kills or killed.exists():
            ended, _ = run(killed, seconds * moments.random() if kills < given.kills else float("inf"))
            if not ended:
                kills += 1
                continue
            ends += 1
            with np.load(killed / "end.npz") as file:
                same = {*file.files} == {*expected} and all(
                    np.array_equal(file[name], value) for name, value in expected.items()
                )
            different += not same
            shutil.rmtree(killed)
    events = len(expected["events"])
    print(
        f"{os.environ.get('KERAS_BACKEND')}: {seconds:.1f} s of training, {events} events; {kills} kills; {ends} runs "
        f"to the end, {different} of them another"
    )


if __name__ == "__main__":
    main()
