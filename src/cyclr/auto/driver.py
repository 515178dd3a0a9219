"""AutoCycle for any training loop. It sets each learning rate, and restores an earlier state if the loss rises."""

import functools
import math
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, NamedTuple, Protocol

from cyclr import _checks, _names, _plain
from cyclr._warn import warn
from cyclr.auto import decision
from cyclr.auto.decision import Action, Course, Guard, RateTrial
from cyclr.auto.event import AutoEvent
from cyclr.auto.plan import RatePlan
from cyclr.auto.reading import Count, Pieces, Saved
from cyclr.bounds import Bounds
from cyclr.errors import AutoCycleError, RangeTestError, ScheduleError
from cyclr.range_test import RangeTest, RangeTestResult
from cyclr.schedules import Run, Schedule
from cyclr.schedules._blocks import is_of_cyclr
from cyclr.schedules.base import check_schedule
from cyclr.schedules.run import total_of

FORMAT_VERSION = 1

LONGEST_TEST, SHORTEST_TEST = 150, 40
"""Largest and smallest number of updates of the range test."""

SHARE_OF_TEST = 4
"""The range test has at most 1/4 of the updates of the run."""

MOST_EVENTS = 1000
"""Number of events after which batches are left out without an event, because each is in the state and a warning."""

USUAL_BASE = 0.01
"""base_lr of the cycle that starts from the usual learning rate, as a fraction of that rate."""


class Restorable(Protocol):
    """The state that training changes: weights, optimizer state, counters, random number generators.

    `restore` may get the same copy several times, so it must not change the copy. If there is also a method
    `is_finite()`, it is called before a state is kept, and before any action on a finite loss. If it returns False,
    the loss of the update counts as NaN. If there is also a method `check_copy(copy)`, it is called with the copies of
    a saved state, or with None for a missing copy. It raises a ValueError if `restore` cannot use the copy.
    """

    def copy(self) -> Any:
        """Return a copy of the state."""

    def restore(self, copy: Any, /) -> object:
        """Set the state to a copy."""


