"""The error classes of cyclr. Illegal arguments raise a plain `ValueError` or `TypeError` instead."""


class CyclrError(Exception):
    """Base of cyclr's own errors. Illegal arguments raise a plain `ValueError` or `TypeError` instead."""


class ScheduleError(CyclrError):
    """A schedule does not support an operation, such as being written to JSON."""


class RangeTestError(CyclrError):
    """The methods of a range test were called in a wrong order, or the test cannot run on its model or data."""


class AutoCycleError(CyclrError):
    """The methods of an AutoCycle were called in a wrong order, or after the end of its run."""


class MembersError(CyclrError):
    """Members of a run cannot be kept, read or combined.

    For example, they are not finite or belong to another model.
    """


class BoundsError(CyclrError):
    """The numbers or a schedule were requested from bounds that are None."""


class DataError(CyclrError):
    """A data set cannot be found, read or used."""


class MissingExtraError(CyclrError, ImportError):
    """An optional dependency is missing or too old. The message contains the command that installs it."""


class RunFolderError(CyclrError):
    """The folder of a comparison cannot be read or written, holds another comparison, or is in use."""
