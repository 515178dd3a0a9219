"""AutoCycle in training loops: a network on real digits, and losses that are made up."""

import copy
import json
import math
import warnings

import numpy as np
import pytest
from tests.auto.networks import Network, bounds, times, train, train_plainly

import cyclr
from cyclr import AutoCycle, AutoCycleError, Bounds
from cyclr.auto import AutoEvent, driver

TOTAL = 400
BOUNDS = Bounds(0.001, 0.1, "ok", "made up")


class Number:
    """A training state that is one number, and a loss that follows the script of a test."""

    def __init__(self):
        self.value = self.copies = self.restored = 0

    def copy(self):
        self.copies += 1
        return self.value

    def restore(self, copy):
        self.restored += 1
        self.value = copy


def falling(step, noise=0.02):
    return 2.3 * math.exp(-step / 15) + 0.1 + noise * math.sin(step**2)


def drive(auto, losses, state=None):
    """Feed losses, one for each update. Return the learning rates."""
    rates = []
    for loss in losses:
        rates.append(auto.lr)
        if state is not None:
            state.value = auto.last_step + 2
        auto.step(loss)
    return rates


def quietly(function, *arguments, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return function(*arguments, **options)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_a_calm_run_is_the_plain_run(optimizer):
    schedule = bounds(optimizer).schedule(total_steps=TOTAL)
    plain, watched = Network(optimizer), Network(optimizer)
    losses = train_plainly(plain, schedule, TOTAL)
    auto = AutoCycle(TOTAL, schedule, state=watched)
    rates, seen = train(watched, auto, TOTAL, skips=True)
    assert rates == [schedule(step) for step in range(TOTAL)]
    assert seen == losses
    assert all(np.array_equal(a, b) for a, b in zip(plain.weights, watched.weights, strict=True))
    assert auto.events == ()
    assert watched.restored == 0


def test_a_calm_run_copies_the_state_at_the_start_and_64_times_per_run_after_a_fifth():
    state, total = Number(), 6400
    auto = AutoCycle(total, BOUNDS, state=state)
    drive(auto, [falling(step * 100 / total) for step in range(total)], state)
    assert auto.events == ()
    assert state.copies == 1 + sum(step >= 0.2 * total and step % 100 == 0 for step in range(total)) == 52
    assert auto.state_dict()["copies"] == {"first": None, "kept": total - 99}


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("factor", [10, 30])
def test_a_run_is_rescued_from_bounds_that_are_too_high(optimizer, factor):
    schedule = times(bounds(optimizer), factor).schedule(total_steps=TOTAL)
    plain, network = Network(optimizer), Network(optimizer)
    train_plainly(plain, schedule, TOTAL)
    auto = AutoCycle(TOTAL, schedule, state=network)
    rates, _ = quietly(train, network, auto, TOTAL)
    assert plain.score() < 0.9 < network.score()
    assert [event.what for event in auto.events if event.what == "lowered"]
    assert max(rates[auto.events[-1].step + 1 :]) < schedule.max_lr / 3
    assert rates[-1] == auto.factor * schedule(TOTAL - 1)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_run_is_rescued_from_bounds_that_are_too_low(optimizer):
    schedule = times(bounds(optimizer), 1 / 30).schedule(total_steps=TOTAL)
    plain, network = Network(optimizer), Network(optimizer)
    train_plainly(plain, schedule, TOTAL)
    auto = AutoCycle(TOTAL, schedule, state=network)
    quietly(train, network, auto, TOTAL)
    assert plain.score() + 0.03 < network.score()
    whats = [event.what for event in auto.events]
    assert "raised" in whats
    assert "lowered" not in whats


def test_a_run_without_a_schedule_starts_with_a_range_test_and_undoes_it():
    network, total = Network("momentum"), 1500
    auto = AutoCycle(total, state=network)
    start = [part.copy() for part in network.weights]
    assert auto.testing
    rates, _ = train(network, auto, 1)
    assert auto.last_step == 0
    while auto.testing:
        assert auto.range_test is None
        rates += train(network, auto, 1)[0]
    tested = len(rates)
    assert all(np.array_equal(a, b) for a, b in zip(start, network.weights, strict=True))
    assert auto.last_step == tested - 1
    assert rates == cyclr.RangeTest().learning_rates[:tested].tolist()
    assert auto.range_test.loss.size == tested
    schedule = auto.range_test.bounds.schedule(total_steps=total - tested)
    assert auto.schedule == schedule
    rates += train(network, auto, total - tested)[0]
    assert rates[tested:] == [schedule(step) for step in range(total - tested)]
    assert auto.events == ()
    assert network.score() > 0.94
    with pytest.raises(AutoCycleError, match="once for each of the 1500 updates; got another call"):
        auto.step(0.1)


def test_a_run_that_is_too_short_for_a_range_test_starts_from_the_usual_rate():
    network, total = Network("adam"), 159
    auto = AutoCycle(total, state=network, usual_lr=3e-3)
    assert not auto.testing
    assert auto.schedule == Bounds(3e-5, 3e-3, "ok", "").schedule(total_steps=total)
    quietly(train, network, auto, total)
    assert network.score() > 0.93


@pytest.mark.parametrize(("total", "steps"), [(160, 40), (400, 100), (600, 150), (10**6, 150)])
def test_the_range_test_has_at_most_a_quarter_of_the_run(total, steps):
    auto = AutoCycle(total, state=Number())
    rates = drive(auto, [1.0] * 10)
    assert rates == cyclr.RangeTest(steps=steps).learning_rates[:10].tolist()
    longer = AutoCycle(2 * total, state=Number())
    longer.load_state_dict(auto.state_dict(), schedules="new")
    assert longer.lr == auto.lr
    assert drive(longer, [1.0] * 10) == cyclr.RangeTest(steps=steps).learning_rates[10:20].tolist()


def test_a_range_test_without_bounds_warns_and_the_run_uses_the_usual_rate():
    state = Number()
    auto = AutoCycle(2000, state=state, usual_lr=0.02)
    with pytest.warns(UserWarning, match=r"The range test gave no bounds: .*usual one, 0\.02\."):
        drive(auto, [math.nan] * 11)
    assert not auto.testing
    assert auto.schedule.max_lr == 0.02
    assert auto.schedule.total_steps == 2000 - auto.last_step - 1
    assert [event.what for event in auto.events] == ["usual_rate"]
    assert state.restored == 1
    assert auto.range_test is None


@pytest.mark.parametrize("skips", [False, True], ids=["after the update", "before the update"])
@pytest.mark.parametrize(("scale", "at"), [(math.nan, 40), (math.nan, 200), (math.nan, 360), (1e4, 40), (1e4, 360)])
def test_one_bad_batch_does_not_lower_the_rate(scale, at, skips):
    schedule = bounds("momentum").schedule(total_steps=TOTAL)
    network, due = Network("momentum"), [at]
    auto = AutoCycle(TOTAL, schedule, state=network)

    def spoil(step):
        return scale if due and step == due[0] and due.pop() else 1.0

    with pytest.warns(UserWarning, match="AutoCycle: step") as warned:
        rates, _ = train(network, auto, TOTAL, skips=skips, spoil=spoil)
    assert [event.what for event in auto.events] == ["left_out"]
    assert ("above its lowest mean by more than 10 times its fall" in auto.events[0].why) is (scale == 1e4)
    assert len(warned) == 1
    assert auto.events[0].step == at - skips
    assert rates == [schedule(step) for step in range(TOTAL)]
    assert network.restored == (0 if skips else 1)
    assert network.score() > 0.9


def test_a_batch_that_is_skipped_uses_no_step():
    auto = AutoCycle(100, BOUNDS, state=Number())
    drive(auto, [falling(step) for step in range(50)])
    lr = auto.lr
    with pytest.warns(UserWarning, match="left out before its update"):
        assert auto.skip(math.nan)
    assert (auto.last_step, auto.lr) == (49, lr)
    assert auto.events == (
        AutoEvent(49, "left_out", "The loss was nan. The batch was left out before its update.", lr),
    )
    assert not auto.skip(falling(50))
    drive(auto, [falling(step) for step in range(50, 100)])
    assert auto.last_step == 99


def test_the_third_bad_loss_before_an_update_restores_the_weights():
    state = Number()
    auto = AutoCycle(100, BOUNDS, state=state)
    drive(auto, [falling(step) for step in range(50)], state)
    kept = auto.state_dict()["copies"]["kept"]
    factor = [auto.factor]
    for _ in range(3):
        assert quietly(auto.skip, math.nan)
        factor.append(auto.factor)
    assert [event.what for event in auto.events] == ["left_out", "left_out", "lowered"]
    assert (state.value, state.restored) == (kept, 1)
    assert factor[:3] == [1.0] * 3
    assert factor[3] < 0.34
    assert auto.lr == auto.factor * auto.schedule(50)


def test_the_state_at_the_first_skip_is_the_start():
    state = Number()
    auto = AutoCycle(100, BOUNDS, state=state)
    assert not auto.skip(1.0)
    state.value = 7
    assert auto.lr
    quietly(auto.step, math.nan)
    assert (state.value, state.copies) == (0, 1)


def test_weights_that_are_not_finite_count_as_a_loss_of_nan():
    class Weights(Number):
        def is_finite(self):
            return math.isfinite(self.value)

    state = Weights()
    auto = AutoCycle(100, BOUNDS, state=state)
    drive(auto, map(falling, range(30)))
    state.value = math.nan
    # At 50 a state may be kept, so the weights are checked. Before a loss that is not finite, they are not.
    with pytest.warns(
        UserWarning, match=r"The weights were NaN or infinite, while the loss was 0\.\d+\. The batch was"
    ):
        drive(auto, map(falling, range(30, 100)))
    assert [event.what for event in auto.events] == ["left_out"]
    assert math.isfinite(state.value)


@pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning")
def test_the_weights_are_not_checked_if_nothing_is_done_or_the_loss_is_not_finite():
    checked = []

    class Weights(Number):
        def is_finite(self):
            checked.append(auto.last_step + 1)
            return True

    auto = AutoCycle(400, BOUNDS, state=Weights())
    drive(auto, [math.nan if step == 102 else falling(step / 4, 0) for step in range(165)])
    assert checked == [step for step in range(84, 165, 6) if step != 102]


@pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning")
def test_a_batch_that_is_not_left_out_leaves_the_last_update_undone():
    auto = AutoCycle(100, BOUNDS, state=Number())
    drive(auto, [1.0, math.nan])
    assert not auto.skip(1.0)
    assert auto.undone


def test_of_two_broken_batches_in_the_range_test_one_is_left_out():
    auto = AutoCycle(1500, state=Number())
    losses = [1.0, 1.0, math.nan, math.nan, math.nan, 1.0, math.inf, 1.0, 1.0]
    assert [auto.skip(loss) for loss in losses] == [False, False, True, False, True, False, True, False, False]
    assert (auto.last_step, auto.events) == (-1, ())
    assert auto.skip(math.nan)
    drive(auto, [1.0])
    # The loss of an update is a good one too.
    assert auto.skip(math.nan)


def test_after_the_largest_number_of_events_batches_are_left_out_without_an_event(monkeypatch):
    monkeypatch.setattr(driver, "MOST_EVENTS", 4)
    auto = AutoCycle(1000, BOUNDS, state=Number())
    losses = [math.nan if step % 40 == 39 else falling(step) for step in range(1000)]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        drive(auto, losses)
    assert [(event.what, event.step) for event in auto.events] == [("left_out", 40 * at + 39) for at in range(4)]
    assert len(warned) == 4
    said = "That makes 4 events: check the data. Further batches are left out without an event."
    assert [said in event.why for event in auto.events] == [False, False, False, True]


def test_data_that_is_never_finite_gives_ten_events():
    state = Number()
    auto = AutoCycle(200, BOUNDS, state=state)
    drive(auto, [falling(step) for step in range(60)], state)
    quietly(drive, auto, [math.nan] * 40, state)
    assert [event.what for event in auto.events] == ["left_out"] * 10
    assert "check the data" in auto.events[-1].why
    assert (auto.factor, state.restored, auto.last_step) == (1.0, 40, 99)
    drive(auto, [falling(60)] * 3)
    quietly(drive, auto, [math.nan], state)
    assert auto.events[-1].what == "lowered"


def test_data_that_is_often_not_finite_is_ignored_after_20_lowerings():
    losses = np.where(np.random.default_rng(0).random(4000) < 0.05, math.nan, 1 + 0.1 * np.sin(np.arange(4000) ** 2))
    auto = AutoCycle(4000, BOUNDS, state=Number())
    rates = quietly(drive, auto, losses.tolist())
    kinds = [event.what for event in auto.events]
    assert (kinds.count("lowered"), kinds.count("ignored")) == (20, 1)
    assert set(kinds[kinds.index("ignored") + 1 :]) == {"left_out"}
    ignored = next(event.step for event in auto.events if event.what == "ignored")
    assert rates[ignored + 1 :] == BOUNDS.schedule(total_steps=4000)(np.arange(ignored + 1, 4000)).tolist()


def test_the_batch_at_which_a_loss_is_ignored_is_left_out_and_no_state_is_kept():
    state = Number()
    auto = AutoCycle(2000, BOUNDS, state=state)
    for step in range(2000):
        assert auto.lr
        state.value = step
        # Three losses in a row lower the learning rate.
        loss, copies = math.nan if step % 40 > 36 else falling(step), auto.state_dict()["copies"]
        events = len(auto.events)
        left_out = quietly(auto.skip, loss)
        if len(auto.events) > events and auto.events[-1].what == "ignored":
            break
        if not left_out:
            quietly(auto.step, loss)
    assert left_out
    assert auto.events[-1].what == "ignored"
    assert auto.state_dict()["copies"] == copies


def adversarial(kind):
    """Losses that do not depend on the rate."""
    rng = np.random.default_rng(1)
    step = np.arange(TOTAL)
    return {
        "a generator's": 0.7 + 3 * (1 - np.exp(-step / 60)) + 0.3 * rng.normal(size=TOTAL),
        "a wave": 1 + 0.8 * np.sin(step / 15) + 0.1 * rng.normal(size=TOTAL),
        "a walk": np.cumsum(rng.normal(size=TOTAL)) * 1.0,
    }[kind].tolist()


@pytest.mark.parametrize("kind", ["a generator's", "a wave"])
def test_a_loss_independent_of_the_rate_is_ignored_with_an_event(kind):
    auto = AutoCycle(TOTAL, BOUNDS, state=Number())
    rates = quietly(drive, auto, adversarial(kind))
    (ignored,) = [event for event in auto.events if event.what == "ignored"]
    assert ignored == auto.events[-1]
    assert "does not depend on" in ignored.why
    schedule = BOUNDS.schedule(total_steps=TOTAL)
    assert rates[ignored.step + 1 :] == [schedule(step) for step in range(ignored.step + 1, TOTAL)]


@pytest.mark.parametrize("kind", ["hot", "nan", "low", "test", "adversarial"])
def test_a_resumed_run_equals_the_whole_run(kind):
    total = {"test": 1500, "low": 200}.get(kind, 120)
    factor = {"hot": 30, "low": 1 / 30}.get(kind, 1)
    schedule = None if kind == "test" else times(bounds("adam"), factor).schedule(total_steps=total)

    def made():
        network = Network("adam", width=16)
        network.drawn = 0
        return network, AutoCycle(total, schedule, state=network)

    def losses_of(auto, network):
        """Train one batch more."""
        network.drawn += 1
        spoiled = kind == "nan" and network.drawn in (30, 35, 36, 37, 100)
        loss, gradients = network.loss(network.draw(), math.nan if spoiled else 1.0)
        if kind == "adversarial":
            loss = adversarial("a wave")[network.drawn]
        if network.drawn % 2 and auto.skip(loss):
            return []
        used = auto.lr
        network.update(gradients, used)
        auto.step(loss)
        return [(used, loss)]

    def whole(split):
        network, auto = made()
        seen = []
        while auto.last_step + 1 < (200 if kind == "test" else total):
            if auto.last_step in split:
                split = split - {auto.last_step}
                saved, held = copy.deepcopy(auto.state_dict()), copy.deepcopy(network)
                _, auto = made()
                network = held
                auto = AutoCycle(total, schedule, state=network)
                auto.load_state_dict(saved)
                assert auto.state_dict() == saved
            seen += losses_of(auto, network)
        return seen, auto.events, auto.state_dict()

    unsplit = quietly(whole, set())
    assert unsplit[1] or kind == "test"
    for every in (1, 2, 7):
        assert repr(quietly(whole, set(range(-1, total, every)))) == repr(unsplit)


def test_the_state_is_plain_values_and_copies():
    auto = AutoCycle(100, BOUNDS, state=Number())
    quietly(drive, auto, [*map(falling, range(60)), math.nan, *map(falling, range(61, 70))])
    saved = json.loads(json.dumps(auto.state_dict()))
    other = AutoCycle(100, BOUNDS, state=Number())
    other.load_state_dict(saved)
    # NaN is equal to no number.
    assert repr(other.state_dict()) == repr(auto.state_dict())
    assert other.lr == auto.lr


def test_a_run_can_be_extended():
    auto = AutoCycle(100, BOUNDS, state=Number())
    drive(auto, map(falling, range(60)))
    longer = AutoCycle(200, BOUNDS, state=Number())
    with pytest.raises(ValueError, match=r'continue at step 60 with the length and .* AutoCycle, pass schedules="new"'):
        longer.load_state_dict(auto.state_dict())
    with pytest.raises(ValueError, match=r"^schedules must be .*; got schedules='other'"):
        longer.load_state_dict(auto.state_dict(), schedules="other")
    longer.load_state_dict(auto.state_dict(), schedules="new")
    assert longer.lr == BOUNDS.schedule(total_steps=200)(60)
    # Its pieces have another length, and measure no training from the start.
    pieces = longer.state_dict()["pieces"]
    assert (pieces["begin"], pieces["done"], pieces["from_start"]) == (60, (), False)
    drive(longer, map(falling, range(60, 200)))
    assert longer.last_step == 199
    with pytest.raises(ValueError, match="that this AutoCycle can continue, of 100 updates; got a run after step 199"):
        auto.load_state_dict(longer.state_dict(), schedules="new")


def test_a_state_that_does_not_fit_the_run_is_refused():
    auto = AutoCycle(200, BOUNDS, state=Number())
    drive(auto, map(falling, range(200)))
    saved = auto.state_dict()
    with pytest.raises(ValueError, match="can continue, of 199 updates; got a run after step 199"):
        AutoCycle(199, BOUNDS, state=Number()).load_state_dict(saved, schedules="new")
    other = AutoCycle(200, BOUNDS.schedule(total_steps=200, cycles=2), state=Number())
    with pytest.raises(ValueError, match=r"^state_dict must hold the length and schedule of this AutoCycle"):
        other.load_state_dict(saved)
    with pytest.raises(ValueError, match=r"^state_dict\['step'\] must be an integer"):
        other.load_state_dict({**saved, "step": "three"})
    other.load_state_dict(saved, schedules="new")
    assert other.last_step == 199


def test_the_range_test_of_a_run_may_end_by_losses_that_are_not_finite():
    auto, losses = AutoCycle(1500, state=Number()), iter([2.0 - 0.01 * step for step in range(60)])
    while auto.testing:
        drive(auto, [next(losses, math.nan)])
    # The losses that end the test are not part of its result.
    assert auto.range_test.loss.size == 60 < auto.last_step


def test_a_run_without_a_schedule_can_continue_with_one():
    auto = AutoCycle(100, state=Number())
    drive(auto, map(falling, range(60)))
    assert auto.state_dict()["cycle"] == [1e-5, 1e-3, 0]
    other = AutoCycle(100, BOUNDS, state=Number())
    other.load_state_dict(auto.state_dict(), schedules="new")
    assert other.lr == BOUNDS.schedule(total_steps=100)(60)
    assert other.state_dict()["cycle"] is None


class Checked(Number):
    """A state that refuses all copies but numbers."""

    def __init__(self):
        super().__init__()
        self.checked = []

    def check_copy(self, copy):
        self.checked.append(copy)
        if not isinstance(copy, int):
            raise ValueError(f"a copy must be a number; got {copy!r}.")


def saved_after(updates):
    state = Number()
    auto = AutoCycle(100, BOUNDS, state=state)
    drive(auto, map(falling, range(updates)), state)
    return auto.state_dict()


@pytest.mark.parametrize(("updates", "checked"), [(0, []), (1, [0]), (30, [0, 30]), (60, [60])])
def test_the_copies_of_a_saved_state_are_checked(updates, checked):
    state = Checked()
    AutoCycle(100, BOUNDS, state=state).load_state_dict(saved_after(updates))
    assert state.checked == checked


@pytest.mark.parametrize("wrong", ["seven", None])
@pytest.mark.parametrize(("updates", "name"), [(30, "first"), (30, "kept"), (60, "kept")])
def test_a_copy_that_is_missing_or_wrong_is_refused_and_changes_nothing(updates, name, wrong):
    saved = saved_after(updates)
    saved["copies"] = {**saved["copies"], name: wrong}
    auto = AutoCycle(100, BOUNDS, state=Checked())
    before = repr(auto.state_dict())
    with pytest.raises(ValueError, match="a copy must be a number; got"):
        auto.load_state_dict(saved)
    assert repr(auto.state_dict()) == before


def test_a_saved_run_with_updates_must_have_started():
    auto = AutoCycle(100, BOUNDS, state=Number())
    auto.load_state_dict({**saved_after(0), "started": False})
    with pytest.raises(ValueError, match=r"^state_dict must hold a run that this AutoCycle can continue"):
        auto.load_state_dict({**saved_after(1), "started": False})
    assert auto.last_step == -1


@pytest.mark.parametrize("losses", [9, 11, 100])
def test_a_saved_range_test_must_be_unfinished_and_hold_a_loss_of_every_update(losses):
    auto = AutoCycle(400, state=Number())
    drive(auto, [1.0] * 10)
    saved = auto.state_dict()
    saved["test_losses"] = [1.0] * losses
    if losses == 100:
        saved["step"] = 99
    with pytest.raises(ValueError, match=r"^state_dict must hold an unfinished range test; got .* of 100 after step"):
        auto.load_state_dict(saved)
    assert auto.last_step == 9


@pytest.mark.parametrize("trial", [False, True])
def test_a_saved_run_without_a_state_to_go_back_to_is_refused(trial):
    saved = saved_after(60)
    line = {"middle": 1.0, "mean": 1.0, "mean_error": 0.1, "slope": -0.1, "slope_error": 0.01}
    if trial:
        # It goes back to its own start, which the state lacks, and not to the last kept state.
        saved["trial"] = {"times": 0.1, "factor": 1.0, "line": line, "summed": 1.0}
        saved["pieces"] = {**saved["pieces"], "from_start": True}
    else:
        saved["guard"] = {**saved["guard"], "kept": None}
    assert saved["guard"]["first"] is None
    auto = AutoCycle(100, BOUNDS, state=Number())
    with pytest.raises(ValueError, match=r"^state_dict must hold a training state to go back to; got none"):
        auto.load_state_dict(saved)
    # Without a training state, nothing goes back.
    without = AutoCycle(100, BOUNDS)
    without.load_state_dict(saved)
    assert without.last_step == 59


@pytest.mark.parametrize(
    "loss",
    ["0.5", None, np.ones(2), 1j, np.complex64(1), np.array(1j), True, np.True_, np.array(True), [0.5]],
    ids=repr,
)
def test_a_loss_that_is_not_a_number_raises_and_changes_nothing(loss):
    auto = AutoCycle(100, BOUNDS, state=Number())
    drive(auto, map(falling, range(10)))
    before = auto.state_dict()
    for call in (auto.step, auto.skip):
        with pytest.raises(TypeError, match=r"loss must be a (real )?number.*; got loss"):
            call(loss)
    assert auto.state_dict() == before


@pytest.mark.parametrize("loss", [1, np.float32(1.5), np.array([[2.0]]), np.float64(0.5)], ids=repr)
def test_losses_of_other_kinds_are_numbers(loss):
    auto = AutoCycle(100, BOUNDS, state=Number())
    assert auto.lr
    auto.step(loss)
    assert auto.last_step == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"total_steps": 2}, ValueError, "total_steps must be an integer of at least 3"),
        ({"total_steps": 1.5}, TypeError, "total_steps must be an integer"),
        ({"schedule": 0.1}, TypeError, "schedule must be a cyclr schedule; got schedule=0.1"),
        ({"schedule": Bounds(None, None, "flat", "x")}, cyclr.BoundsError, "hold no numbers"),
        ({"schedule": cyclr.Function(lambda step: 0.1)}, cyclr.ScheduleError, r"Function\(fn, high=\.\.\.\)"),
        ({"state": {}}, TypeError, r"state must be an object with methods copy\(\) and restore\(copy\)"),
        ({"state": Number}, TypeError, "state must be an object"),
        ({"usual_lr": 0}, ValueError, "usual_lr must be a finite number greater than 0"),
        ({"total_steps": 1500, "state": None}, TypeError, "state must be given if there is no schedule"),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        AutoCycle(**{"total_steps": 100, "state": Number(), **arguments})