class AutoCycle:
    """A cyclical learning rate that corrects itself, for your own training loop.

    Read `lr` before every update, and call `step(loss)` after the update with the loss of the batch. Update t uses
    factor · schedule(t). The factor is 1 until something happens. If the loss shows that the learning rate is too high,
    AutoCycle restores an earlier state of the training and lowers the factor. If the loss shows early that the rate is
    too low, or that nothing is learned, AutoCycle tries another factor for a tenth of the run. A batch whose loss is
    NaN, infinite or an outlier is left out. The step counts all updates of the run and never goes back, so the schedule
    always reaches its end when the run ends.

    If your loop computes the loss before the update, write `if auto.skip(loss): continue` before the update. Leaving a
    batch out then restores no earlier state and uses no step.

    The decisions depend only on the losses. If several processes train together, pass the same loss to `step` and
    `skip` in all processes, such as the mean over the processes, so that all make the same decisions.

    Args:
        total_steps: steps (optimizer updates) of the whole run, an int or a `Run`, ≥ 3.
        schedule: learning rates. For `Bounds`, the run uses their `schedule(total_steps=...)`. By default, the first
            updates of the run are a range test. Afterwards the start is restored, and the rest of the run uses the
            bounds of the test. The test has a quarter of the updates, at most 150. A run of fewer than 160 updates
            makes no test and starts from usual_lr.
        state: object with the methods `copy()` and `restore(copy)` for everything that training changes. Without state,
            the learning rate is corrected, but no earlier state is restored.
        usual_lr: highest learning rate of a run without a schedule and range test, > 0: a usual learning rate of the
            optimizer, such as 1e-3 for Adam and 1e-2 for SGD.

    Attributes:
        events: everything that happened, in order: a tuple of `AutoEvent`, empty in a calm run. After 1,000 events,
            batches are left out without an event.
        last_step: step of the last update, −1 before the first.
        range_test: result of the range test, or None.
        last_lr: learning rate of the last update, NaN before the first.
        undone: True if the last update was undone, or will be undone because it belongs to the range test.

    Warns:
        UserWarning: one for each event; the schedule does not have the length of the run.

    Raises:
        TypeError, ValueError: an argument has the wrong type or is out of range; a loss is not a number.
        BoundsError: the bounds hold no numbers.
        ScheduleError: the highest learning rate of your own schedule is not known.
        AutoCycleError: `step` is called before `lr` was read, or more often than `total_steps`.

    Example:
        >>> import cyclr
        >>> class State:
        ...     weight = 1.0
        ...     def copy(self):
        ...         return self.weight
        ...     def restore(self, copy):
        ...         self.weight = copy
        >>> state = State()
        >>> auto = cyclr.AutoCycle(100, cyclr.Cyclical.over(100, 1, 0.001, 0.1), state=state)
        >>> for _ in range(100):
        ...     loss, gradient = state.weight**2, 2 * state.weight
        ...     if auto.skip(loss):
        ...         continue
        ...     state.weight -= auto.lr * gradient
        ...     auto.step(loss)
        >>> auto.last_step, auto.events, state.weight < 0.01
        (99, (), True)

    Source: Smith 2017, *Cyclical learning rates for training neural networks*, arXiv:1506.01186, for the cycle;
    Chowdhery et al. 2022, *PaLM*, arXiv:2204.02311, for restoring an earlier state and leaving batches out.
    """

    @_names.hinted
    def __init__(
        self,
        total_steps: int | Run,
        schedule: Schedule | Bounds | None = None,
        *,
        state: Restorable | None = None,
        usual_lr: float = 1e-3,
    ) -> None:
        self.total_steps = total_of(total_steps, at_least=3)
        self._usual_lr = _checks.number("usual_lr", usual_lr, above=0)
        self._state = _checked_state(state)
        self.events: tuple[AutoEvent, ...] = ()
        self.last_step = -1
        self._first: Any = None
        self._kept: Any = None
        self._started = False
        self.undone = False
        self.last_lr = math.nan
        self._course = Course()
        self._test: RangeTest | None = None
        self._test_losses: list[float] = []
        self._given = self._checked_schedule(schedule)
        self._cycle: tuple[float, float, int] | None = None
        """base_lr, max_lr and first step of the cycle, if no schedule was given."""
        self._test_steps = _test_steps(self.total_steps)
        if self._given is None and not self._test_steps:
            self._cycle = self._usual_cycle()
        self._plan = self._planned(self._cycle)
        if self._plan is None and self._state is None:
            raise TypeError(
                "state must be given if there is no schedule, because the range test must be undone; got state=None. "
                "Pass an object with copy() and restore(copy), or schedule=bounds."
            )
        if self._plan is None:
            self._test = RangeTest(steps=self._test_steps)
        self._lr = next(self._test) if self._test else self._next_rate()

    @property
    def lr(self) -> float:
        """Learning rate of the next update. Before the first update, reading it copies the state, as `skip` does."""
        if not self._started:
            self.start()
        return self._lr

    def __repr__(self) -> str:
        made = f"{self.last_step + 1} of {self.total_steps} updates made"
        return f"<{type(self).__name__}: {made}, lr {self._lr:.3g}, {len(self.events)} events>"

    @property
    def factor(self) -> float:
        """Factor of the schedule's learning rates."""
        return self._course.factor

    @property
    def testing(self) -> bool:
        """True during the range test."""
        return self._test is not None

    @property
    def schedule(self) -> Schedule | None:
        """Schedule of the run, None during a range test. Its step 0 is the first update after the range test."""
        return self._plan.schedule if self._plan else None

    @property
    def is_cycle_end(self) -> bool:
        """True if the last update was at the minimum that ends a cycle of the schedule, and was not undone."""
        update = self._course.update - 1
        if self._plan is None or update < 0 or self.undone:
            return False
        return bool(self._plan.schedule.is_cycle_end(update))

    @property
    def range_test(self) -> RangeTestResult | None:
        """Result of the range test at the start of the run. None if there is no test, or during the test."""
        if self._test is not None or not any(map(math.isfinite, self._test_losses)):
            return None
        return _replayed(self._test_losses, self._test_steps).result()

    def start(self) -> None:
        """Copy the state at the start of the run. Only needed if the state changed after the first copy.

        Raises:
            AutoCycleError: an update was made before.
        """
        if self.last_step >= 0:
            raise AutoCycleError(
                f"start() must be called before the first update; got a call after step {self.last_step}. Create a new "
                "AutoCycle for every run."
            )
        self._started = True
        self._first = self._state.copy() if self._state else None

    def skip(self, loss: Any) -> bool:
        """Return True if the batch must be left out, without an update.

        Args:
            loss: loss of the next batch, before its update: a number, or an array or tensor of one element.

        Raises:
            TypeError: the loss is not a number.
        """
        value = loss if type(loss) is float else _number(loss)
        if not self._started:
            self.start()
        if self._plan is None:
            # In the range test, only one broken batch is left out. If the next loss is not finite either, the rate may
            # be too high.
            skipped = self._course.guard.streak == 0 and not math.isfinite(value)
            self._course = Course(guard=Guard(streak=int(skipped)))
            return skipped
        action, course = decision.before_update(self._plan, self._course, value)
        if action.leave_out:
            self._do(action, course)
        return action.leave_out

    def step(self, loss: Any) -> None:
        """Read the loss of the last update, and decide on the next. This may restore an earlier state.

        Args:
            loss: loss of the update's batch: a number, or an array or tensor of one element.

        Raises:
            AutoCycleError: `lr` was not read before, or all updates of the run were made.
            TypeError: the loss is not a number. Nothing is changed.
        """
        value = loss if type(loss) is float else _number(loss)
        if not self._started:
            raise AutoCycleError(
                "step(loss) was called before lr was read. Set the learning rate of every update to auto.lr before the "
                "update."
            )
        if self.last_step + 1 >= self.total_steps:
            raise AutoCycleError(
                f"step(loss) must be called once for each of the {self.total_steps} updates; got another call. Create "
                "AutoCycle with total_steps=..., the optimizer updates of the whole run."
            )
        self.last_lr = self._lr
        if self._plan is None:
            self._step_of_test(value)
            return
        action, course = decision.after_update(self._plan, self._course, value)
        if action is not decision.NOTHING and math.isfinite(value) and not self._is_finite():
            # Weights can be NaN while the loss is finite: TensorFlow's relu on a CPU turns NaN into 0.
            action, course = decision.spoiled_by_update(self._plan, self._course, value)
        self.last_step += 1
        self._do(action, course)

    def _is_finite(self) -> bool:
        """Return False if the state holds NaN or infinite values that training should not cause."""
        is_finite = getattr(self._state, "is_finite", None)
        return is_finite is None or bool(is_finite())

    def _do(self, action: Action, course: Course) -> None:
        state = self._state
        self.undone = action.restore is not None and state is not None
        if action.keep and state is not None:
            self._kept = state.copy()
        if action.restore is not None and state is not None:
            state.restore(self._first if action.restore == "first" else self._kept)
        if course.guard.kept is None:
            self._kept = None
        if course.guard.first is None:
            self._first = None
        self._course = course
        self._lr = self._next_rate()
        if action.event is not None:
            self._report(action.event)

    def _report(self, event: AutoEvent) -> None:
        made = len(self.events) + 1
        if event.what == "left_out" and made >= MOST_EVENTS:
            if made > MOST_EVENTS:
                return
            more = f" That makes {made} events: check the data. Further batches are left out without an event."
            event = replace(event, why=event.why + more)
        self.events += (event,)
        warn(f"AutoCycle: {event}")

    def _next_rate(self) -> float:
        plan, course = self._plan, self._course
        return course.factor * plan.rate(course.update) if plan else self._lr

    def _step_of_test(self, loss: float) -> None:
        test = self._test
        if test is None:
            return
        self.undone = True
        self._course = Course()
        self._test_losses.append(loss)
        lr = self._lr
        test.record(loss)
        self.last_step += 1
        if not test.stopped:
            self._lr = next(test)
            return
        if self._state is not None:
            self._state.restore(self._first)
        try:
            found = test.result().bounds
        except RangeTestError as error:
            found = Bounds(None, None, "too_few_points", str(error))
        self._test = None
        numbers = found.numbers
        self._cycle = (*numbers, self.last_step + 1) if numbers else self._usual_cycle()
        self._plan = self._planned(self._cycle)
        self._lr = self._next_rate()
        if not numbers:
            why = (
                f"The range test gave no bounds: {found.details} The highest learning rate is the usual one, "
                f"{self._usual_lr:g}."
            )
            self._report(AutoEvent(self.last_step, "usual_rate", why, lr))

    def _usual_cycle(self) -> tuple[float, float, int]:
        return USUAL_BASE * self._usual_lr, self._usual_lr, self.last_step + 1

    def _planned(self, cycle: tuple[float, float, int] | None) -> RatePlan | None:
        """Return the plan of the given schedule, or of the cycle. None before the range test."""
        returns = self._state is not None
        if self._given is not None:
            return RatePlan(self._given, self.total_steps, returns=returns)
        if cycle is None:
            return None
        base_lr, max_lr, start = cycle
        updates = self.total_steps - start
        schedule = Bounds(base_lr, max_lr, "no_divergence", "").schedule(total_steps=updates)
        return RatePlan(schedule, updates, start, returns)

    def _checked_schedule(self, schedule: Any) -> Schedule | None:
        if isinstance(schedule, Bounds):
            return schedule.schedule(total_steps=self.total_steps)
        if schedule is None:
            return None
        check_schedule("schedule", schedule)
        checked: Schedule = schedule
        if not is_of_cyclr(schedule):
            # Raises a ScheduleError if the highest learning rate is not known.
            schedule.largest  # noqa: B018
        total = schedule.total_steps
        if total is not None and total != self.total_steps:
            rest = "ends in the middle of it" if total > self.total_steps else "uses its last value after its end"
            warn(
                f"the schedule has total_steps={total}, but the run has total_steps={self.total_steps}: the run {rest}"
                f". Create the schedule with total_steps={self.total_steps}, or pass bounds, which fill the run.",
            )
        return checked

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs besides the training state: plain values, and copies.

        The copies are the objects that `state.copy()` returned. They are not copied again.
        """
        course = self._course
        guard = course.guard
        return {
            "version": FORMAT_VERSION,
            "total_steps": self.total_steps,
            "schedule": _description(self._given),
            "step": self.last_step,
            "last_lr": self.last_lr,
            "undone": self.undone,
            "started": self._started,
            "testing": self.testing,
            "test_steps": self._test_steps,
            "test_losses": [*self._test_losses],
            "cycle": None if self._cycle is None else [*self._cycle],
            "factor": course.factor,
            "reading": course.reading._asdict(),
            "pieces": course.pieces._asdict(),
            "trial": course.trial and {**course.trial._asdict(), "line": course.trial.line._asdict()},
            "guard": {
                **guard._asdict(),
                "first": guard.first and guard.first._asdict(),
                "kept": guard.kept and guard.kept._asdict(),
            },
            "events": [asdict(event) for event in self.events],
            "copies": {"first": self._first, "kept": self._kept},
        }

    def load_state_dict(self, state_dict: dict[str, Any], schedules: Literal["same", "new"] = "same") -> None:
        """Continue at the saved step. Restore the training state itself from your own checkpoint.

        Args:
            state_dict: the dict that `state_dict` returned.
            schedules: `"same"`: the saved length and schedule must equal this AutoCycle's; `"new"`: continue
                with the length and schedule of this AutoCycle, to extend or change a run. Without a schedule, the cycle
                keeps its bounds.

        Raises:
            ValueError: the state is not a state of an `AutoCycle`, has another schedule or length, or a step beyond the
                end. Nothing is changed.
        """
        _checks.choice("schedules", schedules, ("same", "new"))
        if not _plain.is_version(state_dict, FORMAT_VERSION, "guard"):
            raise ValueError(
                f"state_dict must come from AutoCycle.state_dict() of version {FORMAT_VERSION}; got "
                f"{_plain.described(state_dict)}."
            )
        state = _plain.read("state_dict", state_dict, _State)
        saved, own = (state.total_steps, state.schedule), (self.total_steps, _description(self._given))
        if schedules == "same" and saved != own:
            raise ValueError(
                "state_dict must hold the length and schedule of this AutoCycle, "
                f"{_checks.quoted(own, 120)}; got {_checks.quoted(saved, 120)}. To continue at step {state.step + 1} "
                'with the length and schedule of this AutoCycle, pass schedules="new"; in Lightning and Transformers, '
                'create the callback with resume="new".'
            )
        cycle = None if self._given is not None else state.cycle
        plan = self._planned(cycle)
        update = state.step + 1 - (plan.start if plan else 0)
        goes_on = state.step < self.total_steps and update >= 0 and (state.started or state.step < 0)
        if not goes_on or state.testing is not (plan is None):
            raise ValueError(
                f"state_dict must hold a run that this AutoCycle can continue, of {self.total_steps} updates; got a "
                f"run after step {state.step}{', in its range test' if state.testing else ''}. Create AutoCycle with "
                "the arguments of that run, or with a larger total_steps."
            )
        test = _replayed(state.test_losses, state.test_steps) if state.testing else None
        if test is not None and (test.stopped or len(state.test_losses) != state.step + 1):
            raise ValueError(
                f"state_dict must hold an unfinished range test; got {len(state.test_losses)} losses of "
                f"{state.test_steps} after step {state.step}."
            )
        self._check_copies(state)
        self._started, self.last_step, self.events = state.started, state.step, state.events
        self._first, self._kept = state.copies
        self._test_steps, self._test_losses, self._cycle = state.test_steps, state.test_losses, cycle
        self._plan, self._test = plan, test
        # States of version 0.2 do not hold these.
        self.last_lr, self.undone = state.last_lr, state.undone
        self._course = Course(
            update=update,
            factor=state.factor,
            reading=state.reading,
            # Pieces of a run of another length have another number of updates.
            pieces=state.pieces if saved == own else Pieces(update, from_start=False),
            guard=state.guard,
            trial=state.trial,
        )
        if test is not None:
            self._lr = next(test)
        self._lr = self._next_rate()

    def _check_copies(self, state: "_State") -> None:
        """Raise if the saved run cannot go back, or if a copy is not one of this AutoCycle's training state."""
        guard, trial_from_start = state.guard, state.trial is not None and state.pieces.from_start
        if self._state is not None and guard.first is None and (guard.kept is None or trial_from_start):
            raise ValueError("state_dict must hold a training state to go back to; got none.")
        check_copy = getattr(self._state, "check_copy", None)
        if check_copy is None:
            return
        for name, kept in state.copies._asdict().items():
            if kept is not None or (state.started and getattr(state.guard, name) is not None):
                check_copy(kept)


