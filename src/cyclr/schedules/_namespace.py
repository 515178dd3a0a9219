"""The operations in the formulas of schedules, for each kind of step.

A formula is written once, with the operations of a `Namespace` and `//`, `%`, `*`, `+` and `-` on integers. It then
runs on a Python int (through `math`, because an array operation takes ten times as long), on a NumPy array, on a JAX
array or tracer, and on a Keras tensor of the current backend. No framework is imported here: a step can only be a JAX
or Keras tensor if that framework was imported before.
"""

import bisect
import math
import operator
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Namespace:
    """Element-wise operations for one kind of step. The formulas of schedules, shapes and decays use them.

    For integers, use the operators `+`, `-`, `*`, `//` and `%`.

    Example:
        >>> import cyclr
        >>> from cyclr.schedules import Namespace
        >>> def formula(xp: Namespace, step):
        ...     return xp.sin(xp.ratio(step % 10, 10)) ** 2
    """

    where: Callable[[Any, Any, Any], Any]
    minimum: Callable[[Any, Any], Any]
    maximum: Callable[[Any, Any], Any]
    clip: Callable[[Any, Any, Any], Any]
    """Clip a value to a lower and an upper bound."""
    ratio: Callable[[Any, Any], Any]
    """The quotient of two integers, as a float."""
    sin: Callable[[Any], Any]
    exp2: Callable[[Any], Any]
    power: Callable[[Any, float], Any]
    """A value ≥ 0 to a constant power."""
    to_float: Callable[[Any], Any]
    elementwise: Callable[[Callable[[Any], Any], Any], Any]
    """Apply a user's function to every element of an array, or to a tensor as a whole."""
    index_in: Callable[[Sequence[int], Any], Any]
    """The index of the last entry of an increasing table that is at most the value."""
    take: Callable[[Sequence[int], Any], Any]
    """The entry of a table of integers at an index."""
    int_limit: float
    """Largest integer that a step of this kind can hold."""


def _apply_to_elements(fn: Callable[[Any], Any], values: Any) -> Any:
    unique, inverse = np.unique(values, return_inverse=True)
    results = np.array([float(fn(int(v))) for v in unique])
    return results[inverse].reshape(np.shape(values))


def _ratio(above: int, below: float) -> float:
    try:
        return above / below
    except OverflowError:
        return sys.float_info.max


def _to_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        return sys.float_info.max


SCALAR = Namespace(
    where=lambda condition, a, b: a if condition else b,
    # Twice as fast as `min` and `max`.
    minimum=lambda a, b: b if b < a else a,
    maximum=lambda a, b: b if b > a else a,
    clip=lambda x, low, high: low if x < low else high if x > high else x,
    ratio=_ratio,
    sin=math.sin,
    exp2=math.exp2,
    power=operator.pow,
    to_float=_to_float,
    elementwise=lambda fn, x: float(fn(x)),
    index_in=lambda table, x: bisect.bisect_right(table, x) - 1,
    take=lambda table, index: table[index],
    int_limit=math.inf,
)


def _array_namespace(np: Any, dtype: str, to_float: Callable[[Any], Any]) -> Namespace:
    """Return the operations of NumPy, or of a module with the same functions, for steps of an integer type."""
    return Namespace(
        where=np.where,
        minimum=np.minimum,
        maximum=np.maximum,
        clip=lambda x, low, high: np.minimum(np.maximum(x, low), high),
        ratio=np.true_divide,
        sin=np.sin,
        exp2=np.exp2,
        power=np.power,
        to_float=to_float,
        elementwise=lambda fn, x: fn(x),
        index_in=lambda table, x: np.searchsorted(np.asarray(table, dtype), x, side="right").astype(dtype) - 1,
        take=lambda table, index: np.asarray(table, dtype)[index],
        int_limit={"int32": 2**31 - 1, "uint32": 2**32 - 1}.get(dtype, 2**63 - 1),
    )


