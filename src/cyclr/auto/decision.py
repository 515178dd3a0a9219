"""What to do about a loss: pure functions of the course of a run so far, its plan, and the next loss."""

from typing import Literal, NamedTuple

from cyclr.auto import reading as _reading
from cyclr.auto.event import AutoEvent, What
from cyclr.auto.plan import RatePlan
from cyclr.auto.reading import LossReading, Pieces

PATIENCE = 2
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

GIVE_UP, IN_VAIN = 6, 3
"""Lowerings in all, and in a row without a lower mean loss, after which the loss does not follow the learning rate."""


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
        vain: lowerings in a row after which the mean loss got no lower than before them.
        best: lowest mean before the last lowering.
        ignored: True if the loss does not follow the learning rate.
    """

    first: LossReading | None = LossReading()
    kept: LossReading | None = None
    kept_after: int = -1
    calm: int = -1
    suspect: int | None = None
    streak: int = 0
    lowered: int = 0
    vain: int = 0
    best: float = float("inf")
    ignored: bool = False


class Course(NamedTuple):
    """The course of a run: all that decisions depend on.

    Attributes:
        update: the next update, counted from the start of the plan.
        factor: of the schedule's rates.
        reading: of the losses so far.
        pieces: of the run so far, or None if no rate that is too low is looked for.
        guard: what to go back to.
    """

    update: int = 0
    factor: float = 1.0
    reading: LossReading = LossReading()
    pieces: Pieces | None = Pieces()
    guard: Guard = Guard()


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
    update, factor, reading, pieces, guard = course
    bad = _reading.judge(reading, loss)
    if bad and (bad == "not finite" or not (guard.ignored or _is_calm(update, guard))):
        return _bad_loss(plan, course, loss, bad, updated=True)
    lr = factor * plan.rate(update)
    reading = _reading.observe(reading, loss, lr)
    if guard.streak:
        guard = guard._replace(streak=0)
    if reading.risen >= PATIENCE and not guard.ignored:
        return _risen(plan, Course(update, factor, reading, pieces, guard), lr)
    if pieces is not None:
        pieces = _reading.add(pieces, loss, lr, plan.piece)
        if not pieces.size and (update + 1) // plan.piece in plan.checks:
            times = plan.lacking(pieces, reading.noise, update, factor)
            if times > 1.0:
                course = Course(update + 1, factor * times, reading, Pieces(), guard)
                return Action(event=_event(plan, course, lr, "raised", _too_low(plan, course, times))), course
        if update + 1 >= plan.last_check:
            pieces = None
    if update >= plan.hold and update % plan.every == 0 and plan.returns and _is_good(reading, guard):
        first = guard.first if update < plan.early else None
        guard = guard._replace(first=first, kept=reading, kept_after=update)
        return KEEP, Course(update + 1, factor, reading, pieces, guard)
    return NOTHING, Course(update + 1, factor, reading, pieces, guard)


def before_update(plan: RatePlan, course: Course, loss: float) -> tuple[Action, Course]:
    """Decide whether to leave a batch out before its update. A batch that is left out uses no step."""
    bad = _reading.judge(course.reading, loss)
    if bad and (bad == "not finite" or not course.guard.ignored):
        return _bad_loss(plan, course, loss, bad, updated=False)
    return NOTHING, course


def _is_calm(update: int, guard: Guard) -> bool:
    """Return True if a bad loss is due to the state that was restored, and not to the rate. The start is never hot."""
    return update <= guard.calm and guard.kept is not None


def _is_good(reading: LossReading, guard: Guard) -> bool:
    return guard.ignored or (not reading.risen and _reading.lost(reading) < _reading.GOOD)


def _bad_loss(plan: RatePlan, course: Course, loss: float, bad: str, *, updated: bool) -> tuple[Action, Course]:
    """Leave out a batch whose loss is not finite or an outlier, and lower the rate if the batch is not to blame.

    If the update was made, its weights are bad, and training goes back. A second bad loss soon after is one too many,
    unless it is not finite and comes before any other: then the restored weights are good, and the data is not. Before
    the update, only the third bad loss in a row says that the weights are bad.
    """
    update, factor, _, _, guard = course
    lr = factor * plan.rate(update)
    suspect, streak = guard.suspect, guard.streak + 1
    soon = suspect is not None and update - suspect <= CALM and not (guard.ignored or _is_calm(update, guard))
    spoiled = updated or streak == IN_A_ROW
    lower = soon and (bad == "outlier" or streak == 1 if updated else streak == IN_A_ROW)
    words = f"The loss was {loss:.3g}"
    if bad == "outlier":
        words += f", more than {_reading.OUTLIER:.0f} times what was gained above its lowest mean"
    course = course._replace(update=update + updated, guard=guard._replace(suspect=update, streak=streak))
    if lower:
        words += f", for the second time in {CALM} updates." if updated else ", the third such loss in a row."
        return _lower(plan, course, update, lr, words, spoiled=True)
    restore, course, where = _back(plan, course, lr) if spoiled else (None, course, " before its update")
    if streak > SAID_AT_MOST:
        return Action(restore, leave_out=True), course
    words += f". The batch was left out{where}."
    if streak == SAID_AT_MOST:
        words += f" That makes {streak} in a row: check the data. Further ones are left out without an event."
    return Action(restore, False, True, _event(plan, course, lr, "left_out", words)), course


def _risen(plan: RatePlan, course: Course, lr: float) -> tuple[Action, Course]:
    """Go back and lower the rate. A rise right after a return is not due to the rate: go further back, or accept it."""
    update, _, reading, _, guard = course
    course = course._replace(update=update + 1)
    words = (
        f"The mean loss rose from {reading.best:.3g} to {_reading.mean(reading):.3g}, and lost "
        f"{_reading.lost(reading):.0%} of what it had gained and its noise."
    )
    if update > guard.calm:
        return _lower(plan, course, update, lr, words, spoiled=False)
    if guard.kept is not None and guard.first is not None and update < plan.early:
        guard = guard._replace(kept=None, kept_after=-1, calm=update + CALM)
        restore, course, where = _back(plan, course._replace(guard=guard), lr)
        words += f" It did so right after a return, so the rate stayed{where}."
        return Action(restore, event=_event(plan, course, lr, "went_back", words)), course
    course = course._replace(reading=_reading.accept(reading, lr), pieces=None)
    words += " It did so right after a return, so this is not due to the rate, and is the level from now on."
    return Action(event=_event(plan, course, lr, "accepted", words)), course


def _lower(
    plan: RatePlan, course: Course, update: int, lr: float, words: str, *, spoiled: bool
) -> tuple[Action, Course]:
    """Go back and give the rest of the run a lower top, or give up. Then go back only if the weights are spoiled."""
    _, factor, reading, _, guard = course
    improved = reading.best < guard.best - _reading.GOOD * reading.yardstick
    guard = guard._replace(vain=0 if improved else guard.vain + 1, best=min(guard.best, reading.best))
    if guard.lowered >= GIVE_UP or guard.vain > IN_VAIN:
        course = course._replace(factor=1.0, pieces=None, guard=guard._replace(ignored=True))
        restore, course, where = _back(plan, course, lr) if spoiled else (None, course, "")
        words += (
            f" The rate was lowered {guard.lowered} times before, so this loss does not follow it. It is left alone "
            f"from now on, unless it is NaN or infinite, and the rate is the schedule's again{where}."
        )
        return Action(restore, False, True, _event(plan, course, lr, "ignored", words)), course
    blamed = max(reading.best_lr, LEAST_BLAMED * lr) if reading.best_lr < float("inf") else lr
    top = plan.highest(course.update)
    lowered = min(factor, blamed / CUT / top) if blamed and top else factor / CUT
    guard = guard._replace(calm=update + CALM, lowered=guard.lowered + 1)
    restore, course, where = _back(plan, course._replace(factor=lowered, guard=guard), lr)
    words += f" The highest learning rate of the rest is now {lowered * top:.3g}{where}."
    return Action(restore, False, True, _event(plan, course, lr, "lowered", words)), course


def _back(plan: RatePlan, course: Course, lr: float) -> tuple[Literal["first", "kept"] | None, Course, str]:
    """Return the state to restore, the course from there, and words for it."""
    guard, reading = course.guard, course.reading
    if not plan.returns:
        reading = _reading.accept(reading, lr) if reading.seen else reading
        return None, course._replace(reading=reading, pieces=None), ", and there is no state to go back to"
    kept = guard.kept or guard.first or LossReading()
    where = "the start" if guard.kept is None else f"the state after step {plan.start + guard.kept_after}"
    course = course._replace(reading=_reading.restart(kept, reading), pieces=None)
    return "first" if guard.kept is None else "kept", course, f", and training went back to {where}"


def _too_low(plan: RatePlan, course: Course, times: float) -> str:
    top = course.factor * plan.highest(course.update)
    return (
        "The loss fell as fast as ever for its learning rate, and would not have come far by the end of the run. The "
        f"highest learning rate of the rest is {times:.2g} times what it was, {top:.3g}."
    )


def _event(plan: RatePlan, course: Course, lr: float, what: What, why: str) -> AutoEvent:
    return AutoEvent(plan.start + course.update - 1, what, why, lr)
