"""What `import cyclr` costs, as a ratio to `import numpy`, which it needs; and what it loads besides.

    python benchmarks/import_time.py [RUNS]

Each run is a fresh interpreter; the two imports alternate, and the table shows the median of the ratios.
"""

import statistics
import subprocess
import sys
import time

FRAMEWORKS = ("keras", "tensorflow", "jax", "torch", "optax", "matplotlib", "sklearn", "typer", "rich")


def seconds(module: str) -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)
    return time.perf_counter() - begin


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    seconds("cyclr")
    pairs = [(seconds("cyclr"), seconds("numpy")) for _ in range(runs)]
    ratios = sorted(cyclr / numpy for cyclr, numpy in pairs)
    program = f"import cyclr, sys; print([name for name in {FRAMEWORKS!r} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()
    print(f"import cyclr / import numpy, whole process, {runs} pairs")
    print(f"  median {statistics.median(ratios):.2f}, lowest {ratios[0]:.2f}, highest {ratios[-1]:.2f}")
    print(f"frameworks in sys.modules after import cyclr: {loaded}")


if __name__ == "__main__":
    main()
