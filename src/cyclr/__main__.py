"""Run the command `cyclr` as `python -m cyclr`, for systems whose PATH does not contain the folder of scripts."""

from cyclr.cli.main import main

if __name__ == "__main__":
    main()
