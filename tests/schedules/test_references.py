"""The same values as the libraries that people use today, which are called here; and where one of them is wrong.

Whole runs: values for every update, as a loop with the library's own scheduler sees them.
"""

import math

import numpy as np
import pytest

from cyclr import (
    Constant,
    Cyclical,
    Exponential,
    Halving,
    OneCycle,
    Schedule,
    Sequence,
    WarmRestarts,
    Warmup,
)

EPS32 = float(np.finfo(np.float32).eps)


def values(schedule: Schedule, steps: int) -> list[float]:
    return [schedule(step) for step in range(steps)]


# PyTorch


def torch_run(build, steps, name="lr", lr=0.1):
    """What `steps` updates use, with a scheduler of torch built on the optimizer."""
    torch = pytest.importorskip("torch")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, momentum=0.9)
    scheduler = build(torch.optim.lr_scheduler, optimizer)
    used = []
    for step in range(steps):
        used.append(optimizer.param_groups[0][name])
        optimizer.step()
        if step < steps - 1:
            scheduler.step()
    return used


def torch_cyclic(steps=400, name="lr", **arguments):
    return torch_run(lambda torch, optimizer: torch.CyclicLR(optimizer, **arguments), steps, name)


def torch_one_cycle(total_steps, name="lr", **arguments):
    return torch_run(
        lambda torch, optimizer: torch.OneCycleLR(optimizer, total_steps=total_steps, **arguments), total_steps, name
    )


def torch_restarts(steps, **arguments):
    return torch_run(lambda torch, optimizer: torch.CosineAnnealingWarmRestarts(optimizer, **arguments), steps, lr=0.06)


@pytest.mark.parametrize(("up", "down"), [(20, None), (17, 5), (1, 1), (3, 50), (250, 250)])
@pytest.mark.parametrize(
    ("mode", "gamma", "decay"),
    [("triangular", 1.0, None), ("triangular2", 1.0, Halving()), ("exp_range", 0.995, Exponential(0.995))],
    ids=["triangular", "triangular2", "exp_range"],
)
def test_cyclical_is_torch_cyclic_lr(mode, gamma, decay, up, down):
    arguments = {"base_lr": 0.001, "max_lr": 0.06, "step_size_up": up, "step_size_down": down, "mode": mode}
    schedule = Cyclical(0.001, 0.06, up, step_size_down=down, decay=decay)
    expected = torch_cyclic(**arguments, gamma=gamma, cycle_momentum=False)
    assert values(schedule, 400) == pytest.approx(expected, rel=1e-9)
    momentum = torch_cyclic(**arguments, gamma=gamma, base_momentum=0.8, max_momentum=0.9, name="momentum")
    assert values(schedule.mirrored(0.8, 0.9), 400) == pytest.approx(momentum, rel=1e-9)


def test_triangular2_of_torch_overflows_after_1024_cycles_and_ours_goes_on():
    """torch computes 1 / 2.0 ** (cycle − 1), which is an OverflowError where 2.0 ** cycle does not fit a float."""
    with pytest.raises(OverflowError):
        torch_cyclic(steps=2100, base_lr=0.001, max_lr=0.06, step_size_up=1, mode="triangular2", cycle_momentum=False)
    assert values(Cyclical(0.001, 0.06, 1, decay=Halving()), 2100)[-1] == 0.001


ANNEALING = pytest.mark.parametrize(("strategy", "shape"), [("cos", "sinusoidal"), ("linear", "triangular")])


@ANNEALING
@pytest.mark.parametrize(("total", "rise"), [(1000, 0.3), (400, 0.5), (100, 0.05), (10, 0.2), (5, 0.6)])
def test_one_cycle_is_torch_one_cycle_lr(strategy, shape, total, rise):
    arguments = {"max_lr": 0.06, "pct_start": rise, "anneal_strategy": strategy, "div_factor": 20}
    # torch's peak is at pct_start · total_steps − 1.
    schedule = OneCycle(0.003, 0.06, total, rise=round(rise * total) - 1, shape=shape)
    assert values(schedule, total) == pytest.approx(torch_one_cycle(total, **arguments), rel=1e-9)
    momentum = torch_one_cycle(total, **arguments, base_momentum=0.8, max_momentum=0.9, name="momentum")
    assert values(schedule.mirrored(0.8, 0.9), total) == pytest.approx(momentum, rel=1e-9)


