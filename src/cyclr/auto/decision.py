"""What to do about a loss: pure functions of the course of a run so far, its plan, and the next loss."""

import functools
from typing import Annotated, Literal, NamedTuple

from cyclr import _checks
from cyclr.auto import reading as _reading
from cyclr.auto.event import AutoEvent, What
from cyclr.auto.plan import RatePlan
from cyclr.auto.reading import Count, Line, LossReading, Pieces, Saved

PATIENCE = 3
"""Updates in a row after which the loss must have risen."""

CUT = 3.0
"""The highest rate of the rest becomes the rate at the lowest mean of the loss, divided by this."""

LEAST_BLAMED = 0.1
"""The rate at the lowest mean counts as at least this share of the rate at the rise: a warm-up may start from 0."""

CALM = 2 * _reading.WINDOW
"""Updates after a return in which a rise is not due to the rate, or a second bad loss is one too many."""

IN_A_ROW = 3
"""Losses in a row, before their updates, after which the weights are bad, and not the batches."""

SAID_AT_MOST = 10
"""Bad losses in a row that make an event each."""

TENTH, TENFOLD = 0.1, 10.0
"""Multiples of the learning rates that are tried if the loss stalls."""

PAYS = 0.5
"""Share of the fall predicted for the earlier rates that a trial of higher rates must reach."""

GIVE_UP, IN_VAIN = 6, 1
"""Lowerings in all, and by rises in a row without a lower mean loss, after which the loss does not follow the rate."""

GIVE_UP_NOT_FINITE = 20
"""Lowerings in all after which losses that are not finite do not follow the rate either: it is 3^20 times lower."""

Positive = Annotated[float, functools.partial(_checks.number, above=0)]


class Guard(NamedTuple):
    """What a run goes back to, and what went wrong so far.

    Attributes:
        first: reading of the state at the start, or None once training goes back to the last kept state only.
        kept: reading of the state that was kept last, or None.
        kept_after: update after which it was kept.
        calm: update until which a rise is not due to the rate.
        suspect: update of the last bad loss, or None.
        streak: bad losses since the last one that counted.
        lowered: number of lowerings.
        vain: lowerings by rises in a row after which the mean loss got no lower than before them.
        best: lowest mean before the last lowering.
        failed: True if a trial of other rates has failed.
        ignored: True if the loss does not follow the learning rate.
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
        times: multiple of the earlier factor that is tried.
        factor: factor before the trial.
        line: line through the second half of the pieces before the trial.
        summed: learning rates summed up before the trial.
    """

    times: Positive
    factor: Positive
    line: Line
    summed: float


class Course(NamedTuple):
    """The course of a run: all that decisions depend on.

    Attributes:
        update: the next update, counted from the start of the plan.
        factor: of the schedule's rates.
        reading: of the losses so far.
        pieces: of the training since the last return or change of the factor.
        guard: what to go back to.
        trial: the trial that is going on, or None.
    """

    update: int = 0
    factor: float = 1.0
    reading: LossReading = LossReading()
    pieces: Pieces = Pieces()
    guard: Guard = Guard()
    trial: RateTrial | None = None


