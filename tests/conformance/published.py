"""The published formulas of schedulers whose libraries the tests do not install, under the libraries' own names.

Each returns the rate that update t uses. DeepSpeed's engine steps its schedulers after every update, so that update t
uses what `get_lr` returned at iteration t − 1.

Sources, September 2026: huggingface/pytorch-image-models timm/scheduler, NVIDIA/Megatron-LM megatron/core,
deepspeedai/DeepSpeed deepspeed/runtime/lr_schedules.py, fastai/fastai fastai/callback/schedule.py, pytorch/torchtitan
torchtitan/components/lr_scheduler.py, mosaicml/composer composer/optim/scheduler.py.
"""

import bisect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

Rate = Callable[[int], float]


def _cosine(x: float) -> float:
    return (1 + math.cos(math.pi * x)) / 2


# --- timm


def _warmed(of: Rate, lr: float, warmup_t: int, warmup_lr_init: float, warmup_prefix: bool) -> Rate:
    def rate(t: int) -> float:
        if t < warmup_t:
            return warmup_lr_init + t * (lr - warmup_lr_init) / warmup_t
        return of(t - warmup_t) if warmup_prefix else of(t)

    return rate


def _timm_cycles(
    factor: Callable[[float], float],
    optimizer: Any,
    t_initial: int,
    lr_min: float,
    cycle_mul: float = 1.0,
    cycle_decay: float = 1.0,
    cycle_limit: int = 1,
    warmup_t: int = 0,
    warmup_lr_init: float = 0.0,
    warmup_prefix: bool = False,
    k_decay: float = 1.0,
) -> Rate:
    lr = optimizer.param_groups[0]["lr"]

    def rate(t: int) -> float:
        if cycle_mul == 1:
            cycle, length, place = t // t_initial, t_initial, t % t_initial
        else:
            cycle = math.floor(math.log(1 - t / t_initial * (1 - cycle_mul), cycle_mul))
            length = cycle_mul**cycle * t_initial
            place = t - (1 - cycle_mul**cycle) / (1 - cycle_mul) * t_initial
        if cycle >= cycle_limit:
            return lr_min
        return lr_min + (lr * cycle_decay**cycle - lr_min) * factor(place**k_decay / length**k_decay)

    return _warmed(rate, lr, warmup_t, warmup_lr_init, warmup_prefix)


def _timm_cosine(optimizer: Any, t_initial: int, lr_min: float = 0.0, **options: Any) -> Rate:
    return _timm_cycles(_cosine, optimizer, t_initial, lr_min, **options)


def _timm_polynomial(optimizer: Any, t_initial: int, power: float = 0.5, lr_min: float = 0.0, **options: Any) -> Rate:
    return _timm_cycles(lambda x: (1 - x) ** power, optimizer, t_initial, lr_min, **options)


def _timm_tanh(optimizer: Any, t_initial: int, lb: float = -7.0, ub: float = 3.0, lr_min: float = 0.0) -> Rate:
    def factor(x: float) -> float:
        return 0.5 * (1 - math.tanh(lb * (1.0 - x) + ub * x))

    after = _timm_cycles(factor, optimizer, t_initial, lr_min)
    lr = optimizer.param_groups[0]["lr"]
    return lambda t: after(t) if t else lr  # the first update is made before the first `step_update`


