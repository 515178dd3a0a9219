"""AutoCycle as a callback of the Trainer of Transformers."""

import importlib

import pytest
import torch

from cyclr.errors import AutoCycleError
from cyclr.torch import AutoCycle

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def parts():
    pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    return importlib.import_module("tests.torch.auto_cycle_transformers_parts")


def weights(trainer):
    return [p.detach().clone() for p in trainer.model.parameters()]


def assert_same_weights(one, other):
    assert all(torch.equal(a, b) for a, b in zip(weights(one), weights(other), strict=True))


def summed(outputs, labels, num_items_in_batch=None):
    """A loss over the items of all batches of an update, as a Trainer normalizes it."""
    return (outputs["logits"] - labels).square().sum() / num_items_in_batch


KINDS = {
    "plain": {},
    "accumulation": {"gradient_accumulation_steps": 2},
    "items": {"gradient_accumulation_steps": 2, "parts": {"compute_loss_func": summed}},
    "bfloat16": {"bf16": True},
    "sgd": {"optim": "sgd"},
    "adafactor": {"optim": "adafactor"},
    "no clipping": {"max_grad_norm": 0},
    "compiled": {"torch_compile": True, "torch_compile_backend": "eager"},
}


HIGHEST = {"sgd": [0.05]}


@pytest.mark.parametrize("name", KINDS)
def test_a_calm_run_is_the_run_with_scheduler(parts, name, tmp_path):
    cycle = parts.cycle(*HIGHEST.get(name, ()))
    auto, callback, rates = parts.with_auto(tmp_path, cycle, **KINDS[name])
    plain, plain_rates = parts.with_scheduler(tmp_path, cycle, **KINDS[name])
    for trainer in (auto, plain):
        trainer.train()
    assert callback.events == ()
    assert callback.auto.last_step == parts.STEPS - 1
    assert rates.used == plain_rates.used == [*map(cycle, range(parts.STEPS))]
    logged = [entry["learning_rate"] for entry in auto.state.log_history if "learning_rate" in entry]
    assert logged == rates.used
    assert_same_weights(auto, plain)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_the_loss_is_the_one_that_the_trainer_logs(parts, smoothing, accumulate, tmp_path, monkeypatch):
    auto, *_ = parts.with_auto(
        tmp_path,
        model=parts.Labels(),
        label_smoothing_factor=smoothing,
        gradient_accumulation_steps=accumulate,
        parts={"data_collator": parts.labelled},
    )
    seen, step = [], AutoCycle.step
    monkeypatch.setattr(AutoCycle, "step", lambda self, loss: (seen.append(float(loss)), step(self, loss)))
    auto.train()
    assert seen == [entry["loss"] for entry in auto.state.log_history if "loss" in entry]


def test_a_bad_batch_costs_that_batch_and_not_the_rate(parts, tmp_path):
    auto, callback, _ = parts.with_auto(tmp_path, broken=20)
    auto.train()
    assert [event.what for event in callback.events] == ["left_out"]
    assert callback.auto.factor == 1
    assert all(torch.isfinite(weight).all() for weight in weights(auto))


def test_a_rate_that_is_too_high_is_lowered_and_logged(parts, tmp_path):
    auto, callback, rates = parts.with_auto(tmp_path, parts.cycle(10.0), optim="sgd", max_grad_norm=0)
    auto.train()
    assert "lowered" in {event.what for event in callback.events}
    assert [entry["learning_rate"] for entry in auto.state.log_history if "learning_rate" in entry] == rates.used
    assert callback.auto.factor < 1


@pytest.mark.parametrize("stop", [5, 20, 21, 22])
def test_a_run_goes_on_from_a_checkpoint(parts, stop, tmp_path):
    whole, callback, rates = parts.with_auto(tmp_path / "whole", broken=20)
    whole.train()
    half, *_ = parts.with_auto(tmp_path / "half", broken=20, stop=stop)
    half.train()
    rest, resumed, rest_rates = parts.with_auto(tmp_path / "half", broken=20)
    rest.train(resume_from_checkpoint=True)
    assert resumed.events == callback.events != ()
    assert resumed.auto.last_step == callback.auto.last_step
    assert rest_rates.used == rates.used[stop:]
    assert_same_weights(rest, whole)


