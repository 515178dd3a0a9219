"""The `cyclr` command."""

import _thread
import io
import sys
import threading
from collections.abc import Callable
from typing import Any

from cyclr.errors import MissingExtraError


def main() -> None:
    """Run the command line; the entry point of the `cyclr` script."""
    for stream in (sys.stdout, sys.stderr):
        # A pipe may have an encoding that lacks some of the characters that are printed.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        import rich  # noqa: F401
        import typer  # noqa: F401
    except ImportError as error:
        missing = MissingExtraError('the command line needs typer and rich. Run: pip install "cyclr[cli]".')
        sys.stderr.write(f"cyclr: {missing}\n")
        raise SystemExit(1) from error
    from cyclr.cli.app import app

    sys.unraisablehook = keeping_interrupts(sys.unraisablehook)
    app()


def keeping_interrupts(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """A `sys.unraisablehook` that interrupts once more where Python would drop a Ctrl-C.

    Where the signal comes while a finalizer or a callback of the garbage collector runs (the frameworks have many),
    Python reports the `KeyboardInterrupt` as "ignored" and goes on. Everything else goes to the hook given.
    """

    def hear(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Not from in here: what the hook itself raises is dropped as well.
            threading.Timer(0.05, _thread.interrupt_main).start()
        else:
            hook(unraisable)

    return hear
