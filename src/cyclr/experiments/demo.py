"""The main job from end to end: range test, bounds, schedule, and training with it and with a fixed rate."""

import importlib
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cyclr import _checks, _files
from cyclr.errors import CyclrError
from cyclr.experiments import workloads
from cyclr.experiments.data import Dataset
from cyclr.range_test import RangeTestResult
from cyclr.schedules import Cyclical, step_size
from cyclr.schedules.cyclical import Mode, decay_of_mode
from cyclr.schedules.shape import Shape

Progress = Callable[[str, int, int], None]
"""Called with the name of the stage, the steps done and the steps in all."""

EPOCHS_PER_CYCLE = 8
"""Two of Smith's step sizes of four epochs."""

FORMAT_VERSION = 1


@dataclass(frozen=True)
class Settings:
    """What to run.

    Attributes:
        epochs: length of both trainings, in epochs, ≥ 1.
        batch_size: samples in an update, ≥ 1.
        shape, mode: as for `Cyclical` and `Cyclical.from_mode`; exp_range shrinks the amplitude to a tenth.
        fixed_lr: the rate to compare with: Adam's default in Keras.
        steps: updates of the range test.
        seed: of initial weights and of the order of the data, ≥ 0.
    """

    epochs: int = 16
    batch_size: int = 50
    shape: Shape = "triangular"
    mode: Mode = "triangular"
    fixed_lr: float = 0.001
    steps: int = 150
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.integer("epochs", self.epochs, at_least=1)
        _checks.integer("batch_size", self.batch_size, at_least=1)
        _checks.choice("shape", self.shape, ("triangular", "parabolic", "sinusoidal"))
        _checks.choice("mode", self.mode, ("triangular", "triangular2", "exp_range"))
        _checks.number("fixed_lr", self.fixed_lr, above=0)
        _checks.integer("steps", self.steps, at_least=2)
        _checks.integer("seed", self.seed, at_least=0)


@dataclass(frozen=True)
class Run:
    """One training: its name, the steps at the end of each epoch, and its accuracy and loss there."""

    name: str
    steps: list[int]
    val_accuracy: list[float]
    val_loss: list[float]
    loss: list[float]

    @property
    def best(self) -> float:
        """Best validation accuracy at the end of an epoch."""
        return max(self.val_accuracy)

    def steps_to(self, accuracy: float) -> int | None:
        """Steps after which an epoch first ended with at least this validation accuracy, or None if none did."""
        return next((n for n, value in zip(self.steps, self.val_accuracy, strict=True) if value >= accuracy), None)


@dataclass(frozen=True)
class Outcome:
    """What a demo found."""

    data: str
    backend: str
    settings: Settings
    range_test: RangeTestResult
    smith_step_size: int
    schedule: Cyclical
    cyclical: Run
    fixed: Run
    versions: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """A description for JSON."""
        return {
            "version": FORMAT_VERSION,
            "data": self.data,
            "backend": self.backend,
            "settings": asdict(self.settings),
            "range_test": self.range_test.to_dict(),
            "smith_step_size": self.smith_step_size,
            "schedule": self.schedule.to_dict(),
            "runs": [asdict(self.cyclical), asdict(self.fixed)],
            "steps_to_best_of_fixed": {run.name: run.steps_to(self.fixed.best) for run in (self.cyclical, self.fixed)},
            "versions": self.versions,
        }


def find_bounds(data: Dataset, settings: Settings, progress: Progress) -> tuple[Any, RangeTestResult]:
    """Build the classic CNN with Adam and test it; returns the model, untouched, and the result."""
    import keras

    from cyclr.keras import range_test

    keras.utils.set_random_seed(settings.seed)
    model = workloads.classic_cnn(data.input_shape, data.classes)
    model.compile(keras.optimizers.Adam(), "sparse_categorical_crossentropy", metrics=["accuracy"])
    result = range_test(
        model,
        data.x_train,
        data.y_train,
        batch_size=settings.batch_size,
        steps=settings.steps,
        seed=settings.seed,
        on_step=lambda test: progress("range test", test.recorded, len(test)),
    )
    return model, result


def plan(data: Dataset, settings: Settings, result: RangeTestResult) -> tuple[int, Cyclical]:
    """Smith's step size, and whole cycles of about two of it that fill the training.

    Raises:
        BoundsError: the range test found no bounds.
    """
    total = settings.epochs * _steps_per_epoch(data, settings)
    cycles = max(1, round(settings.epochs / EPOCHS_PER_CYCLE))
    decay = decay_of_mode(settings.mode, gamma=0.1 ** (1 / total))
    schedule = result.bounds.schedule(total, cycles, shape=settings.shape, decay=decay)
    return step_size(len(data.x_train), settings.batch_size), schedule


