"""AutoCycle as a callback of Lightning."""

import importlib

import pytest
import torch
from tests.torch.auto_cycle_run import RATES

import cyclr

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def parts():
    pytest.importorskip("lightning")
    return importlib.import_module("tests.torch.auto_cycle_lightning_parts")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_calm_run_is_the_run_with_scheduler(parts, accumulate):
    cycle = cyclr.Cyclical.over(60 // accumulate, 2, 1e-4, RATES["momentum"])
    auto, plain, callback = parts.Module(), parts.Module(scheduler=cycle), parts.AutoCycleCallback(cycle)
    parts.fitted(auto, callback, accumulate_grad_batches=accumulate)
    parts.fitted(plain, accumulate_grad_batches=accumulate)
    assert callback.events == ()
    assert callback.auto.last_step == 60 // accumulate - 1
    assert auto.rates == plain.rates
    for one, other in zip(auto.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_run_goes_on_from_a_checkpoint(parts, tmp_path):
    whole, callback = parts.Module("adam", broken=18), parts.AutoCycleCallback(cyclr.Constant(1e-3))
    parts.fitted(whole, callback, epochs=4)
    assert [event.what for event in callback.events] == ["left_out"]
    half = parts.fitted(
        parts.Module("adam", broken=18), parts.AutoCycleCallback(cyclr.Constant(1e-3)), parts.Stop(), epochs=4
    )
    half.save_checkpoint(tmp_path / "half.ckpt")
    rest, resumed = parts.Module("adam", broken=18), parts.AutoCycleCallback(cyclr.Constant(1e-3))
    parts.fitted(rest, resumed, epochs=4, ckpt_path=tmp_path / "half.ckpt")
    assert resumed.events == callback.events
    assert resumed.auto.last_step == callback.auto.last_step
    for one, other in zip(rest.parameters(), whole.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_longer_run_goes_on_only_if_asked(parts, tmp_path):
    half = parts.fitted(parts.Module(), parts.AutoCycleCallback(cyclr.Constant(1e-3)), parts.Stop(), epochs=3)
    half.save_checkpoint(tmp_path / "half.ckpt")
    longer = {"epochs": 4, "ckpt_path": tmp_path / "half.ckpt"}
    with pytest.raises(ValueError, match='resume="new"'):
        parts.fitted(parts.Module(), parts.AutoCycleCallback(cyclr.Constant(1e-3)), **longer)
    callback = parts.AutoCycleCallback(cyclr.Constant(1e-3), resume="new")
    parts.fitted(parts.Module(), callback, **longer)
    assert callback.auto.last_step == 79


def test_the_monitor_of_lightning_logs_the_rate_of_every_update(parts, tmp_path):
    cycle = cyclr.Cyclical.over(60, 2, 1e-4, RATES["momentum"])
    module, logger = parts.Module(), parts.Logger()
    parts.fitted(module, parts.AutoCycleCallback(cycle), parts.monitor(), logger=logger, log_every_n_steps=1)
    assert logger.rates == module.rates


def test_what_is_refused(parts):
    with pytest.raises(ValueError, match="a scheduler of its own"):
        parts.fitted(parts.Module(scheduler=cyclr.Constant(0.1)), parts.AutoCycleCallback())
    with pytest.raises(ValueError, match="must have an end"):
        parts.fitted(parts.Module(), parts.AutoCycleCallback(), epochs=-1)
