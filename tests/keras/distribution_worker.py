"""Training on several devices: `python distribution_worker.py FILE` writes what `results` gives there.

The devices are virtual ones of the processor, which have to be set before the backend starts: hence a process of its
own. The same `results` on one device are what it is compared with.
"""

import contextlib
import gc
import json
import os
import sys
from pathlib import Path

DEVICES = 2
MADE_HERE = __name__ == "__main__"
if MADE_HERE and os.environ["KERAS_BACKEND"] == "jax":
    devices = f"--xla_force_host_platform_device_count={DEVICES}"
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {devices}"

import keras  # noqa: E402
import numpy as np  # noqa: E402

from cyclr import Cyclical  # noqa: E402
from cyclr.keras import LearningRate, ScheduleCallback, range_test  # noqa: E402

BACKEND = keras.backend.backend()
RNG = np.random.default_rng(3)
X = RNG.normal(size=(48, 3)).astype("float32")
Y = (X @ np.array([[1.0], [-2.0], [0.5]]) + 0.3 * RNG.normal(size=(48, 1))).astype("float32")
BATCH, UPDATES = 8, 12
CYCLE = Cyclical(0.125, 0.5, 3)
MOMENTUM = CYCLE.mirrored(0.5, 0.9)
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 14, "stop_factor": None, "repeats": 1, "batch_size": BATCH}


def scope_of_all_devices():
    """What models are made in, and nothing else, as in Keras' guides."""
    if not MADE_HERE:
        return contextlib.nullcontext
    if BACKEND == "jax":
        keras.distribution.set_distribution(keras.distribution.DataParallel())
        return contextlib.nullcontext
    import tensorflow as tf

    (processor,) = tf.config.list_physical_devices("CPU")
    tf.config.set_logical_device_configuration(processor, [tf.config.LogicalDeviceConfiguration()] * DEVICES)
    return tf.distribute.MirroredStrategy([f"CPU:{number}" for number in range(DEVICES)]).scope


SCOPE = scope_of_all_devices()


def compiled(layers, make_optimizer, loss="mse", **arguments):
    with SCOPE():
        model = keras.Sequential(layers())
        model.compile(make_optimizer(), loss, **arguments)
    return model


def devices_of(model):
    """How many devices hold the first weight."""
    value = model.weights[0].value
    return len(value.sharding.device_set) if BACKEND == "jax" else len(getattr(value, "values", [value]))


def mean_prediction(y_true, y_pred):
    return keras.ops.mean(y_pred, axis=-1)


def rates(make, callbacks=(), **compile_arguments):
    """What moved weight t, which update t alone moves, and by its rate; each batch is a row for every device."""

    def layers():
        return [keras.Input((UPDATES,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]

    model = compiled(layers, make, mean_prediction, **compile_arguments)
    x = np.repeat(np.eye(UPDATES, dtype="float32"), DEVICES, axis=0)
    model.fit(x, np.zeros((len(x), 1)), batch_size=DEVICES, shuffle=False, verbose=0, callbacks=list(callbacks))
    return (-model.get_weights()[0]).ravel().tolist()


def clocks():
    """By name, what every update moved its weight by."""
    sgd = keras.optimizers.SGD
    found = {
        "LearningRate": rates(lambda: sgd(LearningRate(CYCLE))),
        "ScheduleCallback": rates(lambda: sgd(0.1), [ScheduleCallback(CYCLE)]),
        "momentum": rates(lambda: sgd(0.1, momentum=0.7), [ScheduleCallback(CYCLE, MOMENTUM)]),
    }
    if BACKEND == "jax":  # MirroredStrategy can do neither, with any rate: Keras and TensorFlow raise.
        found["several steps in one call"] = rates(lambda: sgd(LearningRate(CYCLE)), steps_per_execution=4)
        found["accumulation"] = rates(lambda: sgd(LearningRate(CYCLE), gradient_accumulation_steps=2))
    return found


OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.02, momentum=0.9),
    "schedule": lambda: keras.optimizers.SGD(LearningRate(Cyclical(0.01, 0.05, 3))),
    "Adam": lambda: keras.optimizers.Adam(0.01),
}


def sweep(model, **changes):
    try:
        result = range_test(model, X, Y, **{**SWEEP, **changes})
    finally:
        gc.collect()  # TensorFlow may wait for up to a minute when it destroys an old iterator.
    return {"lr": result.lr.tolist(), "loss": result.loss.tolist(), "reason": result.stop_reason}


def linear(optimizer):
    model = compiled(lambda: [keras.Input((3,)), keras.layers.Dense(1)], OPTIMIZERS[optimizer], metrics=["mae"])
    model.layers[0].set_weights([np.array([[0.5], [0.25], [-0.5]]), np.array([0.125])])
    return model


def sweeps():
    """By name, what range tests recorded."""
    momentum = linear("momentum")
    diverging = {"max_lr": 1e3, "stop_factor": 4.0, "smoothing": 0.0}
    return {
        "momentum, shuffled": sweep(momentum, seed=5),
        "schedule": sweep(linear("schedule"), shuffle=False),
        "diverged": sweep(momentum, shuffle=False, **diverging),
    }


def random_model(optimizer):
    def layers():
        parts = [keras.layers.Dense(4), keras.layers.BatchNormalization(), keras.layers.Dropout(0.4)]
        return [keras.Input((3,)), *parts, keras.layers.Dense(1)]

    keras.utils.set_random_seed(4)
    return compiled(layers, OPTIMIZERS[optimizer], metrics=["mae"])


def values_of(model):
    variables = [*model.variables, *model.optimizer.variables]
    return [np.array(keras.ops.convert_to_numpy(variable)).tolist() for variable in variables]


def training(optimizer, disturb, *, fitted):
    """Whether `disturb` left every value as it was, all values after an epoch that followed, and the devices."""
    model = random_model(optimizer)
    if fitted:
        model.fit(X, Y, batch_size=BATCH, verbose=0)
    before = values_of(model)
    disturb(model)
    # An optimizer that has no slots yet may have got them.
    restored = values_of(model)[: len(before)] == before
    model.fit(X, Y, batch_size=BATCH, verbose=0)
    return restored, values_of(model), devices_of(model)


def interrupted(model):
    def on_step(test):
        if test.recorded == 5:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        sweep(model, on_step=on_step)


def traces():
    """By name, whether values were as before a range test, and whether training went on as without."""
    found = {}
    for optimizer, disturb, fitted in (("Adam", sweep, False), ("momentum", interrupted, True)):
        restored, values, devices = training(optimizer, disturb, fitted=fitted)
        same = values == training(optimizer, lambda model: None, fitted=fitted)[1]
        found[f"{optimizer}, {disturb.__name__}"] = {"restored": restored, "same training": same, "devices": devices}
    return found


def results():
    return {"clocks": clocks(), "sweeps": sweeps()}


if MADE_HERE:
    Path(sys.argv[1]).write_text(json.dumps({**results(), "traces": traces()}), encoding="utf-8")
