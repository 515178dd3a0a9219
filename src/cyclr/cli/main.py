"""The `cyclr` command."""

import sys

from cyclr.errors import MissingExtraError


def main() -> None:
    """Run the command line; the entry point of the `cyclr` script."""
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        missing = MissingExtraError('the command line needs typer and rich. Run: pip install "cyclr[cli]".')
        sys.stderr.write(f"cyclr: {missing}\n")
        raise SystemExit(1) from error
    from cyclr.cli.app import app

    app()


if __name__ == "__main__":
    main()