def test_a_schedule_of_another_length_gives_a_warning():
    for total, rest in ((150, "ends in the middle of it"), (50, "uses its last value after its end")):
        with pytest.warns(UserWarning, match=f"total_steps={total}, but the run has total_steps=100: the run {rest}"):
            AutoCycle(100, BOUNDS.schedule(total_steps=total), state=Number())


def test_calls_out_of_order_are_refused():
    auto = AutoCycle(10, BOUNDS, state=Number())
    with pytest.raises(AutoCycleError, match=r"step\(loss\) was called before lr was read"):
        auto.step(1.0)
    drive(auto, [1.0])
    with pytest.raises(AutoCycleError, match=r"start\(\) must be called before the first update; .* after step 0"):
        auto.start()
    drive(auto, [1.0] * 9)
    with pytest.raises(AutoCycleError, match="once for each of the 10 updates; got another call"):
        auto.step(1.0)
    with pytest.raises(ValueError, match=r"must come from AutoCycle.state_dict\(\) of version 1; got keys \['step'\]"):
        auto.load_state_dict({"step": 3})


def test_weights_that_are_loaded_before_the_first_update_are_the_start():
    state = Number()
    auto = AutoCycle(100, BOUNDS, state=state)
    assert auto.lr
    state.value = 7
    auto.start()
    quietly(drive, auto, [1.0, math.nan])
    assert state.value == 7


