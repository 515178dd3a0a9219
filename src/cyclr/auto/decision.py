"""Decisions of AutoCycle: pure functions of the course of a run, its plan, and the next loss."""

import functools
from typing import Annotated, Literal, NamedTuple

from cyclr import _checks
from cyclr.auto import reading as _reading
from cyclr.auto.event import AutoEvent, What
from cyclr.auto.plan import RatePlan
from cyclr.auto.reading import Count, Line, LossReading, Pieces, Saved

PATIENCE = 3
"""Number of updates in a row with a risen mean loss after which the loss counts as risen."""

CUT = 3.0
"""Divisor of a lowering: the new highest learning rate is the rate at the lowest mean loss, divided by this."""

LEAST_BLAMED = 0.1
"""Least rate at the lowest mean, as a fraction of the rate at the rise, because a warm-up may start from 0."""

CALM = 2 * _reading.WINDOW
"""Updates of settling, in which a rise is not due to the rate. Two bad losses within this distance lower the rate."""

IN_A_ROW = 3
"""Number of bad losses in a row, before their updates, that show that the weights are bad and not the batches."""

SAID_AT_MOST = 10
"""Number of bad losses in a row that are each reported as an event."""

TENTH, TENFOLD = 0.1, 10.0
"""Factors of the learning rates that are tried if the loss stalls."""

PAYS = 0.5
"""Fraction of the predicted fall of the loss at the earlier rates that a trial of higher rates must reach."""

GIVE_UP, IN_VAIN = 6, 1
"""Lowerings, in all and in a row without a lower mean loss, after which the loss does not depend on the rate."""

GIVE_UP_NOT_FINITE = 20
"""Lowerings after which even losses that are not finite do not depend on the rate, which is then 3^20 times lower."""

Positive = Annotated[float, functools.partial(_checks.number, at_least=1e-100, at_most=1e100)]


class Guard(NamedTuple):
    """The states that a run can go back to, and what went wrong so far.

    Attributes:
        first: reading of the state at the start, or None if training can only go back to the last kept state.
        kept: reading of the last kept state, or None.
        kept_after: update after which the last state was kept.
        calm: last update of settling, in which a rise is not due to the rate.
        suspect: update of the last bad loss, or None.
        streak: number of bad losses since the last good one.
        lowered: number of lowerings.
        vain: number of lowerings in a row, because of rises, that did not lower the best mean loss.
        best: lowest mean before the last lowering.
        failed: True if a trial of other rates failed.
        ignored: True if the loss does not depend on the learning rate.
    """

    first: Saved | None = LossReading()
    kept: Saved | None = None
    kept_after: int = -1
    calm: int = -1
    suspect: int | None = None
    streak: Count = 0
    lowered: Count = 0
    vain: Count = 0
    best: float = float("inf")
    failed: bool = False
    ignored: bool = False


class RateTrial(NamedTuple):
    """A trial of other rates. The kept state is the state before the trial.

    Attributes:
        times: factor of the trial, which multiplies the earlier factor.
        factor: factor before the trial.
        line: line through the second half of the pieces before the trial.
        summed: sum of the learning rates before the trial.
    """

    times: Positive
    factor: Positive
    line: Line
    summed: float

    @property
    def lowers(self) -> bool:
        """True if the rates of the trial are lower than the earlier ones."""
        return self.times < 1.0


class Course(NamedTuple):
    """The course of a run: everything that decisions depend on.

    Attributes:
        update: the next update, counted from the start of the plan.
        factor: factor of the schedule's rates.
        reading: the losses so far.
        pieces: the training since the last rollback or change of the factor.
        guard: the states to go back to.
        trial: the current trial, or None.
    """

    update: int = 0
    factor: float = 1.0
    reading: LossReading = LossReading()
    pieces: Pieces = Pieces()
    guard: Guard = Guard()
    trial: RateTrial | None = None


class Action(NamedTuple):
    """What the driver must do.

    Attributes:
        restore: the state to restore, or None.
        keep: True to keep the current state.
        leave_out: True to leave the batch out, for `before_update`.
        event: the event to report, or None.
    """

    restore: Literal["first", "kept"] | None = None
    keep: bool = False
    leave_out: bool = False
    event: AutoEvent | None = None


NOTHING, KEEP = Action(), Action(keep=True)


