"""The functions that read the losses of a run, and the events that report what was read."""

import pytest

from cyclr.auto import AutoEvent, reading
from cyclr.auto.reading import LossReading, accept, observe, raise_factor, restart


def read(losses):
    seen = LossReading()
    for loss in losses:
        seen = observe(seen, loss, 0.1)
    return seen


FALL = [2.0, 1.9, 1.95, 1.7, 1.8, 1.5, 1.55, 1.3, 1.35, 1.2, 1.25, 1.0, 1.1, 0.9, 1.0, 0.8, 0.85, 0.7, 0.8]


def test_a_restart_counts_no_earlier_rise():
    kept = read(FALL)._replace(risen=3)
    again = restart(kept, read(FALL[:6]))
    assert again.risen == 0
    assert again.level == kept.level


def test_the_yardstick_of_an_accepted_mean_stays_until_a_lower_mean():
    accepted = accept(read([*FALL, *[1.5] * 12]), 0.1)
    assert reading.rise(accepted) == 0
    after = observe(accepted._replace(yardstick=10.0), 1.6, 0.1)
    assert after.yardstick == 10.0
    assert observe(after, -30.0, 0.1).yardstick != 10.0


@pytest.mark.parametrize(
    ("ratio", "times"), [(1.0, 10.0), (0.91, 10.0), (0.89, 3.0), (0.61, 3.0), (0.59, 1.0), (0.1, 1.0)]
)
def test_a_fall_that_stays_as_fast_asks_for_a_higher_learning_rate(ratio, times):
    made = reading.Pieces(done=tuple((2.0 - 0.05 * index, float(index)) for index in range(16)))
    whole = reading.line(made.done)
    assert raise_factor(made, whole._replace(slope=ratio * whole.slope)) == times


@pytest.mark.parametrize(
    ("field", "value", "error", "message"),
    [
        ("step", -2, ValueError, "^step must be an integer of at least -1; got step=-2"),
        ("step", 1.5, TypeError, "^step must be an integer"),
        ("what", "resumed", ValueError, "^what must be "),
        ("lr", -0.1, ValueError, r"^lr must be .* at least 0; got lr=-0\.1"),
        ("lr", float("nan"), ValueError, "^lr must be a finite number"),
    ],
)
def test_an_event_with_a_wrong_field_is_refused(field, value, error, message):
    fields = {"step": 3, "what": "lowered", "why": "The loss was NaN.", "lr": 0.1}
    assert AutoEvent(**fields)
    with pytest.raises(error, match=message):
        AutoEvent(**{**fields, field: value})
