"""AutoCycle: corrects a wrong learning rate during the run, in any training loop. Needs only NumPy."""

from cyclr import _names
from cyclr.auto.driver import AutoCycle, Restorable
from cyclr.auto.event import AutoEvent

__all__ = ["AutoCycle", "AutoEvent", "Restorable"]

_names.Package.adopt(__name__)
