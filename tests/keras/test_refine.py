"""Trial cycles in Keras: the batches that they share, what they leave behind, and what ends them."""

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import Bounds, Constant
from cyclr.keras import LearningRate, ScheduleCallback, range_test
from cyclr.range_test.refine import KEPT_MOST, TrialTest

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(0)
X = RNG.normal(size=(640, 8)).astype("float32")
Y = (X @ RNG.normal(size=8) + 0.3 * RNG.normal(size=640) > 0).astype("float32")
LENGTH = {"total_steps": 400, "refine": 240, "steps": 60}
"""Two trials of 100 updates."""


def make(optimizer="sgd", dropout=0.1, loss="binary_crossentropy", **arguments):
    keras.utils.set_random_seed(0)
    inner = [keras.layers.Dropout(dropout)] if dropout else []
    layers = [keras.Input((8,)), keras.layers.Dense(8, "relu"), *inner, keras.layers.Dense(1, "sigmoid")]
    model = keras.Sequential(layers)
    model.compile(optimizer, loss, **arguments)
    return model


def values_of(model):
    return [ops.convert_to_numpy(variable).tolist() for variable in (*model.variables, *model.optimizer.variables)]


def test_the_same_test_chooses_the_same_and_leaves_no_trace():
    model = make(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    model.fit(X, Y, batch_size=64, verbose=0)
    before, states = values_of(model), np.random.get_state()[1].tolist()
    result = range_test(model, X, Y, batch_size=16, **LENGTH)
    assert values_of(model) == before
    assert np.random.get_state()[1].tolist() == states
    assert range_test(model, X, Y, batch_size=16, **LENGTH) == result
    assert (result.trials[0].ended, len(result.trials[0].losses)) == ("completed", 100)
    ratio = result.trials[1].max_lr / result.trials[0].max_lr
    assert ratio == pytest.approx(4)
    assert result.bounds.max_lr in [trial.max_lr for trial in result.trials]
    assert result.total_steps == 400
    plain = make(keras.optimizers.Adam(0.01), metrics=["accuracy"])
    plain.fit(X, Y, batch_size=64, verbose=0)
    histories = []
    for each in (model, plain):
        # Torch has one generator for every dropout.
        keras.utils.set_random_seed(1)
        histories.append(each.fit(X, Y, batch_size=64, verbose=0).history)
    assert histories[0] == histories[1]


def schedule_for(trial):
    return Bounds(trial.max_lr / 100, trial.max_lr, "ok", "").schedule(total_steps=100)


def test_the_losses_of_a_trial_are_those_of_training_with_the_schedule():
    model = make(keras.optimizers.SGD(0.01, momentum=0.9), dropout=0)
    start = model.get_weights()
    result = range_test(model, X[:160], Y[:160], batch_size=16, shuffle=False, **LENGTH)
    order = np.concatenate([np.delete(np.arange(160), np.s_[96:112])] * 20)  # without the seventh batch
    for trial in result.trials:
        model = make(keras.optimizers.SGD(0.01, momentum=0.9), dropout=0)
        model.set_weights(start)
        losses = []

        class Losses(keras.callbacks.Callback):
            def on_train_batch_begin(self, batch, logs=None):
                self.model.reset_metrics()

            def on_train_batch_end(self, batch, logs=None):
                losses.append(logs["loss"])  # noqa: B023

        rows = order[: 16 * len(trial.losses)]
        callbacks = [ScheduleCallback(schedule_for(trial)), Losses()]
        model.fit(X[rows], Y[rows], batch_size=16, shuffle=False, callbacks=callbacks, verbose=0)
        # Rounding errors of float32 grow while the loss rises.
        np.testing.assert_allclose(trial.losses, losses, rtol=1e-3)
        if trial.ended == "completed":
            kept = model.evaluate(X[96:112], Y[96:112], verbose=0)
            assert trial.kept == pytest.approx(kept, rel=2e-4)
    assert "completed" in [trial.ended for trial in result.trials]


def batches(x, y, size=16):
    return [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]


class Batches(keras.utils.PyDataset):
    """Batches that are counted when they are read."""

    def __init__(self, workers=1):
        super().__init__(workers=workers)
        self.read = []

    def __len__(self):
        return 40

    def __getitem__(self, index):
        self.read.append(index)
        return batches(X, Y)[index]


@pytest.mark.parametrize("seed", [0, None])
@pytest.mark.parametrize("workers", [1, 2])
def test_every_trial_trains_on_the_same_batches_and_keeps_the_same_out(seed, workers):
    data, reads = Batches(workers), {}

    def note(test):
        if isinstance(test, TrialTest) and workers == 1:
            reads.setdefault(test.top, []).append(data.read[-1])

    result = range_test(make(), data, seed=seed, on_step=note, **LENGTH)
    assert len(result.trials) == 2
    # A queue reads batches that no update needs.
    if workers == 1:
        first, second = reads.values()
        assert first[: len(second)] == second[: len(first)]
        # Five batches are held in memory, to be measured at the end.
        assert len(first) == 105
        assert len(set(first[:100])) == 35
    assert len({trial.losses[0] for trial in result.trials}) == 1


def tf_data():
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)


