"""cyclr finds good learning-rate bounds for a model and trains it with cyclical learning rates.

This package needs only NumPy. `cyclr.keras`, `cyclr.torch` and `cyclr.jax` attach it to a framework.
"""

import typing

from cyclr import _names
from cyclr.errors import (
    AutoCycleError,
    BoundsError,
    CyclrError,
    DataError,
    MembersError,
    MissingExtraError,
    RangeTestError,
    RunFolderError,
    ScheduleError,
)
from cyclr.schedules import (
    Anneal,
    Clock,
    Constant,
    Cyclical,
    Decay,
    Exponential,
    Function,
    Halving,
    Mirrored,
    OneCycle,
    PerCycle,
    PerStep,
    Product,
    Run,
    Schedule,
    Sequence,
    WarmRestarts,
    Warmup,
    WarmupStableDecay,
    Wave,
    step_size,
)

if typing.TYPE_CHECKING:
    from cyclr.auto import AutoCycle
    from cyclr.bounds import Bounds
    from cyclr.members import Member
    from cyclr.range_test import RangeTest, RangeTestResult

# Imported at their first use, because schedules do not need them, and they take a sixth of the whole import.
_LATER = {
    "AutoCycle": "cyclr.auto",
    "Bounds": "cyclr.bounds",
    "Member": "cyclr.members",
    "RangeTest": "cyclr.range_test",
    "RangeTestResult": "cyclr.range_test",
}

__version__ = "0.2.0"

__all__ = [
    "Anneal",
    "AutoCycle",
    "AutoCycleError",
    "Bounds",
    "BoundsError",
    "Clock",
    "Constant",
    "Cyclical",
    "CyclrError",
    "DataError",
    "Decay",
    "Exponential",
    "Function",
    "Halving",
    "Member",
    "MembersError",
    "Mirrored",
    "MissingExtraError",
    "OneCycle",
    "PerCycle",
    "PerStep",
    "Product",
    "RangeTest",
    "RangeTestError",
    "RangeTestResult",
    "Run",
    "RunFolderError",
    "Schedule",
    "ScheduleError",
    "Sequence",
    "WarmRestarts",
    "Warmup",
    "WarmupStableDecay",
    "Wave",
    "step_size",
]

_names.Package.adopt(__name__)
