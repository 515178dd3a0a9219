"""cyclr for native PyTorch: schedulers, range test, AutoCycle and snapshots for your own training loops."""

from cyclr import _extras, _names

with _extras.needed("cyclr.torch needs", "torch", extra="torch"):
    import torch  # noqa: F401

from cyclr.torch.auto_cycle import AutoCycle
from cyclr.torch.average import average
from cyclr.torch.cycle_end import CycleEnd
from cyclr.torch.cyclic_lr import CyclicLR
from cyclr.torch.ensemble import Ensemble, ensemble
from cyclr.torch.layer_groups import layer_groups
from cyclr.torch.range_test import range_test
from cyclr.torch.scheduler import Scheduler
from cyclr.torch.snapshots import Snapshots
from cyclr.torch.timm import TimmScheduler

__all__ = [
    "AutoCycle",
    "CycleEnd",
    "CyclicLR",
    "Ensemble",
    "Scheduler",
    "Snapshots",
    "TimmScheduler",
    "average",
    "ensemble",
    "layer_groups",
    "range_test",
]

_names.Package.adopt(__name__)
