"""cyclr finds good learning-rate bounds for a model and trains it with cyclical learning rates.

This package needs only NumPy. `cyclr.keras`, `cyclr.torch` and `cyclr.jax` attach it to a framework.
"""

from cyclr.bounds import Bounds
from cyclr.errors import (
    BoundsError,
    CyclrError,
    DataError,
    MissingExtraError,
    RangeTestError,
    RunFolderError,
    ScheduleError,
)
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.schedules import (
    Constant,
    Cyclical,
    Decay,
    Exponential,
    Halving,
    Mirrored,
    OneCycle,
    PerCycle,
    PerStep,
    Run,
    Schedule,
    Sequence,
    WarmRestarts,
    Warmup,
    Wave,
    step_size,
)

__version__ = "0.1.0"

__all__ = [
    "Bounds",
    "BoundsError",
    "Constant",
    "Cyclical",
    "CyclrError",
    "DataError",
    "Decay",
    "Exponential",
    "Halving",
    "Mirrored",
    "MissingExtraError",
    "OneCycle",
    "PerCycle",
    "PerStep",
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
    "Wave",
    "step_size",
]
