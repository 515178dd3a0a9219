"""Names in other tools, and errors that suggest the name in cyclr.

`hinted` gives such errors to functions and classes, `missing_attribute` to objects, and `Package` to modules.
"""

import functools
import importlib.util
import inspect
import itertools
import operator
import sys
import types
import typing
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from cyclr import _checks

_F = TypeVar("_F", bound=Callable[..., Any])

_CYCLES = (
    "For several cycles pass a schedule: bounds.schedule(total_steps=..., cycles=...), with the number of whole cycles "
    "in the run, or cyclr.Cyclical(base_lr, max_lr, step_size), with the updates of half a cycle."
)

ARGUMENTS: dict[str, tuple[str, ...]] = {
    "accum_iter": ("accumulate",),
    "accumulate_grad_batches": ("accumulate",),
    "accumulation_steps": ("accumulate",),
    "amp": ("autocast", "scaler"),
    "amp_backend": ("autocast", "scaler"),
    "amp_dtype": ("autocast",),
    "anneal_strategy": ("shape",),
    "base_lr": ("min_lr", "lr"),
    "base_momentum": ("momentum",),
    "batch": ("batch_size",),
    "batch_size": ("The batches already have a size: change it in the loader.",),
    "beta": ("smoothing",),
    "bounds": ("schedule", "lr"),
    "bs": ("batch_size",),
    "cache_dir": ("snapshot_dir",),
    "callbacks": ("Callbacks do not run during the test: follow the test by on_step.",),
    "clip_beginning": ("skip_begin",),
    "clip_ending": ("skip_end",),
    "clip_grad": ("clip_norm",),
    "clip_grad_norm": ("clip_norm",),
    "clip_grad_value": ("clip_value",),
    "criterion": ("loss_fn", "step_fn"),
    "criterion_fn": ("loss_fn",),
    "cycle_epochs": (_CYCLES,),
    "cycle_len": ("cycle_length", "first_cycle", _CYCLES),
    "cycle_momentum": ("momentum",),
    "cycle_mult": ("growth",),
    "cycles": (_CYCLES,),
    "data": ("loader", "batches", "x"),
    "data_loader": ("loader", "batches", "x"),
    "dataloader": ("loader", "batches", "x"),
    "dataset": ("loader", "batches", "x"),
    "decay_steps": ("total_steps", "steps"),
    "device": ("The test runs on the device of the model: move the model before.",),
    "div_factor": ("Write base_lr=max_lr / div_factor.",),
    "diverge_th": ("stop_factor",),
    "dtype": ("autocast",),
    "early_stop_threshold": ("stop_factor",),
    "end_lr": ("max_lr",),
    "end_value": ("end",),
    "epochs": ("steps", "total_steps"),
    "epochs_per_cycle": (_CYCLES,),
    "eta_max": ("max_lr",),
    "eta_min": ("base_lr", "end"),
    "factor": ("gamma", "decay"),
    "final_div_factor": ("Write final_lr=base_lr / final_div_factor.",),
    "final_lr": ("end", "max_lr"),
    "final_value": ("end", "max_lr"),
    "gamma": ("Write decay=cyclr.Exponential(gamma).",),
    "grad_clip": ("clip_norm",),
    "grad_scaler": ("scaler",),
    "gradient_accumulation_steps": ("accumulate",),
    "gradient_clip_val": ("clip_norm",),
    "high": ("max_lr",),
    "init_lr": ("start", "min_lr", "base_lr"),
    "init_value": ("start", "base_lr", "value", "min_lr"),
    "initial_learning_rate": ("base_lr", "start", "value"),
    "initial_lr": ("start", "min_lr", "base_lr"),
    "iterations": ("steps", "total_steps"),
    "key": ("Put the key into state, or fold the step into it within step_fn.",),
    "kind": ("Write bounds.schedule(total_steps=..., kind=...).",),
    "learning_rate": ("lr", "value"),
    "loader": ("batches", "x", "steps_per_epoch"),
    "loss": ("loss_fn", "monitor"),
    "loss_fn": ("step_fn",),
    "loss_function": ("loss_fn", "step_fn"),
    "low": ("min_lr", "base_lr"),
    "lr": ("value", "max_lr"),
    "lr_end": ("max_lr",),
    "lr_lower": ("min_lr", "base_lr"),
    "lr_max": ("max_lr",),
    "lr_min": ("min_lr", "base_lr"),
    "lr_start": ("min_lr",),
    "lr_upper": ("max_lr",),
    "max_grad_norm": ("clip_norm",),
    "max_iter": ("steps", "total_steps"),
    "max_lr": ("lr",),
    "max_momentum": ("momentum",),
    "max_norm": ("clip_norm",),
    "max_steps": ("steps", "total_steps"),
    "maximal_learning_rate": ("max_lr",),
    "memory_cache": ("snapshot_dir",),
    "min_lr": ("base_lr",),
    "mixed_precision": ("autocast", "scaler"),
    "mode": ("spacing", "Write cyclr.Cyclical.from_mode(mode, base_lr, max_lr, step_size)."),
    "momentums": ("momentum",),
    "n_batches": ("steps",),
    "n_epochs": ("steps", "total_steps"),
    "n_iter": ("steps", "total_steps"),
    "n_iters": ("steps", "total_steps"),
    "n_skip_beginning": ("skip_begin",),
    "n_skip_end": ("skip_end",),
    "n_steps": ("steps", "total_steps"),
    "net": ("model",),
    "num_batches": ("steps",),
    "num_cycles": ("cycles",),
    "num_epochs": ("steps", "total_steps"),
    "num_it": ("steps", "total_steps"),
    "num_iter": ("steps", "total_steps"),
    "num_iterations": ("steps", "total_steps"),
    "num_iters": ("steps", "total_steps"),
    "num_steps": ("steps", "total_steps"),
    "num_training": ("steps",),
    "num_training_steps": ("total_steps",),
    "num_warmup_steps": ("warmup", "steps"),
    "objective": ("loss_fn", "step_fn"),
    "opt": ("optimizer",),
    "optim": ("optimizer",),
    "params": ("state",),
    "pct_start": ("rise",),
    "peak_value": ("max_lr",),
    "plot": ("Call result.plot() afterwards.",),
    "precision": ("autocast", "scaler"),
    "progress": ("verbose",),
    "progress_bar": ("verbose",),
    "quiet": ("verbose",),
    "random_state": ("seed",),
    "result": ("schedule", "lr"),
    "rng": ("Put the key into state, or fold the step into it within step_fn.",),
    "schedule": ("lr",),
    "scheduler": ("lr", "A range test has no schedule: train with a schedule between result.bounds afterwards."),
    "show": ("Plots are not shown automatically: call matplotlib.pyplot.show() afterwards.",),
    "show_plot": ("Call result.plot() afterwards.",),
    "show_progress": ("verbose",),
    "silent": ("verbose",),
    "skip_start": ("skip_begin",),
    "smooth_beta": ("smoothing",),
    "smooth_f": ("smoothing",),
    "start_lr": ("min_lr", "start"),
    "start_value": ("start",),
    "step_mode": ("spacing",),
    "step_size": ("step_size_up", "cycles", _CYCLES),
    "step_size_up": ("step_size",),
    "steps_per_epoch": ("total_steps",),
    "stop_div": ("stop_factor",),
    "suggest_funcs": ("Call result.suggest(method) afterwards.",),
    "suggest_lr": ("Use result.bounds.",),
    "suggestions": ("Call result.suggest(method) afterwards.",),
    "T_0": ("first_cycle", "cycle_length"),
    "T_max": ("total_steps", "steps"),
    "T_mult": ("growth", "factor"),
    "three_phase": ("fall",),
    "train_data": ("loader", "batches", "x"),
    "train_dataloader": ("loader",),
    "train_dataloaders": ("loader",),
    "train_ds": ("loader", "batches", "x"),
    "train_loader": ("loader", "batches", "x"),
    "training_data": ("loader", "batches", "x"),
    "training_steps": ("total_steps",),
    "trainloader": ("loader", "batches", "x"),
    "tx": ("optimizer",),
    "update_attr": ("then_train",),
    "use_amp": ("autocast", "scaler"),
    "val_loader": ("evaluate",),
    "validation_data": ("evaluate",),
    "warmup_epochs": ("warmup", "steps"),
    "warmup_ratio": ("rise", "warmup"),
    "warmup_steps": ("warmup", "rise", "steps"),
}
"""Names of arguments in other tools. For each, the names in cyclr, of which the first that a function has is suggested,
or a sentence."""

