"""Draw runs of AutoCycle with bounds that are 3, 10 and 30 times too high, beside the plain runs, for each task.

    python benchmarks/auto/pictures.py [FOLDER [TASK ...]]

By default the first attention, recurrent and autoencoder tasks of `benchmarks/bounds/tasks.py` are drawn into
docs/images/autocycle/. Bounds, data and updates are the same as in `benchmarks/auto/compare.py`, with seed 0. The
scores and the events are printed. Runs with such bounds are chaotic: another machine may draw another run.
"""

import runpy
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "bounds"))
from tasks import TASKS, Task
from training import batches

from cyclr import Bounds
from cyclr.auto import AutoEvent, reading

# Imported by its path, because benchmarks/bounds has a module of the same name.
COMPARE = runpy.run_path(str(Path(__file__).with_name("compare.py")))

FOLDER = Path(__file__).parents[2] / "docs" / "images" / "autocycle"
NAMES = ("attention 1", "recurrent 1", "autoencoder 1")
FACTORS = ("3", "10", "30")
SEED = 0
BLUE, ORANGE, GREY = "#0b6bb5", "#c8500a", "#767676"


class Seen:
    """The series of the detector: learning rate, loss, mean loss, lowest mean and limit of every update."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        self.reading = reading.LossReading()
        self.rows: list[tuple[float, ...]] = []

    @property
    def events(self) -> tuple[AutoEvent, ...]:
        return getattr(self.driver, "events", ())

    def step(self, loss: float) -> None:
        lr, before = self.driver.lr, self.reading
        # Recorded before the run restores an earlier state, so that the picture shows the rise.
        seen = reading.observe(before, loss, lr) if np.isfinite(loss) else before
        known = seen.seen >= reading.FIRST
        limit = seen.best + reading.LOST * seen.yardstick
        self.rows.append((lr, loss, reading.mean(seen) if seen.seen else np.nan, *(seen.best, limit)[: 2 * known]))
        self.rows[-1] += (np.nan,) * (5 - len(self.rows[-1]))
        self.driver.step(loss)
        state = getattr(self.driver, "state_dict", None)
        self.reading = reading.LossReading(**state()["reading"]) if state else seen

    def columns(self) -> Any:
        """Return the rows as columns, with NaN for values that are not finite."""
        values = np.array(self.rows).T
        return np.where(np.isfinite(values), values, np.nan)


def trained(task: Task) -> tuple[dict[str, Seen], list[float]]:
    """Return the runs by the name of their row, and their scores."""
    names = [f"{way}, × {factor}" for factor in FACTORS for way in ("plain", "AutoCycle")]
    base_lr, max_lr = COMPARE["bounds_of"](task, SEED)
    stack = COMPARE["Stack"](task, [SEED] * len(names))
    runs = {}
    for name in names:
        make, times = COMPARE["ROWS"][name]
        bounds = Bounds(base_lr * times, max_lr * times, "no_divergence", "")
        runs[name] = Seen(make(task, bounds, COMPARE["RunState"](stack, len(runs))))
    order = batches(task, SEED, task.steps)
    for step in range(task.steps):
        rates = np.array([run.driver.lr for run in runs.values()], np.float32)
        losses = stack.update(np.stack([order[step]] * len(names)), rates)
        for run, loss in zip(runs.values(), losses, strict=True):
            run.step(loss)
    return runs, stack.scores().tolist()


def draw(task: Task, runs: dict[str, Seen], scores: list[float], path: Path) -> None:
    """Draw a column for every factor: losses above, learning rates below."""
    figure, axes = plt.subplots(
        2, len(FACTORS), figsize=(9.6, 5.6), height_ratios=(2, 1), sharex=True, sharey="row", layout="constrained"
    )
    of = dict(zip(runs, scores, strict=True))
    for factor, (top, bottom) in zip(FACTORS, axes.T, strict=True):
        plain, auto = runs[f"plain, × {factor}"], runs[f"AutoCycle, × {factor}"]
        plain_lr, _, plain_mean, *_ = plain.columns()
        lr, loss, mean, best, limit = auto.columns()
        top.plot(loss, ".", color=BLUE, markersize=2, alpha=0.35, label="loss of a batch, AutoCycle")
        top.plot(plain_mean, color=GREY, linewidth=1.2, label="mean m, plain")
        top.plot(mean, color=BLUE, linewidth=1.6, label="mean m, AutoCycle")
        top.plot(best, color="black", linewidth=1, label="lowest mean b")
        top.plot(limit, color=ORANGE, linewidth=1, linestyle="--", label=f"limit b + {reading.LOST:g} y")
        bottom.plot(plain_lr, color=GREY, linewidth=1.2)
        bottom.plot(lr, color=BLUE, linewidth=1.6)
        for event in auto.events:
            for ax in (top, bottom):
                ax.axvline(event.step, color=ORANGE, linewidth=1, linestyle=":")
            bottom.annotate(
                event.what.replace("_", " "), (event.step, 0.03), xycoords=("data", "axes fraction"), rotation=90,
                fontsize=7, ha="right", color=ORANGE,
            )  # fmt: skip
        top.set_title(
            f"{factor} times too high\nscore {of[f'plain, × {factor}']:.3f} plain, "
            f"{of[f'AutoCycle, × {factor}']:.3f} AutoCycle",
            fontsize=10,
        )
        top.set_yscale("log")
        bottom.set(yscale="log", xlabel="step (optimizer update)")
    finite = np.concatenate([runs[name].columns()[1] for name in runs if name.startswith("AutoCycle")])
    low, high = np.nanpercentile(finite, (0.5, 99.5))
    axes[0, 0].set(ylabel="loss", ylim=(low / 1.5, 3 * high))
    axes[1, 0].set(ylabel="learning rate")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(f"{task.name}, seed {SEED}; best of 25 fixed rates: {COMPARE['mark'](task):.3f}")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    warnings.filterwarnings("ignore", "AutoCycle: ")
    chosen = sys.argv[2:] or NAMES
    for task in TASKS:
        name = task.name.partition(":")[0]
        if name not in chosen:
            continue
        runs, scores = trained(task)
        for (row, run), score in zip(runs.items(), scores, strict=True):
            print(f"{name}, {row}: {score:.3f}", *(f"    {event}" for event in run.events), sep="\n", flush=True)
        draw(
            task, runs, scores, folder / f"{name.partition(' ')[0] if chosen is NAMES else name.replace(' ', '_')}.png"
        )


if __name__ == "__main__":
    main()