def _timm_stairs(optimizer: Any, decay_t: int, decay_rate: float, warmup_t: int = 0) -> Rate:
    lr = optimizer.param_groups[0]["lr"]
    return _warmed(lambda t: lr * decay_rate ** (t // decay_t), lr, warmup_t, 0.0, True)


def _timm_milestones(optimizer: Any, decay_t: list[int], decay_rate: float) -> Rate:
    lr = optimizer.param_groups[0]["lr"]
    return lambda t: lr * decay_rate ** bisect.bisect_right(decay_t, t + 1)


def _timm_wsd(
    optimizer: Any,
    t_initial: int,
    decay_t: int,
    lr_min: float = 0.0,
    stable_fn: str = "constant",
    decay_fn: str = "1-sqrt",
    warmup_t: int = 0,
) -> Rate:
    lr = optimizer.param_groups[0]["lr"]

    def rate(t: int) -> float:
        stable = lr * (1 if stable_fn == "constant" else (1 + t / warmup_t) ** -0.5)
        done = min(max(t - (t_initial - decay_t), 0) / decay_t, 1.0)
        return lr_min + (stable - lr_min) * (1 - (math.sqrt(done) if decay_fn == "1-sqrt" else done))

    return _warmed(rate, lr, warmup_t, 0.0, True)


# --- Megatron-LM


def _megatron(
    optimizer: Any,
    init_lr: float,
    max_lr: float,
    min_lr: float,
    lr_warmup_steps: int,
    lr_decay_steps: int,
    lr_decay_style: str,
    wsd_decay_steps: int = 0,
    lr_wsd_decay_style: str = "",
) -> Rate:
    styles: dict[str, Callable[[float], float]] = {
        "linear": lambda x: 1 - x,
        "cosine": _cosine,
        "minus_sqrt": lambda x: 1 - math.sqrt(x),
        "exponential": lambda x: 2 * 0.5**x - 1,
    }

    def rate(t: int) -> float:
        if t <= lr_warmup_steps:
            return init_lr + (max_lr - init_lr) * t / lr_warmup_steps
        if lr_decay_style == "constant":
            return max_lr
        if t > lr_decay_steps:
            return min_lr
        if lr_decay_style == "inverse-square-root":
            return max(min_lr, max_lr * lr_warmup_steps**0.5 / t**0.5)
        if lr_decay_style == "WSD":
            done = max(t - (lr_decay_steps - wsd_decay_steps), 0) / wsd_decay_steps
            return min_lr + styles[lr_wsd_decay_style](done) * (max_lr - min_lr)
        done = (t - lr_warmup_steps) / (lr_decay_steps - lr_warmup_steps)
        return min_lr + styles[lr_decay_style](done) * (max_lr - min_lr)

    return rate


# --- DeepSpeed


def _deepspeed_range_test(
    optimizer: Any,
    lr_range_test_min_lr: float,
    lr_range_test_step_size: int,
    lr_range_test_step_rate: float,
    lr_range_test_staircase: bool = False,
) -> Rate:
    low, size, rise = lr_range_test_min_lr, lr_range_test_step_size, lr_range_test_step_rate
    return lambda t: low * (1 + rise * (t // size if lr_range_test_staircase else t / size))


def _deepspeed_one_cycle(
    optimizer: Any,
    cycle_min_lr: float,
    cycle_max_lr: float,
    decay_lr_rate: float,
    cycle_first_step_size: int,
    cycle_second_step_size: int,
    decay_step_size: int,
) -> Rate:
    up, total = cycle_first_step_size, cycle_first_step_size + cycle_second_step_size

    def rate(t: int) -> float:
        if t > total:
            return cycle_min_lr / (1 + decay_lr_rate * (t - total) / decay_step_size)
        height = t / up if t <= up else (total - t) / cycle_second_step_size
        return cycle_min_lr + (cycle_max_lr - cycle_min_lr) * height

    return rate


def _deepspeed_rise(iteration: int, steps: int, kind: str) -> float:
    return iteration / steps if kind == "linear" else math.log(iteration + 1) / math.log(steps)


def _deepspeed_warmup(
    optimizer: Any,
    warmup_min_lr: float,
    warmup_max_lr: float,
    warmup_num_steps: int,
    warmup_type: str = "log",
    total: int | None = None,
) -> Rate:
    def rate(t: int) -> float:
        iteration = max(t - 1, 0)
        if iteration < warmup_num_steps:
            height = _deepspeed_rise(iteration, warmup_num_steps, warmup_type)
        else:
            height = 1.0 if total is None else max(0.0, (total - iteration) / (total - warmup_num_steps))
        return warmup_min_lr + (warmup_max_lr - warmup_min_lr) * height

    return rate


def _deepspeed_decay(optimizer: Any, total_num_steps: int, *given: Any) -> Rate:
    return _deepspeed_warmup(optimizer, *given, total=total_num_steps)


def _deepspeed_cosine(
    optimizer: Any,
    total_num_steps: int,
    warmup_min_ratio: float,
    warmup_num_steps: int,
    cos_min_ratio: float,
    warmup_type: str,
) -> Rate:
    lr = optimizer.param_groups[0]["lr"]

    def rate(t: int) -> float:
        iteration = t - 1
        if iteration < 0:
            return 0.0
        if iteration < warmup_num_steps:
            height = _deepspeed_rise(iteration, warmup_num_steps, warmup_type)
            return lr * (warmup_min_ratio + (1 - warmup_min_ratio) * height)
        done = min(1.0, (iteration - warmup_num_steps + 1) / (total_num_steps - warmup_num_steps))
        return lr * (cos_min_ratio + (1 - cos_min_ratio) * _cosine(done))

    return rate


# --- fastai: functions of the position, which never exceeds 1


def _annealer(formula: Callable[[float, float, float], float]) -> Callable[[float, float], Callable[[float], float]]:
    return lambda start, end: lambda pos: formula(start, end, min(pos, 1.0))


def _fastai_polynomial(start: float, end: float, power: float) -> Callable[[float], float]:
    return lambda pos: start + (end - start) * min(pos, 1.0) ** power


def _fastai_combined(pcts: list[float], scheds: list[Callable[[float], float]]) -> Callable[[float], float]:
    ends = [0.0, *np.cumsum(pcts)]

    def rate(pos: float) -> float:
        part = min(bisect.bisect_right(ends, pos) - 1, len(scheds) - 1)
        return scheds[part]((pos - ends[part]) / (ends[part + 1] - ends[part]))

    return rate


_sched_cos = _annealer(lambda start, end, pos: start + (1 + math.cos(math.pi * (1 - pos))) * (end - start) / 2)


def _fastai_cosines(pct: float, start: float, middle: float, end: float) -> Callable[[float], float]:
    return _fastai_combined([pct, 1 - pct], [_sched_cos(start, middle), _sched_cos(middle, end)])


# --- torchtitan: factors of the rate


def _torchtitan(
    current_step: int, warmup_steps: int, stable_steps: int, decay_steps: int, lr_decay_type: str, lr_min: float
) -> float:
    current_step = min(current_step, warmup_steps + stable_steps + decay_steps)
    if current_step < warmup_steps:
        return (current_step + 1) / (warmup_steps + 1)
    if current_step < warmup_steps + stable_steps:
        return 1.0
    progress = (current_step + 1 - warmup_steps - stable_steps) / (decay_steps + 1)
    factors = {"linear": 1 - progress, "sqrt": 1 - math.sqrt(progress), "cosine": _cosine(progress)}
    return lr_min + (1 - lr_min) * factors[lr_decay_type]


# --- Composer: factors of the rate


def _composer_linear(alpha_i: float, alpha_f: float, t_max: int) -> Rate:
    return lambda t: alpha_i + min(1.0, t / t_max) * (alpha_f - alpha_i)


def _composer_cosine(t_max: int, alpha_f: float) -> Rate:
    return lambda t: alpha_f + (1 - alpha_f) * _cosine(min(t / t_max, 1.0))


def _composer_restarts(t_0: int, t_mult: float, alpha_f: float) -> Rate:
    def rate(t: int) -> float:
        length = end = t_0
        while end <= t:
            length = int(t_mult * length)
            end += length
        return _composer_cosine(length, alpha_f)(t - (end - length))

    return rate


def _composer_milestones(milestones: list[int], gamma: float) -> Rate:
    return lambda t: gamma ** sum(t >= milestone for milestone in milestones)


def _composer_warmed(t_warmup: int, alpha: float, after: Rate) -> Rate:
    return lambda t: alpha * t / t_warmup if t < t_warmup else after(t)


def _composer_linear_warmed(t_warmup: int, alpha_i: float, alpha_f: float, t_max: int) -> Rate:
    after = _composer_linear(alpha_i, alpha_f, t_max - t_warmup)
    return _composer_warmed(t_warmup, alpha_i, lambda t: after(t - t_warmup))


def _composer_cosine_warmed(t_warmup: int, t_max: int, alpha_f: float) -> Rate:
    after = _composer_cosine(t_max - t_warmup, alpha_f)
    return _composer_warmed(t_warmup, 1.0, lambda t: after(t - t_warmup))


NAMES: dict[str, dict[str, Any]] = {
    "timm.scheduler": {
        "CosineLRScheduler": _timm_cosine,
        "TanhLRScheduler": _timm_tanh,
        "PolyLRScheduler": _timm_polynomial,
        "StepLRScheduler": _timm_stairs,
        "MultiStepLRScheduler": _timm_milestones,
        "WSDLRScheduler": _timm_wsd,
    },
    "megatron.core": {"OptimizerParamScheduler": _megatron},
    "deepspeed": {
        "LRRangeTest": _deepspeed_range_test,
        "OneCycle": _deepspeed_one_cycle,
        "WarmupLR": _deepspeed_warmup,
        "WarmupDecayLR": _deepspeed_decay,
        "WarmupCosineLR": _deepspeed_cosine,
    },
    "fastai.callback.schedule": {
        "SchedNo": _annealer(lambda start, end, pos: start),
        "SchedLin": _annealer(lambda start, end, pos: start + pos * (end - start)),
        "SchedCos": _sched_cos,
        "SchedExp": _annealer(lambda start, end, pos: start * (end / start) ** pos),
        "SchedPoly": _fastai_polynomial,
        "combine_scheds": _fastai_combined,
        "combined_cos": _fastai_cosines,
    },
    "torchtitan": {"linear_warmup_stable_decay": _torchtitan},
    "composer.optim": {
        "StepScheduler": lambda step_size, gamma: lambda t: gamma ** (t // step_size),
        "MultiStepScheduler": _composer_milestones,
        "ConstantScheduler": lambda alpha, t_max: lambda t: alpha if t < t_max else 1.0,
        "LinearScheduler": _composer_linear,
        "ExponentialScheduler": lambda gamma, decay_period: lambda t: gamma ** (t / decay_period),
        "CosineAnnealingScheduler": _composer_cosine,
        "CosineAnnealingWarmRestartsScheduler": _composer_restarts,
        "PolynomialScheduler": lambda power, t_max, alpha_f: (
            lambda t: alpha_f + (1 - t / t_max) ** power * (1 - alpha_f)
        ),
        "MultiStepWithWarmupScheduler": lambda t_warmup, milestones, gamma: _composer_warmed(
            t_warmup, 1.0, _composer_milestones(milestones, gamma)
        ),
        "LinearWithWarmupScheduler": _composer_linear_warmed,
        "CosineAnnealingWithWarmupScheduler": _composer_cosine_warmed,
    },
}
