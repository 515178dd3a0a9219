"""cyclr for JAX: a range test and AutoCycle for any training step. Every schedule is also an Optax schedule."""

from cyclr import _extras, _names

with _extras.needed("cyclr.jax needs", "jax", extra="jax"):
    import jax  # noqa: F401

from cyclr.jax.auto_cycle import AutoCycle
from cyclr.jax.combine import average, ensemble
from cyclr.jax.range_test import range_test
from cyclr.jax.snapshots import Snapshots

__all__ = ["AutoCycle", "Snapshots", "average", "ensemble", "range_test"]

_names.Package.adopt(__name__)
