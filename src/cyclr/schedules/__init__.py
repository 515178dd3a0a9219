"""Schedules: pure functions from a step to a value. Standard library and NumPy only."""

from cyclr import _names
from cyclr.schedules._namespace import Namespace
from cyclr.schedules.anneal import Anneal
from cyclr.schedules.base import Schedule
from cyclr.schedules.clock import Clock
from cyclr.schedules.compose import Constant, Sequence, Warmup
from cyclr.schedules.cyclical import Cyclical
from cyclr.schedules.decay import Decay, Exponential, Halving, PerCycle, PerStep
from cyclr.schedules.function import Function
from cyclr.schedules.one_cycle import OneCycle
from cyclr.schedules.product import Product
from cyclr.schedules.run import Run, step_size
from cyclr.schedules.warm_restarts import WarmRestarts
from cyclr.schedules.warmup_stable_decay import WarmupStableDecay
from cyclr.schedules.wave import Mirrored, Place, Wave

__all__ = [
    "Anneal",
    "Clock",
    "Constant",
    "Cyclical",
    "Decay",
    "Exponential",
    "Function",
    "Halving",
    "Mirrored",
    "Namespace",
    "OneCycle",
    "PerCycle",
    "PerStep",
    "Place",
    "Product",
    "Run",
    "Schedule",
    "Sequence",
    "WarmRestarts",
    "Warmup",
    "WarmupStableDecay",
    "Wave",
    "step_size",
]

_names.Package.adopt(__name__)
