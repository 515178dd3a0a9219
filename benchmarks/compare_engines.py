"""Throughput of the engines with one worker and with two, and whether they record the same.

python benchmarks/compare_engines.py
"""

import argparse
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from cyclr.experiments import Spec, compare
from cyclr.experiments.events import Event, Finished
from cyclr.records import Record

USERS_FILE = Path(__file__).parents[1] / "tests" / "experiments" / "blobs.py"


def timeless(record: Record) -> dict[str, Any]:
    """A record without what a clock put into it."""
    kept = {name: getattr(record, name) for name in record.__struct_fields__ if name not in ("seconds", "started")}
    return {**kept, "epochs": {name: values for name, values in record.epochs.items() if name != "seconds"}}


def main() -> None:
    """Run the same comparison four times and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "user")
        folder.mkdir()
        shutil.copy(USERS_FILE, folder)
        policies = [{"kind": "fixed", "lr": [0.01, 0.1]}, {"kind": "triangular"}, {"kind": "cosine", "lr": 0.1}]
        spec = Spec.from_dict(
            {"workload": "blobs.py:build", "policies": policies, "seeds": [0, 1], "epochs": options.epochs},
            folder=str(folder),
        )
        rows: dict[str, tuple[float, float, list[Record]]] = {}
        for engine in ("local", "ray"):
            for workers in (1, 2):
                times: list[float] = []

                def tell(event: Event, times: list[float] = times) -> None:
                    if isinstance(event, Finished):
                        times.append(time.perf_counter())

                extra: dict[str, Any] = {"init": {"object_store_memory": 80 * 2**20}} if engine == "ray" else {}
                began = time.perf_counter()
                run = Path(temporary, f"{engine}-{workers}")
                records = compare(spec, run, engine=engine, workers=workers, tell=tell, **extra)  # type: ignore[arg-type]
                # From the first record on: imports are over by then.
                rate = (len(times) - workers) / (times[-1] - times[workers - 1])
                rows[f"{engine}, {workers}"] = (
                    time.perf_counter() - began,
                    rate,
                    sorted(map(timeless, records), key=lambda record: record["trial"]),
                )
        first = rows["local, 1"]
        print(f"{'engine, workers':>16} {'whole s':>8} {'trials/s':>9} {'ratio':>6}  same records")
        for name, (whole, rate, records) in rows.items():
            print(f"{name:>16} {whole:>8.1f} {rate:>9.3f} {rate / first[1]:>6.2f}  {records == first[2]}")


if __name__ == "__main__":
    main()
