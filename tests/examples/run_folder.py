"""Runs the programs of an example folder in one interpreter, as importing a framework takes longer than they do.

    python run_folder.py FOLDER

Under `torchrun`, every run joins the other processes anew, at the next of the PORTS. What they write goes into the
current folder; `resume.py` runs in one go in a folder `whole`, and in two in `parts`.
"""

import os
import runpy
import sys
from pathlib import Path

PORTS = os.environ.get("PORTS", "").split()


def run(program: Path, *options: str) -> None:
    if os.environ.get("RANK", "0") == "0":
        sys.stdout.write(f"== {program.stem} {' '.join(options)}\n")
        sys.stdout.flush()
    if PORTS:
        os.environ |= {"MASTER_PORT": PORTS.pop(), "TORCHELASTIC_USE_AGENT_STORE": "False"}
    sys.argv = [str(program), *options]
    runpy.run_path(str(program), run_name="__main__")


def main() -> None:
    folder, start = Path(sys.argv[1]).resolve(), Path.cwd()
    run(folder / "find_bounds.py")
    run(folder / "train.py")
    for name, runs in {"whole": [()], "parts": [("--stop-after", "3"), ()]}.items():
        place = start / name
        place.mkdir(exist_ok=True)
        os.chdir(place)
        for options in runs:
            run(folder / "resume.py", *options)
        os.chdir(start)


if __name__ == "__main__":
    main()
