"""A range test leaves no trace: what comes after it is, bit for bit, what would have come without it.

https://github.com/fastai/fastai/issues/2892, https://github.com/Lightning-AI/pytorch-lightning/issues/6675,
https://github.com/davidtvs/pytorch-lr-finder/issues/11
"""

import random
import sys

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import Cyclical, RangeTestError
from cyclr.keras import LearningRate, range_test

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(3)
X = RNG.normal(size=(20, 4)).astype("float32")
Y = RNG.normal(size=(20, 1)).astype("float32")
NAN = np.where(np.arange(20)[:, None] == 9, np.float32("nan"), Y)
STEPS = 7

OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "Adam": lambda: keras.optimizers.Adam(0.01),
    "accumulation": lambda: keras.optimizers.SGD(0.02, momentum=0.9, gradient_accumulation_steps=2),
    "schedule": lambda: keras.optimizers.SGD(LearningRate(Cyclical(0.01, 0.05, 3)), momentum=0.9),
    "loss scaling": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
    "moving average": lambda: keras.optimizers.Adam(0.01, use_ema=True, ema_overwrite_frequency=3),
}


class SquaredError(keras.losses.Loss):
    """A loss that raises while a training step runs or is compiled, if it is told to."""

    failing = False

    def call(self, y_true, y_pred):
        if self.failing:
            raise ArithmeticError("the loss gave up")
        return ops.mean(ops.square(y_true - y_pred), axis=-1)


def make(optimizer, *, built=True):
    """A model with everything that training changes; initial weights and seeds come from the global generators.

    Compiled where that matters, which is on JAX, whose compiled steps take the memory of the state away.
    """
    dense, norm, dropout = keras.layers.Dense(1), keras.layers.BatchNormalization(), keras.layers.Dropout(0.4)
    model = keras.Sequential([*([keras.Input((4,))] if built else []), norm, dropout, dense])
    model.compile(optimizer, SquaredError(), metrics=["mae"], run_eagerly=BACKEND == "tensorflow")
    return model


def fit(model, epochs=1):
    return model.fit(X, Y, batch_size=4, epochs=epochs, verbose=0).history


def seed(number):
    keras.utils.set_random_seed(number)
    for name in {"torch", "tensorflow"} & set(sys.modules):
        module = sys.modules[name]
        module.manual_seed(number) if name == "torch" else module.random.set_seed(number)


def draws():
    """The next numbers of every generator."""
    numbers = [random.random(), np.random.random(), float(ops.convert_to_numpy(keras.random.uniform(())))]
    if "torch" in sys.modules:
        numbers.append(sys.modules["torch"].rand(()).item())
    if "tensorflow" in sys.modules:
        numbers.append(float(sys.modules["tensorflow"].random.uniform(())))
    return numbers


def attributes(model):
    """What stands on the model itself and does not belong to Keras' inner workings."""
    return {name: id(value) for name, value in vars(model).items() if not name.startswith("_")}


def torch_modes(model):
    # Keras makes its containers of parameters anew at times.
    return [
        module.training
        for module in (model.modules() if BACKEND == "torch" else [])
        if type(module).__name__ != "ParameterDict"
    ]


def torch_gradients(model):
    if BACKEND != "torch":
        return []
    return [None if p.grad is None else p.grad.clone().numpy() for p in model.parameters()]


def equal(ones, others):
    for one, other in zip(ones, others, strict=True):
        np.testing.assert_array_equal(one, other)
    return True


def raising(error, step):
    def on_step(test):
        if test.recorded == step:
            raise error

    return on_step


def rows_that_end_in_an_error():
    for index in range(3):
        yield X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]
    raise LookupError("no such row")