def after_update(plan: RatePlan, course: Course, loss: float) -> tuple[Action, Course]:
    """Decide what to do after an update, given the loss of its batch."""
    update, factor, reading, pieces, guard, trial = course
    bad = _reading.judge(reading, loss)
    if bad and (bad == "not finite" or not (guard.ignored or _is_calm(course))):
        return _on_bad_loss(plan, course, f"The loss was {loss:.3g}", bad, updated=True)
    lr = factor * plan.rate(update)
    reading = _reading.observe(reading, loss, lr)
    if guard.streak:
        guard = guard._replace(streak=0)
    if reading.risen >= PATIENCE and not guard.ignored:
        return _on_rise(plan, Course(update, factor, reading, pieces, guard, trial), lr)
    pieces = _reading.add(pieces, loss, lr, plan.piece)
    course = Course(update + 1, factor, reading, pieces, guard, trial)
    if plan.is_long and not (pieces.size or guard.ignored):
        action, course = _check_pieces(plan, course, lr)
        if action is not NOTHING:
            return action, course
    if update % plan.every == 0 and update >= plan.hold and _may_keep(plan, course):
        first = guard.first if update < plan.early or plan.may_stall(pieces, update) else None
        return KEEP, course._replace(guard=guard._replace(first=first, kept=reading, kept_after=update))
    return NOTHING, course


def spoiled_by_update(plan: RatePlan, course: Course, loss: float) -> tuple[Action, Course]:
    """Decide what to do after an update that left NaN or infinite weights, although the loss of its batch is finite."""
    words = f"The weights were NaN or infinite, while the loss was {loss:.3g}"
    return _on_bad_loss(plan, course, words, "not finite", updated=True)


def before_update(plan: RatePlan, course: Course, loss: float) -> tuple[Action, Course]:
    """Decide before an update whether to leave its batch out. A batch that is left out uses no step."""
    bad = _reading.judge(course.reading, loss)
    if bad and (bad == "not finite" or not course.guard.ignored):
        return _on_bad_loss(plan, course, f"The loss was {loss:.3g}", bad, updated=False)
    return NOTHING, course


def _is_calm(course: Course) -> bool:
    """Return True if a bad loss is due to the restored state and not to the rate. Never true for the state at start."""
    return course.update <= course.guard.calm and course.guard.kept is not None and course.trial is None


def _may_keep(plan: RatePlan, course: Course) -> bool:
    reading = course.reading
    if not plan.returns or course.trial is not None:
        return False
    return course.guard.ignored or (not reading.risen and _reading.rise(reading) < _reading.GOOD)


def _check_pieces(plan: RatePlan, course: Course, lr: float) -> tuple[Action, Course]:
    """Check at the end of a piece whether the loss falls at all, and whether it still falls as fast as at first."""
    pieces, guard = course.pieces, course.guard
    since = course.update - pieces.begin
    if course.trial is not None:
        return _end_trial(plan, course, course.trial, lr) if since >= plan.trial else (NOTHING, course)
    may_stall = plan.returns and guard.first is not None and pieces.from_start and plan.is_stall_check(since)
    may_raise = plan.is_raise_check(course.update, since)
    half = None if guard.failed or not (may_stall or may_raise) else _reading.second_half(pieces)
    if half is None:
        return NOTHING, course
    if may_stall and _reading.is_stalled(pieces, half):
        words = f"The mean loss stalled at {half.mean:.3g}."
        return _begin_trial(plan, course, RateTrial(TENTH, course.factor, half, pieces.summed), lr, words)
    times = _reading.raise_factor(pieces, half) if may_raise else 1.0
    if times > 1.0:
        words = "The loss still falls as fast per unit of learning rate as at first, so the learning rate is too low."
        trial = RateTrial(times, course.factor, half, pieces.summed)
        return _begin_trial(plan, course, trial, lr, words, from_start=False)
    return NOTHING, course


def _begin_trial(
    plan: RatePlan, course: Course, trial: RateTrial, lr: float, words: str, *, from_start: bool = True
) -> tuple[Action, Course]:
    # If this trial follows another one, the state before both is already kept.
    keep = plan.returns and course.trial is None
    if keep:
        course = course._replace(guard=course.guard._replace(kept=course.reading, kept_after=course.update - 1))
    course = course._replace(
        factor=trial.times * trial.factor, pieces=Pieces(course.update, from_start=from_start), trial=trial
    )
    words += f" For {plan.trial} updates, the earlier learning rates are multiplied by {trial.times:g}"
    if not from_start:
        return Action(keep=keep, event=_event(plan, course, lr, "tried", words + ".")), course
    restore, course, where = _go_back(plan, course, lr)
    return Action(restore, keep, event=_event(plan, course, lr, "tried", words + where + ".")), course


