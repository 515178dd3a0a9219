"""The wave between the bounds, as a function of the triangular position.

The triangular position x rises linearly from 0 (lower bound) to 1 (upper bound) on the way up and falls back to 0 on
the way down. A shape maps x to a height w(x) in [0, 1] with w(0) = 0 and w(1) = 1.

=============  =====================  ==============================================
name           formula                source: Smith 2017, arXiv:1506.01186
=============  =====================  ==============================================
triangular     w = x                  section 3.1
parabolic      w = 1 − (1 − x)²       section 3.1, named "Welch window" in the paper
sinusoidal     w = (1 − cos πx) / 2   section 3.1, named "Hann window" in the paper
=============  =====================  ==============================================
"""

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cyclr.schedules._namespace import NUMPY, Namespace

Shape = Literal["triangular", "parabolic", "sinusoidal"]


def _sinusoidal(xp: Namespace, x: Any) -> Any:
    # sin²(πx/2) equals (1 − cos πx)/2, but does not lose digits near 0 in float32.
    half = xp.sin(x * (math.pi / 2))
    return half * half


SHAPES: dict[str, Callable[[Namespace, Any], Any]] = {
    "triangular": lambda xp, x: x,
    "parabolic": lambda xp, x: 1.0 - (1.0 - x) * (1.0 - x),
    "sinusoidal": _sinusoidal,
}


def curves() -> dict[str, NDArray[np.float64]]:
    """Return the values w(x) of every shape at x = 0, 0.001, …, 1, by the shape's name. The plots in reports use it."""
    return {name: shape(NUMPY, np.linspace(0.0, 1.0, 1001)) for name, shape in SHAPES.items()}
