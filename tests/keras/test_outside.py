"""Configs and files of the Keras adapter from outside are read, or refused by a short message that changes nothing."""

import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.outside import REFUSED, changes, check, examples

import cyclr
from cyclr import Member, MembersError

keras = pytest.importorskip("keras")

from cyclr.keras import AutoCycle, Ensemble, LearningRate, Snapshots, ensemble  # noqa: E402
from cyclr.keras._states import KerasStates  # noqa: E402

pytestmark = [pytest.mark.any_backend, pytest.mark.filterwarnings("ignore")]

X, Y = np.ones((8, 2), "float32"), np.ones((8, 1), "float32")
CYCLE = cyclr.Cyclical.over(12, 2, 0.001, 0.01)


def model_of():
    keras.utils.set_random_seed(1)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def fit(model, *callbacks, **arguments):
    return model.fit(X, Y, batch_size=2, shuffle=False, verbose=0, callbacks=[*callbacks], **arguments)


@examples(30)
@given(changes(LearningRate(CYCLE, 5, 2).get_config()))
def test_the_config_of_a_learning_rate_is_refused_or_it_can_be_used(config):
    def read(config):
        return LearningRate.from_config({**config}) if isinstance(config, dict) else LearningRate(config)

    def use(rate):
        assert not np.isnan(float(keras.ops.convert_to_numpy(rate(7))))
        again = LearningRate.from_config(json.loads(json.dumps(rate.get_config())))
        assert repr(again) == repr(rate)

    check(config, read, use)


def ensemble_of():
    model = model_of()
    return ensemble(model, [Member(step, 0.1, model.get_weights(), {"loss": 0.5}) for step in (1, 2)])


@examples(30)
@given(st.data())
def test_the_config_of_an_ensemble_is_refused_or_it_predicts(data):
    config = data.draw(changes({name: value for name, value in CONFIG.items() if name != "model"}))
    if not isinstance(config, dict) or not {*config} <= {"members", "weights", "activation", "name"}:
        return
    model = data.draw(st.sampled_from([CONFIG["model"]] * 9 + [None, {}, 1, "x"]))
    check(
        config,
        lambda config: Ensemble.from_config({**config, "model": copy.deepcopy(model)}),
        lambda made: made(X),
    )


CONFIG = {
    name: value
    for name, value in ensemble_of().get_config().items()
    if name in ("model", "members", "weights", "activation")
}


@pytest.mark.parametrize("change", ["shape", "NaN", "missing"])
def test_weights_of_an_ensemble_that_are_of_another_model_are_refused(change):
    made = ensemble_of()
    store = {}
    made.save_own_variables(store)
    before = [member.state for member in made.members]
    if change == "missing":
        del store["1.0"]
    else:
        store["1.0"] = np.ones(5, "float32") if change == "shape" else np.full((2, 1), np.nan, "float32")
    with pytest.raises((*REFUSED, KeyError)):
        made.load_own_variables(store)
    assert all(one is other.state for one, other in zip(before, made.members, strict=True))


class Run:
    """A run of 3 epochs that stopped after the first, with its file."""

    def __init__(self, folder):
        self.folder = folder
        self.model = model_of()
        fit(self.model, AutoCycle(CYCLE, folder=folder, total_steps=12), epochs=1)
        (self.file,) = folder.iterdir()
        with np.load(self.file) as archive:
            self.arrays = dict(archive)
        self.text = json.loads(str(self.arrays.pop("text")))
        self.content = self.file.read_bytes()
        self.variables = [*self.model.variables, *self.model.optimizer.variables]
        self.values = self.held()

    def held(self):
        return [np.array(keras.ops.convert_to_numpy(variable)) for variable in self.variables]

    def write(self, content):
        for variable, value in zip(self.variables, self.values, strict=True):
            variable.assign(value)
        for path in self.folder.iterdir():
            path.unlink()
        self.file.write_bytes(content)

    def goes_on(self, content):
        """Continue the run, or check that a refusal changes nothing."""
        self.write(content)
        auto = AutoCycle(CYCLE, folder=self.folder, total_steps=12)

        def read(_):
            try:
                fit(self.model, auto, initial_epoch=1, epochs=2)
            except (*REFUSED, OSError) as error:
                for one, other in zip(self.values, self.held(), strict=True):
                    np.testing.assert_array_equal(one, other)
                assert auto.auto is None
                raise ValueError(str(error)) from error

        def use(_):
            assert auto.auto.last_lr > 1 or all(np.isfinite(value).all() for value in self.held())

        check(None, read, use)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("run"))


def archive_of(text, arrays):
    file = io.BytesIO()
    np.savez(file, text=np.array(text), **arrays)
    return file.getvalue()


