"""The same numbers wherever a schedule runs: ints, NumPy, and JAX eager, compiled, vectorized and in a loop.

JAX runs as it does by default, in 32 bits. The usual formula divides first and is off by 2.4e-4 of the amplitude at
step 10⁷ in float32; a position that is reduced in integers first is as exact there as at step 0.
"""

import sys
import types

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyclr import Cyclical, Exponential, Halving, PerCycle, PerStep
from cyclr.schedules.shape import SHAPES

jax = pytest.importorskip("jax")
jnp = jax.numpy

INT32 = 2**31 - 1
EPS = float(np.finfo(np.float32).eps)

DECAYS = {
    "halving": Halving(),
    "exponential": Exponential(0.999),
    "exponential-slow": Exponential(1 - 1e-7),
    "exponential-both": Exponential(1 - 1e-9, "both"),
    "per-cycle": PerCycle(lambda cycle: 1 / (1 + cycle)),
    "per-step": PerStep(lambda step: 1 / (1 + step)),
}
LAYOUTS = {
    "even-sides": lambda **style: Cyclical(0.001, 0.1, 700, **style),
    "uneven-sides": lambda **style: Cyclical(0.001, 0.1, 900, step_size_down=100, **style),
    "whole-cycles": lambda **style: Cyclical.over(10_001, 7, 0.001, 0.1, **style),
}
STARTS = [0, 10**7, INT32 - 2999]
# Every layout with every shape, and with every decay.
SCHEDULES = {
    f"{layout}-{name}": build(shape=shape, decay=decay)
    for layout, build in LAYOUTS.items()
    for name, shape, decay in [
        *((shape, shape, None) for shape in SHAPES),
        *((name, "sinusoidal", decay) for name, decay in DECAYS.items()),
    ]
}
EAGER = ["uneven-sides-exponential-both", "whole-cycles-per-step", "whole-cycles-triangular"]


def assert_same(actual, expected, *, top=0.1):
    """Equal to a few roundings of float32, measured against the largest value."""
    assert actual.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(actual, dtype=np.float64), expected, rtol=0, atol=4 * EPS * top)


def test_jax_runs_in_32_bits_here():
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_compiled_equals_numpy(schedule):
    compiled = jax.jit(schedule)
    for start in STARTS:
        steps = np.arange(start, start + 3000, dtype=np.int32)
        assert_same(compiled(jnp.asarray(steps)), schedule(steps))


@pytest.mark.parametrize("name", EAGER)
def test_eager_vmap_and_scan_equal_numpy(name):
    schedule = SCHEDULES[name]

    @jax.jit
    def train(start):
        return jax.lax.scan(lambda step, _: (step + 1, schedule(step)), start, length=500)[1]

    for start in STARTS:
        steps = np.arange(start, start + 500, dtype=np.int32)
        expected = schedule(steps)
        assert_same(schedule(jnp.asarray(steps)), expected)
        assert_same(jax.jit(jax.vmap(schedule))(jnp.asarray(steps)), expected)
        assert_same(train(jnp.int32(start)), expected)


@settings(max_examples=25)
@given(
    up=st.integers(1, 10**9),
    down=st.integers(1, 10**9),
    shape=st.sampled_from(list(SHAPES)),
    steps=st.lists(st.integers(0, INT32), min_size=20, max_size=20),
)
def test_cycles_of_any_length_equal_numpy(up, down, shape, steps):
    schedule = Cyclical(0.001, 0.1, up, step_size_down=down, shape=shape)
    steps = np.array(steps, dtype=np.int32)
    assert_same(schedule(jnp.asarray(steps)), schedule(steps))


