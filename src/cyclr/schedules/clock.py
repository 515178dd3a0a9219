"""A schedule that is evaluated at shifted, slower or repeated steps."""

from dataclasses import KW_ONLY, dataclass
from typing import Any

from cyclr import _checks
from cyclr.schedules._namespace import SCALAR, Namespace, resolve
from cyclr.schedules.base import Schedule, check_schedule, set_fields
from cyclr.schedules.layout import check_range


@dataclass(frozen=True, repr=False)
class Clock(Schedule):
    """A schedule evaluated at other steps: of(start + ⌊t / every⌋ mod repeat), in integers.

    `every` makes stairs, for example a schedule by epochs. `repeat` restarts the schedule, for example to make a
    saw-tooth. `start` skips the first steps of the schedule. `is_cycle_end` is True at the last step of each tick in
    which a cycle of `of` ends. With `repeat`, it is also True at the last step of a turn if the value falls to this
    step and the next turn starts higher.

    Args:
        of: the schedule to evaluate.
        start: step of `of` at step 0, ≥ 0.
        every: steps (optimizer updates) in a tick, ≥ 1. A tick is one step of `of`.
        repeat: ticks in a turn, ≥ 1. After every turn, `of` restarts at `start`. None for no restart.

    Raises:
        TypeError, ValueError: `of` is not a schedule, or an argument is not an integer in range.

    Example:
        >>> import cyclr
        >>> stairs = 0.8 * cyclr.Clock(cyclr.Anneal(1, 0.5, 1, "exponential", limit=0), every=30)
        >>> stairs(29), stairs(30), stairs(60)
        (0.8, 0.4, 0.2)
        >>> saw_tooth = cyclr.Clock(cyclr.Anneal(0.0, 1.0, steps=4), repeat=4)
        >>> [saw_tooth(step) for step in range(6)]
        [0.0, 0.25, 0.5, 0.75, 0.0, 0.25]
    """

    of: Schedule
    _: KW_ONLY
    start: int = 0
    every: int = 1
    repeat: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_schedule("of", self.of)
        start = _checks.integer("start", self.start, at_least=0)
        every = _checks.integer("every", self.every, at_least=1, fix="It counts optimizer updates.")
        repeat = None if self.repeat is None else _checks.integer("repeat", self.repeat, at_least=1)
        ends = self.of.total_steps
        total = None if ends is None or repeat is not None else max(ends - start, 1) * every
        check_range(max(start + (repeat or 0), total or 0), what="the ticks")
        set_fields(self, start=start, every=every, repeat=repeat, total_steps=total)

    def evaluate(self, xp: Namespace, step: Any) -> Any:
        return self.of.evaluate(xp, self._local(xp, step))

    @property
    def largest(self) -> float:
        return self.of.largest

    def is_cycle_end(self, step: Any) -> Any:
        step, xp = resolve(step)
        local = self._local(xp, step)
        ends = self.of.is_cycle_end(local)
        if self._rises_again():
            ends = ends | (local == self.start + self.repeat - 1)  # type: ignore[operator]
        return ends & (step % self.every == self.every - 1) if self.every <= xp.int_limit else step < 0

    @property
    def has_cycle_ends(self) -> bool:
        return self._rises_again() or self.of.has_cycle_ends

    def _rises_again(self) -> bool:
        """Return True if the value falls at the end of a turn and the next turn starts higher."""
        if self.repeat is None:
            return False
        last = self.start + self.repeat - 1
        # Calling `of` would compute a block of values, at every update.
        first, before, end = (self.of.evaluate(SCALAR, step) for step in (self.start, max(last - 1, self.start), last))
        return bool(end < first and end <= before)

    def _local(self, xp: Namespace, step: Any) -> Any:
        """Return the step of `of`."""
        check_range(self.start, xp, "the starts")
        # If this integer type cannot hold `every`, its steps all lie in tick 0.
        tick = step // self.every if self.every <= xp.int_limit else step * 0
        if self.repeat is not None and self.repeat <= xp.int_limit:
            return self.start + tick % self.repeat
        return self.start + (tick if xp is SCALAR else xp.minimum(tick, int(xp.int_limit) - self.start))
