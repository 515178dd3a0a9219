"""The range test itself, for any training loop. Standard library and NumPy only."""

from cyclr import _names
from cyclr.range_test.driver import RangeTest
from cyclr.range_test.non_finite import NonFinite
from cyclr.range_test.result import RangeTestResult
from cyclr.range_test.trial import TrialCycle

__all__ = ["NonFinite", "RangeTest", "RangeTestResult", "TrialCycle"]

_names.Package.adopt(__name__)