@pytest.mark.parametrize(("before", "after"), [(0.1, 0.0), (0.0, 0.1)], ids=["none is left", "none was used"])
def test_a_rate_of_zero_is_lowered_to_a_third(before, after):
    schedule = cyclr.Sequence([cyclr.Constant(before), cyclr.Constant(after)], [60])
    auto = AutoCycle(120, schedule, state=Number())
    quietly(drive, auto, [*map(falling, range(57)), math.inf, falling(58), math.inf])
    assert [event.what for event in auto.events] == ["left_out", "lowered"]
    assert auto.factor == pytest.approx(1 / 3)


def test_without_a_state_the_rate_is_lowered_without_a_rollback():
    schedule = times(bounds("adam"), 30).schedule(total_steps=TOTAL)
    plain, network = Network("adam"), Network("adam")
    train_plainly(plain, schedule, TOTAL)
    auto = AutoCycle(TOTAL, schedule)
    quietly(train, network, auto, TOTAL)
    assert plain.score() + 0.2 < network.score()
    assert network.copies == 0
    assert "there is no state to go back to" in auto.events[0].why
    last = auto.events[-1]
    pieces = auto.state_dict()["pieces"]
    assert (pieces["begin"], pieces["from_start"]) == (last.step + 1, False)


@pytest.mark.parametrize("losses", [[math.nan], [1.0, math.nan], [1.0] * 4 + [math.nan], [1.0] * 5 + [math.nan]])
def test_a_run_without_a_state_can_be_resumed_after_an_early_bad_loss(losses):
    auto, other = AutoCycle(100, BOUNDS), AutoCycle(100, BOUNDS)
    quietly(drive, auto, losses)
    other.load_state_dict(auto.state_dict())
    assert repr(other.state_dict()) == repr(auto.state_dict())


