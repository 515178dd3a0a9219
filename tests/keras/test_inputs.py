"""Everything that `fit` takes, `range_test` takes, and it gives the same losses in whatever form the data comes."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops

from cyclr import RangeTestError
from cyclr.keras import range_test

pytestmark = pytest.mark.any_backend

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(11)
ROWS, BATCH = 24, 4
X = RNG.normal(size=(ROWS, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(ROWS, 1))).astype("float32")
LABELS = (Y > 0).astype("int32")
WEIGHT = RNG.uniform(0.2, 3.0, size=ROWS).astype("float32")
# More steps than the data has batches.
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 8, "stop_factor": None, "shuffle": False}


def batches(*columns):
    for start in range(0, ROWS, BATCH):
        yield tuple(column[start : start + BATCH] for column in columns)


def forever(*columns):
    while True:
        yield from batches(*columns)


class Finite(keras.utils.PyDataset):
    def __init__(self, *columns, **arguments):
        super().__init__(**arguments)
        self.batches = list(batches(*columns))

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


class Infinite(Finite):
    num_batches = None

    def __getitem__(self, index):
        return self.batches[index % len(self.batches)]


def data_frames(*columns):
    pandas = pytest.importorskip("pandas")
    return tuple(pandas.DataFrame(column) for column in columns)


def tensors(*columns):
    return tuple(ops.convert_to_tensor(column) for column in columns)


def tf_data(*columns, drop_remainder=False):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(columns).batch(BATCH, drop_remainder)


def tf_data_of_unknown_length(*columns):
    tf = pytest.importorskip("tensorflow")
    shapes = tuple(tf.TensorSpec((None, *column.shape[1:]), column.dtype) for column in columns)
    return tf.data.Dataset.from_generator(lambda: batches(*columns), output_signature=shapes)


def data_loader(*columns):
    data = pytest.importorskip("torch").utils.data
    torch = pytest.importorskip("torch")
    return data.DataLoader(data.TensorDataset(*map(torch.from_numpy, columns)), batch_size=BATCH)


def data_loader_of_unknown_length(*columns):
    data = pytest.importorskip("torch").utils.data

    class Stream(data.IterableDataset):
        def __iter__(self):
            return zip(*columns, strict=True)

    return data.DataLoader(Stream(), batch_size=BATCH)


ONE_BY_ONE = {
    "tf.data": tf_data,
    "tf.data, repeated": lambda *columns: tf_data(*columns).repeat(),
    "tf.data of unknown length": tf_data_of_unknown_length,
    "PyDataset": Finite,
    "PyDataset, infinite": Infinite,
    "generator": forever,
    "DataLoader": data_loader,
    "DataLoader of unknown length": data_loader_of_unknown_length,
}
WHOLE = {
    "arrays": lambda *columns: columns,
    "arrays in float64": lambda *columns: tuple(column.astype("float64") for column in columns),
    "tensors": tensors,
    "data frames": data_frames,
}


@pytest.mark.every_backend
@pytest.mark.parametrize("kind", [*WHOLE, *ONE_BY_ONE])
def test_every_form_of_data_gives_the_same_losses(kind, linear_model, losses_by_hand):
    model = linear_model("sgd")
    if kind in WHOLE:
        result = range_test(model, *WHOLE[kind](X, Y), **SWEEP, batch_size=BATCH)
    else:
        result = range_test(model, ONE_BY_ONE[kind](X, Y), **SWEEP)
    assert (result.stop_reason, len(result.loss)) == ("completed", 8)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=BATCH), rtol=1e-5)


@pytest.mark.every_backend
def test_batches_may_come_from_several_workers(linear_model, losses_by_hand):
    result = range_test(linear_model("sgd"), Finite(X, Y, workers=2), **SWEEP)
    # On JAX and torch, the first fit of Keras begins with the second batch then.
    wanted = [
        losses_by_hand(result.lr, np.roll(X, -shift, axis=0), np.roll(Y, -shift, axis=0), batch_size=BATCH)
        for shift in (0, BATCH)
    ]
    assert any(np.allclose(result.loss, losses, rtol=1e-5) for losses in wanted)


@pytest.mark.parametrize("kind", ["arrays", *ONE_BY_ONE])
def test_sample_weights_count(kind, linear_model, losses_by_hand):
    model = linear_model("sgd")
    if kind == "arrays":
        result = range_test(model, X, Y, **SWEEP, batch_size=BATCH, sample_weight=WEIGHT)
    else:
        result = range_test(model, ONE_BY_ONE[kind](X, Y, WEIGHT), **SWEEP)
    wanted = losses_by_hand(result.lr, X, Y, batch_size=BATCH, sample_weight=WEIGHT)
    np.testing.assert_allclose(result.loss, wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "PyDataset"])
def test_class_weights_count(kind, linear_model, losses_by_hand):
    model = linear_model("sgd")
    sweep = {**SWEEP, "class_weight": {0: 0.5, 1: 3.0}}
    if kind == "arrays":
        result = range_test(model, X, LABELS, **sweep, batch_size=BATCH)
    else:
        result = range_test(model, ONE_BY_ONE[kind](X, LABELS), **sweep)
    weight = np.where(LABELS == 1, 3.0, 0.5)
    wanted = losses_by_hand(result.lr, X, LABELS, batch_size=BATCH, sample_weight=weight)
    np.testing.assert_allclose(result.loss, wanted, rtol=1e-5)


def model_of_parts(linear_model, *, named):
    """The linear model with its three inputs split into one and two, by name or not; and so the output."""
    inputs = [keras.Input((1,), name="left"), keras.Input((2,), name="right")]
    output = keras.layers.Dense(1, name="out")(keras.layers.concatenate(inputs))
    model = keras.Model(
        {"left": inputs[0], "right": inputs[1]} if named else inputs, {"out": output} if named else output
    )
    model.set_weights(linear_model("sgd").get_weights())
    model.compile("sgd", loss={"out": "mse"} if named else "mse")
    return model


NESTED = {
    "lists": ([X[:, :1], X[:, 1:]], Y, False),
    "tuples": ((X[:, :1], X[:, 1:]), Y, False),
    "dicts": ({"left": X[:, :1], "right": X[:, 1:]}, {"out": Y}, True),
}


def part(nested, start):
    return keras.tree.map_structure(lambda array: array[start : start + BATCH], nested)


class Parts(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return ROWS // BATCH

    def __getitem__(self, index):
        return part(self.x, index * BATCH), part(self.y, index * BATCH)


@pytest.mark.parametrize(
    ("structure", "form"),
    # In batches, Keras takes lists for tensors.
    [("lists", "whole"), *itertools.product(["tuples", "dicts"], ["whole", "tf.data", "PyDataset", "generator"])],
)
def test_several_inputs_and_named_outputs(structure, form, linear_model, losses_by_hand):
    x, y, named = NESTED[structure]
    if form == "whole":
        data = {"x": x, "y": y, "batch_size": BATCH}
    elif form == "tf.data":
        tf = pytest.importorskip("tensorflow")
        data = {"x": tf.data.Dataset.from_tensor_slices((x, y)).batch(BATCH)}
    elif form == "PyDataset":
        data = {"x": Parts(x, y)}
    else:
        data = {"x": ((part(x, i), part(y, i)) for i in itertools.cycle(range(0, ROWS, BATCH)))}
    result = range_test(model_of_parts(linear_model, named=named), **data, **SWEEP)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=BATCH), rtol=1e-5)


class SquareOfOutput(keras.layers.Layer):
    """A layer with a loss of its own: the model needs no targets."""

    def call(self, inputs):
        self.add_loss(ops.mean(ops.square(inputs)))
        return inputs


@pytest.mark.parametrize("form", ["array", "tf.data", "generator"])
def test_inputs_without_targets(form, linear_model, losses_by_hand):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1), SquareOfOutput()])
    model.set_weights(linear_model("sgd").get_weights())
    model.compile("sgd", loss=None)
    data = {"array": lambda: X, "tf.data": lambda: tf_data(X), "generator": lambda: forever(X)}[form]()
    result = range_test(model, data, **SWEEP, batch_size=BATCH if form == "array" else None)
    wanted = losses_by_hand(result.lr, X, np.zeros_like(Y), batch_size=BATCH)
    np.testing.assert_allclose(result.loss, wanted, rtol=1e-5)


@pytest.mark.parametrize("kind", [*WHOLE, *ONE_BY_ONE])
def test_a_model_without_weights_yet_is_built_from_the_data(kind):
    model = keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    if kind in WHOLE:
        result = range_test(model, *WHOLE[kind](X, Y), **SWEEP, batch_size=BATCH)
    else:
        result = range_test(model, ONE_BY_ONE[kind](X, Y), **SWEEP)
    assert (result.stop_reason, len(result.loss)) == ("completed", 8)
    assert result.loss[0] == pytest.approx(float(np.mean(np.square(model.predict(X[:BATCH], verbose=0) - Y[:BATCH]))))


SHAPES = {
    "arrays": lambda x: (x, Y),
    "arrays with a remainder": lambda x: (x[:-1], Y[:-1]),
    "tf.data": lambda x: (tf_data(x, Y),),
    "tf.data, static": lambda x: (tf_data(x, Y, drop_remainder=True),),
    "PyDataset": lambda x: (Finite(x, Y),),
    "generator": lambda x: (forever(x, Y),),
}


@pytest.mark.parametrize(
    "eager", [pytest.param(False, marks=pytest.mark.every_backend), True], ids=["compiled", "eager"]
)
@pytest.mark.parametrize("kind", SHAPES)
def test_a_model_without_weights_is_built_as_fit_builds_it(kind, eager):
    """Not for a batch of one row."""
    models, shapes = [], []
    for tested in (True, False):
        keras.utils.set_random_seed(4)
        model = keras.Sequential([keras.layers.Dense(2, "relu"), keras.layers.Dropout(0.2), keras.layers.Dense(1)])
        model.compile("sgd", loss="mse", metrics=["mae"], run_eagerly=eager)
        sizes = {"batch_size": BATCH} if kind.startswith("arrays") else {}
        if tested:
            range_test(model, *SHAPES[kind](X), **SWEEP, **sizes)
            assert model.built
            shapes.append(model.input_shape)
        seed = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: keras.utils.set_random_seed(5))
        model.fit(*SHAPES[kind](X), **sizes, steps_per_epoch=3, shuffle=False, callbacks=[seed], verbose=0)
        models.append(model)
    for one, other in zip(*(model.get_weights() for model in models), strict=True):
        np.testing.assert_array_equal(one, other)
    assert shapes == [models[0].input_shape] == [models[1].input_shape]
    assert models[0].get_build_config() == models[1].get_build_config()


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow keeps and trains the state of a recurrent layer")
@pytest.mark.parametrize("kind", ["arrays", "tf.data, static"])
def test_a_stateful_layer_without_weights_is_built_for_the_batch(kind):
    x, results = X[..., None], []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        model = keras.Sequential([keras.layers.LSTM(2, stateful=True), keras.layers.Dense(1)])
        model.compile("sgd", loss="mse")
        sizes = {"batch_size": BATCH} if kind == "arrays" else {}
        if not results:
            range_test(model, *SHAPES[kind](x), **SWEEP, **sizes)
        results.append(model.fit(*SHAPES[kind](x), **sizes, shuffle=False, verbose=0).history)
    assert results[0] == results[1]


class OwnStep(keras.Model):
    """A model without a forward pass, of parts that only its training step builds."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(1)

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = ops.mean(ops.square(self.dense(x) - y))
        weights = self.dense.trainable_variables
        self.optimizer.apply(tape.gradient(loss, weights), weights)
        return {"loss": loss}


