"""Every private name of Transformers is where `cyclr.torch._private_transformers` looks for it."""

import types

import pytest


def test_measure_no_memory(tmp_path):
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    from cyclr.torch import _private_transformers

    arguments = transformers.TrainingArguments(tmp_path, use_cpu=True, report_to=[], skip_memory_metrics=False)
    trainer = transformers.Trainer(torch.nn.Linear(1, 1), arguments)
    kind = type(trainer._memory_tracker)
    _private_transformers.measure_no_memory(trainer)
    assert type(trainer._memory_tracker) is kind
    assert trainer._memory_tracker.skip_memory_metrics
    assert isinstance(kind.start, types.FunctionType)
