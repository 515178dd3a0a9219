"""AutoCycle for a torch optimizer: the rates of the core in the groups, and the training state it goes back to."""

import copy
import itertools
import math
import os
import tempfile
import weakref
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

import torch
from torch import distributed
from torch.optim import Optimizer

from cyclr import _checks
from cyclr import auto as _auto
from cyclr.bounds import Bounds
from cyclr.errors import AutoCycleError
from cyclr.schedules import Constant, Run, Schedule
from cyclr.torch import _groups, _private
from cyclr.torch._update import Processes
from cyclr.torch.scheduler import Scheduler
from cyclr.torch.state import memory, reshard

IDLE_AT_MOST = 1000
"""Calls of `step` before the first update, after which no update is to be expected."""

_NOT_RESTORED = ("params", "lr", "initial_lr", "train_mode")
"""Entries of groups. Schedule-free optimizers are in the mode for training at each copy but the first, which may be in
the other. There the weights of both modes are the same."""


_ATTRIBUTES = frozenset(vars(Optimizer([torch.zeros(1)], {})))
"""Attributes that torch gives to every optimizer."""


class AutoCycle(_auto.AutoCycle):
    """A cyclical learning rate that corrects itself, in place of a scheduler: `auto.step(loss)` after every update.

    Update t uses factor · schedule(t), and the factor is 1 until the loss shows that the rate is too high or too low;
    see `cyclr.AutoCycle`. Then weights, buffers and optimizer go back to an earlier copy, in place. A calm run is bit
    for bit the run with `Scheduler`. The parameter groups keep the ratios of their learning rates.

    The step is that of the optimizer's updates. An update that `GradScaler` skips uses none, and a call after a
    micro-batch without an update does nothing. With accumulation pass the mean loss of the update's batches. In a run
    of several processes (DDP, FSDP2) the mean of the loss over them decides for all; NaN in one is NaN for all.

    Random generators and the order of the data are not restored: otherwise a broken batch would come back at once.
    Gradients are not restored either.

    Args:
        model: the module that is trained, in its wrappers.
        optimizer: its optimizer; of Accelerate's wrapper, the one within. Optimizers whose `step()` needs a closure
            (LBFGS) evaluate several losses in an update, and are refused.
        total_steps: optimizer updates of the whole run, an int or a `Run`, ≥ 3.
        schedule: a `Schedule`, `Bounds`, or None for a range test in the run, as for `cyclr.AutoCycle`.
        also: what else changes in training and must go back with the weights: modules, optimizers, and other objects
            with `state_dict()` and `load_state_dict()`, such as a `GradScaler`. Parameters of `model` that need no
            gradient and are in no optimizer are not copied, unless a module here holds them, such as a teacher.
        usual_lr: highest learning rate of a short run without a schedule, > 0; by default 1e-3 for optimizers with
            running means of squared gradients, such as Adam, and 1e-2 for others, such as SGD.
        copies_on: device of the copies, such as `"cpu"`; by default each tensor's own. There is one copy, and two from
            a fifth to a third of the run.
        snapshot_dir: folder on whose disk the copies are held, in files without a name. Nothing of them remains after
            the run, also if it is killed.

    Attributes:
        events: everything that happened, in order: a tuple of `AutoEvent`. A calm run has none.
        last_step: step of the last update, −1 before the first.
        range_test: result of the range test, or None.

    Warns:
        UserWarning: one for each event; the schedule has another length than the run.

    Raises:
        TypeError, ValueError: an argument of another type or out of range; a loss that is not a number; an optimizer
            that needs a closure, ascends or holds no parameter of the model.
        AutoCycleError: `step` was not called after every update, or more updates than `total_steps`; an optimizer
            whose state cannot be copied; parameters that are not copied, and change.

    Example:
        >>> import cyclr, torch
        >>> _ = torch.manual_seed(0)
        >>> model = torch.nn.Linear(1, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> cycle = cyclr.Cyclical.over(40, 1, 0.01, 0.1)
        >>> auto = cyclr.torch.AutoCycle(model, optimizer, total_steps=40, schedule=cycle)
        >>> for _ in range(40):
        ...     loss = (model(torch.ones(4, 1)) - 2).square().mean()
        ...     optimizer.zero_grad()
        ...     loss.backward()
        ...     optimizer.step()
        ...     auto.step(loss)
        >>> auto.last_step, auto.events
        (39, ())

    Source: Smith 2017, *Cyclical learning rates for training neural networks*, arXiv:1506.01186, for the cycle;
    Chowdhery et al. 2022, *PaLM*, arXiv:2204.02311, for the return and the batches that are left out.
    """

    def __init__(
        self,
        model: torch.nn.Module,
        optimizer: Optimizer,
        *,
        total_steps: int | Run,
        schedule: Schedule | Bounds | None = None,
        also: Iterable[Any] = (),
        usual_lr: float | None = None,
        copies_on: str | torch.device | None = None,
        snapshot_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        if not isinstance(model, torch.nn.Module):
            raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
        self._inner = _groups.innermost(_groups.unwrapped(optimizer))
        if _private.needs_closure(self._inner):
            raise TypeError(
                "optimizer must update once for one loss; got "
                f"{type(self._inner).__name__}, whose step() needs a closure and evaluates several. Use Scheduler."
            )
        _groups.check_minimizes("AutoCycle", self._inner)
        self._held = _State(model, optimizer, also, copies_on, snapshot_dir)
        self._processes = Processes(model)
        usual = _usual_lr(self._inner) if usual_lr is None else usual_lr
        super().__init__(total_steps, schedule, state=self._held, usual_lr=usual)
        # It reads `lr`, which copies the start.
        self._rates = _Rates(optimizer, self)
        self._seen = 0
        self._idle = 0
        self._listeners: tuple[Callable[[int], object], ...] = ()
        """Called by `step(loss)` with the step of each update that lasts, before the next rates are set."""
        self._versions: tuple[int, ...] | None = _private.versions(self._inner)
        self._first_update = self._inner.register_step_pre_hook(self._before_first)

    def _before_first(self, *given: Any) -> None:
        """Copy the start again if weights were loaded since."""
        self._first_update.remove()
        if self._versions is not None and self._versions != _private.versions(self._inner):
            self.start()
        self._versions = None
        self._held.note_frozen(self._held.frozen_parameters())

    def _listen(self, listener: Callable[[int], object]) -> None:
        """Call a function with the step of each update that lasts, after its loss and before the next update."""
        self._listeners += (listener,)

    @property
    def _cycles(self) -> Schedule | None:
        return self.schedule

    def _ends_cycle(self, step: Any) -> bool:
        return self.is_cycle_end

    def get_last_lr(self) -> list[float | Any]:
        """Return the learning rates that the next update uses, one for each parameter group."""
        return self._rates.get_last_lr()

    def skip(self, loss: Any) -> bool:
        """Return True if the batch is to be left out: `if auto.skip(loss): continue`, before the update.

        Buffers in which the batch left NaN or infinity, such as BatchNorm's running means, are those of the last copy
        then.

        Args:
            loss: of the next batch, before its update: a number or a tensor of one element.

        Raises:
            TypeError: a loss that is not a number.
        """
        if self._versions is not None:
            self._before_first()
        skipped = super().skip(self._processes.mean(_number(loss)))
        if skipped:
            self._repair_buffers()
            self._rates.renew()
        return skipped

    def step(self, loss: Any) -> None:
        """Take in the loss of the update that was made, and set the learning rates of the next.

        Args:
            loss: of the update's batches: a number or a tensor of one element.

        Raises:
            AutoCycleError: updates were made without `step`, or more than `total_steps`.
            TypeError: a loss that is not a number; nothing is changed.
        """
        value, made = _number(loss), self._rates.updates - self._seen
        if self._processes.several:
            total, made_by_all = self._processes.sums(value, float(made))
            value, made = total / self._processes.count, math.ceil(made_by_all / self._processes.count)
        if made == 1:
            self._seen += 1
            if self._seen == 1:
                self._held.check_frozen()
            super().step(value)
            for listener in () if self.undone else self._listeners:
                listener(self.last_step)
        elif made > 1:
            raise AutoCycleError(
                f"step(loss) must be called after every update; got a call after {made} updates. Call it after each "
                "optimizer.step(), and not once per epoch."
            )
        elif not self._not_updated(value):
            return
        self._rates.renew()

    def _is_finite(self) -> bool:
        return not self._processes.any(not super()._is_finite())[0]

    def _not_updated(self, loss: float) -> bool:
        """Take in a loss without an update, of a micro-batch or of an update that loss scaling skipped."""
        self._idle += 1
        if not self._seen and self._idle == IDLE_AT_MOST:
            raise AutoCycleError(
                f"step(loss) was called {IDLE_AT_MOST} times, and no update of {type(self._inner).__name__} was seen. "
                "Create AutoCycle with the optimizer that updates."
            )
        if math.isfinite(loss):
            return False
        skipped = super().skip(loss)
        self._repair_buffers()
        if not skipped and self.testing:
            # Rates at which no update can be made end the range test.
            super().step(loss)
        return True

    def _repair_buffers(self) -> None:
        self._held.repair_buffers(self._first if self._kept is None else self._kept)

    def state_dict(self) -> dict[str, Any]:
        """Return all that a resumed run needs besides model and optimizer, for `torch.load(weights_only=True)`."""
        state = super().state_dict()
        copies = {name: kept.read() if isinstance(kept, _File) else kept for name, kept in state["copies"].items()}
        shares = {name: [*held.values] for name, held in self._rates._shares.items() if held.to_save}
        return {**state, "copies": copies, "shares": shares, "process": self._held.process}

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Literal["same", "new"] = "same") -> None:
        """Continue at the saved step. Load the states of model, optimizer and `also` too, before or after.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"same"`: the saved length and schedule must equal those of this AutoCycle; `"new"`: continue by
                those of this AutoCycle, to extend or change a run.

        Raises:
            ValueError: not a state of an `AutoCycle`, one of another model, with another schedule or length, one of a
                step that is beyond the end, or of another process (FSDP2, ZeRO); nothing is changed.
        """
        copies = state_dict.get("copies") if isinstance(state_dict, dict) else None
        if isinstance(copies, dict):
            self._held.check_process(state_dict.get("process"))
            for kept in filter(None, copies.values()):
                self._held.check(kept)
            state_dict = {
                **state_dict,
                "copies": {name: kept and self._held.put(kept) for name, kept in copies.items()},
            }
        super().load_state_dict(state_dict, schedules)
        # The weights may be loaded after this.
        self._first_update.remove()
        self._first_update = self._inner.register_step_pre_hook(self._before_first)
        self._versions = None
        self._held.note_frozen([])
        self._seen = self._rates.updates
        if state_dict.get("shares"):
            self._rates._load_shares({"shares": state_dict["shares"]})
        self._rates.renew()


