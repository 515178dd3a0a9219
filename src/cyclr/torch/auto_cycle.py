"""AutoCycle for a torch optimizer. It sets the learning rates of `cyclr.AutoCycle` in the parameter groups."""

import math
import os
import weakref
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch.optim import Optimizer

from cyclr import _checks, _names, _plain
from cyclr import auto as _auto
from cyclr.bounds import Bounds
from cyclr.errors import AutoCycleError
from cyclr.schedules import Constant, Run, Schedule
from cyclr.torch import _groups, _private
from cyclr.torch._training_state import CopyFile, TrainingState
from cyclr.torch._update import Processes
from cyclr.torch._watch import LATE
from cyclr.torch.scheduler import SHARES, Scheduler

IDLE_AT_MOST = 1000
"""Number of calls of `step` without any update at which an error is raised."""


class AutoCycle(_auto.AutoCycle):
    """A cyclical learning rate that corrects itself. Replaces a scheduler: `auto.step(loss)` after every update.

    Update t uses factor · schedule(t). The factor is 1 until the loss shows that the learning rate is too high or too
    low; see `cyclr.AutoCycle`. Then weights, buffers and optimizer are restored in place from an earlier copy. A calm
    run, in which nothing happens, equals the run with `Scheduler` bit for bit. The parameter groups keep the ratios of
    their learning rates.

    A step is an update of the optimizer. An update that `GradScaler` skips uses no step, and a call of `step` after a
    micro-batch without an update does nothing. With gradient accumulation, pass the mean loss of the update's batches.
    If several processes train together (DDP, FSDP2), all decisions use the mean loss of the processes, so NaN in one
    process counts as NaN in all.

    Random number generators and the order of the data are not restored. Otherwise a broken batch would be read again at
    once. Gradients are not restored either.

    Args:
        model: the module that is trained, with its wrappers.
        optimizer: the optimizer that trains it. Accelerate's wrapper is replaced by the optimizer inside it. Optimizers
            whose `step()` needs a closure (LBFGS) are refused, because they compute several losses in an update.
        total_steps: number of optimizer updates of the whole run, an int or a `Run`, ≥ 3.
        schedule: a `Schedule`, `Bounds`, or None for a range test in the run, as for `cyclr.AutoCycle`.
        also: other objects that training changes and that must be restored with the weights: modules, optimizers, and
            other objects with `state_dict()` and `load_state_dict()`, such as a `GradScaler`. Parameters of `model`
            that need no gradient and are in no optimizer are copied only if a module in `also` holds them, such as a
            teacher.
        usual_lr: highest learning rate of a short run without a schedule, > 0. By default 1e-3 for optimizers with
            running means of squared gradients, such as Adam, and 1e-2 for others, such as SGD.
        copies_on: device of the copies, such as `"cpu"`. By default each copy is on the device of its tensor. There is
            one copy, except for two between a fifth and a third of the run.
        snapshot_dir: folder to hold the copies in, as files without a name. Nothing remains after the run, even if the
            run is killed.

    Attributes:
        events: everything that happened, in order: a tuple of `AutoEvent`, empty in a calm run.
        last_step: step of the last update, −1 before the first.
        range_test: result of the range test, or None.

    Warns:
        UserWarning: one for each event; the schedule does not have the length of the run.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; a loss is not a number; the optimizer
            needs a closure, maximizes, or holds no parameter of the model.
        AutoCycleError: `step` was not called after every update, or there are more updates than `total_steps`; the
            state of the optimizer cannot be copied; parameters that are not copied change.

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
    Chowdhery et al. 2022, *PaLM*, arXiv:2204.02311, for restoring an earlier state and leaving batches out.
    """

    @_names.hinted
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
                f"optimizer must make one update per loss; got {type(self._inner).__name__}, whose step() needs a "
                "closure and computes several losses. Use Scheduler."
            )
        _groups.check_minimizes("AutoCycle", self._inner)
        self._held = TrainingState(model, optimizer, also, copies_on, snapshot_dir)
        self._processes = Processes(model)
        usual = _usual_lr(self._inner) if usual_lr is None else usual_lr
        super().__init__(total_steps, schedule, state=self._held, usual_lr=usual)
        # After `super().__init__`, because `_Rates` reads `lr`, which copies the start.
        self._rates = _Rates(optimizer, self)
        self._seen = 0
        self._idle = 0
        self._listeners: tuple[Callable[[int], object], ...] = ()
        """Called by `step(loss)` with the step of each update that is not undone, before the next rates are set."""
        self._versions: dict[int, int] | None = _private.versions(self._inner)
        self._first_update = self._inner.register_step_pre_hook(self._before_first)

    def _before_first(self, *given: Any) -> None:
        """Copy the start again if weights were loaded since the last copy."""
        self._first_update.remove()
        if self._versions is not None and self._versions != _private.versions(self._inner):
            self.start()
        self._versions = None
        self._held.note_frozen(self._held.frozen_parameters())

    def _listen(self, listener: Callable[[int], object]) -> None:
        """Call `listener` with the step of each update that is not undone, before the next update."""
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
        """Return True if the batch must be left out: `if auto.skip(loss): continue`, before the update.

        If the batch left NaN or infinity in buffers, such as BatchNorm's running means, the buffers are restored from
        the last copy.

        Args:
            loss: loss of the next batch, before its update: a number or a tensor of one element.

        Raises:
            TypeError: the loss is not a number.
        """
        if self._versions is not None:
            self._before_first()
        skipped = super().skip(self._processes.mean(_number(loss)))
        if skipped:
            self._repair_buffers()
            self._rates.renew()
        return skipped

    def step(self, loss: Any) -> None:
        """Read the loss of the last update, and set the learning rates of the next update.

        Args:
            loss: loss of the update's batches: a number or a tensor of one element.

        Raises:
            AutoCycleError: updates were made without `step`, or more than `total_steps`.
            TypeError: the loss is not a number. Nothing is changed.
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
        """Read a loss without an update, of a micro-batch or of an update that loss scaling skipped."""
        self._idle += 1
        if not self._seen and self._idle == IDLE_AT_MOST:
            raise AutoCycleError(
                f"step(loss) was called {IDLE_AT_MOST} times, but no update of {type(self._inner).__name__} was seen. "
                "Create AutoCycle with the optimizer that updates."
            )
        if math.isfinite(loss):
            return False
        skipped = super().skip(loss)
        self._repair_buffers()
        if not skipped and self.testing:
            # If no update can be made at a learning rate, the range test ends.
            super().step(loss)
        return True

    def _repair_buffers(self) -> None:
        self._held.repair_buffers(self._first if self._kept is None else self._kept)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # A copy would follow the updates of neither optimizer.
        raise TypeError(
            "AutoCycle cannot be copied or pickled, because it watches its own model and optimizer. Copy those, create "
            "an AutoCycle with them, and pass auto.state_dict() to its load_state_dict."
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the state for resuming, besides model and optimizer. `torch.load(weights_only=True)` can read it."""
        state = super().state_dict()
        copies = {name: kept.read() if isinstance(kept, CopyFile) else kept for name, kept in state["copies"].items()}
        shares = {name: [*held.values] for name, held in self._rates._shares.items() if held.to_save}
        return {**state, "copies": copies, "shares": shares, "process": self._held.process}

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Literal["same", "new"] = "same") -> None:
        """Continue at the saved step. Also load the states of model, optimizer and `also`, before or after this.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"same"`: the saved length and schedule must equal this AutoCycle's; `"new"`: continue
                with the length and schedule of this AutoCycle, to extend or change a run.

        Raises:
            ValueError: the state is not a state of an `AutoCycle`; or it comes from another model or process (FSDP2,
                ZeRO); or has another schedule or length, or a step beyond the end. Nothing is changed.
        """
        shares: dict[str, list[float]] = {}
        if isinstance(state_dict, dict):
            state_dict = {**state_dict}
            shares = _plain.read("state_dict['shares']", state_dict.pop("shares", {}), SHARES)
            process = _plain.read("state_dict['process']", state_dict.pop("process", None), tuple[int, int] | None)
            copies = _plain.read("state_dict['copies']", state_dict.get("copies", {}), dict[str, dict[str, Any] | None])
            self._held.check_process(process)
            guard = _plain.read("state_dict['guard']", state_dict.get("guard", {}), dict[str, Any])
            for name, kept in copies.items():
                if kept is not None:
                    self._held.check(kept)
                elif guard.get(name) is not None and state_dict.get("started"):
                    raise ValueError(f"state_dict must hold the copy {name!r} of the training state; got None.")
            state_dict["copies"] = {
                name: None if kept is None else self._held.put(kept) for name, kept in copies.items()
            }
        super().load_state_dict(state_dict, schedules)
        # The weights may be loaded after this call, so frozen parameters are read before the next update.
        self._first_update.remove()
        self._first_update = self._inner.register_step_pre_hook(self._before_first)
        self._versions = None
        self._held.note_frozen([])
        self._seen = self._rates.updates
        if shares:
            self._rates._load_shares(shares, self._rates._described())
        self._rates.renew()


