"""Draw the study's figures from its stored records.

python docs/figures/fashion_mnist.py FOLDER
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "studies" / "fashion_mnist"))

import study

from cyclr.experiments import read_records


def main() -> None:
    folder = Path(sys.argv[1]) / "study"
    folder.mkdir(parents=True, exist_ok=True)
    for name in study.STUDIES:
        results = study.HERE / "results" / name
        if (results / "run.json").exists():
            for file, ax in study.figures(name, read_records(results)).items():
                study.save(ax, folder / f"{name}_{file}")


if __name__ == "__main__":
    main()