class _Rates(Scheduler):
    """Writes the rate of the core into the groups, and counts the optimizer's updates."""

    def __init__(self, optimizer: Any, auto: AutoCycle) -> None:
        # Hooks of the optimizer hold this scheduler, and may not keep the copies alive.
        self._auto = weakref.proxy(auto)
        super().__init__(optimizer, lr=Constant(1.0))

    def _reader(self, schedule: Schedule) -> Callable[[Schedule, Any], float]:
        auto = self._auto
        return lambda schedule, step: auto.lr

    def _read_groups(self) -> None:
        super()._read_groups()
        self._auto._held.check_frozen()

    @property
    def updates(self) -> int:
        made: int = self._counts[0]
        return made

    def renew(self) -> None:
        """Set the rates again, which the core may have changed, to the same ratios."""
        if self._compares:
            self._keep_edited()
        self._set_to(self._counts[0])


class _State:
    """What training changes: tensors of modules, states and entries of optimizers, and states of other objects."""

    def __init__(self, model: Any, optimizer: Any, also: Iterable[Any], device: Any, folder: Any) -> None:
        if isinstance(also, torch.nn.Module | Optimizer) or not isinstance(also, Iterable):
            raise TypeError(f"also must be a list or tuple of objects; got {type(also).__name__}. Write also=[...].")
        parts = [*also]
        for part in parts:
            if not callable(getattr(part, "state_dict", None)) or not callable(getattr(part, "load_state_dict", None)):
                raise TypeError(
                    "also must hold objects with state_dict() and load_state_dict(); got "
                    f"{_checks.quoted(part)} of type {type(part).__name__}."
                )
        _groups.check_not_lazy(model)
        self._model, self._device = model, None if device is None else torch.device(device)
        self._folder = None if folder is None else Path(folder)
        self._modules = [model, *(part for part in parts if isinstance(part, torch.nn.Module))]
        optimizers = [optimizer, *(part for part in parts if isinstance(part, Optimizer))]
        # Wrappers without hooks show the state of the optimizer within as theirs.
        self._optimizers = _groups.with_inner(map(_groups.unwrapped, optimizers))
        reshard(model)
        _groups.check_trains(model, self._modules, self._optimizers[0])
        self._frozen: list[tuple[Any, str]] = []
        """The parameters that are not copied, each with its sum before the first update."""
        self._others = [part for part in parts if not isinstance(part, torch.nn.Module | Optimizer)]

    def copy(self) -> Any:
        self.check_frozen()
        with torch.no_grad():
            tensors, frozen = self._tensors(), {*map(id, self.frozen_parameters())}
            return self.put(
                {
                    "tensors": [None if id(tensor) in frozen else self._copied(tensor) for tensor in tensors],
                    "optimizers": [self._of_optimizer(optimizer) for optimizer in self._optimizers],
                    "others": [self._copied(part.state_dict()) for part in self._others],
                }
            )

    def is_finite(self) -> bool:
        weights = [_local(weight.detach()) for module in self._modules for weight in module.parameters()]
        # Types of one byte cannot be asked.
        return all(bool(weight.isfinite().all()) for weight in weights if weight.element_size() > 1)

    def restore(self, kept: Any, /) -> None:
        if isinstance(kept, _File):
            kept = kept.read()
        self.check_frozen()
        with torch.no_grad():
            for tensor, saved in zip(self._tensors(), kept["tensors"], strict=False):
                if saved is not None:
                    _local(tensor).copy_(saved)
            for optimizer, saved in zip(self._optimizers, kept["optimizers"], strict=True):
                for group, entries in zip(optimizer.param_groups, saved["groups"], strict=False):
                    group.update({name: _restored(group.get(name), value) for name, value in entries.items()})
                for parameter, values in zip(_parameters(optimizer), saved["state"], strict=False):
                    if values is None:
                        optimizer.state.pop(parameter, None)
                    else:
                        optimizer.state[parameter] = _restored(optimizer.state.get(parameter), values)
                for name, value in saved["attributes"].items():
                    setattr(optimizer, name, _restored(getattr(optimizer, name, None), value))
            for part, saved in zip(self._others, kept["others"], strict=True):
                part.load_state_dict(_restored(None, saved))

    def repair_buffers(self, kept: Any) -> None:
        """Restore the buffers in which a batch left NaN or infinity, such as running means: they would stay."""
        if isinstance(kept, _File):
            kept = kept.read()
        for tensor, saved in zip(self._tensors(), kept["tensors"], strict=False):
            if not isinstance(tensor, torch.nn.Parameter) and tensor.is_floating_point():
                now, before = _local(tensor), saved.to(tensor.device)
                if (before.isfinite() & ~now.isfinite()).any():
                    now.copy_(before)

    def put(self, copied: Any) -> Any:
        """Return a copy as it is held: itself, or a file."""
        return copied if self._folder is None else _File(self._folder, copied)

    def check(self, kept: Any) -> None:
        """Raise if a copy is of other modules or optimizers."""
        frozen = {*map(id, self.frozen_parameters())}
        own = [None if id(tensor) in frozen else tuple(_local(tensor).shape) for tensor in self._tensors()]
        saved = [None if tensor is None else tuple(tensor.shape) for tensor in kept["tensors"]]
        counts = len(kept["optimizers"]), len(kept["others"])
        if own[: len(saved)] != saved or counts != (len(self._optimizers), len(self._others)):
            raise ValueError(
                "state_dict must come from a run with the same model, optimizers and also=; got tensors of shapes "
                f"{saved}, and those of this run have {own}. Create AutoCycle as for that run."
            )

    @property
    def process(self) -> list[int] | None:
        """The number of this process and of all of them, if each has a part of the state only."""
        parts = any(hasattr(tensor, "to_local") for tensor in self._tensors())
        if not parts and not any(type(one).__name__ == "ZeroRedundancyOptimizer" for one in self._optimizers):
            return None
        return [distributed.get_rank(), distributed.get_world_size()]

    def check_process(self, saved: list[int] | None) -> None:
        """Raise if a state has the part of another process."""
        if saved is not None and saved != self.process:
            raise ValueError(
                "state_dict must come from the same process of as many, because each has a part of the state; got that "
                f"of process {saved[0]} of {saved[1]}. Save and load the state of every process in a file of its own."
            )

    def frozen_parameters(self) -> list[Any]:
        """Return the parameters of the model that need no gradient and are in no optimizer, unless `also` has them."""
        copied = {id(parameter) for module in self._modules[1:] for parameter in module.parameters()}
        copied |= {id(parameter) for optimizer in self._optimizers for parameter in _parameters(optimizer)}
        return [p for p in self._model.parameters() if not p.requires_grad and id(p) not in copied]

    def note_frozen(self, parameters: list[Any]) -> None:
        """Note frozen parameters as they are before the first update."""
        self._frozen = [(parameter, _sum(parameter)) for parameter in parameters]

    def check_frozen(self) -> None:
        """Raise if parameters that are not copied changed, or are to be trained."""
        trained = {id(parameter) for optimizer in self._optimizers for parameter in _parameters(optimizer)}
        wrong = [p for p, before in self._frozen if id(p) in trained or _sum(p) != before]
        if wrong:
            raise AutoCycleError(
                "parameters of model that need no gradient and are in no optimizer are not copied, so they must not "
                f"change; got {len(wrong)} that changed in training or joined an optimizer, such as one of shape "
                f"{tuple(wrong[0].shape)}. Pass the module that holds them in also=[...]."
            )

    def _tensors(self) -> list[Any]:
        """Return parameters and buffers, without names: wrappers change those."""
        reshard(self._model)
        found = [part for module in self._modules for part in (*module.parameters(), *module.buffers())]
        found += itertools.chain(*map(_parameters, self._optimizers))
        return [*{id(tensor): tensor for tensor in found}.values()]

    def _of_optimizer(self, optimizer: Any) -> dict[str, Any]:
        parameters = _parameters(optimizer)
        if unknown := set(map(id, optimizer.state)) - set(map(id, parameters)):
            raise AutoCycleError(
                f"{type(optimizer).__name__} keeps {len(unknown)} states of what is no parameter of its groups, which "
                "cannot be copied. Use Scheduler."
            )
        own = type(optimizer).__module__.startswith("torch.")
        return {
            "attributes": {
                name: self._copied(value)
                for name, value in vars(optimizer).items()
                if not own and name not in _ATTRIBUTES and _is_plain(value)
            },
            "state": [self._copied(optimizer.state[p]) if p in optimizer.state else None for p in parameters],
            "groups": [
                {name: self._copied(value) for name, value in group.items() if name not in _NOT_RESTORED}
                for group in optimizer.param_groups
            ],
        }

    def _copied(self, value: Any) -> Any:
        return _mapped(lambda tensor: _local(tensor).to(self._device or tensor.device, copy=True), value)


