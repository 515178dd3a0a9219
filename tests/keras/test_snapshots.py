"""Snapshots, ensemble and average for Keras, on every backend."""

import math
import resource

import keras
import numpy as np
import pytest
from tests.processes import run_kills

import cyclr
from cyclr import Member, MembersError
from cyclr.keras import (
    AutoCycle,
    CycleEnd,
    CyclicLR,
    Ensemble,
    LearningRate,
    ScheduleCallback,
    Snapshots,
    average,
    ensemble,
)

LOW, HIGH = 2.0**-6, 2.0**-4
CYCLE = cyclr.Cyclical(LOW, HIGH, 2)
ENDS = [4, 8, 12]
IN = pytest.mark.parametrize("in_folder", [False, True], ids=["memory", "folder"])
X = np.random.default_rng(0).standard_normal((64, 3)).astype("float32")
Y = X[:, :2] ** 2


@keras.saving.register_keras_serializable(package="tests")
class Own(keras.Model):
    """A subclass with all kinds of layers with state."""

    def __init__(self, units=2, **keywords):
        super().__init__(**keywords)
        self.units = units
        self.hidden, self.norm = keras.layers.Dense(4), keras.layers.BatchNormalization()
        self.drop, self.last = keras.layers.Dropout(0.1), keras.layers.Dense(units)

    def call(self, inputs, training=None):
        return self.last(self.drop(self.norm(self.hidden(inputs), training=training), training=training))

    def get_config(self):
        return {**super().get_config(), "units": self.units}


def plain():
    return keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, "tanh"), keras.layers.Dense(2)])


def normalized():
    inputs = keras.Input((3,))
    hidden = keras.layers.BatchNormalization()(keras.layers.Dense(4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Dropout(0.1)(hidden)))


def own():
    model = Own()
    model(X)
    return model


MODELS = {"plain": plain, "normalized": normalized, "own": own}
every_model = pytest.mark.parametrize("kind", MODELS)


def compiled(model, rate=None):
    model.compile(keras.optimizers.SGD(LearningRate(CYCLE) if rate is None else rate, momentum=0.9), "mse")
    return model


def fit(model, *callbacks, updates=16, **arguments):
    return model.fit(
        X[: 4 * updates], Y[: 4 * updates], batch_size=4, shuffle=False, verbose=0, callbacks=[*callbacks], **arguments
    )


def same(one, other):
    return len(one) == len(other) and all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@IN
@every_model
def test_members_are_the_weights_after_their_updates(kind, in_folder, tmp_path):
    seen = {}
    model = compiled(MODELS[kind]())
    keep = CycleEnd(lambda model, step: seen.update({step: [w.copy() for w in model.get_weights()]}))
    snapshots = Snapshots(folder=tmp_path if in_folder else None)
    fit(model, keep, snapshots)
    now = [np.array(keras.ops.convert_to_numpy(v)) for v in [*model.variables, *model.optimizer.variables]]
    assert [member.step for member in snapshots.members] == ENDS
    for member in snapshots.members:
        assert member.lr == CYCLE(member.step)
        assert same(member.state, seen[member.step])
    # Reading leaves no trace.
    again = [keras.ops.convert_to_numpy(v) for v in [*model.variables, *model.optimizer.variables]]
    assert same(now, again)


