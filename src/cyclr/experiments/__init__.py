"""Complete runs on real data: data sets, models, the comparison of policies, and what `cyclr demo` shows."""

from cyclr.experiments.compare import compare
from cyclr.experiments.record import read_records
from cyclr.experiments.spec import Spec
from cyclr.report import statistics

__all__ = ["Spec", "compare", "read_records", "statistics"]