class _Rates(Scheduler):
    """Sets the learning rate of AutoCycle in the groups, and counts the optimizer's updates."""

    def __init__(self, optimizer: Any, auto: AutoCycle) -> None:
        # Hooks of the optimizer hold this scheduler, which must not keep AutoCycle and its copies alive.
        self._auto = weakref.proxy(auto)
        super().__init__(optimizer, lr=Constant(1.0))

    def _reader(self, schedule: Schedule) -> Callable[[Schedule, Any], float]:
        auto = self._auto
        return lambda schedule, step: auto.lr

    def _is_late(self) -> bool:
        """Raise before an update if the last updates were made without `step(loss)`. Never warn, so return False."""
        auto = self._auto
        made = self.updates - auto._seen
        if made >= LATE and auto.last_step + 1 < auto.total_steps:
            raise AutoCycleError(
                f"step(loss) must be called after every update; got {made} updates without a call. Call "
                "auto.step(loss) after each optimizer.step()."
            )
        return False

    def _read_groups(self) -> None:
        super()._read_groups()
        self._auto._held.check_frozen()

    @property
    def updates(self) -> int:
        made: int = self._counts[0]
        return made

    def renew(self) -> None:
        """Set the rates again after AutoCycle may have changed its rate. The ratios of the groups stay."""
        if self._has_cpu_tensor:
            self._keep_edited()
        self._set_to(self._counts[0])


def _number(loss: Any) -> float:
    """Return a loss as a float, computed in the dtype of the tensor."""
    if type(loss) is torch.Tensor and loss.ndim == 0 and loss.is_floating_point():
        return float(loss.item())
    kind = str(getattr(loss, "dtype", type(loss).__name__))
    if "bool" in kind or "complex" in kind:
        raise TypeError(f"loss must be a real number; got loss={_checks.quoted(loss)} of type {kind}. Pass the loss.")
    return float(_checks.scalar("loss", loss))


def _usual_lr(optimizer: Any) -> float:
    """Return a usual learning rate: smaller for optimizers that divide by running means of squared gradients."""
    return 1e-3 if any(name == "alpha" or name.startswith("beta") for name in optimizer.param_groups[0]) else 1e-2
