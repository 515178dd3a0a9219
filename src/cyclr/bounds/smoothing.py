"""Smoothing of a loss curve: pure functions, each of which leaves a constant curve exactly as it is."""

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclr import _checks

Floats = NDArray[np.float64]

_ROWS = 256
"""Points that are smoothed at a time: memory grows with their number, and not with its square."""


def exponential(values: ArrayLike, momentum: float) -> Floats:
    """Running mean that forgets: what can be known of a curve while it is being recorded.

    m_t = momentum · m_(t−1) + (1 − momentum) · v_t from m_(−1) = 0, divided by 1 − momentum^(t+1), so that the weights
    of the values sum to one at every t.

    Args:
        values: shape (n,).
        momentum: weight of the past, in [0, 1); 0 returns the values themselves.

    Returns:
        Shape (n,).

    Example:
        >>> from cyclr.bounds.smoothing import exponential
        >>> exponential([1.0, 1.0, 4.0], momentum=0.5).round(3).tolist()
        [1.0, 1.0, 2.714]
    """
    mean = RunningMean(momentum)
    return np.array([mean.update(value) for value in np.asarray(values, dtype=np.float64)], dtype=np.float64)


class RunningMean:
    """The same mean, fed one value at a time; `exponential` says what it computes."""

    def __init__(self, momentum: float) -> None:
        self.momentum = _checks.number("momentum", momentum, at_least=0, below=1)
        self._mean = 0.0
        self._weight = 0.0

    def update(self, value: float) -> float:
        """Take one value in and return the mean so far."""
        self._weight = self.momentum * self._weight + (1 - self.momentum)
        # Moving towards the value, instead of dividing a sum, leaves a constant exactly as it is.
        share = (1 - self.momentum) / self._weight
        self._mean = float(value) if share == 1 else self._mean + share * (float(value) - self._mean)
        return self._mean


def kernel(position: ArrayLike, values: ArrayLike, bandwidth: float) -> Floats:
    """Weighted mean around every point: no lag, unlike a running mean, so that a minimum stays where it is.

    s_i = Σ_j k_ij v_j / Σ_j k_ij with k_ij = exp(−((x_i − x_j) / bandwidth)² / 2).

    Args:
        position: x, shape (n,), such as the logarithm of the learning rate.
        values: v, shape (n,).
        bandwidth: standard deviation of the weights, in units of x, ≥ 0; 0 returns the values themselves.

    Returns:
        Shape (n,).

    Example:
        >>> from cyclr.bounds.smoothing import kernel
        >>> kernel([0.0, 1.0, 2.0], [5.0, 5.0, 5.0], bandwidth=1.0).tolist()
        [5.0, 5.0, 5.0]
    """
    x, v = np.asarray(position, dtype=np.float64), np.asarray(values, dtype=np.float64)
    width = _checks.number("bandwidth", bandwidth, at_least=0)
    if x.shape != v.shape or x.ndim != 1:
        raise ValueError(f"position and values must be vectors of one length; got shapes {x.shape} and {v.shape}.")
    if width == 0 or len(v) == 0:
        return v.copy()
    result = np.empty_like(v)
    for begin in range(0, len(v), _ROWS):
        rows = slice(begin, begin + _ROWS)
        result[rows] = v[0] + kernel_weights(x[rows], x, width) @ (v - v[0])
    return result