ATTRIBUTES: dict[str, tuple[str, ...]] = {
    "best_lr": ("bounds.max_lr", "max_lr"),
    "get_best_lr": ("bounds.max_lr", "max_lr"),
    "get_last_lr": ("__call__",),
    "get_lr": ("__call__",),
    "high": ("max_lr",),
    "history": ("lr",),
    "learning_rate": ("__call__", "max_lr"),
    "learning_rates": ("lr",),
    "losses": ("loss",),
    "low": ("base_lr",),
    "lower": ("base_lr",),
    "lr": ("__call__", "max_lr"),
    "lr_suggestion": ("bounds.max_lr",),
    "lrs": ("lr",),
    "max": ("max_lr",),
    "min": ("base_lr",),
    "min_lr": ("base_lr",),
    "plot_loss": ("plot",),
    "rates": ("lr",),
    "results": ("lr",),
    "save": ("to_dict",),
    "show": ("plot",),
    "smooth_loss": ("smoothed_loss",),
    "step": ("__call__",),
    "suggested_lr": ("bounds.max_lr", "max_lr"),
    "suggestion": ("bounds.max_lr", "max_lr"),
    "suggestions": ("bounds", "numbers"),
    "to_json": ("save", "to_dict"),
    "upper": ("max_lr",),
    "valley": ("suggest",),
    "steepest": ("suggest",),
    "values": ("__call__",),
}
"""Names of attributes in other tools. For each, the names in cyclr, of which the first that an object has is
suggested."""

