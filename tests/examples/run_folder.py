"""Runs the programs of example folders in one interpreter, as importing a framework takes longer than they do.

    python run_folder.py FOLDER_OR_PROGRAM...

What those of a folder write goes into a folder of its name in the current one; `resume.py` runs in one go in its folder
`whole`, and in two in `parts`. A single program is the classic tutorial. Under `torchrun`, every run joins the other
processes anew, at the next of the PORTS.
"""

import os
import runpy
import sys
from pathlib import Path

PORTS = os.environ.get("PORTS", "").split()
# The rate is back at its lowest after 8 epochs.
TUTORIAL = ["--data", "digits", "--epochs", "8"]


def run(program: Path, *options: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"== {program.stem} {' '.join(options)}\n")
        sys.stdout.flush()
    if PORTS:
        os.environ |= {"MASTER_PORT": PORTS.pop(), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    sys.argv = [str(program), *options]
    runpy.run_path(str(program), run_name="__main__")


def run_all(folder: Path, start: Path) -> None:
    run(folder / "find_bounds.py")
    run(folder / "train.py")
    for name, runs in {"whole": [()], "parts": [("--stop-after", "3"), ()]}.items():
        place = start / name
        place.mkdir(exist_ok=True)
        os.chdir(place)
        for options in runs:
            run(folder / "resume.py", *options)
        os.chdir(start)


def main() -> None:
    start = Path.cwd()
    for path in map(Path, sys.argv[1:]):
        place = start / path.stem
        place.mkdir(exist_ok=True)
        os.chdir(place)
        if os.environ.get("RANK", "0") == "0":
            sys.stdout.write(f"=== {path.stem}\n")
        if path.is_dir():
            run_all(path, place)
        else:
            run(path, *TUTORIAL)
        os.chdir(start)


if __name__ == "__main__":
    main()
