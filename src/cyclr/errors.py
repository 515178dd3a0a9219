"""Errors that are not about one argument; those are plain `ValueError` and `TypeError`."""


class CyclrError(Exception):
    """Base of every error that cyclr raises besides `ValueError` and `TypeError`."""


class ScheduleError(CyclrError):
    """A schedule does not support an operation, such as being written to JSON."""


class RangeTestError(CyclrError):
    """A range test was driven out of order, or cannot run on its model or data."""


class AutoCycleError(CyclrError):
    """An AutoCycle was driven out of order, or beyond the end of its run."""


class MembersError(CyclrError):
    """Members of a run cannot be kept, read or combined: they are not finite, or belong to another model."""


class BoundsError(CyclrError):
    """Bounds without usable numbers were asked for a schedule."""


class DataError(CyclrError):
    """A data set cannot be found, read or used."""


class MissingExtraError(CyclrError, ImportError):
    """An optional dependency is not installed; the message holds the command that installs it."""


class RunFolderError(CyclrError):
    """The folder of a comparison cannot be read or written, holds another one, or is in use."""
