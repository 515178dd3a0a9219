"""The `cyclr` command."""

import _thread
import io
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import CodeType, FrameType
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

    sys.unraisablehook = repeat_interrupts(sys.unraisablehook)
    try:
        app()
    except OSError as error:
        # For example, the output goes to a file on a full disk.
        sys.stderr.write(f"cyclr: {error}\n")
        raise SystemExit(1) from None


class _RedactedStream(io.TextIOWrapper):
    """A stream that removes credentials, hosts and home folders from all text that this process prints."""

    @classmethod
    def over(cls, stream: io.TextIOWrapper) -> "_RedactedStream":
        # The encoding of a pipe may lack some of the printed characters.
        return cls(
            stream.buffer,
            stream.encoding,
            "replace",
            line_buffering=stream.line_buffering,
            write_through=stream.write_through,
        )

    def write(self, text: str) -> int:
        return super().write(redact(text))


def repeat_interrupts(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return a `sys.unraisablehook` that repeats a Ctrl-C that Python ignored.

    If the signal arrives while a finalizer or a callback of the garbage collector runs (the frameworks have many),
    Python reports the `KeyboardInterrupt` as "ignored" and continues. All other exceptions are passed to `hook`.
    """

    def handle(unraisable: Any) -> None:
        if unraisable.exc_type is KeyboardInterrupt:
            threading.Thread(target=_interrupt_after, args=(handle.__code__,), daemon=True).start()
        else:
            hook(unraisable)

    return handle


def _interrupt_after(hook: CodeType) -> None:
    """Send SIGINT to the main thread when it has left `hook`, during which Python ignores an interrupt too.

    A simulated interrupt would not end a wait for a lock or a pipe.
    """
    main_thread = threading.main_thread().ident
    while _runs(hook, sys._current_frames().get(main_thread or 0)):
        time.sleep(0.01)
    if hasattr(signal, "pthread_kill") and main_thread is not None:
        signal.pthread_kill(main_thread, signal.SIGINT)
    else:
        _thread.interrupt_main()


def _runs(code: CodeType, frame: FrameType | None) -> bool:
    """Return True if `frame`, or a frame that it returns to, runs `code`."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None