def compare(data: Dataset, settings: Settings, schedule: Cyclical, progress: Progress) -> tuple[Run, Run]:
    """Train the classic CNN twice from the same weights, in the same order: cyclically, and at a fixed rate."""
    from cyclr.keras import LearningRate

    cyclical = _train("CLR", data, settings, LearningRate(schedule), progress)
    return cyclical, _train(f"fixed {settings.fixed_lr:g}", data, settings, settings.fixed_lr, progress)


def run(data: Dataset, settings: Settings, progress: Progress = lambda stage, done, total: None) -> Outcome:
    """The whole job.

    Raises:
        BoundsError: the range test found no bounds.
    """
    import keras

    _, result = find_bounds(data, settings, progress)
    smith, schedule = plan(data, settings, result)
    cyclical, fixed = compare(data, settings, schedule, progress)
    backend = keras.backend.backend()
    return Outcome(data.name, backend, settings, result, smith, schedule, cyclical, fixed, _versions(backend))


def _train(name: str, data: Dataset, settings: Settings, learning_rate: Any, progress: Progress) -> Run:
    import keras

    total = settings.epochs * _steps_per_epoch(data, settings)
    done = 0

    def count(batch: int, logs: Any) -> None:
        nonlocal done
        done += 1
        progress(f"training, {name}", done, total)

    keras.utils.set_random_seed(settings.seed)
    model = workloads.classic_cnn(data.input_shape, data.classes)
    model.compile(keras.optimizers.Adam(learning_rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(
        data.x_train,
        data.y_train,
        batch_size=settings.batch_size,
        epochs=settings.epochs,
        validation_data=(data.x_val, data.y_val),
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_train_batch_end=count)],
    ).history
    steps = [_steps_per_epoch(data, settings) * (epoch + 1) for epoch in range(settings.epochs)]
    return Run(name, steps, history["val_accuracy"], history["val_loss"], history["loss"])


def _steps_per_epoch(data: Dataset, settings: Settings) -> int:
    return -(-len(data.x_train) // settings.batch_size)


def _versions(backend: str) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "cyclr": version("cyclr"),
        "keras": version("keras"),
        backend: str(importlib.import_module(backend).__version__),
    }


def prepare_folder(folder: Path) -> None:
    """Make the folder and see that it can be written, before any work is done.

    Raises:
        CyclrError: it cannot.
    """
    probe = folder / ".cyclr-writable"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe.write_text("")
        probe.unlink()
    except OSError as error:
        raise CyclrError(
            f"output must be a folder that can be written; got {str(folder)!r} ({error.strerror}). "
            "Choose another with --output DIR."
        ) from error


def save(outcome: Outcome, folder: Path) -> list[Path]:
    """Write the plots as PNG and the results as JSON into an existing folder; returns the files."""
    import matplotlib.pyplot as plt

    from cyclr.drawing import axes

    total = outcome.cyclical.steps[-1]
    schedule = outcome.schedule.plot(total)
    schedule.set_ylabel("learning rate")
    fixed = outcome.settings.fixed_lr
    schedule.axhline(fixed, color="#767676", linewidth=1, linestyle="--", label=f"fixed {fixed:g}")
    schedule.legend(loc="upper right", frameon=False)
    schedule.set_title("Learning rate", loc="left", fontweight="bold")
    accuracy = axes.draw_curves(
        {run.name: run.val_accuracy for run in (outcome.cyclical, outcome.fixed)},
        x=outcome.fixed.steps,
        xlabel="step (optimizer update)",
        ylabel="validation accuracy",
        marks={f"best of fixed: {outcome.fixed.best:.4f}": outcome.fixed.best},
    )
    values = sorted(outcome.cyclical.val_accuracy + outcome.fixed.val_accuracy)
    accuracy.set_ylim(max(0.0, values[len(values) // 10] - 0.02), min(1.0, values[-1] + 0.01))
    accuracy.set_title(f"Validation accuracy on {outcome.data}", loc="left", fontweight="bold")
    pictures = {
        "range_test.png": outcome.range_test.plot(),
        "schedule.png": schedule,
        "accuracy.png": accuracy,
    }
    for name, ax in pictures.items():
        figure = ax.get_figure(root=True)
        if figure is not None:
            figure.savefig(folder / name, dpi=130, bbox_inches="tight")
            plt.close(figure)
    _files.write_json(folder / "results.json", outcome.to_dict())
    return [folder / name for name in (*pictures, "results.json")]