class Action(NamedTuple):
    """What the driver has to do.

    Attributes:
        restore: the state to restore, or None.
        keep: True if the present state is to be kept.
        leave_out: True if the batch is to be left out, for `before_update`.
        event: what to report, or None.
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
        return _bad_loss(plan, course, f"The loss was {loss:.3g}", bad, updated=True)
    lr = factor * plan.rate(update)
    reading = _reading.observe(reading, loss, lr)
    if guard.streak:
        guard = guard._replace(streak=0)
    if reading.risen >= PATIENCE and not guard.ignored:
        return _risen(plan, Course(update, factor, reading, pieces, guard, trial), lr)
    pieces = _reading.add(pieces, loss, lr, plan.piece)
    course = Course(update + 1, factor, reading, pieces, guard, trial)
    if plan.looks and not (pieces.size or guard.ignored):
        action, course = _look(plan, course, lr)
        if action is not NOTHING:
            return action, course
    if update % plan.every == 0 and update >= plan.hold and _may_keep(plan, course):
        first = guard.first if update < plan.early or plan.may_stall(pieces, update) else None
        return KEEP, course._replace(guard=guard._replace(first=first, kept=reading, kept_after=update))
    return NOTHING, course


def spoiled_by_update(plan: RatePlan, course: Course, loss: float) -> tuple[Action, Course]:
    """Decide what to do after an update that left weights which are not finite, though the loss of its batch was."""
    words = f"The weights were NaN or infinite, while the loss was {loss:.3g}"
    return _bad_loss(plan, course, words, "not finite", updated=True)


def before_update(plan: RatePlan, course: Course, loss: float) -> tuple[Action, Course]:
    """Decide whether to leave a batch out before its update. A batch that is left out uses no step."""
    bad = _reading.judge(course.reading, loss)
    if bad and (bad == "not finite" or not course.guard.ignored):
        return _bad_loss(plan, course, f"The loss was {loss:.3g}", bad, updated=False)
    return NOTHING, course


def _is_calm(course: Course) -> bool:
    """Return True if a bad loss is due to the state that was restored, and not to the rate. The start is never hot."""
    return course.update <= course.guard.calm and course.guard.kept is not None and course.trial is None


def _may_keep(plan: RatePlan, course: Course) -> bool:
    reading = course.reading
    if not plan.returns or course.trial is not None:
        return False
    return course.guard.ignored or (not reading.risen and _reading.lost(reading) < _reading.GOOD)


def _look(plan: RatePlan, course: Course, lr: float) -> tuple[Action, Course]:
    """Look at the pieces at the end of one: does the loss fall at all, and does it fall as fast as ever?"""
    pieces, guard = course.pieces, course.guard
    since = course.update - pieces.begin
    if course.trial is not None:
        return _end_trial(plan, course, course.trial, lr) if since >= plan.trial else (NOTHING, course)
    may_stall = plan.returns and guard.first is not None and pieces.from_start and plan.is_stall_check(since)
    may_raise = plan.is_raise_check(course.update, since)
    half = None if guard.failed or not (may_stall or may_raise) else _reading.later(pieces)
    if half is None:
        return NOTHING, course
    if may_stall and _reading.stalls(pieces, half):
        words = f"The mean loss stalled at {half.mean:.3g}."
        return _begin_trial(plan, course, RateTrial(TENTH, course.factor, half, pieces.summed), lr, words)
    times = _reading.too_low(pieces, half) if may_raise else 1.0
    if times > 1.0:
        words = "The loss falls as fast for its learning rate as it did at first, so the rate is too low."
        trial = RateTrial(times, course.factor, half, pieces.summed)
        return _begin_trial(plan, course, trial, lr, words, from_start=False)
    return NOTHING, course


def _begin_trial(
    plan: RatePlan, course: Course, trial: RateTrial, lr: float, words: str, *, from_start: bool = True
) -> tuple[Action, Course]:
    # A second trial follows the first: the state before both is kept already.
    keep = plan.returns and course.trial is None
    if keep:
        course = course._replace(guard=course.guard._replace(kept=course.reading, kept_after=course.update - 1))
    course = course._replace(
        factor=trial.times * trial.factor, pieces=Pieces(course.update, from_start=from_start), trial=trial
    )
    words += f" For {plan.trial} updates, the learning rates are {trial.times:g} times what they were"
    if not from_start:
        return Action(keep=keep, event=_event(plan, course, lr, "tried", words + ".")), course
    restore, course, where = _back(plan, course, lr)
    return Action(restore, keep, event=_event(plan, course, lr, "tried", words + where + ".")), course


def _end_trial(plan: RatePlan, course: Course, trial: RateTrial, lr: float) -> tuple[Action, Course]:
    """Stay with the rates that were tried if the loss is lower than before, else try others or go back."""
    half, guard = _reading.later(course.pieces), course.guard
    if half is not None and _reading.is_lower(half, trial.line) and _pays(trial, half, course.pieces):
        if course.pieces.from_start:
            guard = guard._replace(kept=None, lowered=guard.lowered + (trial.times < 1.0))
        course = course._replace(guard=guard, trial=None)
        words = (
            f"The mean loss fell to {half.mean:.3g}, from {trial.line.mean:.3g}, so the learning rates stay "
            f"{trial.times:g} times what they were. The highest of the rest is "
            f"{course.factor * plan.highest(course.update):.3g}."
        )
        return Action(event=_event(plan, course, lr, "lowered" if trial.times < 1.0 else "raised", words)), course
    words = f"At these learning rates the loss gained too little on its mean before, {trial.line.mean:.3g}."
    if trial.times < 1.0:
        course = course._replace(guard=guard._replace(failed=True))
        return _begin_trial(plan, course, trial._replace(times=TENFOLD), lr, words)
    return _fail_trial(plan, course, trial, lr, words)


def _pays(trial: RateTrial, half: Line, pieces: Pieces) -> bool:
    """Return True if higher rates brought their share of the fall that is predicted for the earlier rates."""
    if pieces.from_start:
        return True
    fall = trial.line.slope * (trial.summed + half.middle / trial.times - trial.line.middle)
    return half.mean < trial.line.mean + PAYS * fall


def _fail_trial(plan: RatePlan, course: Course, trial: RateTrial, lr: float, words: str) -> tuple[Action, Course]:
    course = course._replace(factor=trial.factor, trial=None, guard=course.guard._replace(failed=True))
    restore, course, where = _back(plan, course, lr)
    words += f" The earlier learning rates apply again{where}."
    return Action(restore, False, True, _event(plan, course, lr, "went_back", words)), course


def _bad_loss(plan: RatePlan, course: Course, words: str, bad: str, *, updated: bool) -> tuple[Action, Course]:
    """Leave out a batch whose loss is not finite or an outlier, and lower the rate if the batch is not to blame.

    If the update was made, its weights are bad, and training goes back. A second bad loss soon after is one too many,
    unless it is not finite and comes before any other: then the restored weights are good, and the data is not. Before
    the update, only the third bad loss in a row says that the weights are bad.
    """
    update, factor, guard = course.update, course.factor, course.guard
    lr = factor * plan.rate(update)
    suspect, streak = guard.suspect, guard.streak + 1
    soon = suspect is not None and update - suspect <= CALM and not (guard.ignored or _is_calm(course))
    spoiled = updated or streak == IN_A_ROW
    lower = soon and (bad == "outlier" or streak == 1 if updated else streak == IN_A_ROW)
    if bad == "outlier":
        words += f", more than {_reading.OUTLIER:.0f} times what was gained above its lowest mean"
    course = course._replace(update=update + updated, guard=guard._replace(suspect=update, streak=streak))
    if lower:
        words += f", for the second time in {CALM} updates." if updated else ", the third such loss in a row."
        return _lower(plan, course, update, lr, words, bad)
    restore, course, where = _back(plan, course, lr) if spoiled else (None, course, " before its update")
    if streak > SAID_AT_MOST:
        return Action(restore, leave_out=True), course
    words += f". The batch was left out{where}."
    if streak == SAID_AT_MOST:
        words += f" That makes {streak} in a row: check the data. Further ones are left out without an event."
    return Action(restore, False, True, _event(plan, course, lr, "left_out", words)), course


def _risen(plan: RatePlan, course: Course, lr: float) -> tuple[Action, Course]:
    """Go back and lower the rate. A rise right after a return is not due to the rate: go further back, or accept it."""
    update, reading, guard = course.update, course.reading, course.guard
    course = course._replace(update=update + 1)
    words = (
        f"The mean loss rose from {reading.best:.3g} to {_reading.mean(reading):.3g}, and lost "
        f"{_reading.lost(reading):.0%} of what it had gained and its noise."
    )
    if update > guard.calm or course.trial is not None:
        return _lower(plan, course, update, lr, words)
    if guard.kept is not None and guard.first is not None and update < plan.early:
        guard = guard._replace(kept=None, calm=update + CALM)
        restore, course, where = _back(plan, course._replace(guard=guard), lr)
        words += f" It did so right after a return, so the rate stayed{where}."
        return Action(restore, event=_event(plan, course, lr, "went_back", words)), course
    course = course._replace(reading=_reading.accept(reading, lr), pieces=Pieces(course.update, from_start=False))
    words += " It did so right after a return, so this is not due to the rate, and is the level from now on."
    return Action(event=_event(plan, course, lr, "accepted", words)), course


def _lower(plan: RatePlan, course: Course, update: int, lr: float, words: str, bad: str = "") -> tuple[Action, Course]:
    """Go back and give the rest of the run a lower top, or give up. Then go back only if the weights are spoiled.

    A loss that is not finite follows the rate for longer, because a rate may be too high by many decades.
    """
    factor, reading, guard, trial = course.factor, course.reading, course.guard, course.trial
    if trial is not None and trial.times > 1.0:
        return _fail_trial(plan, course, trial, lr, words)
    if trial is not None:
        # Even a tenth is too high, so the state of before is worth nothing.
        guard, course = guard._replace(kept=None), course._replace(trial=None)
    improved = reading.best < guard.best - _reading.GOOD * reading.yardstick
    vain = 0 if improved else guard.vain + (not bad)
    guard = guard._replace(vain=vain, best=min(guard.best, reading.best))
    if guard.lowered >= (GIVE_UP_NOT_FINITE if bad == "not finite" else GIVE_UP) or (not bad and vain > IN_VAIN):
        course = course._replace(factor=1.0, guard=guard._replace(ignored=True))
        restore, course, where = _back(plan, course, lr) if bad else (None, course, "")
        words += (
            f" The rate was lowered {guard.lowered} times before, so this loss does not follow it. It is left alone "
            f"from now on, unless it is NaN or infinite, and the rate is the schedule's again{where}."
        )
        return Action(restore, False, True, _event(plan, course, lr, "ignored", words)), course
    blamed = max(reading.best_lr, LEAST_BLAMED * lr) if reading.best_lr < float("inf") else lr
    top = plan.highest(course.update)
    lowered = min(factor, blamed / CUT / top) if blamed and top else factor / CUT
    guard = guard._replace(calm=update + CALM, lowered=guard.lowered + 1)
    course = course._replace(factor=lowered, guard=guard)
    restore, course, where = _back(plan, course, lr)
    words += f" The highest learning rate of the rest is now {course.factor * top:.3g}{where}."
    return Action(restore, False, True, _event(plan, course, lr, "lowered", words)), course


def _back(plan: RatePlan, course: Course, lr: float) -> tuple[Literal["first", "kept"] | None, Course, str]:
    """Return the state to restore, the course from there, and words for it. A trial goes on from where it began."""
    guard, reading = course.guard, course.reading
    if not plan.returns:
        reading = _reading.accept(reading, lr) if reading.seen else reading
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