@ANNEALING
@pytest.mark.parametrize(("total", "rise"), [(1000, 0.3), (400, 0.45), (100, 0.05), (10, 0.2)])
def test_one_cycle_in_three_phases_is_torch_one_cycle_lr(strategy, shape, total, rise):
    arguments = {"max_lr": 0.06, "pct_start": rise, "anneal_strategy": strategy, "three_phase": True}
    up = round(rise * total) - 1
    schedule = OneCycle(0.06 / 25, 0.06, total, rise=up, fall=up, shape=shape)
    assert values(schedule, total) == pytest.approx(torch_one_cycle(total, **arguments), rel=1e-9)
    momentum = torch_one_cycle(total, **arguments, base_momentum=0.8, max_momentum=0.9, name="momentum")
    assert values(schedule.mirrored(0.8, 0.9), total) == pytest.approx(momentum, rel=1e-9)


@pytest.mark.parametrize("total", [15, 101, 999])
def test_one_cycle_of_torch_misses_its_maximum_between_two_steps_and_ours_takes_it(total):
    """torch peaks at step 0.3 · total_steps − 1, whole or not."""
    assert max(torch_one_cycle(total, max_lr=0.06, pct_start=0.3)) < 0.06
    assert max(values(OneCycle(0.003, 0.06, total, rise=0.3), total)) == 0.06


@pytest.mark.parametrize("growth", [1, 2, 3])
@pytest.mark.parametrize(("first", "lowest"), [(10, 0.0), (7, 0.001), (1, 0.01)])
def test_warm_restarts_are_torch_cosine_annealing_warm_restarts(growth, first, lowest):
    expected = torch_restarts(1000, T_0=first, T_mult=growth, eta_min=lowest)
    schedule = WarmRestarts(lowest, 0.06, first, growth=growth)
    assert values(schedule, 1000) == pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.filterwarnings("ignore:Detected call of .lr_scheduler.step:UserWarning")
def test_nested_sequences_of_torch_are_shifted_and_ours_are_flat():
    """A SequentialLR that comes first in a SequentialLR runs a step ahead: pytorch/pytorch#196243."""

    def rise(torch, optimizer):
        return torch.LinearLR(optimizer, 0.1, 1.0, total_iters=5)

    def fall(torch, optimizer):
        return torch.CosineAnnealingLR(optimizer, 10)

    def hold(torch, optimizer):
        return torch.ConstantLR(optimizer, 0.5, 100)

    def flat(torch, optimizer):
        return torch.SequentialLR(optimizer, [part(torch, optimizer) for part in (rise, fall, hold)], [5, 15])

    def nested(torch, optimizer):
        first = torch.SequentialLR(optimizer, [part(torch, optimizer) for part in (rise, fall)], [5])
        return torch.SequentialLR(optimizer, [first, hold(torch, optimizer)], [15])

    expected = torch_run(flat, 30)
    assert torch_run(nested, 30)[4:14] == pytest.approx(expected[5:15])
    parts = [Warmup(WarmRestarts(0.0, 0.1, 10), 5, 0.01), Constant(0.05)]
    assert values(Sequence(parts, [15]), 30) == pytest.approx(expected, rel=1e-9)
    inner = Sequence([Warmup(Constant(0.1), 5, 0.01), WarmRestarts(0.0, 0.1, 10)], [5])
    assert values(Sequence([inner, Constant(0.05)], [15]), 30) == pytest.approx(expected, rel=1e-9)


# Keras


def keras_restarts(steps, **arguments):
    """The values of Keras' schedule, in its float32."""
    keras = pytest.importorskip("keras")
    schedule = keras.optimizers.schedules.CosineDecayRestarts(0.1, **arguments)
    return keras.ops.convert_to_numpy(schedule(np.arange(steps))).astype(np.float64).tolist()


@pytest.mark.parametrize("growth", [1, 2])
@pytest.mark.parametrize(("first", "m_mul", "alpha"), [(10, 1.0, 0.0), (7, 0.8, 0.0), (50, 0.9, 0.1)])
def test_warm_restarts_are_keras_cosine_decay_restarts(growth, first, m_mul, alpha):
    expected = keras_restarts(500, first_decay_steps=first, t_mul=float(growth), m_mul=m_mul, alpha=alpha)
    decay = None if m_mul == 1 else Exponential(m_mul, per="cycle")
    schedule = WarmRestarts(0.1 * alpha, 0.1, first, growth=growth, decay=decay)
    # Keras computes the share of a cycle in float32 from the share of all cycles: 50 of them cost it 6 bits.
    assert values(schedule, 500) == pytest.approx(expected, rel=0, abs=0.1 * EPS32 * (100 if growth == 1 else 8))