TRAINERS = {
    "transformers.Trainer": "cyclr.torch.transformers.range_test(trainer)",
    "lightning.Trainer": "cyclr.torch.lightning.RangeTestCallback(), and pass it to the Trainer as a callback",
    "lightning.LightningModule": "cyclr.torch.lightning.RangeTestCallback(), and pass it to the Trainer as a callback",
}
"""Trainers of other libraries, and the call to suggest if a range test in torch is called with one of them."""

EXPORTS: dict[str, tuple[str, ...]] = {
    "AutoCycleCallback": ("cyclr.torch.lightning", "cyclr.torch.transformers"),
    "CycleEnd": ("cyclr.keras", "cyclr.torch"),
    "CyclicLR": ("cyclr.keras", "cyclr.torch"),
    "Ensemble": ("cyclr.keras", "cyclr.torch"),
    "LRFinder": ("cyclr.keras",),
    "LearningRate": ("cyclr.keras",),
    "RangeTestCallback": ("cyclr.torch.lightning",),
    "ScheduleCallback": ("cyclr.keras",),
    "Scheduler": ("cyclr.torch",),
    "Snapshots": ("cyclr.keras", "cyclr.torch", "cyclr.jax"),
    "TimmScheduler": ("cyclr.torch",),
    "average": ("cyclr.keras", "cyclr.torch", "cyclr.jax"),
    "change_schedule": ("cyclr.keras",),
    "compare": ("cyclr.experiments",),
    "ensemble": ("cyclr.keras", "cyclr.torch", "cyclr.jax"),
    "layer_groups": ("cyclr.torch",),
    "range_test": ("cyclr.keras", "cyclr.torch", "cyclr.jax"),
    "set_schedule": ("cyclr.torch.transformers",),
}
"""Public names that are not in `cyclr` itself, and their packages."""

