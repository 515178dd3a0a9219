"""Range test of a torch model, in one process or in several. The model is restored afterwards."""

import contextlib
import inspect
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.optim import Optimizer

from cyclr import _checks, _files, _generators, _names
from cyclr._warn import warn
from cyclr.bounds.curve import MIN_POINTS
from cyclr.errors import RangeTestError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.range_test.driver import Spacing, learning_rates
from cyclr.range_test.progress import Verbose
from cyclr.range_test.refine import TrialTest, budget
from cyclr.range_test.repeats import Sweep
from cyclr.schedules import Run
from cyclr.schedules.run import total_of
from cyclr.torch import _groups, _hooks, _private
from cyclr.torch._conditions import conditions_of
from cyclr.torch._update import Batches, Processes, UnscalableError, Update, loss_from
from cyclr.torch.state import TrainingState, can_be_restored, find_parts, reshard, restore_loader, silence


@_names.hinted
def range_test(
    model: torch.nn.Module,
    optimizer: Optimizer,
    loss_fn: Callable[[Any, Any], Any] | None = None,
    loader: Any = None,
    *,
    min_lr: float | Sequence[float] = 1e-6,
    max_lr: float | Sequence[float] = 10.0,
    steps: int = 150,
    spacing: Spacing = "exponential",
    stop_factor: float | None = 4.0,
    smoothing: float = 0.9,
    loss_of: Callable[[torch.nn.Module, Any], Any] | None = None,
    step_fn: Callable[[Any], Any] | None = None,
    optimizers: Iterable[Optimizer] = (),
    also: Sequence[Any] = (),
    accumulate: int = 1,
    scaler: Any = None,
    autocast: torch.dtype | None = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    group: int | None = None,
    updates_per_rate: int = 1,
    evaluate: Callable[[torch.nn.Module], Any] | None = None,
    repeats: int | None = None,
    seed: int | None = 0,
    total_steps: int | Run | None = None,
    refine: int | None = None,
    snapshot_dir: str | os.PathLike[str] | None = None,
    on_step: Callable[[RangeTest], None] | None = None,
    verbose: Verbose = "auto",
) -> RangeTestResult:
    """Train for `steps` updates with a rising learning rate, record each update's loss, and restore everything.

    Parameters, buffers, optimizer state, scaler, training mode, gradients and random number generators are restored in
    place, even if the test raises or is interrupted. Attributes of modules and optimizers (numbers, tensors, arrays,
    containers, dataclasses, random number generators) and the objects in `also` are restored too. So are modules,
    optimizers, generators, loaders and objects with a `state_dict` that `loss_fn`, `loss_of`, `step_fn` and `evaluate`
    use. During the test there is one copy of the state.

    The loader is read again whenever it ends. The loader's own state (if it has a `state_dict`), the epochs that
    samplers count, and persistent workers are restored; the test starts its own workers. An iterator can be read only
    once.

    The recorded loss is the loss of a batch, computed before the batch's update. With `accumulate`, or if the scaler
    skips updates, it is the mean over the batches of the update. If several processes train together
    (`torch.distributed`), it is the mean over all processes. All processes stop at the same step, even if only one of
    them computes NaN or runs out of data.

    Args:
        model: the model, in the mode that it will train in, and wrapped if it trains under `DistributedDataParallel`.
            Evaluation mode gives a warning, unless there is a step_fn, which may set the mode.
        optimizer: the optimizer to sweep. Accelerate's wrapper is replaced by the optimizer inside it. The first
            parameter group gets the learning rate of the test. The other groups keep their ratios to it, or follow
            their `lr_scale`; see `Scheduler`.
        loss_fn: `loss_fn(model(inputs), targets)` for batches `(inputs, targets)`. None if batches are dicts of
            arguments, so that the loss is `model(**batch).loss`, or with loss_of or step_fn.
        loader: the batches: a `DataLoader`, a list or any other iterable. Required.
        min_lr, max_lr, steps, spacing, stop_factor, smoothing: as for `cyclr.RangeTest`. Lists of min_lr and max_lr
            give each parameter group its own range. The result then holds the learning rates of the first group.
        loss_of: `loss_of(model, batch)` returns the loss as a tensor of one element, for any batch and model. Batches
            are moved to the device of the parameters first, as for loss_fn.
        step_fn: your own update, for any training loop. It is called with a batch as the loader returns it, makes one
            update with the optimizer without setting its learning rate, and returns the loss. Calls of torch's
            schedulers in step_fn have no effect.
        optimizers: other optimizers that step_fn uses, to restore them too.
        also: list of other objects that an update changes, to restore them too: modules, tensors, random number
            generators, containers, and your own objects with all their attributes.
        accumulate: number of batches whose gradients are averaged for one update, ≥ 1.
        scaler: a `torch.amp.GradScaler`. An update that it skips is not recorded.
        autocast: dtype of `torch.autocast`, such as `torch.bfloat16`.
        clip_norm: largest norm of the gradients of all model parameters together, > 0, as in
            `torch.nn.utils.clip_grad_norm_`. None does not clip.
        clip_value: largest absolute value of each element of the gradients, > 0, as in
            `torch.nn.utils.clip_grad_value_`. Not together with clip_norm.
        group: index of the only parameter group to sweep; the other groups keep their learning rates. Run one test for
            each group to get bounds for each. By default all groups are swept together.
        updates_per_rate: number of updates at each learning rate; their mean loss is recorded, as for `RangeTest`.
        evaluate: `evaluate(model)` returns the number to record at each learning rate instead of the mean loss of its
            batches: a loss on validation data, or 1 − accuracy. If it changes training modes, they are restored.
        repeats: number of tests from the same start, ≥ 1, with the seeds seed, seed + 1, …. The bounds are read from
            the mean of their losses. By default one test. Up to three more are made while the curve is too noisy to
            read, or while it is flat and the second test differs from the first. If a sampler has `set_epoch`, the seed
            is added to its epoch.
        seed: seed of the order of the data and of all random operations, ≥ 0. None uses the generators in their current
            state. The same seed gives the same result on deterministic hardware.
        total_steps: length of the training run in optimizer updates, ≥ 1, or a `Run`, to find bounds for a run of this
            length. After the sweep, a second sweep around its bounds and up to four trial cycles from the same start
            choose max_lr.
        refine: largest number of updates for the second sweep and the trial cycles together, 0 or at least 50. Below
            232 (200 with evaluate), or if total_steps is below 200, there is only the second sweep. A trial cycle has
            at least 100 updates and at most total_steps / 2. After each trial cycle, the loss is measured on up to 16
            batches that no trial cycle trains on, or with `evaluate`. None uses 5 % of total_steps if that is at least
            600, and otherwise 0. Ctrl-C ends the trial cycles, and the result holds the finished ones. refine must be 0
            for data that can be read only once, and if min_lr or max_lr is a list.
        snapshot_dir: folder for the copy of the training state, which is in memory by default. The files are deleted
            after the test.
        on_step: function that is called with the running test after every update.
        verbose: 1 shows a line with the learning rate, the loss and the remaining time, 0 shows nothing, and `"auto"`
            shows the line in a terminal or a notebook, but not in a log. Needs tqdm. Only the first of several
            processes shows the line.

    Returns:
        The result; `result.bounds` are the bounds to train with.

    Raises:
        TypeError, ValueError: an argument is out of range; the optimizer maximizes, finds the size of its updates
            itself, or holds no parameters of the model.
        RangeTestError: no loss could be recorded, step_fn does not train at the learning rate of the test, or the disk
            of snapshot_dir fails or is full.

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
    _names.check_order(
        "range_test",
        {
            "model": (model, lambda value: isinstance(value, torch.nn.Module)),
            "optimizer": (optimizer, lambda value: isinstance(value, Optimizer)),
            "loss_fn": (loss_fn, lambda value: value is None or callable(value)),
            "loader": (loader, _is_loader),
        },
    )
    given, optimizer = optimizer, _groups.unwrapped(optimizer)
    stepped = given if _private.steps_itself(given) else optimizer
    functions = {"loss_fn": loss_fn, "loss_of": loss_of, "step_fn": step_fn, "evaluate": evaluate, "on_step": on_step}
    _check_arguments(model, optimizer, loader, functions, also)
    loop = {"scaler": scaler, "autocast": autocast, "clip_norm": clip_norm, "clip_value": clip_value}
    _check_loop(step_fn, optimizers, _checks.integer("accumulate", accumulate, at_least=1), **loop)
    ranges = _groups.per_group(optimizer, min_lr, max_lr)
    lowest, highest = ranges[0]
    arguments = lowest, highest, steps, spacing, stop_factor, smoothing, updates_per_rate, repeats, seed
    sweep, processes = Sweep(*arguments, total_steps, refine, verbose), Processes(model)
    if not processes.is_first:
        sweep = replace(sweep, verbose=0)
    held, owners = find_parts([model, loss_fn, loss_of, step_fn, evaluate], also)
    others = [part for part in held if isinstance(part, Optimizer)]
    all_optimizers = [stepped, optimizer, *map(_groups.unwrapped, optimizers), *others]
    loaders = [loader, *(part for part in held if isinstance(part, torch.utils.data.DataLoader))]
    if step_fn is None:
        closure = inspect.signature(optimizer.step).parameters.get("closure")
        if closure is not None and closure.default is inspect.Parameter.empty:
            raise TypeError(
                "an optimizer that computes the loss itself, several times in an update, needs step_fn; got "
                f"{type(optimizer).__name__}. Pass step_fn=..., a function of the batch that calls "
                "optimizer.step(closure) and returns the loss."
            )
        if not model.training:
            warn("model is in evaluation mode, so the bounds may not suit training. Call model.train() first.")
    if isinstance(min_lr, list | tuple) or isinstance(max_lr, list | tuple):
        if group is not None:
            raise ValueError(
                f"group must be None if min_lr or max_lr is a list for all groups; got group={group}. Pass numbers."
            )
        if total_steps is not None and budget(refine, total_of(total_steps)):
            raise ValueError(
                "refine must be 0 if min_lr or max_lr is a list, because trial cycles keep the ratios of the groups; "
                f"got refine={refine}. Pass refine=0, or numbers."
            )
        swept = _ranges(optimizer, [learning_rates(low, high, steps, spacing).tolist() for low, high in ranges])
    else:
        swept = _swept(optimizer, group)
    read_once = isinstance(loader, Iterator)
    copied = partial(TrainingState, model, all_optimizers, scaler, parts=held, owners=owners)

    def drive(seed: int | None, test: RangeTest, careful: bool) -> None:
        with contextlib.ExitStack() as undo:
            for part in loaders:
                undo.callback(_generators.Generators(part).restore)
                restore_loader(part, undo)
            folder = undo.enter_context(_files.folder_within(snapshot_dir, name="snapshot_dir"))
            state = copied(folder)
            undo.callback(state.restore)
            undo.enter_context(_hooks.uncounted(_groups.with_inner(all_optimizers)))
            for part in held:
                if isinstance(part, torch.optim.lr_scheduler.LRScheduler):
                    silence(part, ["step"], undo)
            # Groups that share a tensor for the rate get their own. Restoring the training state shares it again.
            _groups.separate_rates(optimizer)
            generators = _generators.Generators(loader)

            def one_pass() -> Any:
                generators.restore()
                if seed is not None:
                    _generators.seed_all(seed, loader)
                return loader

            one_pass()
            # The warning means that the loss compares every output with every target.
            undo.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("error", "Using a target size")
            batches = Batches(test.batches(one_pass) if isinstance(test, TrialTest) else loader)
            if processes.any(not batches)[0]:
                fix = f" {_ITERATOR}" if read_once else ""
                raise RangeTestError(f"data must hold at least one batch; got data that ended at once.{fix}")
            update = Update(
                model,
                optimizer,
                stepped,
                state,
                loss_of or loss_from(loss_fn),
                "loss" if loss_of is None else "loss_of(model, batch)",
                step_fn,
                accumulate,
                batches,
                processes,
                **loop,
            )
            more = {"group": group, "processes": processes.count, "seed": seed}
            more |= {"accumulate": accumulate * getattr(loader, "accumulate", 1)}
            test.tested |= conditions_of(model, optimizer, loader, batches.upcoming, **more)
            used, rates = [step_fn is None], set[float]()
            for each in filter(_private.runs_hooks, _groups.with_inner([stepped, optimizer] if step_fn else [])):
                undo.callback(each.register_step_pre_hook(partial(_note_rate, used, rates)).remove)
            second = undo.enter_context(_files.folder_within(folder, name="snapshot_dir")) if careful else None
            before: TrainingState | None = None
            for lr in test:
                if test.in_doubt:
                    if before is None:
                        break
                    before.restore()
                if careful:
                    before = copied(second, keep_gradients=step_fn is not None)
                for settings, rate_at in swept:
                    _groups.assign(settings, "lr", rate_at(lr))
                if not used[0]:
                    rates.clear()
                    rates.update(float(settings["lr"]) for settings, _ in swept)
                try:
                    loss = update()
                except UnscalableError:
                    test.end_by_gradients()
                    break
                if loss is None:
                    test.stop("data_exhausted")
                    break
                test.record(loss)
                if processes.several:
                    stopped, exhausted = processes.any(test.stopped, not test.stopped and not batches)
                    if stopped or exhausted:
                        test.stop("interrupted" if stopped else "data_exhausted")
            # With fewer points there are no bounds, so an ignored learning rate does no harm.
            enough = test.recorded >= MIN_POINTS
            if enough and not processes.any(used[0])[0] and _ignores_rate(update, swept, test):
                raise RangeTestError(
                    "training must use the learning rate of the test; got a step that changes the parameters by the "
                    f"same amount at {lowest:g} and at {highest:g}. In step_fn, call step() of the "
                    f"{type(optimizer).__name__} that is passed as optimizer, and do not set its lr."
                )

    value = None if evaluate is None else lambda: processes.mean(_evaluated(model, evaluate))

    result = sweep.run(drive, value, read_once=read_once, on_step=on_step)
    if read_once and result.stop_reason == "data_exhausted":
        warn(f"loader ended after {len(result.lr)} of {steps} updates. {_ITERATOR}")
    return result


_ITERATOR = "An iterator ends after one pass: pass the DataLoader itself, which can be read again."


_FUNCTIONS = {
    "loss_fn": ("of output and targets that returns the loss", 2),
    "loss_of": ("of model and batch that returns the loss", 2),
    "step_fn": ("of a batch that updates once and returns the loss", 1),
    "evaluate": ("of the model that returns a number", 1),
    "on_step": ("of the running test", 1),
}


def _check_function(name: str, given: Any) -> None:
    """Raise if a function does not accept the number of arguments that it is called with."""
    what, count = _FUNCTIONS[name]
    _checks.function(name, given, what)
    try:
        inspect.signature(given, follow_wrapped=False).bind(*[None] * count)
    except TypeError as error:
        raise TypeError(f"{name} must be a function {what}; got one with {error}.") from error
    except ValueError:
        # Some built-in functions have no signature.
        return


def _check_loop(
    step_fn: Any, optimizers: Any, accumulate: int, *, scaler: Any, autocast: Any, clip_norm: Any, clip_value: Any
) -> None:
    """Raise if options of the training loop are invalid, or are passed together with a step_fn."""
    if step_fn is not None and (accumulate, scaler, autocast, clip_norm, clip_value) != (1, None, None, None, None):
        raise ValueError(
            "step_fn must do accumulation, scaling, autocast and clipping itself; got step_fn with one of these "
            "arguments. Pass loss_of=..., which returns only the loss, instead."
        )
    if not isinstance(optimizers, Iterable):
        raise TypeError(f"optimizers must be a list; got {type(optimizers).__name__}. Write optimizers=[...].")
    if autocast is not None and not (isinstance(autocast, torch.dtype) and autocast.is_floating_point):
        raise TypeError(f"autocast must be a dtype such as torch.bfloat16; got autocast={_checks.quoted(autocast)}.")
    if scaler is not None and not (hasattr(scaler, "scale") and hasattr(scaler, "unscale_")):
        raise TypeError(f"scaler must be a torch.amp.GradScaler; got scaler={_checks.quoted(scaler)}.")
    for name, limit in (("clip_norm", clip_norm), ("clip_value", clip_value)):
        if limit is not None:
            _checks.number(name, limit, above=0)
    if clip_norm is not None and clip_value is not None:
        raise ValueError(
            f"gradients must be clipped by norm or by value; got clip_norm={clip_norm!r} and "
            f"clip_value={clip_value!r}. Pass one of them, or a step_fn that clips twice."
        )


def _is_loader(value: Any) -> bool:
    return (hasattr(value, "__iter__") or hasattr(value, "__getitem__")) and not isinstance(value, str)


def _check_arguments(model: Any, optimizer: Any, loader: Any, functions: dict[str, Any], also: Any) -> None:
    """Raise for arguments that cannot give a range test."""
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {_checks.quoted(model)}. Pass the model that trains.")
    is_one_batch = isinstance(loader, tuple) and any(isinstance(part, torch.Tensor | np.ndarray) for part in loader)
    if is_one_batch or not _is_loader(loader):
        fix = "Put the batch into a list." if is_one_batch else "Pass a DataLoader or a list."
        raise TypeError(f"loader must be an iterable of batches; got loader={_checks.quoted(loader)}. {fix}")
    if isinstance(loader, torch.utils.data.Dataset) and not isinstance(loader, torch.utils.data.IterableDataset):
        raise TypeError(
            f"loader must be an iterable of batches; got {type(loader).__name__}, a data set of single samples. Write "
            "torch.utils.data.DataLoader(dataset, batch_size=..., shuffle=True)."
        )
    for name, given in functions.items():
        if given is not None:
            _check_function(name, given)
    others = [name for name in ("loss_fn", "step_fn") if functions[name] is not None]
    if functions["loss_of"] is not None and others:
        raise ValueError(
            f"the loss must come from one function; got loss_of and {others[0]}. Pass loss_fn=None and no step_fn with "
            "loss_of."
        )
    if not isinstance(also, list | tuple):
        raise TypeError(f"also must be a list; got also={_checks.quoted(also)}. Write also=[...].")
    for index, part in enumerate(also):
        if not can_be_restored(part):
            raise TypeError(
                f"also must hold modules, optimizers and other objects with attributes; got also[{index}]="
                f"{_checks.quoted(part)} of type {type(part).__name__}, which cannot be restored. Pass the object that "
                "holds it."
            )
    _groups.check_not_lazy(model)
    for group in optimizer.param_groups:
        if "line_search_fn" in group:
            raise ValueError(
                "the optimizer of a range test must update in proportion to its learning rate; got "
                f"{type(optimizer).__name__}, which finds the size of its updates itself. Train at lr=1 without a "
                "range test."
            )
    _groups.check_minimizes("a range test", optimizer)
    if functions["step_fn"] is None:
        # After a forward pass, the model's parameters under FSDP2 are not the ones in the optimizer.
        reshard(model)
        found, _ = find_parts([functions["loss_fn"], functions["loss_of"]])
        parts = [model, *(part for part in found if isinstance(part, torch.nn.Module))]
        _groups.check_trains(model, parts, optimizer)
        if not any(parameter.requires_grad for group in optimizer.param_groups for parameter in group["params"]):
            raise ValueError(
                f"optimizer must hold a parameter that is trained; got {type(optimizer).__name__} with only frozen "
                "parameters. Call requires_grad_(True) on the layers to train."
            )


_Swept = list[tuple[dict[str, Any], Callable[[float], float]]]
"""The parameter groups to sweep, each with a function from the test's learning rate to the group's."""


def _swept(optimizer: Optimizer, group: int | None) -> _Swept:
    groups = optimizer.param_groups
    if group is None:
        shares = _groups.rate_shares(groups, _hooks.latest(optimizer))
        return [(settings, share.__mul__) for settings, share in zip(groups, shares, strict=True)]
    if _checks.integer("group", group, at_least=0) >= len(groups):
        raise ValueError(f"group must be the number of a parameter group, 0 to {len(groups) - 1}; got group={group}.")
    return [(groups[group], float)]


def _ranges(optimizer: Optimizer, rates: list[list[float]]) -> _Swept:
    """Return the groups with their own ranges of rates. The test itself follows the rates of the first group."""
    tables = [dict(zip(rates[0], of_group, strict=True)) for of_group in rates]
    return [(settings, table.__getitem__) for settings, table in zip(optimizer.param_groups, tables, strict=True)]


def _note_rate(used: list[bool], rates: set[float], optimizer: Any, args: Any, kwargs: Any) -> None:
    """Set `used[0]` before an update that uses the rates of the test and has gradients."""
    if not used[0] and all(float(group["lr"]) in rates for group in optimizer.param_groups):
        used[0] = any(parameter.grad is not None for group in optimizer.param_groups for parameter in group["params"])


def _ignores_rate(update: Update, swept: _Swept, test: RangeTest) -> bool:
    """Return True if one update changes the parameters by the same amount at the first and the last rate of the test.

    Called if no hook saw an update, because such updates may use the rate: by a captured CUDA graph, or by hand.
    """
    ends = []
    for rate in test.learning_rates[[0, -1]].tolist():
        update.state.restore()
        update.state.clear_gradients()
        _generators.seed_all(0)
        for settings, rate_at in swept:
            _groups.assign(settings, "lr", rate_at(rate))
        update.step_fn(update.batch)
        ends.append([parameter.detach().clone() for settings, _ in swept for parameter in settings["params"]])
    return all(map(torch.equal, *ends))


def _evaluated(model: torch.nn.Module, evaluate: Callable[[torch.nn.Module], Any]) -> float:
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            return _checks.scalar("evaluate()", evaluate(model))
    finally:
        for module, training in modes:
            module.training = training
