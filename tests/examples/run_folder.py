"""Runs the programs of example folders in one interpreter, as importing a framework takes longer than they do.

    python run_folder.py FOLDER_OR_PROGRAM...

Files that they write go into a folder of the same name in the current one. A program that can be stopped runs in one go
in its folder `whole`, and in two in `parts`. Under `torchrun`, every run joins the other processes at the next port of
PORTS.
"""

import os
import runpy
import sys
from pathlib import Path

PORTS = os.environ.get("PORTS", "").split()
# The rate is back at its lowest after 8 epochs.
OPTIONS = {"keras_mnist_clr": ["--data", "digits", "--epochs", "8"]}
STOP_AFTER = {"resume": "3", "gpt": "100", "gpt_by_hand": "100"}


def run(program: Path, *options: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"== {program.stem} {' '.join(options)}\n")
        sys.stdout.flush()
    if PORTS:
        os.environ |= {"MASTER_PORT": PORTS.pop(), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    sys.argv = [str(program), *options]
    runpy.run_path(str(program), run_name="__main__")


def run_in_parts(program: Path) -> None:
    start = Path.cwd()
    for name, runs in {"whole": [()], "parts": [("--stop-after", STOP_AFTER[program.stem]), ()]}.items():
        place = start / name
        place.mkdir(exist_ok=True)
        os.chdir(place)
        for options in runs:
            run(program, *options)
        os.chdir(start)


def main() -> None:
    start = Path.cwd()
    for path in map(Path, sys.argv[1:]):
        place = start / path.stem
        place.mkdir(exist_ok=True)
        os.chdir(place)
        if os.environ.get("RANK", "0") == "0":
            sys.stdout.write(f"=== {path.stem}\n")
        programs = [path / f"{name}.py" for name in ("find_bounds", "train", "resume")] if path.is_dir() else [path]
        for program in programs:
            if program.stem in STOP_AFTER:
                run_in_parts(program)
            else:
                run(program, *OPTIONS.get(program.stem, []))
        os.chdir(start)


if __name__ == "__main__":
    main()