class _Copies(NamedTuple):
    first: Any
    kept: Any


class _State(NamedTuple):
    """The entries of `AutoCycle.state_dict()`."""

    version: int
    total_steps: int
    schedule: dict[str, Any] | None
    step: Annotated[int, functools.partial(_checks.integer, at_least=-1)]
    started: bool
    testing: bool
    test_steps: Count
    test_losses: list[float]
    cycle: tuple[float, float, Count] | None
    factor: decision.Positive
    reading: Saved
    pieces: Pieces
    trial: RateTrial | None
    guard: Guard
    events: tuple[AutoEvent, ...]
    copies: _Copies
    last_lr: float = math.nan
    undone: bool = False


def _number(loss: Any) -> float:
    """Return a loss as a float. Raise for booleans and complex numbers, which are probably a mistake."""
    kind = str(getattr(loss, "dtype", type(loss).__name__))
    if "bool" in kind or "complex" in kind:
        raise TypeError(f"loss must be a real number; got loss={_checks.quoted(loss)} of type {kind}. Pass the loss.")
    return _checks.scalar("loss", loss)


def _checked_state(state: Any) -> Restorable | None:
    missing = [name for name in ("copy", "restore") if not callable(getattr(state, name, None))]
    if state is None or (not missing and not isinstance(state, type)):
        return state
    raise TypeError(
        f"state must be an object with methods copy() and restore(copy), or None; got state={_checks.quoted(state)} "
        f"of type {type(state).__name__}. Write a class whose copy() copies everything that training changes."
    )


def _test_steps(total: int) -> int:
    """Return the number of updates of the range test, or 0 if the run is too short for a test."""
    steps = min(LONGEST_TEST, total // SHARE_OF_TEST)
    return steps if steps >= SHORTEST_TEST else 0


def _replayed(losses: list[float], steps: int) -> RangeTest:
    """Return a range test that has recorded `losses`."""
    test = RangeTest(steps=steps)
    for loss, _ in zip(losses, test, strict=False):
        test.record(loss)
    return test


def _description(schedule: Schedule | None) -> dict[str, Any] | None:
    """Return a schedule as JSON data. None for no schedule, and for a schedule that holds a function."""
    try:
        return None if schedule is None else schedule.to_dict()
    except ScheduleError:
        return None