class _File:
    """A copy in a file without a name: the system frees the file when the process ends, however that happens."""

    def __init__(self, folder: Path, copied: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        torch.save(copied, self._file)

    def read(self) -> Any:
        self._file.seek(0)
        return torch.load(self._file, weights_only=True)


def _parameters(optimizer: Any) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _sum(tensor: Any) -> str:
    """Return the sum of the elements that this process holds, which NaN makes equal to itself."""
    elements = _local(tensor)
    return repr((torch.view_as_real(elements) if elements.is_complex() else elements).sum(dtype=torch.float64).item())


def _local(tensor: Any) -> Any:
    """Return the elements of a tensor that this process holds."""
    return memory(tensor.to_local() if hasattr(tensor, "to_local") else tensor)


def _mapped(change: Callable[[Any], Any], value: Any) -> Any:
    """Return a copy of nested values, with its tensors changed."""
    if isinstance(value, torch.Tensor):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(change, held) for name, held in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_mapped(change, held) for held in value)
    return copy.deepcopy(value)


def _is_plain(value: Any) -> bool:
    """Return True for numbers, text and tensors, and for lists, tuples and dicts of them, without parameters."""
    if isinstance(value, dict):
        return all(isinstance(name, str | int) and _is_plain(held) for name, held in value.items())
    if type(value) in (list, tuple):
        return all(map(_is_plain, value))
    return isinstance(value, int | float | str | torch.Tensor) and not isinstance(value, torch.nn.Parameter)