OBJECTS: dict[str, tuple[str, ...]] = {
    "ChainedScheduler": ("Product",),
    "CLR": ("CyclicLR", "Cyclical"),
    "constant_schedule": ("Constant",),
    "ConstantLR": ("Constant",),
    "cosine_decay_schedule": ("Anneal",),
    "cosine_onecycle_schedule": ("OneCycle",),
    "CosineAnnealingLR": ("Anneal",),
    "CosineAnnealingWarmRestarts": ("WarmRestarts",),
    "CosineDecay": ("Anneal",),
    "CosineDecayRestarts": ("WarmRestarts",),
    "CyclicalLearningRate": ("LearningRate", "Cyclical"),
    "exponential_decay": ("Anneal",),
    "ExponentialDecay": ("Anneal",),
    "ExponentialLR": ("Anneal",),
    "FastaiLRFinder": ("range_test",),
    "find_bounds": ("range_test",),
    "find_lr": ("range_test",),
    "fit_one_cycle": ("OneCycle",),
    "get_constant_schedule_with_warmup": ("Warmup",),
    "get_cosine_schedule_with_warmup": ("Warmup",),
    "get_linear_schedule_with_warmup": ("Warmup",),
    "get_wsd_schedule": ("WarmupStableDecay",),
    "InverseTimeDecay": ("Anneal",),
    "join_schedules": ("Sequence",),
    "LambdaLR": ("Function",),
    "learning_rate_finder": ("range_test",),
    "LearningRateFinder": ("RangeTestCallback", "LRFinder", "range_test"),
    "LearningRateSchedule": ("LearningRate",),
    "LearningRateScheduler": ("ScheduleCallback", "Scheduler"),
    "linear_onecycle_schedule": ("OneCycle",),
    "linear_schedule": ("Anneal",),
    "LinearLR": ("Anneal",),
    "lr_find": ("range_test",),
    "lr_finder": ("range_test",),
    "lr_range_test": ("range_test",),
    "LRFinder": ("range_test",),
    "LrFinder": ("LRFinder", "range_test"),
    "LRRangeTest": ("range_test",),
    "LRScheduler": ("Scheduler", "LearningRate"),
    "MultiplicativeLR": ("Anneal",),
    "MultiStepLR": ("Sequence",),
    "OneCycleLR": ("OneCycle",),
    "OneCyclePolicy": ("OneCycle",),
    "OneCycleScheduler": ("OneCycle",),
    "PiecewiseConstantDecay": ("Sequence",),
    "PolynomialDecay": ("Anneal",),
    "PolynomialLR": ("Anneal",),
    "ReduceLROnPlateau": ("AutoCycle",),
    "Schedule": ("Scheduler", "LearningRate"),
    "Scheduler": ("ScheduleCallback", "Scheduler"),
    "SequentialLR": ("Sequence",),
    "SGDR": ("WarmRestarts",),
    "sgdr_schedule": ("WarmRestarts",),
    "StepLR": ("Clock",),
    "SWALR": ("Anneal",),
    "TriangularLR": ("Cyclical",),
    "Tuner": ("RangeTestCallback", "range_test"),
    "warmup_cosine_decay_schedule": ("Warmup",),
    "WarmupCosine": ("OneCycle",),
}
"""Names of functions and classes in other tools, and the matching names in cyclr."""


def hinted(called: _F) -> _F:
    """Wrap a function, or the public methods of a class, so that errors of wrong calls name the right arguments.

    Calls with right arguments are not changed.
    """
    if isinstance(called, type):
        hint_methods(called)
        called.__init__ = hinted(called.__init__)  # type: ignore[misc]
        return called

    @functools.wraps(called)
    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            return called(*args, **kwargs)
        except TypeError as error:
            if error.__traceback__ is None or error.__traceback__.tb_next is not None:
                # The arguments fit, and the function itself raised.
                raise
        check_call(called, args, kwargs)

    return typing.cast(_F, call)