def _end_trial(plan: RatePlan, course: Course, trial: RateTrial, lr: float) -> tuple[Action, Course]:
    """Keep the rates of the trial if the loss is lower than before. Otherwise try others, or go back."""
    half, guard = _reading.second_half(course.pieces), course.guard
    if half is not None and _reading.is_lower(half, trial.line) and _fell_enough(trial, half, course.pieces):
        if course.pieces.from_start:
            guard = guard._replace(kept=None, lowered=guard.lowered + trial.lowers)
        course = course._replace(guard=guard, trial=None)
        words = (
            f"The mean loss fell to {half.mean:.3g}, from {trial.line.mean:.3g}, so the earlier learning rates stay "
            f"multiplied by {trial.times:g}. The highest learning rate of the rest is "
            f"{course.factor * plan.highest(course.update):.3g}."
        )
        return Action(event=_event(plan, course, lr, "lowered" if trial.lowers else "raised", words)), course
    words = f"At these learning rates the mean loss fell too little from {trial.line.mean:.3g}."
    if trial.lowers:
        course = course._replace(guard=guard._replace(failed=True))
        return _begin_trial(plan, course, trial._replace(times=TENFOLD), lr, words)
    return _fail_trial(plan, course, trial, lr, words)


def _fell_enough(trial: RateTrial, half: Line, pieces: Pieces) -> bool:
    """Return True if higher rates reached their fraction of the fall that is predicted for the earlier rates."""
    if pieces.from_start:
        return True
    fall = trial.line.slope * (trial.summed + half.middle / trial.times - trial.line.middle)
    return half.mean < trial.line.mean + PAYS * fall


def _fail_trial(plan: RatePlan, course: Course, trial: RateTrial, lr: float, words: str) -> tuple[Action, Course]:
    course = course._replace(factor=trial.factor, trial=None, guard=course.guard._replace(failed=True))
    restore, course, where = _go_back(plan, course, lr)
    words += f" The earlier learning rates apply again{where}."
    return Action(restore, False, True, _event(plan, course, lr, "went_back", words)), course


def _on_bad_loss(plan: RatePlan, course: Course, words: str, bad: str, *, updated: bool) -> tuple[Action, Course]:
    """Leave out a batch whose loss is not finite or an outlier, and lower the rate if the batch is not the cause.

    If the update was made, the weights are bad, so training goes back. The rate is lowered at a second bad loss soon
    after the first, unless the loss is not finite and no good loss came between: then the data is bad, because the
    restored weights are good. Before an update, only the third bad loss in a row shows that the weights are bad.
    """
    update, factor, guard = course.update, course.factor, course.guard
    lr = factor * plan.rate(update)
    suspect, streak = guard.suspect, guard.streak + 1
    soon = suspect is not None and update - suspect <= CALM and not (guard.ignored or _is_calm(course))
    spoiled = updated or streak == IN_A_ROW
    lower = soon and (bad == "outlier" or streak == 1 if updated else streak == IN_A_ROW)
    if bad == "outlier":
        words += f", above its lowest mean by more than {_reading.OUTLIER:.0f} times its fall so far"
    course = course._replace(update=update + updated, guard=guard._replace(suspect=update, streak=streak))
    if lower:
        words += f", for the second time in {CALM} updates." if updated else ", the third such loss in a row."
        return _lower(plan, course, update, lr, words, bad)
    restore, course, where = _go_back(plan, course, lr) if spoiled else (None, course, " before its update")
    if streak > SAID_AT_MOST:
        return Action(restore, leave_out=True), course
    words += f". The batch was left out{where}."
    if streak == SAID_AT_MOST:
        words += f" This is bad loss number {streak} in a row: check the data. More are left out without an event."
    return Action(restore, False, True, _event(plan, course, lr, "left_out", words)), course


