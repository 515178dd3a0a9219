"""Return values of a function in a user's file, and the errors if it returns something else or raises."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cyclr.errors import CyclrError
from cyclr.experiments import Spec, optimizers, user_file
from cyclr.experiments import trial as trials

if importlib.util.find_spec("torch") is None:
    pytest.skip("torch is not installed", allow_module_level=True)

FILE = """
import numpy as np

{framework}

rng = np.random.default_rng(0)
y = np.arange(320) % 3
x = (np.eye(3)[y] + 0.5 * rng.normal(size=(320, 3))).astype("float32")
four = x[:240], y[:240], x[240:], y[240:]
two = (x[:240], y[:240]), (x[240:], y[240:])

def build():
    return {returned}
"""
KERAS = """
import keras
from keras import Input, Sequential
from keras.layers import Dense
from keras.losses import SparseCategoricalCrossentropy as Loss

def model(activation="softmax", units=3, size=3):
    return Sequential([Input((size,)), Dense(units, activation)])

def compiled(loss="sparse_categorical_crossentropy"):
    made = model()
    made.compile("sgd", loss, metrics=["accuracy"])
    return made

def adam(made):
    return keras.optimizers.Adam()
"""
TORCH = """
import torch
from torch.utils.data import DataLoader, TensorDataset

def model(units=3, size=3):
    return torch.nn.Sequential(torch.nn.Linear(size, units))

def adam(made):
    return torch.optim.Adam(made.parameters())

def samples(inputs, targets):
    return TensorDataset(torch.as_tensor(inputs), torch.as_tensor(targets))

