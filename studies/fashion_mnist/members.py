"""Ensembles and averages of one run against one cycle and five runs, of the same number of updates each.

python studies/fashion_mnist/members.py              # run what is missing; the same command resumes
python studies/fashion_mnist/members.py --summary    # the table from the stored results, no training

Data, network and optimizer are those of study.py. Every policy has the bounds that the range test of the study's seed 2
found, so that runs differ only in the schedule, and no updates of a test are counted. In the "short" rows, one cycle of
1,150 updates has the refined bounds of its seed in the study `headline`, whose test is counted.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras
import numpy as np
import tensorflow as tf

import cyclr
from cyclr import records as statistics
from cyclr.experiments import read_records
from cyclr.experiments.data import load
from cyclr.experiments.workloads import classic_cnn
from cyclr.keras import LearningRate, Snapshots, average, ensemble

HERE = Path(__file__).parent
BOUNDS = cyclr.Bounds(0.005733096629695033, 0.06917277596917851, "ok", "the range test of seed 2 in the study headline")
BATCH, HELD_OUT, SHORT = 100, 10_000, "CLR 1,150 steps, refined"
SEEDS, EXTRA = (0, 1, 2), (3, 4)


def main() -> None:
    """Run what is missing, or summarize."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist", help="folder of the four IDX files")
    parser.add_argument("--updates", type=int, default=2500, help="updates of a run, a multiple of 50")
    parser.add_argument(
        "--samples", type=int, help="train on a part of the images; results go into a folder of their own"
    )
    parser.add_argument("--results", type=Path, help="folder of the results")
    parser.add_argument("--summary", action="store_true", help="train nothing")
    options = parser.parse_args()
    default = HERE / "results" / (f"members_{options.samples}" if options.samples else "members")
    study = Study(options.results or default, options.updates, options.samples)
    if not options.summary:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        study.run(options.data)
    study.summarize()