def torch_loader():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    return torch.utils.data.DataLoader(data, batch_size=16)


@pytest.mark.parametrize("data", [tf_data, torch_loader, Batches])
def test_all_kinds_of_data_make_the_same_trials(data):
    by_data = range_test(make(dropout=0), data(), shuffle=False, **LENGTH)
    by_arrays = range_test(make(dropout=0), X, Y, batch_size=16, shuffle=False, **LENGTH)
    assert len(by_data.trials) == 2
    for one, other in zip(by_data.trials, by_arrays.trials, strict=True):
        assert one.max_lr == pytest.approx(other.max_lr, rel=1e-5)
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
        assert one.kept == other.kept or one.kept == pytest.approx(other.kept, rel=1e-4)


def test_the_arguments_of_fit_apply_to_the_trials():
    weights = {0: 3.0, 1: 1.0}
    weighed = np.where(Y == 0, np.float32(3), np.float32(1))
    arguments = {"batch_size": 16, "shuffle": False, **LENGTH}
    by_class = range_test(make(dropout=0), X, Y, class_weight=weights, validation_split=0.1, **arguments)
    by_sample = range_test(make(dropout=0), X[:576], Y[:576], sample_weight=weighed[:576], **arguments)
    assert len(by_class.trials) == 2
    for one, other in zip(by_class.trials, by_sample.trials, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-5)


def test_a_broken_batch_is_left_out_of_the_trials_too():
    y = Y.copy()
    y[3 * 16] = np.nan
    result = range_test(make(loss="mse"), X, y, batch_size=16, shuffle=False, **LENGTH)
    assert result.left_out
    assert "completed" in {trial.ended for trial in result.trials}
    assert all(np.isfinite(trial.losses).all() for trial in result.trials)


def test_an_interrupt_keeps_what_is_known_and_restores_the_model():
    model, updates = make(), []
    before = model.get_weights()

    def interrupt(test):
        if isinstance(test, TrialTest):
            updates.append(test)
            if len(updates) == 150:
                raise KeyboardInterrupt

    result = range_test(model, X, Y, batch_size=16, on_step=interrupt, **LENGTH)
    assert [trial.ended for trial in result.trials] == ["completed", "interrupted"]
    assert "interrupted" in result.bounds.reason
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_error_in_a_trial_restores_the_model():
    model = make("adam")
    before = model.get_weights()

    def fail(test):
        if isinstance(test, TrialTest) and test.recorded == 50:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        range_test(model, X, Y, batch_size=16, on_step=fail, **LENGTH)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0


def test_the_loss_on_validation_data_judges_if_it_is_given():
    calls = []

    def evaluate(model):
        calls.append(1)
        return model.evaluate(X[:64], Y[:64], verbose=0)

    result = range_test(make(), X, Y, batch_size=16, evaluate=evaluate, **LENGTH)
    completed = [trial for trial in result.trials if trial.ended == "completed"]
    assert len(calls) == len(result.lr) + len(completed)
    assert all(0 < trial.kept < 1 for trial in completed)


def test_accumulation_and_a_schedule_of_the_optimizer():
    optimizer = keras.optimizers.SGD(0.01, gradient_accumulation_steps=2)
    summed = range_test(make(optimizer, dropout=0), X, Y, batch_size=8, shuffle=False, **LENGTH)
    assert summed.trials[0].ended == "completed"
    assert 0 < summed.trials[0].kept < 1
    scheduled = make(keras.optimizers.SGD(LearningRate(Constant(0.01))), dropout=0)
    plain = range_test(make(dropout=0), X, Y, batch_size=16, **LENGTH)
    for one, other in zip(range_test(scheduled, X, Y, batch_size=16, **LENGTH).trials, plain.trials, strict=True):
        np.testing.assert_allclose(one.losses, other.losses, rtol=1e-4)
        assert one.kept == other.kept or one.kept == pytest.approx(other.kept, rel=1e-4)


def test_measuring_what_was_kept_out_changes_no_weight():
    model, ends = make(keras.optimizers.AdamW(0.01, weight_decay=0.01)), {}

    def note(test):
        if isinstance(test, TrialTest) and test.recorded >= test.length:
            ends.setdefault(test.top, []).append(np.concatenate([value.ravel() for value in model.get_weights()]))

    range_test(model, X, Y, batch_size=16, on_step=note, **LENGTH)
    assert len(ends) == 2
    for first, *others in ends.values():
        assert 0 < len(others) < KEPT_MOST
        assert all(np.allclose(first, other, rtol=1e-5, atol=1e-7) for other in others)


def test_a_generator_is_refused_before_it_is_read():
    read = []

    def generated():
        for batch in batches(X, Y):
            read.append(batch)
            yield batch

    with pytest.raises(ValueError, match=r"refine must be 0 for data that can be read only once"):
        range_test(make(), generated(), **LENGTH)
    assert read == []
    assert range_test(make(), generated(), total_steps=400, steps=30).trials == ()


def test_refine_needs_the_length_of_the_run():
    with pytest.raises(ValueError, match="refine must come with the length of the run"):
        range_test(make(), X, Y, refine=240)