def test_shrinking_cycles_are_nan_in_keras_and_refused_by_ours():
    """With t_mul=0.5 the cycles end after 2 · first_decay_steps, and Keras takes a logarithm of less than nothing."""
    assert math.isnan(keras_restarts(30, first_decay_steps=10, t_mul=0.5)[25])
    with pytest.raises(ValueError, match=r"^growth must be a finite number of at least 1; got growth=0\.5\."):
        WarmRestarts(0.0, 0.1, 10, growth=0.5)


# Optax


def optax_run(name, steps, *arguments, **more):
    """The values of Optax' schedule, in JAX's float32."""
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    schedule = getattr(optax, name)(*arguments, **more)
    return np.asarray(jax.jit(jax.vmap(schedule))(jax.numpy.arange(steps)), dtype=np.float64).tolist()


def near(expected, top):
    return pytest.approx(expected, rel=0, abs=16 * EPS32 * top)


@pytest.mark.parametrize(("steps", "rise"), [(1000, 0.3), (50, 0.5), (10, 0.1), (999, 0.25)])
def test_one_cycle_is_optax_cosine_onecycle_schedule(steps, rise):
    expected = optax_run("cosine_onecycle_schedule", steps + 50, steps, 0.06, pct_start=rise, div_factor=20)
    # Optax counts the ways, and we the steps at both of their ends.
    schedule = OneCycle(0.003, 0.06, steps + 1, rise=rise)
    assert values(schedule, steps + 50) == near(expected, 0.06)


@pytest.mark.parametrize(("steps", "rise", "fallen"), [(1000, 0.3, 0.85), (50, 0.5, 0.9), (10, 0.1, 0.2)])
def test_one_cycle_in_three_phases_is_optax_linear_onecycle_schedule(steps, rise, fallen):
    expected = optax_run("linear_onecycle_schedule", steps + 50, steps, 0.06, rise, fallen, div_factor=20)
    up, down = int(rise * steps), int(fallen * steps) - int(rise * steps)
    schedule = OneCycle(0.003, 0.06, steps + 1, rise=up, fall=down, shape="triangular")
    assert values(schedule, steps + 50) == near(expected, 0.06)


def test_a_short_rise_is_dropped_by_optax_and_a_step_long_in_ours():
    """Optax' boundary at int(0.05 · 10) = 0 multiplies the first value, and the run starts at its peak or at NaN."""
    for name in ("cosine_onecycle_schedule", "linear_onecycle_schedule"):
        assert optax_run(name, 11, 10, 1.0, pct_start=0.05)[0] != 0.04
    for fall in (None, 0.5):
        assert values(OneCycle(0.04, 1.0, 11, rise=0.05, fall=fall), 11)[:2] == [0.04, 1.0]


@pytest.mark.parametrize("fallen", [0.3, 0.35])
def test_a_short_fall_keeps_optax_from_its_peak_and_is_a_step_long_in_ours(fallen):
    """Two of Optax' boundaries fall on step 3, where the second replaces the first."""
    assert max(optax_run("linear_onecycle_schedule", 11, 10, 1.0, 0.3, fallen)) == pytest.approx(0.04)
    fall = max(fallen - 0.3, 0.01)
    assert max(values(OneCycle(0.04, 1.0, 11, rise=0.3, fall=fall, shape="triangular"), 11)) == 1.0


@pytest.mark.parametrize("growth", [1, 2, 1.5])
@pytest.mark.parametrize(("warm", "first"), [(5, 20), (1, 2), (30, 10)])
def test_warm_ups_of_every_cycle_are_optax_sgdr_schedule(growth, warm, first):
    lengths = [math.floor(first * growth**cycle + 0.5) for cycle in range(6)]
    cycles = [
        {
            "init_value": 0.002,
            "peak_value": 0.06,
            "warmup_steps": warm,
            "decay_steps": warm + length,
            "end_value": 0.001,
        }
        for length in lengths
    ]
    steps = sum(lengths) + 6 * warm
    schedule = Warmup(WarmRestarts(0.001, 0.06, first, growth=growth), warm, 0.002, every_cycle=True)
    assert values(schedule, steps) == near(optax_run("sgdr_schedule", steps, cycles), 0.06)


