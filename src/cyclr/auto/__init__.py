"""AutoCycle: a run that a wrong learning rate cannot ruin, for any training loop. Standard library and NumPy only."""

from cyclr import _names
from cyclr.auto.driver import AutoCycle, Restorable
from cyclr.auto.event import AutoEvent

__all__ = ["AutoCycle", "AutoEvent", "Restorable"]

_names.Package.adopt(__name__)