class Study:
    """The runs, each of which adds its rows to `results.jsonl` when it has ended.

    The folder `work` has what later runs need of earlier ones; git ignores it.
    """

    def __init__(self, folder: Path, updates: int, samples: int | None = None) -> None:
        self.samples, self.updates, self.start = samples, updates, 4 * updates // 5
        self.body = BOUNDS.schedule(total_steps=updates)
        self.file, self.work = folder / "results.jsonl", folder / "work"

    def rows(self) -> list[dict[str, Any]]:
        if not self.file.exists():
            return []
        rows = [json.loads(line) for line in self.file.read_text(encoding="utf-8").splitlines()]
        return [row for row in rows if row["updates"] == self.updates or row["run"] == "short"]

    def run(self, data: str) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        images = load(data)
        self.x, self.y = images.x_train[:-HELD_OUT][: self.samples], images.y_train[:-HELD_OUT][: self.samples]
        self.x_val, self.y_val = images.x_train[-HELD_OUT:], images.y_train[-HELD_OUT:]
        runs = [(run, seed) for seed in SEEDS for run in ("cycle", "restarts")]
        rest = ("cyclic tail", "constant tail") if self.samples else ("cyclic tail", "constant tail", "short")
        runs += [(run, seed) for run in rest for seed in SEEDS]
        runs += [("three runs", 0), *(("cycle", seed) for seed in EXTRA), ("five runs", 0)]
        for run, seed in runs:
            if (run, seed) in {(row["run"], row["seed"]) for row in self.rows()}:
                continue
            self.found: list[dict[str, Any]] = []
            self.run_name, self.seed = run, seed
            getattr(self, run.replace(" ", "_"))(seed)
            with self.file.open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(row) + "\n" for row in self.found))
            print(run, seed, {row["policy"]: row["error"] for row in self.found}, flush=True)

    def fit(
        self,
        seed: int,
        schedule: cyclr.Schedule,
        updates: int,
        state: Path | None = None,
        save: Path | None = None,
        **keep: Any,
    ) -> tuple[Any, list[cyclr.Member]]:
        """Train, and return the model, which has the running average of its weights in the end, and the members."""
        keras.utils.set_random_seed(seed)
        model = classic_cnn((28, 28, 1), 10)
        optimizer = keras.optimizers.SGD(LearningRate(schedule), momentum=0.9, use_ema=True, ema_momentum=0.98)
        model.compile(optimizer, "sparse_categorical_crossentropy")
        callbacks: list[Any] = [Snapshots(**keep)]
        if save:
            callbacks.append(keras.callbacks.ModelCheckpoint(save, save_weights_only=True))
        if state:
            optimizer.build(model.trainable_variables)
            model.load_weights(state)
        epochs = 5 if updates % 5 == 0 and state is None else 1
        model.fit(
            self.batches(seed if state is None else 1000 + seed),
            steps_per_epoch=updates // epochs,
            epochs=epochs,
            verbose=0,
            callbacks=callbacks,
        )
        return model, callbacks[0].members

    def batches(self, seed: int) -> Iterator[tuple[Any, Any]]:
        generator = np.random.default_rng(seed)
        while True:
            order = generator.permutation(len(self.x))
            for at in range(0, len(order), BATCH):
                yield self.x[order[at : at + BATCH]], self.y[order[at : at + BATCH]]

    def add(self, policy: str, model: Any, models: int = 1, updates: int = 0) -> Any:
        """Add the row of a model, and return the probabilities that it predicts."""
        given = isinstance(model, np.ndarray)
        probabilities = np.asarray(model if given else model.predict(self.x_val, 500, verbose=0))
        error = float((probabilities.argmax(1) != self.y_val).mean())
        loss = float(-np.log(np.maximum(probabilities[np.arange(HELD_OUT), self.y_val], 1e-12)).mean())
        row = {"run": self.run_name, "seed": self.seed, "updates": updates or self.updates, "policy": policy}
        self.found.append({**row, "error": round(error, 6), "loss": round(loss, 6), "models": models})
        return probabilities

    def cycle(self, seed: int) -> None:
        state = self.work / f"state-{seed}-{{epoch}}.weights.h5"
        model, members = self.fit(seed, self.body, self.updates, save=state, every=self.updates // 50, keep=5)
        probabilities = self.add("one cycle", ensemble(model, members[-1:]))
        np.save(self.work / f"cycle-{seed}.npy", probabilities)
        self.add("LAWA: last 5 of every 50 updates", average(model, members))
        self.add("EMA, decay 0.98", model)

    def restarts(self, seed: int) -> None:
        schedule = cyclr.WarmRestarts.over(self.updates, 5, 0.0, BOUNDS.max_lr)
        model, members = self.fit(seed, schedule, self.updates)
        self.add("WarmRestarts, 5 cycles, last", ensemble(model, members[-1:]))
        self.add("snapshot ensemble, 5 cycles", ensemble(model, members), 5)
        self.add("snapshot ensemble, last 3 of 5 cycles", ensemble(model, members[2:]), 3)
        self.add("average of 5 cycle ends", average(model, members))

    def short(self, seed: int) -> None:
        records = read_records(HERE / "results" / "headline")
        [record] = [record for record in records if (record.policy, record.seed) == (SHORT, seed)]
        updates = record.total_steps
        model, members = self.fit(seed, record.schedule, updates, every=updates // 50, keep=5)
        counted = updates + record.range_test_steps
        self.add("short: last weights", ensemble(model, members[-1:]), updates=counted)
        self.add("short: LAWA", average(model, members), updates=counted)
        self.add("short: EMA", model, updates=counted)

    def tail(self, seed: int, schedule: cyclr.Schedule, **keep: Any) -> tuple[Any, list[cyclr.Member]]:
        """Continue the run of one cycle after four fifths of it."""
        return self.fit(seed, schedule, self.updates - self.start, self.work / f"state-{seed}-4.weights.h5", **keep)

    def cyclic_tail(self, seed: int) -> None:
        half = self.updates // 50
        triangles = cyclr.Clock(cyclr.Cyclical(BOUNDS.base_lr, BOUNDS.max_lr / 4, half), start=half)
        model, members = self.tail(seed, cyclr.Sequence([self.body, triangles], [self.start]))
        self.add("FGE: 5 short triangles", ensemble(model, members), 5)
        self.add("SWA: cyclic tail", average(model, members))

    def constant_tail(self, seed: int) -> None:
        every = self.updates // 25
        down = cyclr.Anneal(self.body(self.start), BOUNDS.max_lr / 4, every, "cosine")
        schedule = cyclr.Sequence([self.body, down], [self.start, self.updates - self.start])
        model, members = self.tail(seed, schedule, every=every)
        self.add("SWA: constant tail", average(model, members))

    def three_runs(self, seed: int) -> None:
        self.add("ensemble of 3 runs (3 times the updates)", self.mean_of(SEEDS), 3)

    def five_runs(self, seed: int) -> None:
        self.add("ensemble of 5 runs (5 times the updates)", self.mean_of(SEEDS + EXTRA), 5)

    def mean_of(self, seeds: tuple[int, ...]) -> Any:
        return np.mean([np.load(self.work / f"cycle-{seed}.npy") for seed in seeds], axis=0)

    def summarize(self) -> None:
        """Print the table: means over the seeds with standard errors; quotients with one cycle, seed by seed."""
        policies: dict[str, dict[int, dict[str, Any]]] = {}
        for row in self.rows():
            policies.setdefault(row["policy"], {})[row["seed"]] = row
        print("| policy | seeds | error | ratio | by seed | loss | models |\n|---|---|---|---|---|---|---|")
        base = policies["one cycle"]
        for policy, by_seed in policies.items():
            seeds = [seed for seed in by_seed if seed in SEEDS]
            errors = np.array([by_seed[seed]["error"] for seed in seeds])
            spread = f" ± {errors.std(ddof=1) / np.sqrt(len(errors)):.4f}" if len(errors) > 1 else ""
            compared = seeds if "runs" not in by_seed[seeds[0]]["run"] else list(base)
            ratio = errors.mean() / np.mean([base[seed]["error"] for seed in compared])
            quotients = ", ".join(f"{by_seed[seed]['error'] / base[seed]['error']:.3f}" for seed in seeds)
            loss = np.mean([by_seed[seed]["loss"] for seed in seeds])
            models = by_seed[seeds[0]]["models"]
            error = f"{errors.mean():.4f}{spread}"
            print(f"| {policy} | {len(seeds)} | {error} | {ratio:.3f} | {quotients} | {loss:.4f} | {models} |")
        records = read_records(HERE / "results" / "headline")
        fixed = [record for record in records if record.policy == "fixed 0.03"]
        print("best of the best fixed rate, by seed:", {r.seed: round(statistics.best(r), 4) for r in fixed})
        for policy, by_seed in policies.items():
            if policy.startswith("short"):
                print(policy, {s: (round(1 - row["error"], 4), row["updates"]) for s, row in by_seed.items()})


if __name__ == "__main__":
    main()