def _on_rise(plan: RatePlan, course: Course, lr: float) -> tuple[Action, Course]:
    """Go back and lower the rate. Right after a rollback, a rise has another cause: go further back, or accept it."""
    update, reading, guard = course.update, course.reading, course.guard
    course = course._replace(update=update + 1)
    words = (
        f"The mean loss rose from {reading.best:.3g} to {_reading.mean(reading):.3g}, by "
        f"{_reading.rise(reading):.0%} of its fall so far and its noise."
    )
    if update > guard.calm or course.trial is not None:
        return _lower(plan, course, update, lr, words)
    if guard.kept is not None and guard.first is not None and update < plan.early:
        guard = guard._replace(kept=None, calm=update + CALM)
        restore, course, where = _go_back(plan, course._replace(guard=guard), lr)
        words += f" This happened right after a rollback, so the learning rate did not change{where}."
        return Action(restore, event=_event(plan, course, lr, "went_back", words)), course
    course = course._replace(reading=_reading.accept(reading, lr), pieces=Pieces(course.update, from_start=False))
    words += " This happened right after a rollback, so the learning rate is not at fault. The new level is accepted."
    return Action(event=_event(plan, course, lr, "accepted", words)), course


def _lower(plan: RatePlan, course: Course, update: int, lr: float, words: str, bad: str = "") -> tuple[Action, Course]:
    """Go back and lower the highest rate of the rest of the run. After too many lowerings, ignore the loss instead.

    A loss that is not finite is ignored only after more lowerings, because a rate may be too high by many decades.
    """
    factor, reading, guard, trial = course.factor, course.reading, course.guard, course.trial
    if trial is not None and not trial.lowers:
        return _fail_trial(plan, course, trial, lr, words)
    if trial is not None:
        # Even a tenth of the rates is too high, so the state before the trial is useless.
        guard, course = guard._replace(kept=None), course._replace(trial=None)
    improved = reading.best < guard.best - _reading.GOOD * reading.yardstick
    vain = 0 if improved else guard.vain + (not bad)
    guard = guard._replace(vain=vain, best=min(guard.best, reading.best))
    if guard.lowered >= (GIVE_UP_NOT_FINITE if bad == "not finite" else GIVE_UP) or (not bad and vain > IN_VAIN):
        course = course._replace(factor=1.0, guard=guard._replace(ignored=True))
        restore, course, where = _go_back(plan, course, lr) if bad else (None, course, "")
        words += (
            f" The learning rate was lowered {guard.lowered} times before, so this loss does not depend on it. From "
            f"now on, only NaN and infinite losses count, and the learning rate is the schedule's again{where}."
        )
        return Action(restore, False, True, _event(plan, course, lr, "ignored", words)), course
    blamed = max(reading.best_lr, LEAST_BLAMED * lr) if reading.best_lr < float("inf") else lr
    top = plan.highest(course.update)
    lowered = min(factor, blamed / CUT / top) if blamed and top else factor / CUT
    guard = guard._replace(calm=update + CALM, lowered=guard.lowered + 1)
    course = course._replace(factor=lowered, guard=guard)
    restore, course, where = _go_back(plan, course, lr)
    words += f" The highest learning rate of the rest is now {course.factor * top:.3g}{where}."
    return Action(restore, False, True, _event(plan, course, lr, "lowered", words)), course


def _go_back(plan: RatePlan, course: Course, lr: float) -> tuple[Literal["first", "kept"] | None, Course, str]:
    """Return the state to restore, the course from there, and words for it. A trial continues from its own start."""
    guard, reading = course.guard, course.reading
    if not plan.returns:
        reading = _reading.accept(reading, lr) if reading.seen >= _reading.FIRST else reading
        course = course._replace(reading=reading, pieces=Pieces(course.update, from_start=False))
        return None, course, ", and there is no state to go back to"
    kept = None if course.trial is not None and course.pieces.from_start else guard.kept
    where = "the start" if kept is None else f"the state after step {plan.start + guard.kept_after}"
    course = course._replace(
        reading=_reading.restart(kept or guard.first or LossReading(), reading),
        pieces=Pieces(course.update, from_start=kept is None),
    )
    return "first" if kept is None else "kept", course, f", and training went back to {where}"


def _event(plan: RatePlan, course: Course, lr: float, what: What, why: str) -> AutoEvent:
    return AutoEvent(plan.start + course.update - 1, what, why, lr)
