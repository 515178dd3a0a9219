"""`cyclr.keras.AutoCycle`: calm runs, wrong rates, bad batches, errors, and runs that are killed."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import cyclr

keras = pytest.importorskip("keras")

from cyclr.keras import AutoCycle, CycleEnd, CyclicLR, ScheduleCallback  # noqa: E402

SAMPLES, BATCH, EPOCHS = 320, 16, 6
STEPS = SAMPLES // BATCH * EPOCHS
CALM = cyclr.Cyclical.over(STEPS, 1, 0.001, 0.05)


def data(samples: int = SAMPLES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Four classes of points, some of them mixed."""
    numbers = np.random.default_rng(seed)
    centers = numbers.normal(size=(4, 8))
    y = numbers.integers(0, 4, samples)
    return (centers[y] + 0.5 * numbers.normal(size=(samples, 8))).astype("float32"), y


def model_of(optimizer: Any, *, noisy: bool = False, **compile_arguments: Any) -> Any:
    keras.utils.set_random_seed(1)
    layers = keras.layers
    more = [layers.BatchNormalization(), layers.Dropout(0.2, seed=3)] if noisy else []
    model = keras.Sequential([keras.Input((8,)), layers.Dense(32, activation="tanh"), *more, layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **compile_arguments)
    return model


def fit(model: Any, *callbacks: Any, x: Any = None, y: Any = None, **arguments: Any) -> dict[str, list[Any]]:
    given, labels = data()
    given = given if x is None else x
    labels = labels if y is None else y
    arguments = {"batch_size": BATCH, "epochs": EPOCHS, "shuffle": False, "verbose": 0, **arguments}
    return model.fit(given, labels, callbacks=list(callbacks), **arguments).history


class Rates(keras.callbacks.Callback):
    def __init__(self) -> None:
        super().__init__()
        self.rates: list[float] = []
        self.losses: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.rates.append(logs["learning_rate"])
        self.losses.append(float(logs["loss"]))


class ByHand(keras.callbacks.Callback):
    """Sets the rate of every update to the value of a schedule."""

    def __init__(self, schedule: cyclr.Schedule) -> None:
        super().__init__()
        self.schedule, self.step = schedule, 0

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.model.optimizer.learning_rate = self.schedule(self.step)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        logs["learning_rate"] = self.schedule(self.step)
        self.step += 1

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        logs["learning_rate"] = self.schedule(self.step - 1)


OPTIMIZERS = {
    "SGD": lambda: keras.optimizers.SGD(0.5, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.5),
}


@pytest.mark.parametrize("noisy", [False, True], ids=["plain", "batch norm and dropout"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_calm_run_is_the_run_with_the_schedule(name: str, noisy: bool, state_of: Any) -> None:
    schedule = CALM if name == "SGD" else cyclr.Cyclical.over(STEPS, 1, 0.0001, 0.005)
    results = []
    # On TensorFlow and JAX a ScheduleCallback computes rates within the compiled step, and rounds otherwise.
    plain = ScheduleCallback if keras.backend.backend() == "torch" else ByHand
    for callback in (AutoCycle(schedule), plain(schedule)):
        rates = Rates()
        model = model_of(OPTIMIZERS[name](), noisy=noisy)
        history = fit(model, callback, rates)
        results.append((history, rates, state_of(model)))
        if isinstance(callback, AutoCycle):
            assert callback.events == ()
            assert callback.auto.last_step == STEPS - 1
    (history, rates, state), (plain_history, plain_rates, plain_state) = results
    assert rates.rates == plain_rates.rates == [float(schedule(step)) for step in range(STEPS)]
    for values, plain_values in zip(state, plain_state, strict=True):
        np.testing.assert_array_equal(values, plain_values)
    assert rates.losses == plain_rates.losses
    assert history == plain_history


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("factor", [10, 30])
def test_bounds_that_are_too_high_are_rescued(factor: float) -> None:
    schedule = cyclr.Cyclical.over(STEPS, 1, 0.01 * factor, 0.3 * factor)
    losses = {}
    for kind in (AutoCycle, ScheduleCallback):
        callback = kind(schedule)
        losses[kind] = fit(model_of(keras.optimizers.SGD(0.1, momentum=0.9)), callback)["loss"][-1]
        if kind is AutoCycle:
            assert any(event.what == "lowered" for event in callback.events)
    assert losses[AutoCycle] < 0.5
    assert not losses[ScheduleCallback] < losses[AutoCycle]


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("batch", [0, 47])
def test_one_bad_batch_costs_that_batch_and_not_the_rate(batch: int) -> None:
    x, y = data(SAMPLES * EPOCHS)
    x[batch * BATCH : (batch + 1) * BATCH] = np.nan
    auto, rates = AutoCycle(CALM), Rates()
    model = model_of(keras.optimizers.SGD(0.1, momentum=0.9), noisy=True)
    history = fit(model, auto, rates, x=x, y=y, epochs=1)
    assert [(event.step, event.what) for event in auto.events] == [(batch, "left_out")]
    assert rates.rates == [float(CALM(step)) for step in range(STEPS)]
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert history["loss"][0] < 1


def test_the_loss_of_each_batch_is_exact_whatever_mean_the_step_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    class OwnStep(keras.Sequential):
        """May log any mean as the loss."""

        def train_step(self, *arguments: Any) -> Any:
            return super().train_step(*arguments)

    class ManySamples(keras.callbacks.Callback):
        """The count of samples is no longer exact, as after 2³⁰ of them."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            self.model.metrics[0].count.assign(2.0**30)

    step, given = cyclr.AutoCycle.step, []
    monkeypatch.setattr(cyclr.AutoCycle, "step", lambda self, loss: (given.append(loss), step(self, loss))[1])
    x, y = data()
    losses = []
    for kind, *others in ((keras.Sequential, ManySamples()), (OwnStep,), (keras.Sequential,)):
        keras.utils.set_random_seed(1)
        model = kind([keras.Input((8,)), keras.layers.Dense(4)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(0.001), loss, metrics=["accuracy"])
        given.clear()
        history = fit(model, AutoCycle(CALM, total_steps=STEPS), *others, x=x, y=y, epochs=1)
        losses.append([*given])
    assert losses[0] == losses[1] == losses[2]
    assert np.mean(given) == pytest.approx(history["loss"][0], rel=1e-6)


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_bad_batch_enters_the_mean_of_no_metric() -> None:
    x, y = data()
    x[3 * BATCH : 4 * BATCH] = np.nan
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.001), "mse", metrics=["mae"])
    history = fit(model, AutoCycle(CALM), x=x, y=y.astype("float32"))
    assert np.isfinite(history["mae"]).all()


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_weights_that_are_not_finite_are_not_kept_whatever_the_loss_is() -> None:
    class Spoil(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 47:
                weights = self.model.get_weights()
                weights[0][0] = np.nan
                self.model.set_weights(weights)

    keras.utils.set_random_seed(1)
    # No sample reads row 0.
    layers = [keras.Input((1,)), keras.layers.Embedding(9, 4), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential(layers)
    model.compile(keras.optimizers.SGD(0.01), "mse")
    x = np.random.default_rng(0).integers(1, 9, size=(SAMPLES * EPOCHS, 1))
    auto = AutoCycle(CALM)
    fit(model, Spoil(), auto, x=x, y=x / 9.0, epochs=1)
    assert [(event.step, event.what) for event in auto.events] == [(47, "left_out")]
    assert "The weights were NaN or infinite, while the loss was 0." in auto.events[0].why
    assert np.isfinite(model.get_weights()[0]).all()


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_bad_batch_that_relu_hides_from_the_loss() -> None:
    x, y = data(SAMPLES * EPOCHS)
    x[47 * BATCH : 48 * BATCH] = np.nan
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(32, activation="relu"), keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), loss)
    auto = AutoCycle(CALM)
    fit(model, auto, x=x, y=y, epochs=1)
    # On TensorFlow the loss is a number, and rises.
    assert [event.what for event in auto.events] == ["left_out"]
    assert 47 <= auto.events[0].step < 55
    assert auto.auto.factor == 1
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_what_goes_back_is_all_that_training_changed(state_of: Any) -> None:
    x, y = data(2 * BATCH)
    x[BATCH:] = np.nan
    # Batch 0 is trained, batch 1 is broken: training goes back to the start.
    model = model_of(keras.optimizers.Adam(0.1), noisy=True)
    model.optimizer.build(model.trainable_variables)
    before = state_of(model)[: len(model.variables) + len(model.optimizer.variables)]
    auto = AutoCycle(cyclr.Cyclical.over(40, 1, 0.001, 0.01), total_steps=40)
    fit(model, auto, x=x, y=y, epochs=1)
    assert auto.auto.last_step == 1
    assert int(keras.ops.convert_to_numpy(model.optimizer.iterations)) == 0
    held = {id(variable) for variable in model.metrics_variables}
    for variable, value in zip(model.variables, before, strict=False):
        if id(variable) not in held:
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(variable), value)


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_nothing_is_given() -> None:
    auto = AutoCycle()
    history = fit(model_of(keras.optimizers.SGD(momentum=0.9)), auto)
    assert auto.auto.total_steps == STEPS
    assert auto.auto.schedule.largest == 0.01
    assert history["loss"][-1] < history["loss"][0]
    other = AutoCycle()
    fit(model_of(keras.optimizers.Adam()), other)
    assert other.auto.schedule.largest == 0.001


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_long_run_starts_with_a_range_test(state_of: Any) -> None:
    auto, rates = AutoCycle(), Rates()
    model = model_of(keras.optimizers.SGD(momentum=0.9))
    history = fit(model, auto, rates, epochs=75)
    assert auto.range_test is not None
    assert auto.range_test.bounds.usable
    assert not auto.auto.testing
    assert history["loss"][-1] < 0.5
    assert len(rates.rates) == 1500
    assert np.isfinite(rates.rates).all()


def test_bounds_fill_the_run() -> None:
    auto, rates = AutoCycle(cyclr.Bounds(0.001, 0.05, "no_divergence", "")), Rates()
    fit(model_of(keras.optimizers.SGD(momentum=0.9)), auto, rates)
    expected = cyclr.Bounds(0.001, 0.05, "no_divergence", "").schedule(total_steps=STEPS)
    assert rates.rates == [float(expected(step)) for step in range(STEPS)]


def test_a_second_fit_is_a_new_run_unless_a_total_is_given() -> None:
    auto = AutoCycle(CALM)
    model = model_of(keras.optimizers.SGD(momentum=0.9))
    fit(model, auto)
    fit(model, auto)
    assert auto.auto.last_step == STEPS - 1
    whole, split = Rates(), Rates()
    fit(model_of(keras.optimizers.SGD(momentum=0.9)), AutoCycle(CALM, total_steps=STEPS), whole)
    auto, model = AutoCycle(CALM, total_steps=STEPS), model_of(keras.optimizers.SGD(momentum=0.9))
    fit(model, auto, split, epochs=2)
    fit(model, auto, split, initial_epoch=2)
    assert split.rates == whole.rates
    assert split.losses == whole.losses


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_fit_beyond_total_steps_warns() -> None:
    with pytest.warns(UserWarning, match="the run has total_steps=100, but fit makes 120 updates") as warned:
        fit(model_of(keras.optimizers.SGD()), AutoCycle(cyclr.Cyclical.over(100, 1, 0.001, 0.01), total_steps=100))
    assert warned[0].filename == __file__


def test_an_event_warns_at_the_call_of_fit() -> None:
    x, y = data()
    x[:BATCH] = np.nan
    with pytest.warns(UserWarning, match="The batch was left out") as warned:
        fit(model_of("sgd"), AutoCycle(CALM), x=x, y=y)
    assert {warning.filename for warning in warned if "AutoCycle" in str(warning.message)} == {__file__}


def test_accumulated_gradients_are_one_update() -> None:
    steps = STEPS // 2
    schedule = cyclr.Cyclical.over(steps, 1, 0.001, 0.05)
    model = model_of(keras.optimizers.SGD(0.1, momentum=0.9, gradient_accumulation_steps=2))
    auto, rates = AutoCycle(schedule), Rates()
    fit(model, auto, rates)
    assert auto.events == ()
    assert auto.auto.last_step == steps - 1
    assert rates.rates == [float(schedule(step)) for step in range(steps) for _ in range(2)]


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_batch_that_loss_scaling_leaves_out_is_left_out_once() -> None:
    x, y = data(SAMPLES * EPOCHS)
    x[47 * BATCH : 48 * BATCH] = np.nan
    model = model_of(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=8.0))
    auto = AutoCycle(CALM)
    fit(model, auto, x=x, y=y, epochs=1)
    assert [event.what for event in auto.events] == ["left_out"]
    assert auto.auto.last_step == STEPS - 2


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_a_model_that_fit_builds() -> None:
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.layers.Dense(32, activation="tanh"), keras.layers.Dense(4)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(momentum=0.9), loss)
    x, y = data()
    x[2 * BATCH : 3 * BATCH] = np.nan
    auto = AutoCycle(CALM)
    fit(model, auto, x=x, y=y)
    assert auto.events[0].what == "left_out"
    assert all(np.isfinite(weight).all() for weight in model.get_weights())


class Ends:
    """Cycle ends: steps, and the optimizer's counter at each."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.counters: list[int] = []

    def __call__(self, model: Any, step: int) -> None:
        self.steps.append(step)
        self.counters.append(int(keras.ops.convert_to_numpy(model.optimizer.iterations)))


TWO = cyclr.Cyclical.over(STEPS, 2, 0.001, 0.05)
TWO_ENDS = [step for step in range(STEPS) if TWO.is_cycle_end(step)]


@pytest.mark.filterwarnings("ignore:AutoCycle")
@pytest.mark.parametrize("bad", [None, 20, TWO_ENDS[0]], ids=["calm", "goes back", "goes back at a cycle end"])
def test_cycle_ends_are_those_of_the_run(bad: int | None) -> None:
    x, y = data(SAMPLES * EPOCHS)
    if bad is not None:
        x[bad * BATCH : (bad + 1) * BATCH] = np.nan
    ends = Ends()
    fit(model_of("sgd"), AutoCycle(TWO), CycleEnd(ends), x=x, y=y, epochs=1)
    # An update that was undone is not at a minimum.
    assert ends.steps == [step for step in TWO_ENDS if step != bad]
    assert (ends.counters[-1] == STEPS) == (bad is None)


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_cycle_ends_over_several_fits_and_with_accumulated_gradients() -> None:
    half = cyclr.Cyclical.over(STEPS // 2, 2, 0.001, 0.05)
    auto, ends = AutoCycle(half, total_steps=STEPS // 2), Ends()
    model = model_of(keras.optimizers.SGD(0.1, gradient_accumulation_steps=2))
    for epoch in range(EPOCHS):
        fit(model, auto, CycleEnd(ends), initial_epoch=epoch, epochs=epoch + 1)
    # Steps after the end of the run are none of a cycle.
    with pytest.warns(UserWarning, match="fit makes"):
        fit(model, AutoCycle(half, total_steps=STEPS // 2), CycleEnd(more := Ends()), epochs=2 * EPOCHS)
    assert ends.steps == more.steps == [step for step in range(STEPS // 2) if half.is_cycle_end(step)]


@pytest.mark.filterwarnings("ignore:AutoCycle")
def test_cycles_start_after_the_range_test() -> None:
    auto, ends = AutoCycle(), Ends()
    fit(model_of(keras.optimizers.SGD(momentum=0.9)), auto, CycleEnd(ends), epochs=75)
    assert auto.range_test is not None
    first = 1500 - auto.auto.schedule.total_steps
    assert ends.steps == [first + step for step in range(1500 - first) if auto.auto.schedule.is_cycle_end(step)] != []


def test_ctrl_c_leaves_a_plain_optimizer() -> None:
    class Interrupt(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            if batch == 5:
                raise KeyboardInterrupt

    model = model_of(keras.optimizers.SGD(0.1, momentum=0.9))
    with pytest.raises(KeyboardInterrupt):
        fit(model, AutoCycle(CALM), Interrupt())
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(float(CALM(5)))
    auto = AutoCycle(CALM)
    fit(model, auto)
    assert auto.auto.last_step == STEPS - 1


class TestErrors:
    def test_arguments(self) -> None:
        with pytest.raises(TypeError, match="schedule"):
            AutoCycle(0.1)
        with pytest.raises(ValueError, match="total_steps"):
            AutoCycle(total_steps=2)
        with pytest.raises(cyclr.BoundsError):
            AutoCycle(cyclr.Bounds(None, None, "flat", "No rate lowered the loss."))

    def test_unknown_length(self) -> None:
        def endless() -> Any:
            x, y = data()
            while True:
                yield x[:BATCH], y[:BATCH]

        with pytest.raises(ValueError, match="Pass steps_per_epoch to fit"):
            model_of("sgd").fit(endless(), epochs=2, shuffle=False, verbose=0, callbacks=[AutoCycle()])

    @pytest.mark.skipif(keras.backend.backend() == "torch", reason="Keras refuses it on torch")
    def test_steps_per_execution(self) -> None:
        with pytest.raises(ValueError, match="steps_per_execution=1"):
            fit(model_of("sgd", steps_per_execution=4), AutoCycle())

    def test_an_optimizer_with_a_schedule_raises(self) -> None:
        decay = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
        with pytest.raises(ValueError, match="created with a schedule; got ExponentialDecay"):
            fit(model_of(keras.optimizers.SGD(decay)), AutoCycle())

    @pytest.mark.parametrize(
        "other",
        [
            lambda: ScheduleCallback(CALM),
            lambda: CyclicLR(),
            lambda: keras.callbacks.ReduceLROnPlateau(),
            lambda: AutoCycle(),
        ],
        ids=["ScheduleCallback", "CyclicLR", "ReduceLROnPlateau", "AutoCycle"],
    )
    def test_another_callback_that_sets_the_rate_raises(self, other: Any) -> None:
        with pytest.raises(ValueError, match="and nothing else can; got"):
            fit(model_of("sgd"), AutoCycle(), other())

    def test_a_schedule_of_another_hyperparameter(self) -> None:
        model = model_of(keras.optimizers.SGD(0.1, momentum=0.9))
        kind = type(model.optimizer)
        for callbacks in (
            [AutoCycle(), ScheduleCallback(momentum=CALM)],
            [ScheduleCallback(momentum=CALM), AutoCycle()],
        ):
            with pytest.raises(ValueError, match="got one that sets momentum"):
                fit(model, *callbacks)
            assert type(model.optimizer) is kind
        fit(model, AutoCycle(CALM))

    def test_cycle_end_before_auto_cycle_raises(self) -> None:
        with pytest.raises(
            ValueError, match="CycleEnd takes the steps and the schedule from AutoCycle, and must come after it"
        ):
            fit(model_of("sgd"), CycleEnd(print), AutoCycle())
        with pytest.raises(ValueError, match=r"got CycleEnd\(fn, schedule\)"):
            fit(model_of("sgd"), AutoCycle(), CycleEnd(print, CALM))

    def test_backup(self, tmp_path: Path) -> None:
        def backup(save_freq: Any) -> Any:
            return keras.callbacks.BackupAndRestore(tmp_path / "backup", save_freq=save_freq)

        with pytest.raises(ValueError, match="must come before BackupAndRestore"):
            fit(model_of("sgd"), backup("epoch"), AutoCycle(folder=tmp_path / "auto"))
        with pytest.raises(ValueError, match="save_freq=3"):
            fit(model_of("sgd"), AutoCycle(folder=tmp_path / "auto"), backup(3))


SPLIT = """
import sys, os, signal
import numpy as np, keras, warnings
sys.path.insert(0, {tests!r})
warnings.simplefilter("ignore")
from test_auto_cycle import CALM, BATCH, EPOCHS, Rates, data, model_of
import cyclr
from cyclr.keras import AutoCycle
from pathlib import Path
folder, kill_after = Path(sys.argv[1]), int(sys.argv[2])
x, y = data()
model = model_of(keras.optimizers.SGD(0.1, momentum=0.9), noisy=True)

class Kill(keras.callbacks.Callback):
    made = 0
    def on_train_batch_end(self, batch, logs=None):
        self.made += 1
        if self.made == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

hot = cyclr.Cyclical.over({steps}, 1, 0.1, 3.0)
auto = AutoCycle(hot, folder=folder / "auto")
backup = keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True)
model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, shuffle=False, verbose=0, callbacks=[Kill(), auto, backup])
np.savez(folder / "end.npz", *model.get_weights(), *map(keras.ops.convert_to_numpy, model.optimizer.variables))
(folder / "events").write_text("\\n".join(map(str, auto.events)))
"""


def run(folder: Path, kill_after: int = 0) -> int:
    folder.mkdir(exist_ok=True)
    script = SPLIT.format(tests=str(Path(__file__).parent), steps=STEPS)
    done = subprocess.run([sys.executable, "-c", script, str(folder), str(kill_after)], capture_output=True, text=True)
    if done.returncode not in (0, -signal.SIGKILL):
        raise RuntimeError(done.stderr)
    return done.returncode


@pytest.mark.any_backend
def test_a_killed_run_continues_exactly(tmp_path: Path) -> None:
    assert run(tmp_path / "whole") == 0
    for kill_after in (45, 30, 33):
        assert run(tmp_path / "killed", kill_after) == -signal.SIGKILL
    assert len(list((tmp_path / "killed" / "auto").iterdir())) == 2
    assert run(tmp_path / "killed") == 0
    assert list((tmp_path / "killed" / "auto").iterdir()) == []
    events = [(tmp_path / name / "events").read_text() for name in ("whole", "killed")]
    assert events[0] == events[1] != ""
    with np.load(tmp_path / "whole" / "end.npz") as whole, np.load(tmp_path / "killed" / "end.npz") as killed:
        assert whole.files == killed.files
        for name in whole.files:
            np.testing.assert_array_equal(whole[name], killed[name])


def test_another_optimizer_in_the_middle_of_a_run_is_refused_before_its_first_update() -> None:
    model = model_of(keras.optimizers.SGD(0.1))
    auto = AutoCycle(CALM, total_steps=STEPS)
    fit(model, auto, epochs=1)
    model.compile(keras.optimizers.SGD(0.1), model.loss)
    fit(model, auto, epochs=1)
    model.compile(keras.optimizers.Adam(0.1), model.loss)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"must continue a run with the model and optimizer .* after compile\(\)"):
        fit(model, auto, epochs=1)
    for value, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(value, other)


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    auto = AutoCycle(CALM, total_steps=STEPS, folder=tmp_path)
    fit(model_of(keras.optimizers.SGD(0.1)), auto, epochs=2)
    with pytest.raises(ValueError, match="folder must hold the run that the model was restored from, after epoch 2"):
        fit(model_of(keras.optimizers.SGD(0.1)), AutoCycle(CALM, folder=tmp_path), initial_epoch=2)
