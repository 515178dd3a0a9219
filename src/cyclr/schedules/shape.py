"""The wave between the bounds, as a function of the triangular position.

The triangular position x goes linearly from 0 (lower bound) to 1 (upper bound) on the way up and back to 0 on the way
down. A shape maps it to a height in [0, 1] with w(0) = 0 and w(1) = 1.

=============  =====================  ==========================================
name           formula                source
=============  =====================  ==========================================
triangular     w = x                  Smith 2017, arXiv:1506.01186, section 3.1
parabolic      w = 1 − (1 − x)²       the same, there named a Welch window
sinusoidal     w = (1 − cos πx) / 2   the same, there named a Hann window
=============  =====================  ==========================================
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cyclr.schedules._namespace import NUMPY, Namespace

Shape = Literal["triangular", "parabolic", "sinusoidal"]


def _sinusoidal(xp: Namespace, x: Any) -> Any:
    # sin²(πx/2) is (1 − cos πx)/2 without the cancellation near 0 that would show in float32.
    half = xp.sin(x * (math.pi / 2))
    return half * half


SHAPES: dict[str, Callable[[Namespace, Any], Any]] = {
    "triangular": lambda xp, x: x,
    "parabolic": lambda xp, x: 1.0 - (1.0 - x) * (1.0 - x),
    "sinusoidal": _sinusoidal,
}


def curves() -> dict[str, NDArray[np.float64]]:
    """Return every shape by its name, as w(x) at 0, 0.001, …, 1, for pages."""
    return {name: shape(NUMPY, np.linspace(0.0, 1.0, 1001)) for name, shape in SHAPES.items()}