@pytest.mark.every_backend
@pytest.mark.skipif(BACKEND != "tensorflow", reason="elsewhere Keras itself cannot build such a model")
def test_a_model_that_only_its_training_step_builds_is_as_it_was():
    histories = []
    for _ in range(2):
        keras.utils.set_random_seed(4)
        model = OwnStep()
        model.compile(keras.optimizers.Adam(0.1))
        if not histories:
            range_test(model, X, Y, **SWEEP, batch_size=BATCH)
        histories.append(model.fit(X, Y, batch_size=BATCH, shuffle=False, epochs=2, verbose=0).history)
    assert histories[0] == histories[1]


@pytest.mark.every_backend
@pytest.mark.parametrize("trained", [False, True], ids=["fresh", "trained"])
@pytest.mark.parametrize("kind", ["arrays", "PyDataset", "tf.data", "generator", "metrics"])
def test_a_forgotten_y_is_named(kind, trained, linear_model):
    model = linear_model("sgd", metrics=["mae"] if kind == "metrics" else None)
    if trained:
        model.fit(X, Y, verbose=0)
    data = X if kind in ("arrays", "metrics") else ONE_BY_ONE[kind](X)
    before = model.get_weights(), set(vars(model))
    with pytest.raises(ValueError, match=r"y must hold the targets .*; got y=None .*Call range_test\(model, x, y\)"):
        range_test(model, data, **SWEEP)
    for one, other in zip(before[0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(vars(model)) == before[1]
    model.fit(X, Y, verbose=0)


@pytest.mark.every_backend
def test_a_model_that_takes_its_targets_from_its_inputs_needs_no_y():
    class Autoencoder(keras.Sequential):
        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
            return super().compute_loss(y=x, y_pred=y_pred)

    model = Autoencoder([keras.Input((3,)), keras.layers.Dense(3)])
    model.compile("sgd", "mse")
    assert range_test(model, X, **SWEEP).stop_reason == "completed"


@pytest.mark.every_backend
def test_the_rows_of_the_validation_are_not_tested(linear_model, losses_by_hand):
    y = np.where(np.arange(ROWS)[:, None] >= 16, np.float32("nan"), Y)
    split = {**SWEEP, "steps": 10, "validation_split": 0.33}  # 24 * 0.67 is 16.08
    result = range_test(linear_model("sgd"), X, y, **split, batch_size=BATCH)
    assert (result.stop_reason, result.left_out) == ("completed", ())
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X[:16], Y[:16], batch_size=BATCH), rtol=1e-5)
    unbuilt = keras.Sequential([keras.layers.Dense(1)])
    unbuilt.compile("sgd", "mse")
    assert range_test(unbuilt, X, y, **{**split, "shuffle": True}, batch_size=BATCH).left_out == ()
    with pytest.raises(ValueError, match="validation_split"):
        range_test(linear_model("sgd"), Finite(X, Y), **split)