def _restored(now: Any, saved: Any) -> Any:
    """Return a copy of a saved value. A tensor that is there gets the values in place."""
    if isinstance(saved, dict):
        held = now if isinstance(now, dict) else {}
        return {name: _restored(held.get(name), value) for name, value in saved.items()}
    if type(saved) in (list, tuple):
        parts = now if type(now) is type(saved) and len(now) == len(saved) else [None] * len(saved)
        return type(saved)(_restored(part, value) for part, value in zip(parts, saved, strict=True))
    if isinstance(saved, torch.Tensor) and isinstance(now, torch.Tensor) and _local(now).shape == saved.shape:
        _local(now).copy_(saved)
        return now
    return _mapped(torch.clone, saved)


def _number(loss: Any) -> float:
    """Return a loss as a float, in the type that its module computed."""
    if type(loss) is torch.Tensor and loss.ndim == 0 and loss.is_floating_point():
        return float(loss.item())
    kind = str(getattr(loss, "dtype", type(loss).__name__))
    if "bool" in kind or "complex" in kind:
        raise TypeError(f"loss must be a real number; got loss={_checks.quoted(loss)} of type {kind}. Pass the loss.")
    return float(_checks.scalar("loss", loss))


def _usual_lr(optimizer: Any) -> float:
    """Return a usual rate: a smaller one for optimizers that divide by running means of squared gradients."""
    return 1e-3 if any(name == "alpha" or name.startswith("beta") for name in optimizer.param_groups[0]) else 1e-2
