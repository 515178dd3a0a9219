"""The progress line of a range test, drawn by tqdm."""

import contextlib
import sys
import time
import warnings
from types import TracebackType
from typing import Any, Literal, Self

from cyclr import _checks
from cyclr.range_test.driver import RangeTest

Verbose = Literal["auto", 0, 1]

SECONDS_BETWEEN = 0.1
"""Shortest time between two updates of the line, in seconds."""


class ProgressLine:
    """A line with the learning rate, the loss and the remaining time. It is cleared at the end.

    Args:
        verbose: 1 shows the line, 0 shows no line, and `"auto"` shows it only in a terminal or a notebook. Without
            tqdm, no line is shown.

    Raises:
        ValueError: verbose has another value.
    """

    def __init__(self, verbose: Verbose) -> None:
        self._shows = is_shown(verbose)
        self._line: Any = None
        self._last = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._line is not None:
            self._line.close()

    def follow(self, test: RangeTest, name: str) -> None:
        """Show the progress of a test that starts now, with a name such as `"range test"`."""
        if not self._shows:
            return
        if self._line is None:
            self._line = _new_line(name, len(test))
        if self._line is not None:
            self._line.set_description_str(name, refresh=False)
            self._line.set_postfix_str("", refresh=False)
            self._line.reset(total=len(test))
            self._last = time.monotonic()
            test.followers.append(self._update)

    def _update(self, test: RangeTest) -> None:
        now = time.monotonic()
        if now - self._last < SECONDS_BETWEEN and not test.stopped:
            return
        self._last = now
        lr, loss = test.last
        self._line.set_postfix_str(f"lr {lr:.2g}, loss {loss:.3g}", refresh=False)
        self._line.n = test.recorded
        self._line.refresh()


def is_shown(verbose: Verbose) -> bool:
    """Return True if the line is shown. For `"auto"` this depends on the terminal or notebook."""
    if verbose not in ("auto", 0, 1):
        _checks.choice("verbose", verbose, ("auto", 0, 1))  # type: ignore[arg-type]
    if verbose != "auto":
        return bool(verbose)
    # Without a console, Python's standard streams are None.
    return _in_notebook() or (sys.stderr is not None and sys.stderr.isatty())


def _in_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell is not None and "IPKernelApp" in shell.config


def _new_line(name: str, total: int) -> Any:
    """Return a line of tqdm, or None if tqdm is not installed."""
    with contextlib.suppress(ImportError), warnings.catch_warnings():
        # tqdm warns if it falls back to text, in a notebook without ipywidgets.
        warnings.simplefilter("ignore")
        from tqdm.auto import tqdm

        # An interval of 0 disables tqdm's monitor thread, which would outlive the test.
        kind = type("Line", (tqdm,), {"monitor_interval": 0})
        form = "{desc}: {n_fmt}/{total_fmt}{postfix}, {remaining} left {bar}"
        return kind(desc=name, total=total, leave=False, dynamic_ncols=True, bar_format=form)
    return None