NUMPY = replace(_array_namespace(np, "int64", lambda x: np.asarray(x, np.float64)), elementwise=_apply_to_elements)


@cache
def _jax_namespace(jax: Any, dtype: str) -> Namespace:
    return _array_namespace(jax.numpy, dtype, lambda x: jax.numpy.asarray(x, jax.numpy.result_type(float)))


@cache
def _keras_namespace(keras: Any, dtype: str) -> Namespace:
    ops = keras.ops

    def to_float(x: Any) -> Any:
        return ops.cast(x, keras.backend.floatx())

    return replace(
        _array_namespace(ops, dtype, to_float),
        ratio=lambda a, b: to_float(a) / to_float(b),
        # Keras' searchsorted takes only vectors. Comparing all entries is fast enough, because tables are short.
        index_in=lambda table, x: (
            ops.sum(ops.cast(ops.expand_dims(x, -1) >= ops.convert_to_tensor(table, dtype), dtype), axis=-1) - 1
        ),
        take=lambda table, index: ops.take(ops.convert_to_tensor(table, dtype), ops.cast(index, "int32")),
    )


def resolve(step: Any) -> tuple[Any, Namespace]:
    """Check a step, and return it with the namespace for its kind.

    The values of tensors are not checked, because reading them would wait for the device and is impossible while a
    graph is traced.
    """
    if type(step) is int:
        if step < 0:
            raise ValueError(f"step must be an integer of at least 0; got step={step}. The first update is step 0.")
        return step, SCALAR
    if isinstance(step, np.ndarray):
        if not np.issubdtype(step.dtype, np.integer):
            raise TypeError(_kind_message(f"an array of {step.dtype}"))
        if step.size and int(step.min()) < 0:
            raise ValueError(f"step must be at least 0 everywhere; got a smallest step of {int(step.min())}.")
        if step.size and int(step.max()) > 2**63 - 1:
            raise ValueError(f"step must fit a signed integer of 64 bits; got a largest step of {int(step.max())}.")
        return step.astype(np.int64, copy=False), NUMPY
    if isinstance(step, np.integer):
        return resolve(int(step))
    jax = _imported("jax", "Array")
    if jax is not None and isinstance(step, jax.Array):
        if not jax.numpy.issubdtype(step.dtype, jax.numpy.integer):
            raise TypeError(_kind_message(f"a JAX array of {step.dtype}"))
        step = step if step.dtype.itemsize >= 4 else step.astype(jax.numpy.int32)
        return step, _jax_namespace(jax, str(step.dtype))
    keras = _imported("keras", "Variable", "ops", "backend")
    if keras is not None and (isinstance(step, keras.Variable) or keras.ops.is_tensor(step)):
        dtype = keras.backend.standardize_dtype(step.dtype)
        if "int" not in dtype:
            raise TypeError(_kind_message(f"a Keras tensor of {dtype}"))
        wide = dtype if dtype in ("int32", "uint32", "int64", "uint64") else "int32"
        return keras.ops.convert_to_tensor(step, wide), _keras_namespace(keras, wide)
    if isinstance(step, Sequence) and not isinstance(step, str):
        raise TypeError(_kind_message(repr(step), "Convert it with numpy.array(step)."))
    # NumPy 2.0 still accepts its booleans as an index.
    if isinstance(step, bool | np.bool_) or not hasattr(step, "__index__"):
        raise TypeError(_kind_message(repr(step)))
    return resolve(operator.index(step))


def _imported(name: str, *attributes: str) -> Any:
    """Return a framework if it was imported and has these attributes, or None."""
    module = sys.modules.get(name)
    return module if all(hasattr(module, attribute) for attribute in attributes) else None


def _kind_message(received: str, fix: str = "Convert it with int(step) if it is whole.") -> str:
    return (
        "step must be an integer, or an array or tensor of integers, counting optimizer updates from 0; "
        f"got {received}. {fix}"
    )