@pytest.mark.parametrize(
    "kind", ["arrays", "PyDataset", "PyDataset, infinite", "tf.data", "tf.data, repeated", "generator"]
)
@pytest.mark.parametrize("steps", [1, pytest.param(4, marks=pytest.mark.every_backend), 9])
def test_steps_per_epoch_changes_no_loss(kind, steps, linear_model, losses_by_hand):
    data, sizes = ((X, Y), {"batch_size": BATCH}) if kind == "arrays" else ((ONE_BY_ONE[kind](X, Y),), {})
    sweep = {**SWEEP, "steps": 14, "steps_per_epoch": steps}
    result = range_test(linear_model("sgd"), *data, **sweep, **sizes)
    assert (result.stop_reason, len(result.loss)) == ("completed", 14)
    np.testing.assert_allclose(result.loss, losses_by_hand(result.lr, X, Y, batch_size=BATCH), rtol=1e-5)


@pytest.mark.every_backend
def test_a_model_that_keras_calls_built_may_have_no_weights_yet(built_by_shape):
    model = built_by_shape("sgd", (None, 3))
    result = range_test(model, X, Y, **SWEEP, batch_size=BATCH)
    assert (result.stop_reason, len(result.loss)) == ("completed", 8)
    assert result.loss[0] == pytest.approx(float(np.mean(np.square(model.predict(X[:BATCH], verbose=0) - Y[:BATCH]))))
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == ROWS // BATCH