def test_a_warm_up_is_optax_warmup_cosine_decay_schedule():
    expected = optax_run("warmup_cosine_decay_schedule", 150, 0.002, 0.06, 20, 100, end_value=0.001)
    schedule = Sequence([Warmup(WarmRestarts(0.001, 0.06, 80), 20, 0.002), Constant(0.001)], [100])
    assert values(schedule, 150) == near(expected, 0.06)


def test_a_sequence_is_optax_join_schedules():
    optax = pytest.importorskip("optax")
    parts = [optax.linear_schedule(0.0, 0.06, 10), optax.cosine_onecycle_schedule(30, 0.06), lambda step: 0.0 * step]
    expected = optax_run("join_schedules", 70, parts, [15, 50])
    ours = [Warmup(Constant(0.06), 10), OneCycle(0.06 / 25, 0.06, 31), Constant(0.0)]
    assert values(Sequence(ours, [15, 35]), 70) == near(expected, 0.06)


# Ignite


def ignite_run(name, steps, **arguments):
    """The values that Ignite's scheduler says it will use."""
    handlers = pytest.importorskip("ignite.handlers")
    simulated = getattr(handlers, name).simulate_values(num_events=steps, param_name="lr", **arguments)
    return [value for _, value in simulated]


def same(expected):
    return pytest.approx(expected, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("size", [2, 20, 50])
def test_cyclical_is_ignite_linear_cyclical_scheduler(size):
    expected = ignite_run("LinearCyclicalScheduler", 400, start_value=0.001, end_value=0.06, cycle_size=size)
    assert values(Cyclical(0.001, 0.06, size // 2), 400) == same(expected)


@pytest.mark.parametrize("size", [2, 20, 50])
def test_cyclical_that_decays_per_cycle_is_ignite_linear_cyclical_scheduler(size):
    arguments = {"start_value": 0.001, "end_value": 0.06, "cycle_size": size}
    expected = ignite_run("LinearCyclicalScheduler", 400, **arguments, start_value_mult=0.9, end_value_mult=0.9)
    assert values(Cyclical(0.001, 0.06, size // 2, decay=Exponential(0.9, "both", "cycle")), 400) == same(expected)
    expected = ignite_run("LinearCyclicalScheduler", 400, **{**arguments, "start_value": 0.0}, end_value_mult=0.9)
    assert values(Cyclical(0.0, 0.06, size // 2, decay=Exponential(0.9, per="cycle")), 400) == same(expected)


@pytest.mark.parametrize(("name", "shape"), [("CosineAnnealing", "sinusoidal"), ("LinearCyclical", "triangular")])
@pytest.mark.parametrize("growth", [1, 2, 3])
@pytest.mark.parametrize("factor", [1.0, 0.9])
def test_warm_restarts_are_ignite_schedulers_of_growing_cycles(name, shape, growth, factor):
    arguments = {"start_value": 0.06, "end_value": 0.001, "cycle_size": 7, "cycle_mult": growth}
    if name == "LinearCyclical":
        arguments["monotonic"] = True
    expected = ignite_run(f"{name}Scheduler", 500, **arguments, start_value_mult=factor, end_value_mult=factor)
    decay = None if factor == 1 else Exponential(factor, "both", "cycle")
    # Ignite multiplies the value that a cycle begins with when the cycle before it ends, which is where ours begins.
    assert values(WarmRestarts(0.001, 0.06, 7, growth=growth, shape=shape, decay=decay), 500) == same(expected)


@pytest.mark.parametrize(("name", "shape"), [("CosineAnnealing", "sinusoidal"), ("LinearCyclical", "triangular")])
@pytest.mark.parametrize(("size", "warm"), [(20, 5), (7, 1), (4, 30)])
def test_warm_ups_of_every_cycle_are_ignite_schedulers_with_a_warm_up(name, shape, size, warm):
    arguments = {"start_value": 0.06, "end_value": 0.001, "cycle_size": size, "warmup_duration": warm}
    if name == "LinearCyclical":
        arguments["monotonic"] = True
    expected = ignite_run(f"{name}Scheduler", 400, **arguments)
    schedule = Warmup(WarmRestarts(0.001, 0.06, size, shape=shape), warm, 0.001, every_cycle=True)
    # Ignite does not warm up before the first cycle.
    assert [schedule(step) for step in range(warm, warm + 400)] == same(expected)
