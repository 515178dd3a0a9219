"""Draw how bounds are read, and ten recorded range tests with what was read off them.

python docs/figures/bounds.py FOLDER
"""

import sys
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

from cyclr import RangeTest, RangeTestResult
from cyclr.bounds.knee import FLATTENED, SETTLED

RECORDED = Path(__file__).parents[2] / "benchmarks" / "bounds" / "ground_truth"
BLUE, ORANGE, GREY = "#0b6bb5", "#c8500a", "#767676"
SYMBOLS = {"▲": "^", "▼": "v"}  # losses that are cut off

CURVES = {
    "dense-4-digits-adam-batch-64": "a network on digits, Adam",
    "convolutional-3-digits-sgd-batch-64": "convolutional, batch normalization",
    "attention-2-digits-adamw-batch-32": "attention, AdamW",
    "dense-9-digits-momentum-batch-1024": "batches of 1,024: it hardly diverges",
    "dense-12-digits-noisy-labels-momentum-batch-32": "a fifth of the labels wrong",
    "linear-4-diabetes-sgd-batch-16": "noisy regression",
    "regression-2-diabetes-momentum-batch-8": "batches of 8: noisier",
    "scaled-2-digits-sgd-batch-32": "the loss times 0.01: max_lr too low",
    "fine-tuning-3-digits-sgd-batch-32": "a new head on a trained network",
    "fine-tuning-4-digits-momentum-batch-32": "a network that is trained already",
}


def recorded(name: str, seed: int = 0) -> RangeTestResult:
    """A range test of the benchmark, stopped where a range test stops."""
    with np.load(RECORDED / f"{name}.npz", allow_pickle=False) as stored:
        losses = stored["sweep default"][seed].astype(float)
    test = RangeTest(steps=len(losses))
    for _ in test:
        test.record(losses[test.recorded])
    return test.result()


def how(folder: Path) -> None:
    """One curve, and the three rates that the upper bound is made of."""
    result = recorded("dense-4-digits-adam-batch-64")
    curve, bounds = result.curve, result.bounds
    _, ax = plt.subplots(figsize=(6.4, 4.8), layout="constrained")
    ax.plot(result.lr, result.loss, ".", color=GREY, markersize=4, alpha=0.6, label="recorded loss")
    ax.plot(curve.lr, curve.loss, color=BLUE, linewidth=2, label="smoothed, as read")
    ax.axhline(curve.start, color=GREY, linewidth=1, linestyle="--", label="start")
    ax.axvspan(bounds.base_lr, bounds.max_lr, color=ORANGE, alpha=0.12, linewidth=0, label="bounds")
    marks = {
        "r₁: 90 % of the fall": (curve.reached(FLATTENED), "o"),
        "r₂: 98 % of the fall": (curve.reached(SETTLED), "D"),
        "r₃: back at its start": (curve.back, "s"),
    }
    for text, (index, symbol) in marks.items():
        ax.plot(
            curve.lr[index], curve.loss[index], symbol, color=ORANGE, markersize=8, markeredgecolor="white", label=text
        )
    ax.set(xscale="log", xlabel="learning rate", ylabel="loss", ylim=(0, curve.start * 1.5))
    _finish(ax)
    # Below the axes, so that it covers neither the curve nor a dot.
    ax.figure.legend(*ax.get_legend_handles_labels(), loc="outside lower left", frameon=False, ncols=2)
    ax.figure.savefig(folder / "bounds_readings.png", dpi=130)


def ten(folder: Path) -> None:
    """Ten curves with their bounds, the ugly ones among them."""
    figure, axes = plt.subplots(5, 2, figsize=(11, 16), layout="constrained")
    for ax, (name, words) in zip(axes.flat, CURVES.items(), strict=True):
        result = recorded(name)
        picture, bounds = result.picture(), result.bounds
        ax.plot(picture.lr, picture.dots, ".", color=GREY, markersize=3, alpha=0.6)
        for glyph, _, _, height, rates in picture.symbols:
            if glyph in SYMBOLS:
                ax.plot(rates, [height] * len(rates), SYMBOLS[glyph], color=GREY, markersize=4, alpha=0.6)
        ax.plot(picture.lr, picture.curve, color=BLUE, linewidth=1.8)
        found = "no bounds"
        if bounds.usable:
            ax.axvspan(bounds.base_lr, bounds.max_lr, color=ORANGE, alpha=0.15, linewidth=0)
            found = f"{bounds.base_lr:.2g} to {bounds.max_lr:.2g}"
        ax.set(xscale="log", xlim=(1e-6, 10), ylim=picture.limits)
        ax.set_title(f"{words}\n{bounds.status}: {found}", loc="left", fontsize=10)
        _finish(ax)
    figure.supxlabel("learning rate")
    figure.supylabel("loss")
    figure.savefig(folder / "bounds_ten_curves.png", dpi=90)


def _finish(ax: Any) -> None:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(alpha=0.25)


def main(folder: str) -> None:
    """Draw both pictures into a folder."""
    how(Path(folder))
    ten(Path(folder))


if __name__ == "__main__":
    main(sys.argv[1])
