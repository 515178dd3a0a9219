"""How many steps half a cycle should take."""

import math
import warnings
from fractions import Fraction

from cyclr import _checks


def step_size(samples: int, batch_size: int, epochs: float = 4) -> int:
    """Return half a cycle in steps, by Smith's rule: `epochs` epochs, of ceil(samples / batch_size) steps each.

    Args:
        samples: training samples in an epoch, ≥ 1.
        batch_size: samples in one optimizer update (all micro-batches and processes together), ≥ 1.
        epochs: length of half a cycle in epochs, > 0. Smith advises 2 to 10; outside that a `UserWarning` is issued.

    Returns:
        Steps (optimizer updates), at least 1, rounded to the nearest.

    Raises:
        TypeError, ValueError: samples or batch_size is not an integer ≥ 1, or epochs is not a number > 0.

    Example:
        >>> import cyclr
        >>> cyclr.step_size(60_000, 250, epochs=2), cyclr.step_size(60_000, 250, epochs=10)
        (480, 2400)

    Source: Smith 2017, arXiv:1506.01186, section 3.2.
    """
    steps_per_epoch = -(
        -_checks.integer("samples", samples, at_least=1) // _checks.integer("batch_size", batch_size, at_least=1)
    )
    length = _checks.number("epochs", epochs, above=0)
    if not 2 <= length <= 10:
        warnings.warn(
            f"half a cycle of {length:g} epochs is outside the 2 to 10 that Smith (2017) advises", stacklevel=2
        )
    # By its decimals, as in `Run`: 2.01 is not exactly a float.
    return max(1, math.floor(Fraction(repr(length)) * steps_per_epoch + Fraction(1, 2)))
