"""Pure functions that smooth a loss curve and do not change a constant curve."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cyclr import _checks

Floats = NDArray[np.float64]

_EXACT, _ROWS = 1024, 256
"""Largest number of points for which the kernel is computed at every point, and number of points at a time."""

_CELLS, _REACH = 16, 9.0
"""For more points: cells per bandwidth, and distance in bandwidths beyond which weights (< 1e-17) are left out."""

_NODES, _ENTRIES = 64, 2**20
"""For more points: most nodes at a time, and most weights at a time. At least one node is computed at a time."""


def exponential(values: ArrayLike, momentum: float) -> Floats:
    """Return the exponential running mean, which can be computed while a curve is recorded.

    m_t = momentum · m_(t−1) + (1 − momentum) · v_t from m_(−1) = 0, divided by 1 − momentum^(t+1), so that the weights
    of the values sum to one at every t. The momentum is in [0, 1); 0 returns the values themselves.
    """
    mean = RunningMean(momentum)
    return np.array([mean.update(value) for value in np.asarray(values, dtype=np.float64)])


class RunningMean:
    """The mean of `exponential`, updated one value at a time."""

    def __init__(self, momentum: float) -> None:
        self.momentum = _checks.number("momentum", momentum, at_least=0, below=1)
        self._mean = 0.0
        self._weight = 0.0

    def update(self, value: float) -> float:
        """Add one value and return the mean so far."""
        self._weight = self.momentum * self._weight + (1 - self.momentum)
        # Moving the mean towards the value keeps constant values exact, which dividing a sum would not.
        share = (1 - self.momentum) / self._weight
        self._mean = float(value) if share == 1 else self._mean + share * (float(value) - self._mean)
        return self._mean


def kernel(position: ArrayLike, values: ArrayLike, bandwidth: float) -> Floats:
    """Return the weighted mean around every point. Unlike a running mean it has no lag, so a minimum keeps its place.

    s_i = Σ_j k_ij v_j / Σ_j k_ij with k_ij = exp(−((x_i − x_j) / bandwidth)² / 2). For more than 1,024 points, the mean
    and its slope are computed only at the first and the last point of every sixteenth of a bandwidth. Cubic polynomials
    interpolate between these points, with an error below 1e-6 of the range of the values.

    Args:
        position: x, shape (n,), such as the logarithm of the learning rate.
        values: v, shape (n,).
        bandwidth: standard deviation of the weights, in units of x, ≥ 0; 0 returns the values themselves.
    """
    x, v = np.asarray(position, dtype=np.float64), np.asarray(values, dtype=np.float64)
    width = _checks.number("bandwidth", bandwidth, at_least=0)
    if x.shape != v.shape or x.ndim != 1:
        raise ValueError(f"position and values must be vectors of the same length; got shapes {x.shape} and {v.shape}.")
    if width == 0 or len(v) == 0:
        return v.copy()
    result = np.empty_like(v)
    if len(v) > _EXACT:
        order = np.argsort(x, kind="stable")
        result[order] = v[0] + _interpolated_kernel(x[order], v[order] - v[0], width)
        return result
    for start in range(0, len(v), _ROWS):
        rows = slice(start, start + _ROWS)
        result[rows] = v[0] + _sums(kernel_weights(x[rows], x, width), v - v[0])
    return result


def _interpolated_kernel(x: Floats, v: Floats, width: float) -> Floats:
    """Compute the `kernel` mean at rising positions by interpolation between some of them."""
    edges = np.flatnonzero(np.diff(np.floor((x - x[0]) * (_CELLS / width))))
    at = np.unique(x[np.concatenate([[0], edges, edges + 1, [len(x) - 1]])])
    mean, slope = np.empty((2, len(at) + 1))
    count = max(1, min(_NODES, _ENTRIES // len(x)))
    for start in range(0, len(at), count):
        rows = slice(start, start + count)
        near = slice(*np.searchsorted(x, [at[rows][0] - _REACH * width, at[rows][-1] + _REACH * width]))
        weights, distance = kernel_weights(at[rows], x[near], width), x[near] - at[start]
        means, moments = _sums(weights, v[near]), _sums(weights, distance * v[near])
        mean[:-1][rows] = means
        slope[:-1][rows] = (moments - means * _sums(weights, distance)) / width**2
    # The last point needs an interval to its right.
    at, mean[-1], slope[-1] = np.append(at, at[-1] + width), mean[-2], 0.0
    left = np.searchsorted(at, x, side="right") - 1
    length = np.diff(at)[left]
    share, rise = (x - at[left]) / length, np.diff(mean)[left]
    first, last = length * slope[left], length * slope[left + 1]
    cubic = 3 * rise - 2 * first - last + share * (first + last - 2 * rise)
    return np.asarray(mean[left] + share * (first + share * cubic))


def kernel_weights(at: Floats, position: Floats, bandwidth: float) -> Floats:
    """Return the weights, shape (m, n), of n values in the `kernel` mean at m positions. Each row sums to one."""
    weights = np.exp(-0.5 * ((at[:, None] - position[None, :]) / bandwidth) ** 2)
    weights /= weights.sum(axis=1, keepdims=True)
    return weights


def _sums(weights: Floats, values: Floats) -> Floats:
    # `@` uses the threads of BLAS, which wait for each other and take forty times as long on a busy machine.
    return np.asarray(np.einsum("ij,j->i", weights, values))


def running_median(values: ArrayLike, window: int) -> Floats:
    """Return the median of `window` (odd) values around every point, and of fewer at the ends, to remove outliers."""
    v = np.asarray(values, dtype=np.float64)
    size = _checks.integer("window", window, at_least=1)
    if size % 2 == 0:
        raise ValueError(f"window must be odd, to have a middle; got window={window}. Use {size + 1}.")
    if size == 1 or len(v) == 0:
        return v.copy()
    padded = np.pad(v, size // 2, constant_values=np.nan)
    return np.nanmedian(np.lib.stride_tricks.sliding_window_view(padded, size), axis=1)


def unimodal(values: ArrayLike) -> Floats:
    """Return the closest sequence that first falls and then rises (either part may be empty).

    The result has the smallest Σ (u_i − v_i)² of all sequences with u_0 ≥ … ≥ u_k ≤ … ≤ u_(n−1) for some k. A dip
    caused by noise disappears, because a sequence with this dip would be farther from the points around the dip. There
    is no bandwidth to choose.

    Example:
        >>> from cyclr.bounds.smoothing import unimodal
        >>> unimodal([5.0, 3.0, 4.0, 1.0, 2.0, 6.0]).tolist()
        [5.0, 3.5, 3.5, 1.0, 2.0, 6.0]

    Source: Stout 2008, *Unimodal regression via prefix isotonic regression*, Comput. Stat. Data Anal. 53.
    """
    v = np.asarray(values, dtype=np.float64)
    scale = float(np.abs(v - v[0]).max()) if len(v) else 0.0
    # A division by a smaller scale may overflow.
    if scale < np.finfo(np.float64).tiny:
        return v.copy()
    # The values are scaled to 1, so that the squares of tiny and huge values keep their digits.
    scaled = (v - v[0]) / scale
    split = int(np.argmin(_isotonic(scaled)[1] + _isotonic(scaled[::-1])[1][::-1]))
    fitted = np.concatenate([_isotonic(scaled[:split])[0], _isotonic(scaled[split:][::-1])[0][::-1]])
    return np.asarray(v[0] + scale * fitted, dtype=np.float64)


def _isotonic(values: Floats) -> tuple[Floats, Floats]:
    """Return the closest falling sequence (by pooling adjacent violators), and its errors for the first 0, …, n values.

    An error is the smallest sum of squared differences.
    """
    errors = [0.0]
    # A block of neighbours with a common value: their number, the value, their error, and the error of earlier blocks.
    blocks: list[tuple[int, float, float, float]] = []
    for value in values.tolist():
        size, mean, error, before = 1, value, 0.0, errors[-1]
        while blocks and blocks[-1][1] < mean:
            earlier, earlier_mean, earlier_error, before = blocks.pop()
            total = earlier + size
            error = earlier_error + error + earlier * size / total * (earlier_mean - mean) ** 2
            mean = earlier_mean + (mean - earlier_mean) * size / total
            size = total
        blocks.append((size, mean, error, before))
        errors.append(before + error)
    sizes, means = [block[0] for block in blocks], [block[1] for block in blocks]
    return np.repeat(np.array(means), sizes), np.array(errors)
