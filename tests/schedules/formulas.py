"""The formula of every shape, written again from its source: the tests compare with these, and not with cyclr's own.

A new shape needs its line here.
"""

import math

from cyclr.schedules.shape import SHAPES

# The wave as a function of the triangular position x, as in Smith 2017, section 3.1: a triangle, a Welch window and a
# Hann window.
FORMULAS = {
    "triangular": lambda x: x,
    "parabolic": lambda x: 1 - (1 - x) ** 2,
    "sinusoidal": lambda x: math.sin(math.pi / 2 * x) ** 2,
}

assert set(FORMULAS) == set(SHAPES), (
    f"tests/schedules/formulas.py must have a formula for each of {sorted(SHAPES)}; got {sorted(FORMULAS)}."
)

LISTED = ", ".join(repr(shape) for shape in SHAPES)
"""The shapes as a message lists them."""
