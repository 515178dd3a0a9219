"""`python -m cyclr` is the command `cyclr`, if the folder of scripts is not on PATH."""

from cyclr.cli.main import main

if __name__ == "__main__":
    main()
