"""Time of `import cyclr` as a ratio to `import numpy`, which cyclr needs, and the modules that cyclr loads in addition.

    python benchmarks/import_time.py [RUNS]

Each run is a new interpreter. A first run writes the bytecode of both packages to a separate folder, so that the other
runs find it. The two imports alternate. The table shows the median of the ratios and the range of the middle half, for
wall time and for processor time, which other programs disturb less.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "optax", "matplotlib", "sklearn", "typer", "rich")


def seconds(module: str, environment: Mapping[str, str]) -> tuple[float, float]:
    """Return the wall time and the processor time that a process takes to import a module."""
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True, env=environment)
    clock, after = time.perf_counter() - begin, resource.getrusage(resource.RUSAGE_CHILDREN)
    return clock, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": folder}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        seconds("cyclr", environment)
        pairs = [(seconds("cyclr", environment), seconds("numpy", environment)) for _ in range(runs)]
    print(f"import cyclr / import numpy, whole process with bytecode, {runs} pairs")
    for kind, name in enumerate(("clock", "processor")):
        low, median, high = statistics.quantiles([cyclr[kind] / numpy[kind] for cyclr, numpy in pairs], n=4)
        print(f"  {name:9} {median:.2f} ({low:.2f} to {high:.2f})")
    program = f"import cyclr, sys; print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    print(f"frameworks in sys.modules after import cyclr: {loaded}")


if __name__ == "__main__":
    main()
