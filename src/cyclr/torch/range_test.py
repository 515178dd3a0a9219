"""The range test of a torch model, which is left as it was, in one process or in many."""

import contextlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.optim import Optimizer

from cyclr import _checks, _files, _generators
from cyclr.errors import RangeTestError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import Spacing
from cyclr.range_test.repeats import Sweep
from cyclr.torch import _groups, _hooks
from cyclr.torch._update import Batches, Processes, Update, number
from cyclr.torch.state import LoaderState, TrainingState


def range_test(
    model: torch.nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Any] | None,
    loader: Iterable[Any],
    *,
    min_lr: float = 1e-6,
    max_lr: float = 10.0,
    steps: int = 150,
    spacing: Spacing = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    step_fn: Callable[[Any], Any] | None = None,
    optimizers: Iterable[Optimizer] = (),
    accumulate: int = 1,
    scaler: Any = None,
    autocast: torch.dtype | None = None,
    group: int | None = None,
    updates_per_rate: int = 1,
    evaluate: Callable[[torch.nn.Module], Any] | None = None,
    repeats: int | None = None,
    seed: int | None = 0,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
) -> RangeTestResult:
    """Train for `steps` updates with a rising learning rate, record each update's loss, and put everything back.

    Afterwards parameters, buffers, optimizer state, scaler, modes, gradients and random number generators are as they
    were, also if the test raises or is interrupted; in place, and with one copy of the state held meanwhile. The loader
    is begun again when it ends; one that has a `state_dict` is put back too, and so are the epochs that samplers count
    and workers that live on, beside which the test has its own. An iterator can only be read once.

    The recorded loss is that of the batch, computed before its update; with `accumulate` or where the scaler skips
    updates, the mean over the batches of the update. Where several processes train together
    (`torch.distributed`), it is the mean over all of them, and they all stop at the same step: also if one of them sees
    NaN or runs out of data.

    Args:
        model: the model; under `DistributedDataParallel` the wrapped one. In the mode that training will be in: there
            is a warning if that is evaluation, unless a step_fn may set it.
        optimizer: the optimizer to sweep; of Accelerate's wrapper, the one within. The first parameter group gets the
            rate, others keep their ratio to it.
        loss_fn: `loss_fn(model(inputs), targets)` for batches `(inputs, targets)`. None for batches that are dicts of
            arguments, `model(**batch).loss`, or with a step_fn. Batches are moved to the device of the parameters.
        loader: batches: a `DataLoader`, a list, any iterable.
        min_lr, max_lr, steps, spacing, stop_factor, smoothing: as for `cyclr.RangeTest`.
        step_fn: a whole update of your own, for any batch and any loop: called with a batch, it updates once with the
            optimizer as it is and returns the loss.
        optimizers: other optimizers that step_fn uses, to be put back too.
        accumulate: batches whose gradients are averaged for one update, ≥ 1.
        scaler: `torch.amp.GradScaler`; an update that it skips makes no point.
        autocast: dtype of `torch.autocast`, such as `torch.bfloat16`.
        group: number of the one parameter group to sweep, while the others keep their own rates: one test for each
            group suggests bounds for each. All groups together by default.
        updates_per_rate: as for `cyclr.RangeTest`: the mean loss of so many updates makes a point.
        evaluate: `evaluate(model)` returns what is recorded instead of the loss of the batches, at the end of every
            rate: a loss on validation data, or 1 − accuracy. Modes that it changes are put back.
        repeats: tests from the same start, ≥ 1, with the seeds seed, seed + 1, …; the bounds are read off the mean of
            their losses. By default one, and up to three more while the curve is too noisy to read, or flat, and the
            second differs from the first. Of a sampler with `set_epoch`, the seed is added to the epoch.
        seed: seed of the order of the data and of all random operations, ≥ 0; None draws from the generators as they
            are. Same seed, same result, on deterministic hardware.
        snapshot_dir: folder for the copy of the training state, which is held in memory by default; what is written
            there is gone after the test.
        on_step: called with the running test after every update, to show progress.

    Returns:
        The result; `result.bounds` are the bounds to train with.

    Raises:
        TypeError, ValueError: an argument out of range.
        RangeTestError: no loss could be recorded.

    Example:
        >>> import torch
        >>> from cyclr.torch import range_test
        >>> _ = torch.manual_seed(0)
        >>> x = torch.randn(256, 4)
        >>> y = x @ torch.tensor([[1.0], [-2.0], [0.5], [3.0]])
        >>> loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(x, y), batch_size=32, shuffle=True)
        >>> model = torch.nn.Linear(4, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        >>> range_test(model, optimizer, torch.nn.functional.mse_loss, loader).bounds.status
        'ok'

    Source: Smith 2017, arXiv:1506.01186, section 3.3.
    """
    sweep = Sweep(
        min_lr=min_lr,
        max_lr=max_lr,
        steps=steps,
        spacing=spacing,
        stop_factor=stop_factor,
        smoothing=smoothing,
        updates_per_rate=updates_per_rate,
        repeats=repeats,
        seed=seed,
    )
    optimizer = _groups.unwrapped(optimizer)
    all_optimizers = [optimizer, *map(_groups.unwrapped, optimizers)]
    _checks.integer("accumulate", accumulate, at_least=1)
    if evaluate is not None:
        _checks.function("evaluate", evaluate, "of the model that returns a number")
    if step_fn is not None and (accumulate != 1 or scaler is not None or autocast is not None):
        raise ValueError(
            "step_fn must do accumulation, scaling and autocast itself; got it with one of these arguments."
        )
    if step_fn is None and _needs_closure(optimizer):
        raise TypeError(
            "an optimizer that computes the loss itself, several times in an update, needs step_fn; got "
            f"{type(optimizer).__name__}. Pass step_fn=..., a function of the batch that calls optimizer.step(closure) "
            "and returns the loss."
        )
    if step_fn is None and not model.training:
        warnings.warn(
            "model is in evaluation mode, and is tested in it: the rates of training may be others; call model.train() "
            "first.",
            stacklevel=2,
        )
    swept = _swept(optimizer, group)
    processes = Processes(model)

    def once(seed: int | None) -> RangeTestResult:
        test = sweep.test(None if evaluate is None else lambda: processes.mean(_evaluated(model, evaluate)))
        with contextlib.ExitStack() as undo:
            undo.callback(_generators.Generators(loader).restore)
            undo.callback(LoaderState(loader).restore)
            folder = undo.enter_context(_files.folder_within(snapshot_dir, name="snapshot_dir"))
            undo.callback(TrainingState(model, all_optimizers, scaler, folder).restore)
            undo.enter_context(_hooks.uncounted(all_optimizers))
            # Groups that share a tensor share it again when the training state is restored.
            _groups.separate_rates(optimizer.param_groups)
            setters = [(_groups.setter(settings, "lr"), ratio) for settings, ratio in swept]
            if seed is not None:
                _generators.seed_all(seed, loader)
            batches = Batches(loader)
            if processes.any(not batches)[0]:
                raise RangeTestError("data must hold a batch at least; got data that ended at once.")
            update = Update(
                *(model, optimizer, loss_fn, step_fn),
                accumulate=accumulate,
                scaler=scaler,
                autocast=autocast,
                batches=batches,
                processes=processes,
            )
            for lr in test:
                for set_rate, ratio in setters:
                    set_rate(lr * ratio)
                loss = update()
                if loss is None:
                    test.stop("data_exhausted")
                    break
                test.record(loss)
                if on_step is not None:
                    on_step(test)
                if processes.several:
                    stopped, exhausted = processes.any(test.stopped, not test.stopped and not batches)
                    if stopped or exhausted:
                        test.stop("interrupted" if stopped else "data_exhausted")
        return test.result()

    return sweep.run(once, read_once=isinstance(loader, Iterator))


def _swept(optimizer: Optimizer, group: int | None) -> list[tuple[dict[str, Any], float]]:
    """The parameter groups to sweep, each with its share of the rate."""
    groups = optimizer.param_groups
    if group is None:
        rates = [float(settings.get("initial_lr", settings["lr"])) for settings in groups]
        return list(zip(groups, _groups.shares(rates), strict=True))
    if _checks.integer("group", group, at_least=0) >= len(groups):
        raise ValueError(f"group must be the number of a parameter group, 0 to {len(groups) - 1}; got group={group}.")
    return [(groups[group], 1.0)]


def _needs_closure(optimizer: Optimizer) -> bool:
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and closure.default is inspect.Parameter.empty


def _evaluated(model: torch.nn.Module, evaluate: Callable[[torch.nn.Module], Any]) -> float:
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            return number(evaluate(model))
    finally:
        for module, training in modes:
            module.training = training