def test_files_are_those_of_keras_without_the_optimizer(tmp_path):
    model = compiled(normalized())
    snapshots = Snapshots(folder=tmp_path, keep=2)
    fit(model, snapshots)
    names = ["member-12.weights.h5", "member-8.weights.h5", "members.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    other = normalized()
    other.load_weights(tmp_path / "member-8.weights.h5")
    assert same(other.get_weights(), snapshots.members[0].state)
    model.save_weights(tmp_path / "whole.weights.h5")
    assert (tmp_path / names[0]).stat().st_size < (tmp_path / "whole.weights.h5").stat().st_size


@pytest.mark.any_backend
def test_a_full_disk_is_an_error_and_ends_no_process(tmp_path):
    model = compiled(normalized())
    fit(model, Snapshots(folder=tmp_path, keep=1))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    # At these sizes, HDF5 ends the process by SIGSEGV if it writes to the disk itself.
    for size in (0, 3000, 9000):
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            with pytest.raises(MembersError, match=r"the member of step 4 cannot be saved in .*: File too large\."):
                fit(compiled(normalized()), Snapshots(folder=tmp_path, keep=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [({"every": 3}, [2, 5, 8, 11, 14]), ({"every": 3, "keep": 2}, [11, 14]), ({"keep": 1}, [12])],
)
def test_every_and_keep(arguments, wanted):
    snapshots = Snapshots(**arguments)
    fit(compiled(plain()), snapshots)
    assert [member.step for member in snapshots.members] == wanted


@pytest.mark.any_backend
@pytest.mark.filterwarnings("ignore:step_size=2 counts updates:UserWarning")
def test_members_every_few_updates_need_no_schedule():
    snapshots, cyclic = Snapshots(every=5), Snapshots(every=5)
    fit(compiled(plain(), LOW), snapshots)
    fit(compiled(plain(), 0.125), CyclicLR(LOW, HIGH, 2), cyclic)
    assert [(member.step, member.lr) for member in snapshots.members] == [(4, LOW), (9, LOW), (14, LOW)]
    assert [member.lr for member in cyclic.members] == [CYCLE(4), CYCLE(9), CYCLE(14)]


@pytest.mark.any_backend
def test_a_schedule_that_a_callback_sets_is_given():
    snapshots = Snapshots(schedule=CYCLE)
    fit(compiled(plain(), 0.1), ScheduleCallback(CYCLE), snapshots)
    assert [member.step for member in snapshots.members] == ENDS


@IN
@pytest.mark.parametrize("at", [3, 5, 9])
def test_a_split_run_has_the_members_of_the_whole(at, in_folder, tmp_path):
    folders = [tmp_path / name if in_folder else None for name in ("whole", "split")]
    keras.utils.set_random_seed(1)
    model = plain()
    start = [w.copy() for w in model.get_weights()]
    whole = Snapshots(folder=folders[0])
    fit(compiled(model), whole)
    wanted = [(member.step, member.state) for member in whole.members]

    model.set_weights(start)
    first = Snapshots(folder=folders[1])
    fit(compiled(model), first, updates=at)
    saved, state = [w.copy() for w in model.get_weights()], first.state_dict()
    slots = [np.array(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables]
    # It goes on after its last checkpoint, as before a kill.
    model.fit(X[4 * at : 4 * at + 16], Y[4 * at : 4 * at + 16], batch_size=4, verbose=0, callbacks=[first])

    second = Snapshots(folder=folders[1])
    compiled(model)
    model.set_weights(saved)
    model.optimizer.build(model.trainable_variables)
    for variable, value in zip(model.optimizer.variables, slots, strict=True):
        variable.assign(value)
    second.load_state_dict(state)
    model.fit(X[4 * at :], Y[4 * at :], batch_size=4, shuffle=False, verbose=0, callbacks=[second])
    assert [member.step for member in second.members] == [step for step, _ in wanted]
    for member, (_, weights) in zip(second.members, wanted, strict=True):
        assert same(member.state, weights)


class Stop(keras.callbacks.Callback):
    """Ends a run in the middle of an epoch, as a kill does."""

    def on_train_batch_end(self, batch, logs=None):
        if int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) == 14:
            raise InterruptedError


@pytest.mark.parametrize("order", [1, -1], ids=["backup last", "backup first"])
@pytest.mark.parametrize("save_freq", ["epoch", 5])
def test_a_run_that_goes_on_from_a_backup_has_the_members_of_the_whole(save_freq, order, tmp_path):
    keras.utils.set_random_seed(1)
    start = plain().get_weights()

    def callbacks(name):
        backup = keras.callbacks.BackupAndRestore(tmp_path / name / "backup", save_freq=save_freq)
        return [Snapshots(folder=tmp_path / name / "members"), backup][::order]

    def model():
        made = compiled(plain())
        made.set_weights(start)
        return made

    fit(model(), *callbacks("whole"), updates=8, epochs=3)
    with pytest.raises(InterruptedError):
        fit(model(), *callbacks("stopped"), Stop(), updates=8, epochs=3)
    fit(model(), *callbacks("stopped"), updates=8, epochs=3)
    whole, found = (Snapshots(folder=tmp_path / name / "members").members for name in ("whole", "stopped"))
    assert [member.step for member in whole] == [4, 8, 12, 16, 20]
    # From the middle of an epoch Keras starts with its first batch again, and the updates are more.
    steps = [member.step for member in found]
    assert steps == ([4, 8, 12, 16, 20] if save_freq == "epoch" else [4, 8, 12, 16, 20, 24])
    if save_freq == "epoch":
        assert all(same(one.state, other.state) for one, other in zip(whole, found, strict=True))


@pytest.mark.any_backend
def test_kills_lose_no_member():
    run_kills("keras")


def test_validation_gives_metrics():
    model = compiled(normalized())
    snapshots = Snapshots(validate=lambda model: {"loss": model.evaluate(X, Y, verbose=0)}, keep=1)
    fit(model, snapshots)
    (member,) = snapshots.members
    model.set_weights(member.state)
    assert member.metrics["loss"] == pytest.approx(model.evaluate(X, Y, verbose=0), rel=1e-5)


# AutoCycle

AUTO = pytest.mark.filterwarnings("ignore:AutoCycle:UserWarning", "ignore:the schedule has:UserWarning")


@AUTO
def test_an_auto_cycle_owns_the_step():
    steps, auto = [], AutoCycle(cyclr.Cyclical.over(48, 3, 0.001, 0.05))
    snapshots, every = Snapshots(), Snapshots(every=10)
    fit(compiled(plain(), 0.1), auto, CycleEnd(lambda model, step: steps.append(step)), snapshots, every, epochs=3)
    assert auto.events == ()
    assert steps == [member.step for member in snapshots.members] == [15, 31, 47]
    assert [member.step for member in every.members] == [9, 19, 29, 39]
    cycle = cyclr.Cyclical.over(48, 3, 0.001, 0.05)
    assert [member.lr for member in every.members] == [cycle(step) for step in (9, 19, 29, 39)]


@AUTO
@pytest.mark.any_backend
def test_an_end_whose_update_an_auto_cycle_undoes_is_none():
    x = X.copy()
    x[15 * 4 : 16 * 4] = math.nan
    model, auto, snapshots = compiled(plain(), 0.1), AutoCycle(cyclr.Cyclical.over(48, 3, 0.001, 0.05)), Snapshots()
    calls = []

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 16

        def __getitem__(self, index):
            calls.append(index)
            clean = X if len(calls) > 20 else x
            return clean[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]

    model.fit(Data(), epochs=3, shuffle=False, verbose=0, callbacks=[auto, snapshots])
    assert auto.events
    assert [member.step for member in snapshots.members] == [31, 47]


@AUTO
@pytest.mark.any_backend
def test_updates_of_the_range_test_of_an_auto_cycle_are_no_members():
    auto, every = AutoCycle(), Snapshots(every=10)
    stop = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: setattr(auto.model, "stop_training", epoch > 10)
    )
    fit(compiled(plain(), 0.1), auto, every, stop, epochs=100)
    assert auto.range_test is not None
    tested = len(auto.range_test.lr)
    assert [member.step for member in every.members] == [step for step in range(9, 192, 10) if step >= tested] != []


@pytest.mark.parametrize("policy", ["bfloat16", "mixed_bfloat16"])
def test_files_hold_every_type(policy, tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        model = compiled(normalized())
        model.layers[1].set_weights([np.zeros((3, 4)), np.zeros(4)])
        memory, files = Snapshots(), Snapshots(folder=tmp_path)
        fit(model, memory, files)
    finally:
        keras.config.set_dtype_policy(before)
    for one, other in zip(memory.members, files.members, strict=True):
        assert [value.dtype for value in one.state] == [value.dtype for value in other.state]
        assert same(one.state, other.state)


@pytest.mark.any_backend
def test_an_auto_cycle_later_in_the_list_is_refused():
    with pytest.raises(ValueError, match=r"from AutoCycle, and must come after it in callbacks"):
        fit(compiled(plain(), 0.1), Snapshots(), AutoCycle(CYCLE))


# ensemble


def members_of(kind, count=3):
    """Members whose weights have nothing in common, and a model of their kind."""
    members = []
    for step in range(count):
        keras.utils.set_random_seed(step)
        model = MODELS[kind]()
        fit(compiled(model, 0.01), updates=2)
        members.append(Member(step, 0.1, [w.copy() for w in model.get_weights()]))
    keras.utils.set_random_seed(99)
    return members, MODELS[kind]()


def outputs(model, members, x=X):
    held, found = [w.copy() for w in model.get_weights()], []
    for member in members:
        model.set_weights(member.state)
        found.append(model.predict(x, verbose=0))
    model.set_weights(held)
    return np.stack(found)


@every_model
@pytest.mark.parametrize(("weights", "activation"), [(None, None), ([1, 2, 5], "softmax")])
def test_an_ensemble_predicts_the_weighted_mean_of_its_members(kind, weights, activation):
    members, model = members_of(kind)
    before = [w.copy() for w in model.get_weights()]
    made = ensemble(model, members, activation=activation, weights=weights)
    found = outputs(model, members)
    if activation:
        found = np.exp(found) / np.exp(found).sum(-1, keepdims=True)
    wanted = np.average(found, 0, weights)
    for _ in range(2):
        np.testing.assert_allclose(made.predict(X, batch_size=7, verbose=0), wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(made(X[:5])), wanted[:5], rtol=1e-4, atol=1e-5)
    assert same(model.get_weights(), before)
    assert made.weights == []
    made.compile(loss="mse", metrics=["mae"])
    loss, mae = made.evaluate(X, Y, verbose=0)
    assert loss == pytest.approx(((wanted - Y) ** 2).mean(), rel=1e-4)
    assert mae == pytest.approx(abs(wanted - Y).mean(), rel=1e-4)
    with pytest.raises(TypeError, match="an Ensemble cannot be trained"):
        made.fit(X, Y, verbose=0)


@every_model
def test_an_ensemble_is_saved_and_loaded_as_a_whole(kind, tmp_path):
    members, model = members_of(kind)
    made = ensemble(model, members, activation="softmax", weights=[1, 2, 5])
    made.save(tmp_path / "ensemble.keras")
    loaded = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert isinstance(loaded, Ensemble)
    np.testing.assert_allclose(loaded.predict(X, verbose=0), made.predict(X, verbose=0), rtol=1e-5, atol=1e-6)
    assert loaded.shares == made.shares
    assert [member.step for member in loaded.members] == [0, 1, 2]


@pytest.mark.any_backend
def test_several_outputs_are_averaged_one_by_one():
    inputs = keras.Input((3,))
    model = keras.Model(inputs, {"a": keras.layers.Dense(1)(inputs), "b": keras.layers.Dense(2)(inputs)})
    members = [Member(step, 0.1, [w + step for w in model.get_weights()]) for step in range(2)]
    found = ensemble(model, members).predict(X, verbose=0)
    model.set_weights([w + 0.5 for w in model.get_weights()])
    for name, wanted in model.predict(X, verbose=0).items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-4, atol=1e-5)


def test_members_in_a_folder_are_read_for_a_prediction(tmp_path):
    model, snapshots = compiled(normalized()), Snapshots(folder=tmp_path)
    fit(model, snapshots)
    made = ensemble(model, snapshots.members)
    wanted = outputs(model, snapshots.members).mean(0)
    np.testing.assert_allclose(made.predict(X, verbose=0), wanted, rtol=1e-4, atol=1e-5)


# average


@every_model
def test_an_average_has_the_mean_weights_and_new_statistics(kind):
    members, model = members_of(kind)
    before = [w.copy() for w in model.get_weights()]
    made = average(model, iter(members), X, weights=[1, 0, 3])
    trainable = {id(variable) for variable in model.trainable_variables}
    for number, (variable, value) in enumerate(zip(model.weights, made.get_weights(), strict=True)):
        if id(variable) in trainable:
            wanted = 0.25 * members[0].state[number] + 0.75 * members[2].state[number]
            np.testing.assert_allclose(value, wanted, rtol=1e-5, atol=1e-6)
    assert same(model.get_weights(), before)
    if kind != "plain":
        norm = next(layer for layer in made._flatten_layers() if isinstance(layer, keras.layers.BatchNormalization))
        hidden = X @ made.get_weights()[0] + made.get_weights()[1]
        batches = [hidden[start : start + 32] for start in range(0, 64, 32)]
        mean, variance = (keras.ops.convert_to_numpy(v) for v in (norm.moving_mean, norm.moving_variance))
        np.testing.assert_allclose(mean, np.mean([b.mean(0) for b in batches], 0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(variance, np.mean([b.var(0) for b in batches], 0), rtol=1e-4, atol=1e-5)
        assert norm.momentum == 0.99
    made.compile(loss="mse")
    assert math.isfinite(made.evaluate(X, Y, verbose=0))


@pytest.mark.any_backend
def test_data_of_every_kind_gives_the_same_statistics():
    members, model = members_of("normalized")

    class Data(keras.utils.PyDataset):
        def __len__(self):
            return 2

        def __getitem__(self, index):
            return X[32 * index : 32 * index + 32], Y[32 * index : 32 * index + 32]

    wanted = average(model, members, X).get_weights()
    for data in (Data(), ((X[start : start + 32], Y[start : start + 32]) for start in (0, 32))):
        for one, other in zip(average(model, members, data).get_weights(), wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.any_backend
def test_frozen_layers_keep_their_statistics_and_need_no_data():
    members, model = members_of("normalized")
    model.layers[2].trainable = False
    assert isinstance(model.layers[2], keras.layers.BatchNormalization)
    made = average(model, members)
    assert same(made.layers[2].get_weights(), members[-1].state[2:6])
    assert not made.layers[2].trainable


# What is refused


def test_data_that_gives_no_statistics_is_refused():
    members, model = members_of("normalized")
    with pytest.raises(ValueError, match=r"data must be given for a model with batch normalization.* got data=None"):
        average(model, members)
    with pytest.raises(ValueError, match="computed from data must be finite"):
        average(model, members, np.full((4, 3), math.nan, "float32"))


@pytest.mark.any_backend
def test_what_gives_no_members_is_refused():
    with pytest.raises(ValueError, match=r"Snapshots needs a schedule with cycle ends; got Constant.*pass every="):
        fit(compiled(plain(), LearningRate(cyclr.Constant(0.1))), Snapshots())
    with pytest.raises(
        ValueError, match=r"needs a schedule with cycles.*pass Snapshots\(schedule=schedule\), or every="
    ):
        fit(compiled(plain(), 0.1), Snapshots())
    with pytest.raises(TypeError, match="validate must be a function"):
        Snapshots(validate=3)
    with pytest.raises(ValueError, match="keep must be an integer of at least 1"):
        Snapshots(keep=0)


@IN
def test_weights_that_are_not_finite_are_refused(in_folder, tmp_path):
    model, snapshots = compiled(plain()), Snapshots(folder=tmp_path if in_folder else None)
    fit(model, snapshots, updates=6)
    with pytest.raises(MembersError, match=r"a member must be finite; got NaN or infinity in weight 0 after step 8"):
        model.fit(np.full((16, 3), math.nan), Y[:16], batch_size=4, verbose=0, callbacks=[snapshots])
    assert [member.step for member in snapshots.members] == [4]


@pytest.mark.any_backend
def test_a_folder_of_another_model_is_refused_and_left_as_it_is(tmp_path):
    fit(compiled(plain()), Snapshots(folder=tmp_path))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    model = compiled(normalized())
    with pytest.raises(MembersError, match=r"must be of this model, which has weight 2 of shape \[4\]; got weight 2"):
        fit(model, Snapshots(folder=tmp_path))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.any_backend
def test_members_of_another_model_are_refused():
    model = plain()
    others, _ = members_of("normalized")
    for combine in (ensemble, average):
        with pytest.raises(MembersError, match="the member of step 0 must be of this model"):
            combine(model, others)
        with pytest.raises(
            TypeError, match=r"must be a list of arrays, as model\.get_weights\(\) returns it; got \{'a': 1\}"
        ):
            combine(model, [Member(0, 0.1, {"a": 1})])
        with pytest.raises(ValueError, match="members must hold at least one"):
            combine(model, [])
        with pytest.raises(TypeError, match=r"model must be a keras\.Model; got list"):
            combine(model.get_weights(), members_of("plain")[0])


class Unclonable(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.layer = keras.layers.Dense(units)

    def call(self, inputs):
        return self.layer(inputs)


@pytest.mark.any_backend
def test_a_model_that_cannot_be_copied_is_refused_by_average_and_predicts_in_an_ensemble():
    model = Unclonable(2)
    model(X)
    members = [Member(step, 0.1, [w + step for w in model.get_weights()]) for step in range(2)]
    with pytest.raises(ValueError, match=r"Keras cannot copy the model from its config; got Unclonable"):
        average(model, members)
    found = ensemble(model, members).predict(X, verbose=0)
    np.testing.assert_allclose(found, outputs(model, members).mean(0), rtol=1e-5, atol=1e-6)