def kernel_weights(at: Floats, position: Floats, bandwidth: float) -> Floats:
    """How much every value counts in the `kernel` mean at some places; those of a place sum to one.

    Args:
        at: the places, shape (m,).
        position: x of the values, shape (n,).
        bandwidth: as for `kernel`, > 0.

    Returns:
        Shape (m, n).

    Example:
        >>> import numpy as np
        >>> from cyclr.bounds.smoothing import kernel_weights
        >>> kernel_weights(np.array([0.0]), np.array([-1.0, 0.0, 1.0]), bandwidth=1.0).round(3).tolist()
        [[0.274, 0.452, 0.274]]
    """
    weights = np.exp(-0.5 * ((at[:, None] - position[None, :]) / bandwidth) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def running_median(values: ArrayLike, window: int) -> Floats:
    """Median of the `window` values around every point (fewer at the ends): a lone outlier within leaves no trace.

    Args:
        values: shape (n,).
        window: an odd number of points, ≥ 1.

    Returns:
        Shape (n,).

    Example:
        >>> from cyclr.bounds.smoothing import running_median
        >>> running_median([1.0, 9.0, 2.0, 3.0], window=3).tolist()
        [5.0, 2.0, 3.0, 2.5]
    """
    v = np.asarray(values, dtype=np.float64)
    size = _checks.integer("window", window, at_least=1)
    if size % 2 == 0:
        raise ValueError(f"window must be odd, to have a middle; got window={window}. Use {size + 1}.")
    if size == 1 or len(v) == 0:
        return v.copy()
    padded = np.pad(v, size // 2, constant_values=np.nan)
    return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, size), axis=1)


def unimodal(values: ArrayLike) -> Floats:
    """The sequence nearest to the values that falls first and rises then (either part may be empty).

    Of all sequences with u_0 ≥ … ≥ u_k ≤ … ≤ u_(n−1) for some k, the one with the smallest Σ (u_i − v_i)². A dip that
    is only noise disappears, as it does not pay for the points around it; there is no width to choose.

    Args:
        values: v, shape (n,).

    Returns:
        Shape (n,).

    Example:
        >>> from cyclr.bounds.smoothing import unimodal
        >>> unimodal([5.0, 3.0, 4.0, 1.0, 2.0, 6.0]).tolist()
        [5.0, 3.5, 3.5, 1.0, 2.0, 6.0]

    Source: Stout 2008, *Unimodal regression via prefix isotonic regression*, Comput. Stat. Data Anal. 53.
    """
    v = np.asarray(values, dtype=np.float64)
    if len(v) < 2:
        return v.copy()
    # The errors are compared on a scale of 1, so that neither tiny nor huge values are lost in their squares.
    scale = float(np.abs(v - v[0]).max()) or 1.0
    scaled = (v - v[0]) / scale
    errors = np.array(_Falling(scaled).errors) + np.array(_Falling(scaled[::-1]).errors)[::-1]
    split = int(np.argmin(errors))
    fitted = np.concatenate([_fallen(scaled[:split]), _fallen(scaled[split:][::-1])[::-1]])
    return np.asarray(v[0] + scale * fitted, dtype=np.float64)


class _Block(NamedTuple):
    """Neighbours that are given one value."""

    size: int
    mean: float
    error: float
    """Sum of squares around the mean."""
    error_before: float
    """That of all blocks before it."""

    def pooled_with(self, later: "_Block") -> "_Block":
        size = self.size + later.size
        between = self.size * later.size / size * (self.mean - later.mean) ** 2
        mean = self.mean + (later.mean - self.mean) * later.size / size
        return _Block(size, mean, self.error + later.error + between, self.error_before)


class _Falling:
    """The falling sequence nearest to some values, by pooling adjacent violators.

    Attributes:
        errors: the sum of squares that it leaves for the first k values alone, k = 0 … n: one pass gives all of them.
    """

    def __init__(self, values: Floats) -> None:
        self.errors = [0.0]
        self._blocks: list[_Block] = []
        for value in values:
            block = _Block(1, float(value), 0.0, self.errors[-1])
            while self._blocks and self._blocks[-1].mean < block.mean:
                block = self._blocks.pop().pooled_with(block)
            self._blocks.append(block)
            self.errors.append(block.error_before + block.error)

    def fitted(self) -> Floats:
        """The sequence itself."""
        return np.repeat([block.mean for block in self._blocks], [block.size for block in self._blocks])


def _fallen(values: Floats) -> Floats:
    return _Falling(values).fitted() if len(values) else values
