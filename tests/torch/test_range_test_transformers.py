"""The range test of a Trainer of Transformers."""

import importlib
import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.processes import run

from cyclr._contents import Contents
from cyclr.errors import BoundsError, RangeTestError

pytestmark = pytest.mark.filterwarnings("ignore")

SHORT = {"steps": 30, "max_lr": 1.0, "repeats": 1}


@pytest.fixture(scope="module")
def parts():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    return importlib.import_module("tests.torch.range_test_transformers_parts")


def content(value, depth=4):
    """What a value holds, to compare it with itself later: numbers, tensors, generators and the identity of objects."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone().view(-1).tolist(), value.requires_grad, value.grad, str(value.device)
    if isinstance(value, torch.Generator):
        return value.get_state().tolist()
    if isinstance(value, dict):
        return [(id(name) if callable(name) else str(name), content(held, depth)) for name, held in value.items()]
    if isinstance(value, list | tuple | set):
        return [content(held, depth) for held in value]
    if isinstance(value, int | float | str | bool | None):
        return repr(value)
    inner = content(vars(value), depth - 1) if depth and hasattr(value, "__dict__") else []
    return id(value), inner


def generators():
    return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()


def everything(trainer):
    optimizer = trainer.optimizer
    # A thread that the trainer has started when it was made may still write the peak of memory.
    attributes = {name: value for name, value in vars(trainer).items() if name != "_memory_tracker"}
    return {
        "trainer": (content(attributes, 3), trainer._memory_tracker),
        "modules": [content(vars(module), 1) for module in trainer.model.modules()],
        "optimizer": optimizer and content([optimizer.param_groups, [*optimizer.state.values()]]),
        "generators": generators(),
    }


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def assert_same_run(one, other):
    states = [{**trainer.model.state_dict()} for trainer in (one, other)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert losses(one) == losses(other) != []


@pytest.fixture
def made(parts, tmp_path):
    return lambda name="plain", **more: parts.trainer(tmp_path, **{**parts.KINDS[name], **more})


NAMES = [
    *("plain", "accumulation", "bfloat16", "scaled", "label smoothing", "items", "no clipping", "strong clipping"),
    *("not of Transformers", "frozen", "own trainer", "model_init", "sequence to sequence", "iterable", "lengths"),
    *("checkpointing", "noisy embeddings", "compiled", "workers", "memory", "batch size", "data seed", "optimizer"),
    *("scheduler", "warmup", "adafactor", "sgd"),
]


def test_names_are_those_of_the_parts(parts):
    assert list(parts.KINDS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_training_after_a_test_is_training_without_one(parts, made, name):
    plain = made(name)
    plain.train()
    tested = made(name)
    before = everything(tested)
    result = parts.range_test(tested, **SHORT)
    assert len(result.loss) >= 10
    assert np.isfinite(result.loss[0])
    assert everything(tested) == before
    assert tested.callback_handler.callbacks[-1].events == []
    tested.train()
    assert_same_run(plain, tested)


@pytest.mark.parametrize("name", ["plain", "own trainer", "scaled", "bfloat16", "optimizer"])
def test_a_trainer_that_has_trained_is_left_as_it_was(parts, made, name):
    plain, tested = made(name), made(name)
    for trainer in (plain, tested):
        torch.manual_seed(4)
        trainer.train()
    before = everything(tested)
    parts.range_test(tested, **SHORT)
    assert everything(tested) == before
    for trainer in (plain, tested):
        torch.manual_seed(5)
        trainer.train()
    assert_same_run(plain, tested)


LOOPS = [
    *("accumulation", "bfloat16", "scaled", "label smoothing", "items", "strong clipping", "not of Transformers"),
    *("own trainer", "iterable", "noisy embeddings", "adafactor"),
]


@pytest.mark.parametrize("name", LOOPS)
def test_updates_are_those_of_the_trainer(parts, made, name):
    """The same rates in `train()` give the same losses."""
    tested = made(name, max_steps=20)
    torch.manual_seed(7)
    result = parts.range_test(tested, steps=20, max_lr=1.0, seed=None, repeats=1, stop_factor=None)
    rates = result.lr.tolist()
    trained = made(name, max_steps=20)
    parts.set_schedule(trained, parts.cyclr.Function(lambda step: rates[min(step, 19)], low=rates[0], high=rates[-1]))
    torch.manual_seed(7)
    trained.train()
    assert losses(trained)[: len(rates)] == pytest.approx(result.loss.tolist(), abs=1e-6)


def test_bounds_are_scheduled_over_the_whole_run(parts, made):
    trainer = made(gradient_accumulation_steps=3)
    bounds = parts.range_test(trainer, max_lr=1.0).bounds
    parts.set_schedule(trainer, bounds)
    for _ in range(2):
        trainer.train()
        rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
        assert rates == [bounds.schedule(total_steps=10)(step) for step in range(10)]


@pytest.mark.parametrize("name", ["model_init", "optimizer", "bfloat16"])
def test_a_schedule_of_ones_own_and_a_momentum_are_used(parts, made, name):
    trainer = made(name)
    cycle = parts.cyclr.Cyclical(0.001, 0.01, step_size=3)
    parts.set_schedule(trainer, cycle, momentum=cycle.mirrored(0.8, 0.9))
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    assert rates == [cycle(step) for step in range(26)]
    group = trainer.optimizer.param_groups[0]
    assert group.get("momentum", group.get("betas", [0])[0]) == cycle.mirrored(0.8, 0.9)(26)


def test_a_schedule_that_is_longer_than_the_training_is_a_warning(parts, made):
    trainer = made(max_steps=10)
    parts.set_schedule(trainer, parts.cyclr.OneCycle(0.001, 0.01, total_steps=40))
    with pytest.warns(UserWarning, match=r"total_steps=40, but train\(\) makes 10 updates: .* total_steps=10\.$"):
        trainer.train()


def test_a_scheduled_run_continues_from_a_checkpoint(parts, made, tmp_path):
    cycle = parts.cyclr.Cyclical(0.001, 0.01, step_size=5)
    whole, first, second = (made(save_strategy="steps", save_steps=7) for _ in range(3))
    for trainer in (whole, first, second):
        parts.set_schedule(trainer, cycle)
        torch.manual_seed(3)
        trainer.train(resume_from_checkpoint=None if trainer is not second else str(tmp_path / "checkpoint-14"))
    assert_same_run(whole, second)


def test_an_error_in_the_test_leaves_the_trainer_as_it_was(parts, made):
    trainer = made("accumulation")
    before = everything(trainer)

    def fail(test):
        if test.recorded == 5:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        parts.range_test(trainer, on_step=fail)
    assert everything(trainer) == before


def test_refine_takes_the_length_of_the_training(parts, made):
    trainer = made(max_steps=400)
    before = everything(trainer)
    updates = []
    parts.range_test(trainer, steps=60, max_lr=1.0, repeats=1, refine=50, on_step=updates.append)
    assert len(updates) > 60
    assert everything(trainer) == before


def test_evaluate_may_be_the_trainer_s_own(parts, made):
    trainer = made(parts={"eval_dataset": parts.rows(10)})
    before = everything(trainer)
    result = parts.range_test(
        trainer, steps=20, max_lr=1.0, repeats=1, evaluate=lambda model: trainer.evaluate()["eval_loss"]
    )
    assert np.isfinite(result.loss).all()
    assert everything(trainer) == before
    assert trainer.callback_handler.callbacks[-1].events == []


def test_groups_may_have_ranges_of_their_own(parts, made):
    result = parts.range_test(made("optimizer"), min_lr=[1e-5, 1e-6], max_lr=[1.0, 0.1], steps=30)
    assert result.swept == (1e-5, 1.0)


def test_the_result_says_what_was_tested(parts, made):
    tested = parts.range_test(made("accumulation"), **SHORT).tested
    assert tested["model"] == "GPT2LMHeadModel"
    assert tested["optimizer"].startswith("torch.optim.AdamW(")
    assert (tested["groups"], tested["batch_size"], tested["accumulate"], tested["seed"]) == (2, 4, 3, 0)


def test_a_trainer_with_auto_cycle_is_tested_too(parts, made):
    plain, tested = made(), made()
    for trainer in (plain, tested):
        trainer.add_callback(parts.AutoCycleCallback(trainer, parts.cyclr.Cyclical.over(26, 1, 1e-4, 1e-3)))
    parts.range_test(tested, **SHORT)
    for trainer in (plain, tested):
        torch.manual_seed(2)
        trainer.train()
    assert_same_run(plain, tested)


def test_lists_of_rows_are_not_copied(parts, made, monkeypatch):
    trainer = made()
    rows = trainer.train_dataset
    seen = []
    add = Contents.add

    def note(self, value):
        if isinstance(value, dict):
            seen.extend(held is rows for held in value.values())
        add(self, value)

    monkeypatch.setattr(Contents, "add", note)
    parts.range_test(trainer, **SHORT)
    assert trainer.train_dataset is rows
    assert len(seen) > 100
    assert not any(seen)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda trainer: setattr(trainer, "is_deepspeed_enabled", True), "got DeepSpeed"),
        (lambda trainer: setattr(trainer, "is_fsdp_enabled", True), "got FSDP"),
        (lambda trainer: setattr(trainer.args, "optim", "lomo"), "optim='lomo'"),
        (lambda trainer: setattr(trainer, "is_in_train", True), r"got a trainer in train\(\)"),
    ],
)
def test_trainers_that_cannot_be_restored_are_refused(parts, made, change, message):
    trainer = made()
    change(trainer)
    with pytest.raises(ValueError, match=message):
        parts.range_test(trainer)


def test_wrong_arguments_are_named(parts, made):
    trainer = made()
    with pytest.raises(TypeError, match=r"transformers\.Trainer; got GPT2LMHeadModel"):
        parts.range_test(trainer.model)
    with pytest.raises(TypeError, match="Did you mean 'steps'"):
        parts.range_test(trainer, num_iter=100)
    with pytest.raises(TypeError, match=r"Pass result\.bounds"):
        parts.set_schedule(trainer, 0.1)
    with pytest.raises(ValueError, match="steps must be"):
        parts.range_test(trainer, steps=0)
    few = parts.cyclr.Bounds(None, None, "too_few_points", "few")
    with pytest.raises(BoundsError, match="no numbers"):
        parts.set_schedule(trainer, few)


def test_targets_of_another_shape_are_an_error(parts, made):
    class Wrong(parts.Normed):
        def forward(self, input_ids, labels=None):
            output = self.embedding(input_ids).mean((1, 2), keepdim=False)[:, None]
            return {"loss": torch.nn.functional.mse_loss(output, input_ids[:, 0].float())}

    with pytest.raises(ValueError, match=r"shape of the model's output, \(4, 1\); got \(4\)"):
        parts.range_test(made(model=Wrong))


def test_the_range_test_of_torch_names_the_one_for_trainers(parts, made):
    with pytest.raises(TypeError, match=r"Write cyclr\.torch\.transformers\.range_test\(trainer\)"):
        parts.cyclr.torch.range_test(made())


def test_a_trainer_that_calls_no_callbacks_is_an_error(parts, made):
    trainer = made()
    trainer.train = lambda: None
    with pytest.raises(RangeTestError, match="on_train_begin"):
        parts.range_test(trainer)


def test_several_processes_train_after_a_test_as_without_one(tmp_path):
    pytest.importorskip("transformers")
    worker = Path(__file__).with_name("transformers_worker.py")
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run([*launcher, str(worker), str(tmp_path)])
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["wrapped"] == "DistributedDataParallel"
    assert first["tested"]["processes"] == 2
    assert first["losses"] == second["losses"]
    assert first["weights"][0] == first["weights"][1] == second["weights"][0] == second["weights"][1]