class Broken(keras.utils.PyDataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        if index == 3:
            raise LookupError("no such row")
        return X[4 * index : 4 * index + 4], Y[4 * index : 4 * index + 4]


def with_a_failing_loss(model, **arguments):
    if BACKEND == "jax" and model.train_function is not None:
        pytest.skip("JAX has compiled the loss by now, and does not call it any more")
    model.loss.failing = True
    try:
        return range_test(model, X, Y, **arguments)
    finally:
        model.loss.failing = False


def of(x, y=None, **fixed):
    return lambda model, **arguments: range_test(model, x() if callable(x) else x, y, **{**arguments, **fixed})


# name: the test, how it ends
OUTCOMES = {
    "completed": (of(X, Y), "completed"),
    "completed, without a seed": (of(X, Y, seed=None), "completed"),
    "completed, in order": (of(X, Y, shuffle=False), "completed"),
    "diverged": (of(X, Y, max_lr=1e9, steps=30, stop_factor=1.5, smoothing=0.0), "diverged"),
    "a broken batch": (of(X, NAN, shuffle=False), "completed"),
    "a broken batch, without a seed": (of(X, NAN, seed=None, steps=4), "completed"),
    "NaN": (of(np.tile(X, (3, 1)), np.vstack([Y[:8], np.full((52, 1), np.nan)]), shuffle=False), "non_finite"),
    "overflow": (of(X, Y, max_lr=1e30), "non_finite"),
    "NaN at once": (of(X, np.full_like(Y, np.nan)), RangeTestError),
    "stopped by the user": (of(X, Y, on_step=lambda test: test.stop("interrupted")), "interrupted"),
    "error after step 1": (of(X, Y, on_step=raising(ZeroDivisionError(), 1)), ZeroDivisionError),
    "error after the last step": (of(X, Y, on_step=raising(ZeroDivisionError(), STEPS)), ZeroDivisionError),
    "Ctrl-C after step 1": (of(X, Y, on_step=raising(KeyboardInterrupt(), 1)), KeyboardInterrupt),
    "Ctrl-C after step 5": (of(X, Y, on_step=raising(KeyboardInterrupt(), 5)), KeyboardInterrupt),
    "Ctrl-C after the last step": (of(X, Y, on_step=raising(KeyboardInterrupt(), STEPS)), KeyboardInterrupt),
    "error in the loss": (with_a_failing_loss, ArithmeticError),
    "error in a generator": (of(rows_that_end_in_an_error), Exception),
    "error in a data set": (of(Broken), Exception),
    "a wrong name": (of(X, Y, monitor="nope"), RangeTestError),
}


def disturb(model, outcome):
    """Run a range test that ends as the table says."""
    test, end = OUTCOMES[outcome]
    arguments = {"min_lr": 1e-3, "max_lr": 2.0, "steps": STEPS, "batch_size": 4, "stop_factor": None}
    if isinstance(end, str):
        assert test(model, **arguments).stop_reason == end
    else:
        with pytest.raises(end):
            test(model, **arguments)


@pytest.fixture(scope="module")
def undisturbed():
    """How training goes without a range test: computed once for every way of training."""
    known = {}

    def trained(name, epochs_before, built):
        key = name, epochs_before, built
        if key not in known:
            known[key] = run(name, epochs_before, built=built)
        return known[key]

    return trained


def run(name, epochs_before, *, built=True, outcome=None):
    seed(5)
    model = make(OPTIMIZERS[name](), built=built)
    if epochs_before:
        fit(model, epochs_before)
    if outcome is not None:
        disturb(model, outcome)
    history = fit(model, epochs=2)
    variables = [*model.variables, *model.metrics_variables, *model.optimizer.variables]
    return history, [np.array(ops.convert_to_numpy(variable)) for variable in variables], draws()


@pytest.fixture(scope="module")
def trained():
    """A model in the middle of its training."""
    model = make(OPTIMIZERS["Adam"]())
    fit(model)
    return model


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_a_trained_model_is_as_it_was_whatever_happened(outcome, trained, state_of):
    before = state_of(trained), torch_gradients(trained), attributes(trained), torch_modes(trained)
    generators = random.getstate(), np.random.get_state()[1].tolist()
    disturb(trained, outcome)
    assert equal(before[0], state_of(trained))
    assert equal(before[1], torch_gradients(trained))
    assert before[2:] == (attributes(trained), torch_modes(trained))
    assert generators == (random.getstate(), np.random.get_state()[1].tolist())


@pytest.mark.parametrize("outcome", ["completed", "Ctrl-C after step 5"])
def test_training_goes_on_as_if_there_had_been_no_test(outcome, undisturbed):
    history, state, numbers = run("Adam", 1, outcome=outcome)
    wanted = undisturbed("Adam", 1, True)
    assert history == wanted[0]
    assert equal(state, wanted[1])
    assert numbers == wanted[2]


@pytest.mark.parametrize(
    ("built", "outcome"),
    [(True, "completed"), (True, "error in the loss"), (False, "overflow"), (False, "Ctrl-C after step 5")],
    ids=lambda value: {True: "with an Input", False: "without an Input"}.get(value, value),
)
def test_a_fresh_model_trains_as_if_there_had_been_no_test(built, outcome, undisturbed):
    history, state, numbers = run("momentum", 0, built=built, outcome=outcome)
    wanted = undisturbed("momentum", 0, built)
    assert history == wanted[0]
    assert equal(state, wanted[1])
    assert numbers == wanted[2]


@pytest.mark.parametrize(
    ("name", "epochs_before"),
    # With a moving average of weights, Keras itself fails on JAX in the second fit.
    [("schedule", 0), ("schedule", 1), ("accumulation", 1), ("loss scaling", 1), ("moving average", 0)],
    ids=lambda value: {0: "fresh", 1: "trained"}.get(value, value),
)
def test_every_optimizer_goes_on_as_it_was(name, epochs_before, undisturbed):
    history, state, numbers = run(name, epochs_before, outcome="completed")
    wanted = undisturbed(name, epochs_before, True)
    assert history == wanted[0]
    assert equal(state, wanted[1])
    assert numbers == wanted[2]


def test_training_after_a_test_is_deterministic_at_all(undisturbed):
    """The comparisons above are worth something: another seed gives other numbers."""
    seed(6)
    model = make(OPTIMIZERS["momentum"]())
    assert fit(model, epochs=2) != undisturbed("momentum", 0, True)[0]


def test_the_state_of_a_fresh_model_is_that_of_a_built_one():
    model = make(OPTIMIZERS["Adam"]())
    weights = model.get_weights()
    names = set(attributes(model))
    disturb(model, "completed")
    assert equal(weights, model.get_weights())
    assert set(attributes(model)) == names
    assert "history" not in vars(model)
    assert model.train_function is None
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 0
    assert float(ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.01)
    assert not any(np.any(ops.convert_to_numpy(metric)) for metric in model.metrics_variables)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras forbids steps_per_execution > 1 on torch")
def test_steps_per_execution_is_put_back_after_an_error():
    model = make(OPTIMIZERS["Adam"]())
    model.steps_per_execution = 5
    disturb(model, "Ctrl-C after step 1")
    assert model.steps_per_execution == 5


@pytest.mark.skipif(BACKEND != "torch", reason="only torch has modules")
@pytest.mark.parametrize("outcome", ["completed", "Ctrl-C after step 5"])
@pytest.mark.parametrize("training", [True, False], ids=["train mode", "eval mode"])
def test_a_module_of_torch_keeps_its_statistics_and_its_mode(training, outcome):
    import torch

    norm, dropout = torch.nn.BatchNorm1d(5), torch.nn.Dropout(0.5)
    wrap = keras.layers.TorchModuleWrapper
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(5), wrap(norm), wrap(dropout)])
    model.add(keras.layers.Dense(1))
    model.compile("sgd", SquaredError())
    fit(model)
    model.train(), norm.train(training), dropout.train(not training)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    disturb(model, outcome)
    assert (model.training, norm.training, dropout.training) == (True, training, not training)
    for name, value in norm.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("torch_too", [False, True], ids=["as loaded", "with torch"])
def test_every_random_number_generator_stays(torch_too):
    if torch_too:
        pytest.importorskip("torch")
    seed(8)
    model = make(OPTIMIZERS["Adam"]())
    fit(model)
    for outcome in (None, "completed", "diverged", "Ctrl-C after step 5", "NaN at once"):
        seed(21)
        # Half way into their streams, and not at their beginning.
        draws()
        if outcome is not None:
            disturb(model, outcome)
        numbers = draws(), draws()
        if outcome is None:
            wanted = numbers
        assert numbers == wanted


def test_unseeded_generators_are_left_alone():
    """Nobody has seeded anything: what was random stays random, and no seed is left behind."""
    model = make(OPTIMIZERS["Adam"]())
    disturb(model, "completed")
    first = draws()
    disturb(model, "completed")
    second = draws()
    assert all(one != other for one, other in zip(first, second, strict=True))


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = make(OPTIMIZERS["Adam"]())
    for outcome in ("completed", "Ctrl-C after step 5"):
        disturb(model, outcome)
    assert list(tmp_path.iterdir()) == []
