"""Complete runs on real data: data sets, models, the comparison of policies, and what `cyclr demo` shows."""

try:
    import msgspec  # noqa: F401
except ImportError as error:
    from cyclr.errors import MissingExtraError

    raise MissingExtraError('comparisons need msgspec. Run: pip install "cyclr[compare]".') from error

from cyclr.experiments.compare import compare
from cyclr.experiments.spec import Spec
from cyclr.records import read_records

__all__ = ["Spec", "compare", "read_records"]
