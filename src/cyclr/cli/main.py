"""The `cyclr` command."""

import _thread
import io
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from cyclr import _extras
from cyclr._redact import redact
from cyclr.errors import MissingExtraError


def main() -> None:
    """Run the command line; the entry point of the `cyclr` script."""
    sys.stdout, sys.stderr = (
        _RedactedStream.over(stream) if isinstance(stream, io.TextIOWrapper) else stream
        for stream in (sys.stdout, sys.stderr)
    )
    try:
        with _extras.needed("the command line needs", "typer", "rich", extra="cli"):
            import rich  # noqa: F401
            import typer  # noqa: F401
    except MissingExtraError as error:
        sys.stderr.write(f"cyclr: {error}\n")
        raise SystemExit(1) from error
    from cyclr.cli.app import app

    sys.unraisablehook = keeping_interrupts(sys.unraisablehook)
    try:
        app()
    except OSError as error:
        # Standard output is on a full disk.
        sys.stderr.write(f"cyclr: {error}\n")
        raise SystemExit(1) from None


class _RedactedStream(io.TextIOWrapper):
    """A stream without credentials, hosts and home folders, also in what a user's file and other packages print."""

    @classmethod
    def over(cls, stream: io.TextIOWrapper) -> "_RedactedStream":
        # A pipe may have an encoding that lacks some of the characters that are printed.
        return cls(
            stream.buffer,
            stream.encoding,
            "replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        return super().write(redact(text))


def keeping_interrupts(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """A `sys.unraisablehook` that interrupts once more if Python drops a Ctrl-C.

    If the signal comes while a finalizer or a callback of the garbage collector runs (the frameworks have many), Python
    reports the `KeyboardInterrupt` as "ignored" and goes on. Everything else goes to the hook given.
    """

    def handle(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            # Not from in here: what the hook itself raises is dropped as well.
            threading.Timer(0.05, _interrupt).start()
        else:
            hook(unraisable)

    return handle


def _interrupt() -> None:
    """Send the main thread a signal: one that is only simulated does not end a wait for a lock or a pipe."""
    main_thread = threading.main_thread().ident
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        _thread.interrupt_main()