def test_user_functions_are_not_evaluated_beyond_the_run():
    asked = []
    schedule = cyclr.Function(lambda step: asked.append(step) or 0.01, high=0.01)
    auto = AutoCycle(100, schedule, state=Number())
    quietly(drive, auto, [*map(falling, range(60)), *[5.0] * 3, *map(falling, range(63, 100))])
    assert auto.events
    assert max(asked) <= 100


@pytest.mark.parametrize("factor", [2.0**-30, 2.0**40, -1.0], ids=["small", "large", "offset"])
def test_decisions_do_not_depend_on_scale_and_offset(factor):
    network = Network("sgd")
    schedule = times(bounds("sgd"), 30).schedule(total_steps=TOTAL)
    whole, other = AutoCycle(TOTAL, schedule, state=network), AutoCycle(TOTAL, schedule, state=Number())

    def both():
        while whole.last_step + 1 < TOTAL:
            loss, gradients = network.loss(network.draw())
            network.update(gradients, whole.lr)
            assert other.lr == whole.lr
            whole.step(loss)
            other.step(loss - 1000.0 if factor < 0 else factor * loss)

    quietly(both)
    assert [(e.step, e.what, e.lr) for e in whole.events] == [(e.step, e.what, e.lr) for e in other.events] != []


@pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning")
def test_an_undone_update_is_reported_and_ends_no_cycle():
    schedule = BOUNDS.schedule(total_steps=101, cycles=4)
    auto, undone = AutoCycle(101, schedule, state=Number()), []
    assert math.isnan(auto.last_lr)
    assert not auto.undone
    for step in range(101):
        lr = auto.lr
        auto.step(math.nan if step == 50 else falling(step, 0))
        assert auto.last_lr == lr
        undone += [step] if auto.undone else []
        assert auto.is_cycle_end is (step in (25, 75, 100))
    assert undone == [50]


@pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning")
def test_updates_of_the_range_test_are_undone():
    auto = AutoCycle(1500, state=Number())
    while auto.schedule is None:
        lr = auto.lr
        auto.step(1.0)
        assert auto.undone
        assert auto.last_lr == lr
    assert auto.lr > 0
    auto.step(1.0)
    assert not auto.undone


def test_cycle_ends_follow_the_step_of_the_run():
    schedule = BOUNDS.schedule(total_steps=101, cycles=4)
    auto = AutoCycle(101, schedule, state=Number())
    ends = []
    for step in range(101):
        assert auto.lr == schedule(step)
        auto.step(falling(4 * step, 0))
        if auto.is_cycle_end:
            ends.append(auto.last_step)
    assert ends == [step for step in range(101) if schedule.is_cycle_end(step)] == [25, 50, 75, 100]


def test_the_first_update_can_end_a_cycle():
    auto = AutoCycle(10, cyclr.WarmRestarts(0.01, 0.1, 1), state=Number())
    assert not auto.is_cycle_end
    drive(auto, [1.0])
    assert auto.is_cycle_end


def test_a_failed_trial_is_not_repeated():
    """The loss falls on a straight line, so the rates look too low at every check, but higher rates do not help."""
    auto, loss = AutoCycle(TOTAL, BOUNDS, state=Number()), 5.0
    for _ in range(TOTAL):
        trying = bool(auto.events) and auto.events[-1].what == "tried"
        loss -= 0.0 if trying else auto.lr / 100
        quietly(auto.step, loss)
    assert [event.what for event in auto.events] == ["tried", "went_back"]


@pytest.mark.parametrize("bad", [False, True])
def test_the_state_holds_the_rate_of_the_last_update(bad):
    """Whether it was undone decides if it ended a cycle, also in an object that has seen another update since."""
    total = 60
    auto = AutoCycle(total, cyclr.Cyclical(0.01, 0.1, 10), state=Number())
    quietly(drive, auto, [*(falling(step) for step in range(20)), math.nan if bad else falling(20)])
    assert (auto.undone, auto.is_cycle_end, auto.last_lr) == (bad, not bad, 0.01)
    saved = json.loads(json.dumps(auto.state_dict()))
    quietly(drive, auto, [falling(21), math.nan if not bad else falling(22)])
    for resumed in (auto, AutoCycle(total, cyclr.Cyclical(0.01, 0.1, 10), state=Number())):
        resumed.load_state_dict(saved)
        assert (resumed.undone, resumed.is_cycle_end, resumed.last_lr) == (bad, not bad, 0.01)