def hint_methods(kind: type, kinds: tuple[type, ...] = (types.FunctionType, classmethod)) -> None:
    """Apply `hinted` to the public methods of a class that are of one of the kinds."""
    for name, method in list(vars(kind).items()):
        if name.startswith("_") or not isinstance(method, kinds):
            continue
        if isinstance(method, classmethod):
            setattr(kind, name, classmethod(hinted(method.__func__)))
        elif isinstance(method, types.FunctionType):
            setattr(kind, name, hinted(method))


def check_call(called: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Raise a TypeError that names the right arguments if `called` does not take the given arguments."""
    signature = _signature(called)
    try:
        signature.bind(*args, **kwargs)
        return
    except TypeError as error:
        reason = str(error)
    name = called.__qualname__.removesuffix(".__init__")
    parameters = dict(signature.parameters)
    first = next(iter(parameters), "")
    if first in ("self", "cls"):
        del parameters[first]
        args = args[1:]
    named = [each for each, parameter in parameters.items() if parameter.kind not in _STARRED]
    by_position = [each for each in named if parameters[each].kind in _BY_POSITION]
    for unknown in [each for each in kwargs if each not in named]:
        fix = _meant(unknown, named)
        raise TypeError(f"{name}() has no argument {unknown}; got {unknown}={_checks.quoted(kwargs[unknown])}. {fix}")
    given = [*named[: len(args)], *kwargs]
    missing = [each for each in named if parameters[each].default is inspect.Parameter.empty and each not in given]
    example = name.rpartition(".")[2] if first == "self" else name
    wanted = [each for each in named if each in given or each in missing]
    fix = f"Write {example}({', '.join(f'{each}={_legal(parameters[each])}' for each in wanted)})."
    if missing:
        fix = next(filter(None, map(for_trainer, args)), fix)
        raise TypeError(f"{name}() needs {' and '.join(missing)}; got {' and '.join(given) or 'no arguments'}. {fix}")
    if len(args) > len(by_position):
        reason = f"{len(by_position)} arguments by position at most; got {len(args)}"
        others = named[len(by_position) :]
        if by_position and others:
            # An additional value may be meant for any of the other arguments.
            fix = f"Write {example}({', '.join(by_position)}, ...), and give the others by name: {', '.join(others)}."
        raise TypeError(f"{name}() takes {reason}. {fix}")
    raise TypeError(f"{name}() got wrong arguments: {reason}. {fix}")


def for_trainer(given: object) -> str:
    """Return the remedy if an argument is a trainer of another library, or an empty string."""
    kinds = {f"{kind.__module__.partition('.')[0]}.{kind.__name__}" for kind in type(given).__mro__}
    return next((f"Write {ours}." for theirs, ours in TRAINERS.items() if theirs in kinds), "")


_STARRED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def check_order(called: str, given: dict[str, tuple[Any, Callable[[Any], bool]]]) -> None:
    """Raise a TypeError if arguments fit only in another order, such as the order in another tool.

    Args:
        called: name of the function.
        given: for each argument by name, in the function's order, its value and a function that returns True for a
            value that fits.
    """
    values, fits = zip(*given.values(), strict=True)
    orders = itertools.permutations(values)
    right = next((order for order in orders if all(fit(value) for fit, value in zip(fits, order, strict=True))), values)
    if any(one is not other for one, other in zip(values, right, strict=True)):
        names = ", ".join(f"{name}=..." for name, value in zip(given, right, strict=True) if value is not None)
        received = ", ".join(type(value).__name__ for value in values if value is not None)
        raise TypeError(
            f"{called}() takes {', '.join(given)} in this order; got {received}. Write {called}({names}), with the "
            "names."
        )


@functools.cache
def _signature(called: Callable[..., Any]) -> inspect.Signature:
    return inspect.signature(called)


def _legal(parameter: inspect.Parameter) -> str:
    """Return a value to suggest for an argument: its first legal value if the legal values are strings, or `...`."""
    values = typing.get_args(parameter.annotation)
    return repr(values[0]) if values and all(isinstance(value, str) for value in values) else "..."


def _meant(name: str, ours: list[str]) -> str:
    """Return the remedy for an unknown argument name, from another tool or with a typing error."""
    meant = [each for each in ARGUMENTS.get(name, ()) if each in ours or " " in each]
    if meant:
        return meant[0] if " " in meant[0] else f"Did you mean {meant[0]!r}?"
    return _checks.did_you_mean(name, ours) or f"It takes {', '.join(ours) or 'no arguments'}."


def missing_attribute(owner: object, called: str, name: str, within: str = "") -> AttributeError:
    """Return the error for an attribute that an object does not have.

    Args:
        owner: the object.
        called: name of the object in the message, such as `"result"`.
        name: the missing attribute.
        within: name of an attribute of `owner`. Attributes of this attribute are suggested instead of `owner`'s.
    """
    message = f"{type(owner).__name__!r} object has no attribute {name!r}"
    candidates = (*ATTRIBUTES.get(name, ()), f"bounds.{name}")
    if within:
        candidates = (f"{within}.{name}", *(f"{within}.{ours}" for ours in candidates))
    for ours in () if name.startswith("_") else candidates:
        first = ours.partition(".")[0]
        if hasattr(type(owner), first) or first in vars(owner):
            try:
                found = operator.attrgetter(ours)(owner)
            except AttributeError:
                continue
            call = "(...)" if inspect.ismethod(found) else ""
            written = f"{called}(step)" if ours == "__call__" else f"{called}.{ours}{call}"
            return AttributeError(f"{message}. Write {written}.", name=name, obj=owner)
    return AttributeError(message, name=name, obj=owner)


class Package(types.ModuleType):
    """Class of the packages of cyclr: `dir` shows the public names, and errors suggest the right import.

    A package sets this class by `_names.Package.adopt(__name__)`. Its subpackages are imported at their first use, and
    so are the names in its dict `_LATER`, which maps names to modules.
    """

    __all__: list[str]

    @staticmethod
    def adopt(name: str) -> None:
        """Make a module that is being imported a `Package`."""
        sys.modules[name].__class__ = Package

    def __dir__(self) -> list[str]:
        return sorted(self.__all__)

    def __reduce__(self) -> tuple[Any, ...]:
        return importlib.import_module, (self.__name__,)

    def __getattr__(self, name: str) -> Any:
        later: dict[str, str] = vars(self).get("_LATER", {})
        if name in later:
            return getattr(importlib.import_module(later[name]), name)
        message = f"module {self.__name__!r} has no attribute {name!r}"
        if name.startswith("_"):
            raise AttributeError(message)
        if "__path__" in vars(self) and importlib.util.find_spec(f"{self.__name__}.{name}") is not None:
            return importlib.import_module(f"{self.__name__}.{name}")
        fix = self._remedy_for(name)
        # `from cyclr import name` replaces the text of an AttributeError.
        importing = sys._getframe(1).f_code.co_name == "_handle_fromlist"
        raise (ImportError if importing and fix else AttributeError)(message + (f". {fix}" if fix else ""))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        name = self.__name__.rpartition(".")[2]
        fix = f" {_imports(EXPORTS[name], name)}" if name in EXPORTS else ""
        raise TypeError(f"{self.__name__} is a package, which cannot be called.{fix}")

    def _remedy_for(self, name: str) -> str:
        """Return the import to suggest for a name that this package does not have, or an empty string."""
        candidates = OBJECTS.get(name, ())
        core: list[str] = sys.modules["cyclr"].__all__
        for ours in candidates:
            if ours in self.__all__:
                return _imports((self.__name__,), ours)
        for ours in (name, *candidates):
            if ours in core or ours in EXPORTS:
                return _imports(EXPORTS.get(ours, ("cyclr",)), ours)
        near = _checks.closest(name, sorted({*self.__all__, *core, *EXPORTS, *OBJECTS}))
        return (_imports((self.__name__,), near) if near in self.__all__ else self._remedy_for(near)) if near else ""


def _imports(packages: Iterable[str], name: str) -> str:
    first, *others = packages
    same = f", or the same from {' or '.join(others)}" if others else ""
    return f"Write from {first} import {name}{same}."