def test_a_short_way_down_after_a_long_way_up_is_walked_step_by_step():
    # In float32 the numbers around 10⁸ are 8 apart, so up + down − offset has to be taken in integers.
    schedule = Cyclical(0.0, 1.0, 10**8, step_size_down=10)
    steps = np.arange(10**8, 10**8 + 11, dtype=np.int32)
    assert_same(schedule(jnp.asarray(steps)), schedule(steps), top=1.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_both_bounds_are_hit_exactly_in_float32(shape):
    for length in (1, 2, 3, 7, 480, 2001):
        schedule = Cyclical(0.001, 0.1, length, shape=shape)
        low, high = schedule(jnp.array([2 * length * 1000, 2 * length * 1000 + length]))
        assert (low, high) == (np.float32(0.001), np.float32(0.1))


@pytest.mark.parametrize(
    "schedule", [Cyclical(0.1, 0.11, 10, decay=Exponential(0.99)), Cyclical(0.1, 0.9, 3, decay=Halving())]
)
def test_bounds_hold_in_float32(schedule):
    values = np.asarray(jax.jit(schedule)(jnp.arange(60_000)))
    assert values.min() >= np.float32(schedule.base_lr)
    assert values.max() <= np.float32(schedule.max_lr)


@pytest.mark.parametrize("method", ["cycle", "is_cycle_end"])
@pytest.mark.parametrize("build", LAYOUTS.values(), ids=LAYOUTS)
def test_cycles_are_counted_alike(build, method):
    count = getattr(build(), method)
    for start in STARTS:
        steps = np.arange(start, start + 3000, dtype=np.int32)
        assert np.asarray(jax.jit(count)(jnp.asarray(steps))).tolist() == count(steps).tolist()


@pytest.mark.parametrize("decay", [None, Halving(), Exponential(0.999, "both")], ids=["none", "halving", "both"])
def test_envelope_height_and_mirror_equal_numpy(decay):
    schedule = Cyclical(0.001, 0.1, 700, decay=decay)
    steps = np.arange(3000, dtype=np.int32)
    traced = jnp.asarray(steps)
    for actual, expected in zip(jax.jit(schedule.envelope)(traced), schedule.envelope(steps), strict=True):
        assert_same(actual, expected)
    assert_same(jax.jit(schedule.height)(traced), schedule.height(steps), top=1.0)
    momentum = schedule.mirrored(0.85, 0.95)
    assert_same(jax.jit(momentum)(traced), momentum(steps), top=1.0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32"])
def test_a_step_of_a_narrow_type_gives_the_same_value_or_a_clear_error(dtype):
    # A period of 4,000 steps does not fit into 8 bits, where it would wrap to another period.
    schedule = Cyclical(0.001, 0.1, 2000)
    compiled = jax.jit(schedule)
    for step in (0, 3, 100, int(jnp.iinfo(dtype).max)):
        try:
            value = compiled(jnp.array(step, dtype=dtype))
        except ValueError as error:
            assert "integers up to" in str(error)  # noqa: PT017
        else:
            assert_same(value, schedule(step))


LONG = "^the cycles need integers up to .* but the type of the step holds at most 2147483647\\b.*64-bit"


def test_whole_cycles_that_need_more_than_32_bits_are_a_clear_error():
    schedule = Cyclical.over(2**30 + 1, 7, 0.001, 0.1)
    assert 0.001 <= schedule(10**12) <= 0.1
    for call in (schedule, jax.jit(schedule), schedule.cycle):
        with pytest.raises(ValueError, match=LONG):
            call(jnp.int32(100))


@pytest.mark.parametrize("length", [2**30, 2**31, 2**40])
def test_a_cycle_that_needs_more_than_32_bits_is_a_clear_error(length):
    schedule = Cyclical(0.001, 0.1, length)
    assert schedule(length) == 0.1
    for call in (schedule, jax.jit(schedule), schedule.cycle):
        with pytest.raises(ValueError, match=LONG):
            call(jnp.int32(100))


def test_a_cycle_that_needs_more_than_64_bits_is_a_clear_error():
    for build in (lambda: Cyclical(0.001, 0.1, 2**62), lambda: Cyclical.over(2**62, 5, 0.001, 0.1)):
        with pytest.raises(ValueError, match=r"^the cycles need integers up to .* but the type of the step"):
            build()


@pytest.mark.parametrize("step", [1.0, [1.0], True], ids=repr)
def test_a_jax_step_that_is_no_integer_is_a_type_error(step):
    for call in (Cyclical(0.001, 0.1, 10), jax.jit(Cyclical(0.001, 0.1, 10))):
        with pytest.raises(
            TypeError, match=r"^step must be an integer, or an array or tensor of integers, .*; got a JAX array"
        ):
            call(jnp.array(step))


def test_compiles_once_for_all_steps():
    traced = []

    def rate(step):
        traced.append(step)
        return Cyclical(0.001, 0.1, 10)(step)

    compiled = jax.jit(rate)
    for step in (0, 1, 10**7, INT32):
        compiled(jnp.int32(step))
    assert len(traced) == 1


def test_a_schedule_is_an_optax_schedule_as_it_is():
    optax = pytest.importorskip("optax")
    schedule = Cyclical(0.1, 0.9, 3)
    optimizer = optax.sgd(schedule)

    def update(state, _):
        updates, state = optimizer.update(jnp.float32(1.0), state)
        return state, -updates

    _, rates = jax.lax.scan(update, optimizer.init(jnp.float32(0.0)), length=20)
    assert_same(rates, schedule(np.arange(20)), top=0.9)


@pytest.mark.parametrize("name", ["jax", "keras"])
@pytest.mark.parametrize("step", [3, np.int64(3), np.array([3]), np.uint8(3)], ids=repr)
def test_another_module_with_the_name_of_a_framework_is_ignored(monkeypatch, name, step):
    monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    assert Cyclical(0.0, 1.0, 4)(step) == 0.75
    with pytest.raises(TypeError, match=r"^step must be an integer"):
        Cyclical(0.0, 1.0, 4)(object())