class Custom(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Linear(5, 3)

    def forward(self, inputs):
        return self.inner(inputs)
"""


def trial(folder: Path, framework: str, returned: str, **changes: Any) -> Any:
    (folder / "mine.py").write_text(FILE.format(framework=framework, returned=returned))
    given = {"epochs": 2, "seeds": [0], "batch_size": 32, "range_test": {"steps": 40}, **changes}
    (made,) = Spec([{"kind": "fixed", "lr": 0.1}], workload="mine.py:build", folder=str(folder), **given).trials()
    return made


@pytest.mark.parametrize(
    ("framework", "returned", "optimizer"),
    [
        (KERAS, "compiled(), four", "SGD"),
        (KERAS, "compiled(), two", "SGD"),
        (KERAS, "[compiled(), four]", "SGD"),
        (KERAS, "model(), four", "SGD(momentum=0.9)"),
        (KERAS, "model('linear'), four", "SGD(momentum=0.9)"),
        (KERAS, "model(), four, adam(None)", "Adam"),
        (KERAS, "model(), four, 'adam', 'sparse_categorical_crossentropy'", "Adam"),
        (KERAS, "model(), Loss(), 'Adam', two", "Adam"),
        (KERAS, "model(), four, None, Loss()", "SGD(momentum=0.9)"),
        (TORCH, "model(), four", "SGD(momentum=0.9)"),
        (TORCH, "model(), two", "SGD(momentum=0.9)"),
        (TORCH, "model(), four, torch.nn.CrossEntropyLoss()", "SGD(momentum=0.9)"),
        (TORCH, "(made := model()), four, adam(made), torch.nn.functional.cross_entropy", "Adam"),
        (TORCH, "(made := model()), adam(made), two", "Adam"),
        (TORCH, "model(), (samples(*four[:2]), samples(*four[2:]))", "SGD(momentum=0.9)"),
        (
            TORCH,
            "model(), (DataLoader(samples(*four[:2]), 32), DataLoader(samples(*four[2:]), 32))",
            "SGD(momentum=0.9)",
        ),
    ],
)
def test_a_file_serves_the_range_test_and_the_comparison(
    tmp_path: Path, framework: str, returned: str, optimizer: str
) -> None:
    made = trial(tmp_path, framework, returned)
    found = trials.find_bounds(made)
    assert found.stop_reason in ("completed", "diverged")
    record = trials.run_trial(made)
    assert (record.status, record.error, record.optimizer) == ("ok", None, optimizer)
    assert record.epochs["val_accuracy"][-1] > 0.5
    (replaced,) = Spec(
        [{"kind": "fixed", "lr": 0.1}],
        workload="mine.py:build",
        folder=str(tmp_path),
        epochs=1,
        seeds=[0],
        optimizer="RMSprop",
    ).trials()
    assert trials.run_trial(replaced).optimizer == "RMSprop"


@pytest.mark.parametrize(
    ("framework", "returned"),
    [
        (KERAS, "compiled(), (x, y)"),
        (KERAS, "model(), (x, y)"),
        (TORCH, "model(), (x, y)"),
        (TORCH, "model(), samples(x, y)"),
        (TORCH, "model(), DataLoader(samples(x, y), 32)"),
    ],
)
def test_a_range_test_needs_no_validation_data_and_a_comparison_does(
    tmp_path: Path, framework: str, returned: str
) -> None:
    made = trial(tmp_path, framework, returned)
    assert len(trials.find_bounds(made).loss) > 12
    assert "mine.py:build returned no validation data" in str(trials.run_trial(made).error)


@pytest.mark.parametrize("framework", [KERAS, TORCH])
def test_a_model_in_place_of_a_function_is_named(tmp_path: Path, framework: str) -> None:
    made = trial(tmp_path, framework + "\nbuilt = model()\n", "built, four")
    made = dataclasses.replace(made, workload="mine.py:built")
    with pytest.raises(CyclrError, match=r"^mine\.py:built is a model\. Write a function that creates"):
        trials.find_bounds(made)


@pytest.mark.parametrize(("framework", "size"), [(KERAS, "(8, 8, 1)"), (TORCH, "(1, 8, 8)")])
def test_data_of_a_name_for_a_function_that_returns_only_a_model(tmp_path: Path, framework: str, size: str) -> None:
    if framework == KERAS:
        returned = f"keras.Sequential([Input({size}), keras.layers.Flatten(), Dense(10, 'softmax')])"
    else:
        # Channels come first: a convolution would not take them last.
        layers = "torch.nn.Conv2d(1, 2, 3), torch.nn.Flatten(), torch.nn.Linear(72, 10)"
        returned = f"torch.nn.Sequential({layers})"
    made = trial(tmp_path, framework, returned, data="digits", epochs=1)
    assert trials.find_bounds(made).bounds.usable
    record = trials.run_trial(made)
    assert (record.status, record.error, record.workload) == ("ok", None, "mine.py:build on digits")


@pytest.mark.parametrize(
    ("framework", "returned", "changes", "said"),
    [
        (KERAS, "None", {}, r"got a NoneType\. Is a return statement missing\?$"),
        (KERAS, "four", {}, r"must return a keras\.Model or a torch\.nn\.Module, or a tuple .*; got a ndarray\.$"),
        (KERAS, "()", {}, "got a tuple"),
        (KERAS, "model()", {}, r"returned a model without data\. Add data, such as --data digits, or return \(model, "),
        (TORCH, "model()", {}, "returned a model without data"),
        (TORCH, "model(), x, y", {}, r"two values for data, of types ndarray and ndarray\. Return \(model, data, opt"),
        (TORCH, "model(), (x, y, x)", {}, "data of mine.py:build must be .*; got a tuple of length 3"),
        (TORCH, "model(), 3", {}, "data of mine.py:build must be .*; got a int"),
        (
            TORCH,
            "model(), two, 'mse'",
            {},
            "the loss of mine.py:build must be a function in torch; got 'mse'. Return a function",
        ),
        (
            TORCH,
            "model(), (x.astype(float), y, x, y)",
            {},
            r'Double and Float\. Return float32 data: x.astype\("float32"\)\.$',
        ),
        (TORCH, "model(), two, torch.nn.MSELoss", {}, r"returned the class MSELoss\. Return an object: MSELoss\("),
        (TORCH, "model(), two", {"data": "digits"}, "data must be left out, because mine.py:build returns data; got"),
        (KERAS, "compiled(), four, 'adam'", {}, "returned a compiled model and an optimizer, which would not be used"),
        (KERAS, "compiled(), four, Loss()", {}, "returned a compiled model and a loss, which would not be used"),
        (
            KERAS,
            "model('relu'), four",
            {},
            r"a model that is not compiled, and no loss\. Call model\.compile\(\.\.\.\)",
        ),
        # Data that does not fit.
        (
            KERAS,
            "model(size=5), four",
            {},
            r"^the model of mine.py:build takes inputs of shape \(5,\); its data has \(3,",
        ),
        (KERAS, "model(), ", {"data": "digits"}, r"takes inputs of shape \(3,\); digits has \(8, 8, 1\)\.$"),
        (KERAS, "model(units=2), four", {}, "has 2 outputs; its data has 3 classes"),
        (KERAS, "Sequential([Dense(3, 'softmax')]), (x[:, None, None], y[:, None], x, y)", {}, "of shape|cannot be"),
        (
            TORCH,
            "model(size=5), four",
            {},
            r"cannot be trained on its data, inputs of shape \(3,\) and .*mat1 and mat2",
        ),
        (
            TORCH,
            "model(units=2), four",
            {},
            r"cannot be trained on its data, .*: IndexError: Target 2 is out of bounds\. Give the model an output",
        ),
    ],
)
def test_errors_name_missing_or_unfit_returned_values(
    tmp_path: Path, framework: str, returned: str, changes: dict[str, Any], said: str
) -> None:
    made = trial(tmp_path, framework, returned, **changes)
    with pytest.raises(CyclrError, match=said) as caught:
        trials.find_bounds(made)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert re.search(said.removeprefix("^"), str(trials.run_trial(made).error))


@pytest.mark.parametrize(
    ("source", "lines", "said"),
    [
        ("import numpy\nboom\ndef build(): pass\n", ["line 2, in <module>"], "NameError: name 'boom' is not defined"),
        (
            "def build():\n    return inner()\ndef inner():\n    raise ValueError('no data')\n",
            ["in build", "in inner"],
            "",
        ),
        ("import argparse, sys\nsys.exit('usage')\ndef build(): pass\n", ["line 2"], "SystemExit: usage"),
        ("import neighbour\ndef build(): pass\n", ["mine.py", "neighbour.py"], "ZeroDivisionError"),
        ("import typo\ndef build(): pass\n", ["mine.py", "typo.py"], "SyntaxError"),
        (
            "import cyclr\ndef build():\n    return cyclr.Cyclical(1, 0.1, 5)\n",
            ["in build"],
            "ValueError: max_lr must be greater than base_lr",
        ),
        (
            "def build():\n    try:\n        1 / 0\n    except Exception as error:\n        raise OSError from error\n",
            ["line 3", "line 5"],
            "direct cause",
        ),
        (
            TORCH + "x, y = torch.zeros(64, 3), torch.zeros(64)\ndef build():\n    return Custom(), (x, y, x, y)\n",
            ["in forward"],
            "RuntimeError: mat1 and mat2 shapes cannot be multiplied",
        ),
    ],
)
def test_an_error_in_the_file_has_its_own_traceback_and_no_other(
    tmp_path: Path, source: str, lines: list[str], said: str
) -> None:
    (tmp_path / "neighbour.py").write_text("1 / 0\n")
    (tmp_path / "typo.py").write_text("def (\n")
    (tmp_path / "mine.py").write_text(source)
    given = {"workload": "mine.py:build", "folder": str(tmp_path), "epochs": 1, "seeds": [0], "metric": "val_loss"}
    (made,) = Spec([{"kind": "fixed", "lr": 0.1}], **given).trials()
    for name in ("mine", "neighbour", "typo"):
        sys.modules.pop(name, None)
    with pytest.raises(CyclrError) as caught:
        trials.find_bounds(made)
    traceback = str(caught.value)
    assert traceback.startswith("mine.py:build failed:\nTraceback (most recent call last):\n")
    assert said in traceback
    assert re.search(".*".join(map(re.escape, lines)), traceback, flags=re.DOTALL)
    files = {Path(name).parent for name in re.findall(r'File "(.*?)"', traceback)}
    assert files == {tmp_path}
    record = trials.run_trial(made)
    assert record.traceback is not None
    assert {Path(name).parent for name in re.findall(r'File "(.*?)"', record.traceback)} == {tmp_path}


def test_colors_and_the_call_of_a_keras_error_are_left_out() -> None:
    said = (
        "Exception encountered when calling Sequential.call().\n\n\x1b[1mInput 0 of layer is incompatible\x1b[0m\n\n"
        "Arguments received by Sequential.call():\n  • inputs=tf.Tensor(shape=(32, 28, 28, 1))\n  • mask=None"
    )
    assert user_file.plain_text(said) == "Input 0 of layer is incompatible"
    traced = (
        'ValueError: in user code:\n\n    File "/home/me/site-packages/cyclr/keras/_private.py", line 264, in None  *\n'
        '        lambda inputs: model(inputs)\n    File "/home/mine.py", line 12, in call\n        return self.d(x)\n\n'
        "    ValueError: Exception encountered when calling Odd.call().\n    \n    Dimensions must be equal.\n    \n"
        "    Arguments received by Odd.call():\n      • x=tf.Tensor(shape=(None, 8, 8, 1), dtype=float32)\n"
    )
    assert user_file.plain_text(traced) == "ValueError: Dimensions must be equal."


@pytest.mark.parametrize("frameworks", [("keras",), ("torch",), ("keras", "torch")])
def test_optimizers_are_known_without_importing_a_framework(frameworks: tuple[str, ...]) -> None:
    code = (
        "import sys; from cyclr.experiments import optimizers\n"
        f"optimizers.check({{'name': 'adam', 'weight_decay': 0.1}}, {frameworks})\n"
        f"try: optimizers.check({{'name': 'Addam'}}, {frameworks})\n"
        "except Exception as error: print(error)\n"
        f"try: optimizers.check({{'name': 'SGD', 'momentun': 0.9}}, {frameworks})\n"
        "except Exception as error: print(error)\n"
        "print({'keras', 'torch', 'tensorflow'} & {*sys.modules})"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    unknown, argument, imported = said.splitlines()
    assert "Did you mean 'Adam'?" in unknown
    assert "optimizer SGD has no option 'momentun'. Did you mean 'momentum'?" in argument
    assert imported == "set()"


@pytest.mark.parametrize(("framework", "package"), [("keras", "optimizers"), ("torch", "optim")])
def test_every_optimizer_of_a_framework_is_known_with_its_arguments(framework: str, package: str) -> None:
    module = importlib.import_module(f"{framework}.{package}")
    kinds = [kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, module.Optimizer)]
    assert len(kinds) > 10
    for kind in kinds:
        if kind is not module.Optimizer:
            optimizers.check({"name": kind.__name__}, [framework])
            (file,) = (file for name, file in optimizers._sources(framework).items() if name == kind.__name__)
            assert len(optimizers._arguments(kind.__name__, file)) >= 3, kind


def test_the_frameworks_of_a_file_are_read_from_its_imports(tmp_path: Path) -> None:
    for source, found in {
        "import torch": ("torch",),
        "def build():\n    from keras import layers": ("keras",),
        "import tensorflow as tf": ("keras",),
        "import torch, keras": ("keras", "torch"),
        "from .torch import x": ("keras", "torch"),
        "import numpy as np": ("keras", "torch"),
    }.items():
        (tmp_path / "mine.py").write_text(f"{source}\n\ndef build():\n    pass\n")
        assert user_file.check("mine.py:build", tmp_path / "mine.py") == found, source


@pytest.mark.parametrize(
    "source",
    [
        "build = lambda: 1",
        "if True:\n    def build(): pass",
        "from elsewhere import build",
        "from elsewhere import *",
        "class build: pass",
        "import other as build",
        "def build(units=3, *args, rate=0.1, **more): pass",
    ],
)
def test_a_function_may_be_made_in_any_way(tmp_path: Path, source: str) -> None:
    (tmp_path / "mine.py").write_text(f"{source}\n")
    user_file.check("mine.py:build", tmp_path / "mine.py")


def test_arrays_of_one_shape_are_not_taken_for_batches() -> None:
    from cyclr.experiments.workloads import _halves

    x, y = np.zeros((8, 3)), np.zeros(8)
    assert _halves((x, y), "w") == ((x, y), None)
    assert _halves([[1], [2]], "w") == ([1], [2])
