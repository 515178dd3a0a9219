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

__version__ = "0.1.0"

__all__ = [
    "Anneal",
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