@pytest.mark.parametrize("holder", ["loader", "sampler", "batch sampler"])
def test_a_generator_of_the_data_loader_s_own_is_seeded_and_put_back(holder, linear_model):
    torch = pytest.importorskip("torch")
    data = torch.utils.data

    def shuffled():
        rows, generator = data.TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)), torch.Generator()
        generator.manual_seed(3)
        if holder == "loader":
            return data.DataLoader(rows, BATCH, shuffle=True, generator=generator)
        sampler = data.RandomSampler(rows, generator=generator)
        if holder == "sampler":
            return data.DataLoader(rows, BATCH, sampler=sampler)
        return data.DataLoader(rows, batch_sampler=data.BatchSampler(sampler, BATCH, drop_last=False))

    loader, plain = shuffled(), shuffled()
    first, again, other = (range_test(linear_model("sgd"), loader, **SWEEP, seed=seed) for seed in (0, 0, 1))
    assert first == again
    # torch takes 64 bits.
    assert range_test(linear_model("sgd"), loader, **SWEEP, seed=2**64 + 1) == other
    assert not np.array_equal(first.loss, other.loss)
    with_test, without = linear_model("sgd"), linear_model("sgd")
    with_test.fit(loader, shuffle=False, verbose=0), without.fit(plain, shuffle=False, verbose=0)
    np.testing.assert_array_equal(with_test.get_weights()[0], without.get_weights()[0])


