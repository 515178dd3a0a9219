"""The functions that read the losses of a run, and the events that report what was read."""

import math

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st

from cyclr.auto import AutoEvent, reading
from cyclr.auto.reading import LARGEST, LossReading, accept, observe, raise_factor, restart


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


def test_a_restart_has_the_best_known_starting_level():
    start, early, late = read([]), read([9.0, 8.0, 7.0]), read(FALL)
    assert restart(start, start) == start
    assert (restart(start, early).first, restart(start, early).level) == ((9.0, 8.0, 7.0), 8.0)
    assert (restart(early, late).first, restart(early, late).level) == (tuple(FALL[:5]), 1.9)
    assert (restart(late, early).first, restart(late, early).level) == (tuple(FALL[:5]), 1.9)


def test_an_accepted_mean_is_the_lowest_and_no_rise():
    risen = read([*FALL, *[2.5] * 12])
    assert risen.risen > 0
    accepted = accept(risen, 0.2)
    assert (accepted.best, accepted.best_lr, accepted.risen) == (reading.mean(risen), 0.2, 0)
    assert reading.rise(accepted) == 0
    gain, noise = accepted.level - accepted.best, accepted.best_noise
    assert accepted.yardstick == pytest.approx(max(gain, 3 * noise) + 3 * noise, rel=1e-5)


@pytest.mark.parametrize("losses", [FALL, FALL[:5], [0.3, 0.1, 0.2, 0.4, 0.3, 0.2]])
def test_a_loss_at_the_limit_is_no_outlier(losses):
    seen = read(losses)
    limit = seen.best + 10 * seen.yardstick
    assert reading.judge(seen, limit) == ""
    assert reading.judge(seen, math.nextafter(limit, math.inf)) == "outlier"


@pytest.mark.parametrize(
    ("ratio", "times"), [(1.0, 10.0), (0.91, 10.0), (0.89, 3.0), (0.61, 3.0), (0.59, 1.0), (0.1, 1.0)]
)
def test_a_fall_that_stays_as_fast_asks_for_a_higher_learning_rate(ratio, times):
    made = reading.Pieces(done=tuple((2.0 - 0.05 * index, float(index)) for index in range(16)))
    whole = reading.line(made.done)
    assert raise_factor(made, whole._replace(slope=ratio * whole.slope)) == times


@given(st.integers(3, 40), st.integers(0, 10**6))
def test_the_line_through_pieces_is_that_of_scipy(n, seed):
    rng = np.random.default_rng(seed)
    sums, losses = np.cumsum(rng.uniform(0.1, 1.0, n)), rng.normal(size=n)
    line = reading.line(list(zip(losses.tolist(), sums.tolist(), strict=True)))
    fit = scipy.stats.linregress(sums, losses)
    rest = losses - (fit.intercept + fit.slope * sums)
    assert (line.middle, line.mean) == pytest.approx((sums.mean(), losses.mean()))
    assert (line.slope, line.slope_error) == pytest.approx((fit.slope, fit.stderr))
    assert line.mean_error == pytest.approx(math.sqrt((rest**2).sum() / (n - 2) / n))


@pytest.mark.parametrize(
    "points",
    [[], [(1.0, 0.1), (0.9, 0.2)], [(1.0, 0.1), (0.9, 0.1), (0.8, 0.1)], [(1.0, 0.0), (0.9, 1e-200), (0.8, 1e-200)]],
)
def test_no_line_is_drawn_through_two_pieces_or_at_one_summed_rate(points):
    """Three times 0.1, divided by three, is not 0.1, and the square of 1e-200 is 0."""
    assert reading.line(points) is None


@pytest.mark.parametrize("n", range(3, 20))
def test_a_stall_can_be_read_off_any_pieces_that_have_a_line(n):
    """A run has at least 16 pieces at the check, but a saved state may hold fewer."""
    pieces = reading.Pieces(done=tuple((1.0, float(index)) for index in range(n)))
    assert reading.is_stalled(pieces, reading.line(pieces.done))


def test_pieces_hold_the_mean_loss_and_the_mean_summed_rate():
    made = reading.Pieces(3, from_start=False)
    for loss, lr in [(4.0, 0.1), (2.0, 0.2), (3.0, 0.4), (1.0, 0.8), (7.0, 1.6)]:
        made = reading.add(made, loss, lr, 2)
    assert (made.begin, made.from_start, made.size) == (3, False, 1)
    assert made.done == ((3.0, pytest.approx(0.2)), (2.0, pytest.approx(1.1)))
    assert (made.losses, made.sums, made.summed) == (7.0, pytest.approx(3.1), pytest.approx(3.1))


def test_two_of_three_pieces_may_have_one_summed_rate():
    for points in ([(1.0, 0.0), (1.0, 0.0), (0.5, 1.0)], [(1.0, 0.0), (0.5, 1.0), (0.5, 1.0)]):
        line = reading.line(points)
        assert (line.slope, line.slope_error) == pytest.approx((-0.5, 0.0))


@pytest.mark.parametrize("size", [1.0, 10 * LARGEST, 10.5 * LARGEST])
@pytest.mark.parametrize("field", ["total", "noise", "last", "first", "level", "best", "best_noise"])
def test_a_saved_reading_holds_numbers_up_to_the_largest(field, size):
    saved = read(FALL)._replace(**{field: (-size,) * 5 if field == "first" else -size})
    if size > 10 * LARGEST:
        with pytest.raises(ValueError, match=r"^reading must hold finite numbers of up to 1e\+307; got "):
            reading.checked("reading", saved)
    else:
        assert reading.checked("reading", saved) == saved


def test_a_saved_reading_holds_no_more_losses_than_a_run_can_have():
    assert reading.checked("reading", read(FALL)._replace(seen=2**62)).seen == 2**62
    with pytest.raises(ValueError, match=r"^reading must hold"):
        reading.checked("reading", read(FALL)._replace(seen=2**62 + 1))


@pytest.mark.parametrize("seen", range(7))
def test_a_saved_lowest_mean_is_infinite_before_the_fifth_loss(seen):
    right = read(FALL[:seen])
    assert reading.checked("reading", right) == right
    wrong = right._replace(best=1.0 if seen < 5 else math.inf)
    with pytest.raises(ValueError, match=r"^reading"):
        reading.checked("reading", wrong)


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
