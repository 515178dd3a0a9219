"""Draw the schedules that there are, over 1,000 steps.

python docs/figures/schedules.py FOLDER
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt

import cyclr

BOUNDS = {"base_lr": 0.01, "max_lr": 0.1}
SCHEDULES: dict[str, cyclr.Schedule] = {
    "Cyclical": cyclr.Cyclical(**BOUNDS, step_size=125),
    "Cyclical, sinusoidal": cyclr.Cyclical(**BOUNDS, step_size=125, shape="sinusoidal"),
    "Cyclical, Halving()": cyclr.Cyclical(**BOUNDS, step_size=125, decay=cyclr.Halving()),
    "Cyclical, Exponential(0.997)": cyclr.Cyclical(**BOUNDS, step_size=125, decay=cyclr.Exponential(0.997)),
    "OneCycle, two phases": cyclr.OneCycle(**BOUNDS, total_steps=1000),
    "OneCycle, three phases, linear": cyclr.OneCycle(
        **BOUNDS, total_steps=1000, rise=0.4, fall=0.4, shape="triangular"
    ),
    "WarmRestarts, growth=2": cyclr.WarmRestarts(0.0, 0.1, cycle_length=143, growth=2),
    "Warmup before every cycle": cyclr.Warmup(
        cyclr.WarmRestarts(0.0, 0.1, cycle_length=200, decay=cyclr.Exponential(0.8, per="cycle")),
        steps=50,
        every_cycle=True,
    ),
    "Sequence": cyclr.Sequence(
        [cyclr.Warmup(cyclr.Cyclical(0.02, 0.1, step_size=100), steps=100), cyclr.Constant(0.01)], lengths=[700]
    ),
    "Warmup and Anneal": cyclr.Warmup(cyclr.Anneal(0.1, 0.0, steps=899), steps=100),
    "WarmupStableDecay": cyclr.WarmupStableDecay(0.1, total_steps=1000, warmup=0.1, decay=0.3),
    "Product of stairs and cycles": cyclr.Clock(cyclr.Anneal(1, 0.5, 1, "exponential", limit=0), every=248)
    * cyclr.Cyclical(**BOUNDS, step_size=62),
}


def main() -> None:
    figure, axes = plt.subplots(4, 3, figsize=(11, 8.5), sharex=True, sharey=True, layout="constrained")
    for ax, (name, schedule) in zip(axes.flat, SCHEDULES.items(), strict=True):
        schedule.plot(1000, ax=ax)
        ax.set(title=name, xlabel="", ylabel="")
        ax.title.set_fontsize(10)
    figure.supxlabel("step")
    figure.supylabel("learning rate")
    figure.savefig(Path(sys.argv[1]) / "schedules.png", dpi=110)


if __name__ == "__main__":
    main()