def test_a_longer_run_goes_on_only_if_asked(parts, tmp_path):
    half, *_ = parts.with_auto(tmp_path, stop=20)
    half.train()
    longer = {"schedule": parts.cycle(steps=80), "max_steps": 80}
    refused, *_ = parts.with_auto(tmp_path, **longer)
    with pytest.raises(ValueError, match='resume="new"'):
        refused.train(resume_from_checkpoint=True)
    extended, callback, _ = parts.with_auto(tmp_path, resume="new", **longer)
    extended.train(resume_from_checkpoint=True)
    assert callback.auto.last_step == 79


def test_every_training_has_an_auto_cycle_of_its_own(parts, tmp_path):
    trainer, callback, rates = parts.with_auto(tmp_path)
    trainer.train()
    first = callback.auto
    trainer.train()
    assert callback.auto is not first
    assert rates.used == 2 * [*map(parts.CYCLE, range(parts.STEPS))]


def test_an_update_that_loss_scaling_skips_uses_no_step(parts, tmp_path):
    trainer, callback, rates = parts.with_auto(tmp_path, kind=parts.Scaled)
    trainer.train()
    assert callback.auto.last_step == parts.STEPS - 2
    assert rates.used[1] == rates.used[2] == parts.CYCLE(1)


def test_the_usual_rate_is_that_of_the_trainer(parts, tmp_path):
    trainer, callback, _ = parts.with_auto(tmp_path, None, learning_rate=3e-4)
    trainer.train()
    assert callback.auto.schedule.largest == pytest.approx(3e-4)


def test_the_usual_rate_of_an_optimizer_that_is_passed_is_the_optimizers(parts, tmp_path):
    model = parts.Model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
    trainer, callback, _ = parts.with_auto(tmp_path, None, model=model, optimizers=(optimizer, None))
    trainer.train()
    assert callback.auto.schedule.largest == pytest.approx(1e-2)


def refusals(parts, folder):
    model = parts.Model()
    optimizer = torch.optim.SGD(model.parameters())
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    return [
        ({"model": model, "optimizers": (optimizer, scheduler)}, "got ConstantLR"),
        ({"lr_scheduler_type": "cosine"}, "lr_scheduler_type=.*cosine"),
        ({"warmup_steps": 5}, "warmup_steps=5"),
        ({"optim": "galore_adamw_layerwise"}, "galore_adamw_layerwise"),
    ]


def test_what_is_refused_at_once(parts, tmp_path):
    with pytest.raises(TypeError, match=r"must be a transformers\.Trainer; got Linear"):
        parts.AutoCycleCallback(torch.nn.Linear(1, 1))
    for arguments, words in refusals(parts, tmp_path):
        with pytest.raises(ValueError, match=words):
            parts.with_auto(tmp_path, **arguments)
    trainer, *_ = parts.with_auto(tmp_path)
    with pytest.raises(ValueError, match="got a second"):
        parts.AutoCycleCallback(trainer)


def test_a_callback_that_is_not_added_is_noticed(parts, tmp_path):
    trainer, _ = parts.trainer(tmp_path)
    parts.AutoCycleCallback(trainer)
    with pytest.raises(AutoCycleError, match="add_callback"):
        trainer.train()


def test_a_checkpoint_without_the_state_is_refused(parts, tmp_path):
    half, *_ = parts.with_auto(tmp_path, stop=5, save_only_model=True)
    half.train()
    rest, *_ = parts.with_auto(tmp_path)
    with pytest.raises(ValueError, match="save_only_model=False"):
        rest.train(resume_from_checkpoint=True)


def test_a_trainer_whose_updates_are_not_seen_is_noticed_after_the_first(parts, tmp_path):
    trainer, *_ = parts.with_auto(tmp_path, kind=parts.Unseen)
    with pytest.raises(AutoCycleError, match="ran no hooks"):
        trainer.train()


def test_a_trainer_that_computes_its_losses_elsewhere_is_noticed(parts, tmp_path):
    trainer, *_ = parts.with_auto(tmp_path)
    trainer.training_step = type(trainer).training_step.__get__(trainer)
    with pytest.raises(AutoCycleError, match=r"self\.training_step"):
        trainer.train()


def test_a_trainer_that_makes_its_scheduler_elsewhere_is_noticed(parts, tmp_path):
    trainer, *_ = parts.with_auto(tmp_path)
    trainer.create_scheduler = type(trainer).create_scheduler.__get__(trainer)
    with pytest.raises(ValueError, match=r"create_scheduler.*got LambdaLR"):
        trainer.train()