@examples(30)
@given(data=st.data())
def test_a_changed_state_in_a_file_of_auto_cycle_is_refused_or_the_run_goes_on(run, data):
    try:
        text = json.dumps(data.draw(changes(run.text)))
    except ValueError:  # Python prints no integer of so many digits.
        return
    run.goes_on(archive_of(text, run.arrays))


@examples(30)
@given(data=st.data())
def test_a_damaged_file_of_auto_cycle_is_refused_or_the_run_goes_on(run, data):
    content = bytearray(run.content)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    run.goes_on(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])


ARRAYS = {
    "short": lambda arrays: {**arrays, "now.0": arrays["now.0"][:-1]},
    "long": lambda arrays: {**arrays, "now.0": np.zeros(1000, np.uint8)},
    "text": lambda arrays: {**arrays, "now.0": np.array("x")},
    "missing": lambda arrays: {name: value for name, value in arrays.items() if name != "now.1"},
    "no copy of the start": lambda arrays: {name: value for name, value in arrays.items() if name[:3] == "now"},
}


@pytest.mark.parametrize("kind", ARRAYS)
def test_copies_that_do_not_fit_the_model_are_refused(run, kind):
    run.write(archive_of(json.dumps(run.text), ARRAYS[kind](run.arrays)))
    auto = AutoCycle(CYCLE, folder=run.folder, total_steps=12)
    for _ in range(2):
        with pytest.raises(ValueError, match=r"must be a file that AutoCycle wrote|a copy of the model to restore"):
            fit(run.model, auto, initial_epoch=1, epochs=2)
        for one, other in zip(run.values, run.held(), strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_file_of_a_run_of_another_length_says_what_to_do_in_keras(run):
    run.write(run.content)
    with pytest.raises(
        ValueError, match=r"folder must hold a run that this .* an empty folder to start a new run\.$"
    ) as caught:
        fit(run.model, AutoCycle(CYCLE, folder=run.folder, total_steps=16), initial_epoch=1, epochs=2)
    assert "schedules=" not in str(caught.value)


@pytest.fixture(scope="module")
def member_file(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members") / "members"
    snapshots = Snapshots(every=4, folder=folder)
    fit(model_of(), snapshots, epochs=1)
    (member,) = snapshots.members
    path = folder / "member-3.weights.h5"
    return path, path.read_bytes(), member


@examples(40)
@given(data=st.data())
def test_a_damaged_file_of_a_member_is_refused_or_read(member_file, data):
    path, whole, member = member_file
    content = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])

    def use(state):
        try:
            shapes = KerasStates().shapes(state)
            KerasStates().not_finite(state)
        except REFUSED:
            return
        assert [*shapes] == [f"weight {number}" for number in range(len(state))]

    check(member, lambda member: member.state, use)


@pytest.mark.parametrize("kind", ["large", "listing", "objects"])
def test_a_file_of_a_member_that_claims_too_much_is_refused(member_file, kind):
    h5py = pytest.importorskip("h5py")
    path, whole, member = member_file
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        if kind == "large":
            # It takes no room in the file, and is filled with zeros when it is read.
            file.create_dataset("large", (10**9,), "f8", chunks=(10**6,))
        del file["cyclr/weights"]
        listed = {"large": [["large", "float64", [10**9]]], "listing": 5, "objects": [["x", "O", [1]]]}[kind]
        file["cyclr/weights"] = json.dumps(listed)
    with pytest.raises(MembersError, match="cannot be read as the state of a member"):
        member.state  # noqa: B018


@pytest.mark.parametrize("kind", ["link", "storage", "virtual"])
def test_a_file_of_a_member_reads_no_other_file(member_file, tmp_path, kind):
    h5py = pytest.importorskip("h5py")
    path, whole, member = member_file
    path.write_bytes(whole)
    other = tmp_path / "other.h5"
    with h5py.File(other, "w") as file:
        file["secret"] = np.ones(2)
    with h5py.File(path, "r+") as file:
        if kind == "link":
            file["found"] = h5py.ExternalLink(other, "secret")
        elif kind == "storage":
            file.create_dataset("found", (2,), "f8", external=[(other, 0, 16)])
        else:
            layout = h5py.VirtualLayout((2,), "f8")
            layout[:] = h5py.VirtualSource(other, "secret", (2,))
            file.create_virtual_dataset("found", layout)
        assert file["found"].shape == (2,)
        del file["cyclr/weights"]
        file["cyclr/weights"] = json.dumps([["found", "float64", [2]]])
    with pytest.raises(
        MembersError, match=r"cannot be read as the state of a member \(ValueError: found is in another"
    ):
        member.state  # noqa: B018