@pytest.mark.every_backend
@pytest.mark.parametrize("rate", ["number", "schedule"])
def test_data_of_unknown_length_gets_every_rate(rate, probe):
    """On TensorFlow, Keras counts an update that never happens whenever such data ends."""
    tf = pytest.importorskip("tensorflow")
    schedule = keras.optimizers.schedules.CosineDecay(0.1, 100)
    run = probe(keras.optimizers.SGD(schedule if rate == "schedule" else 0.1), 6)
    data = tf.data.Dataset.from_tensor_slices((run.x, run.y)).batch(1).filter(lambda x, y: True)
    used = []
    result = range_test(
        run.model, data, min_lr=1e-2, max_lr=1.0, steps=18, on_step=lambda test: used.append(run.rates.sum())
    )
    np.testing.assert_allclose(np.diff(used, prepend=0), result.lr, rtol=1e-4)


def test_repeats_of_a_generator_are_refused_before_anything_is_read(linear_model):
    data = forever(X, Y)
    with pytest.raises(
        ValueError, match=r"repeats must be 1 for a generator.*got repeats=2\. Pass data that can be read"
    ):
        range_test(linear_model("sgd"), data, **SWEEP, repeats=2)
    np.testing.assert_array_equal(next(data)[0], X[:BATCH])
    assert range_test(linear_model("sgd"), data, **SWEEP, repeats=1).stop_reason == "completed"


def test_the_whole_data_set_is_used_before_it_repeats(probe):
    run = probe(keras.optimizers.SGD(0.1), 12)
    seen = []
    range_test(
        run.model,
        run.x,
        run.y,
        min_lr=0.5,
        max_lr=0.6,
        steps=24,
        batch_size=1,
        on_step=lambda test: seen.append(run.rates > 0) if test.recorded == 12 else None,
    )
    assert np.all(seen[0])


EMPTY = {
    "arrays": lambda: (X[:0], Y[:0]),
    "tf.data": lambda: (tf_data(X, Y).take(0),),
    "tf.data of unknown length": lambda: (tf_data_of_unknown_length(X, Y).filter(lambda x, y: False),),
    "PyDataset": lambda: (type("Empty", (Finite,), {"__len__": lambda self: 0})(X, Y),),
    "generator": lambda: (row for row in ()),
    "DataLoader": lambda: (data_loader(X[:0], Y[:0]),),
}


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.parametrize("built", [True, False], ids=["built", "not built"])
def test_no_data_is_a_clear_error_and_changes_nothing(kind, built, linear_model):
    model = linear_model("sgd") if built else keras.Sequential([keras.layers.Dense(1)])
    model.compile("sgd", loss="mse")
    weights, data = model.get_weights(), EMPTY[kind]()
    data = (data,) if kind == "generator" else data
    with pytest.raises((RangeTestError, ValueError), match=r"(?i)empty|batch|length 0"):
        range_test(model, *data, **SWEEP)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert model.train_function is None
    result = range_test(model, X, Y, **SWEEP, batch_size=BATCH)
    assert result.stop_reason == "completed"
