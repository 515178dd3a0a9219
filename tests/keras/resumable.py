"""A training script that may be killed at any moment and started again, and what starts it, kills it and reads it.

    python resumable.py FORM DIRECTORY SAVE_FREQ EPOCHS [KILL_AFTER]

FORM is "graph" (`LearningRate`) or "callback" (`ScheduleCallback`). Every update adds a line to DIRECTORY/updates: its
number and the rate that it used. The rate is read off the optimizer: one bias has the gradient 1 in every update, so
that its velocity goes from v to momentum * v - rate.

SAVE_FREQ is that of Keras' `BackupAndRestore`. With "epoch" a run goes on just as if nothing had been. With a number of
batches the optimizer and its counter go on from the last backup, but Keras begins the epoch again from its first batch:
the rates follow the counter, the data repeat. Two backups are kept, as a kill may leave the newer one half written.

After KILL_AFTER updates it kills itself.
"""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import cyclr

SCHEDULE = cyclr.Cyclical(0.001, 0.006, step_size=37, decay=cyclr.Exponential(0.999))
MOMENTUM = SCHEDULE.mirrored(0.85, 0.95)
BATCHES, BATCH = 10, 4
"""In an epoch; samples in a batch."""


def train(form: str, directory: Path, save_freq: str | int, epochs: int, kill_after: int = 0) -> None:
    import keras

    from cyclr.keras import LearningRate, ScheduleCallback

    class Recorder(keras.callbacks.Callback):
        def __init__(self, path: Path) -> None:
            super().__init__()
            self.file, self.made = path.open("ab", buffering=0), 0

        def velocity(self) -> float:
            return float(keras.ops.convert_to_numpy(self.model.optimizer.momentums[-1])[1])

        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            if not self.model.optimizer.built:
                self.model.optimizer.build(self.model.trainable_variables)
            self.before = self.velocity()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            rate = logs.get("momentum", 0.9) * self.before - self.velocity()
            update = int(self.model.optimizer.iterations) - 1
            # In one write, so that no line is half written.
            self.file.write(f"{update} {rate!r}\n".encode())
            self.made += 1
            if self.made == kill_after:
                os.kill(os.getpid(), signal.SIGKILL)

        def on_train_end(self, logs: Any = None) -> None:
            self.file.close()

    def loss(y: Any, prediction: Any) -> Any:
        return keras.ops.mean((prediction[:, 0] - y[:, 0]) ** 2) + keras.ops.mean(prediction[:, 1])

    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(BATCHES * BATCH, 3)).astype("float32")
    y = np.sin(x.sum(axis=1, keepdims=True))
    layers = keras.layers
    model = keras.Sequential([keras.Input((3,)), layers.Dense(8, activation="tanh"), layers.Dense(2)])
    model.set_weights([numbers.normal(size=weight.shape) for weight in model.weights])
    # The recorder first, so that no backup holds an update that is not written down.
    callbacks = [
        Recorder(directory / "updates"),
        keras.callbacks.BackupAndRestore(directory / "backup", save_freq=save_freq, double_checkpoint=True),
    ]
    if form == "graph":
        rate: Any = LearningRate(SCHEDULE)
    else:
        rate = 0.5
        callbacks.insert(0, ScheduleCallback(SCHEDULE, momentum=MOMENTUM))
    model.compile(keras.optimizers.SGD(rate, momentum=0.9), loss)
    model.fit(x, y, batch_size=BATCH, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    np.savez(
        directory / "weights.npz", *model.get_weights(), *map(keras.ops.convert_to_numpy, model.optimizer.variables)
    )


class Run:
    """A run of this script in a directory of its own.

    Args:
        directory: where it keeps its backups and writes its updates; made if need be.
        form: "graph" or "callback".
        save_freq: of its `BackupAndRestore`.
        epochs: how many it is told to train.
    """

    def __init__(self, directory: Path, form: str, save_freq: str | int, epochs: int) -> None:
        self.directory, self.form = directory, form
        self.directory.mkdir(parents=True, exist_ok=True)
        self._arguments = [form, str(directory), str(save_freq), str(epochs)]

    def _start(self, *more: str) -> "subprocess.Popen[bytes]":
        with (self.directory / "output").open("ab") as output:
            return subprocess.Popen(
                [sys.executable, __file__, *self._arguments, *more], stdout=output, stderr=subprocess.STDOUT
            )

    def _lines(self) -> int:
        path = self.directory / "updates"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def kill_after(self, updates: int, seconds: float = 0.0) -> bool:
        """Start it, and kill it as soon as it has made this many more updates and this much time has passed.

        Returns:
            Whether it was killed; if not, it had ended before.
        """
        lines, process = self._lines() + updates, self._start()
        try:
            while process.poll() is None and self._lines() < lines:
                time.sleep(0.001)
            time.sleep(seconds)
        finally:
            process.kill()
        code = process.wait()
        if code not in (0, -signal.SIGKILL):
            raise RuntimeError((self.directory / "output").read_text())
        return code == -signal.SIGKILL

    def kill_itself_after(self, updates: int) -> None:
        """Start it, and let it kill itself when it has made this many more updates."""
        if self._start(str(updates)).wait() != -signal.SIGKILL:
            raise RuntimeError((self.directory / "output").read_text())

    def finish(self) -> None:
        """Start it, and wait for its end."""
        if self._start().wait():
            raise RuntimeError((self.directory / "output").read_text())

    def updates(self) -> list[tuple[int, float]]:
        """Number and rate of every update so far, in the order in which they were made; repeated ones repeat."""
        path = self.directory / "updates"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(int(number), float(rate)) for number, rate in map(str.split, lines)]

    def weights(self) -> list[np.ndarray]:
        """The weights and the optimizer's variables at its end."""
        with np.load(self.directory / "weights.npz") as file:
            return [file[name] for name in file.files]


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _, form, directory, save_freq, epochs, *kill_after = sys.argv
    every = int(save_freq) if save_freq.isdigit() else save_freq
    train(form, Path(directory), every, int(epochs), *map(int, kill_after))
