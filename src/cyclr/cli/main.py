"""The `cyclr` command."""

import _thread
import io
import signal
import sys
import threading
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
        is_interrupt = unraisable.exc_type is KeyboardInterrupt
        if not is_interrupt or threading.current_thread() is not threading.main_thread():
            hook(unraisable)
            return
        handler, delivered = signal.getsignal(signal.SIGINT), threading.Event()

        def deliver(number: int, frame: FrameType | None) -> None:
            # Python also ignores an interrupt during this hook.
            if not _runs(handle.__code__, frame):
                signal.signal(signal.SIGINT, handler)
                delivered.set()
                (handler if callable(handler) else signal.default_int_handler)(number, frame)

        signal.signal(signal.SIGINT, deliver)
        threading.Thread(target=_interrupt_until, args=(delivered,), daemon=True).start()

    return handle


def _interrupt_until(delivered: threading.Event) -> None:
    """Send SIGINT to the main thread until it is delivered.

    A signal that arrives just before the main thread starts to wait for a lock is noticed only after the wait. A
    simulated interrupt would not end a wait for a lock or a pipe.
    """
    main_thread = threading.main_thread().ident
    while not delivered.is_set():
        if hasattr(signal, "pthread_kill") and main_thread is not None:
            signal.pthread_kill(main_thread, signal.SIGINT)
        else:
            _thread.interrupt_main()
        delivered.wait(0.1)


def _runs(code: CodeType, frame: FrameType | None) -> bool:
    """Return True if `frame`, or a frame that it returns to, runs `code`."""
    while frame is not None and frame.f_code is not code:
        frame = frame.f_back
    return frame is not None
