"""Accelerate in one of several processes.

https://github.com/huggingface/accelerate/issues/1382, https://github.com/huggingface/accelerate/issues/2318
"""

import contextlib
import importlib.util
import io
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import DataLoaderConfiguration
from torch.utils.data import DataLoader, TensorDataset

from cyclr import Cyclical
from cyclr.torch import Scheduler, range_test

ROWS, BATCH, EPOCHS = 48, 4, 3
CYCLE = Cyclical(0.01, 0.05, 4)
EXAMPLE = Path(__file__).parents[2] / "examples" / "accelerate" / "train.py"


def train(accumulate, *, prepared):
    """The rate of every update, and what the scheduler counted."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=accumulate)
    torch.manual_seed(3)
    x = torch.randn(ROWS, 3)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), BATCH)
    ours = Scheduler(optimizer, CYCLE)
    rates = []
    optimizer.register_step_pre_hook(lambda optimizer, *arguments: rates.append(optimizer.param_groups[0]["lr"]))
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    # Accelerate's wrapper calls step() once for every process.
    scheduler = accelerator.prepare(ours) if prepared else ours
    for _ in range(EPOCHS):
        for inputs, targets in loader:
            with accelerator.accumulate(model):
                accelerator.backward(torch.nn.functional.mse_loss(model(inputs), targets))
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
    weights = [parameter.flatten().tolist() for parameter in model.parameters()]
    return {"rates": rates, "counted": ours.last_epoch, "batches": len(loader), "weights": weights}


def wrapped():
    """What a scheduler made with Accelerate's own optimizer counted: after a range test, and after an update."""
    accelerator = Accelerator(cpu=True)
    torch.manual_seed(3)
    x = torch.randn(ROWS, 3)
    model = torch.nn.Linear(3, 1)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), BATCH)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    scheduler = Scheduler(optimizer, CYCLE)
    counted = []
    range_test(model, optimizer, torch.nn.functional.mse_loss, loader, steps=5, stop_factor=None, repeats=1)
    for _ in range(2):
        scheduler.step()
        counted.append(scheduler.last_epoch)
        accelerator.backward(model(x).square().mean())
        optimizer.step()
    return counted


def seedable():
    """The data of two epochs, without a range test before and with one, and which epoch the loader is in then."""
    accelerator = Accelerator(
        cpu=True, dataloader_config=DataLoaderConfiguration(use_seedable_sampler=True, data_seed=7)
    )
    x = torch.arange(ROWS, dtype=torch.float32)[:, None]
    seen, runs = [], []
    for tested in (False, True):
        model = torch.nn.Linear(1, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        model, optimizer, loader = accelerator.prepare(
            model, optimizer, DataLoader(TensorDataset(x, x), BATCH, shuffle=True)
        )
        if tested:
            sweep = {"max_lr": 1e-5, "steps": 20, "stop_factor": None, "repeats": 2}
            runs = range_test(model, optimizer, torch.nn.functional.mse_loss, loader, **sweep).runs.tolist()
        iteration = loader.iteration
        seen.append([inputs.flatten().tolist() for _ in range(2) for inputs, _ in loader])
    return {"alike": seen[0] == seen[1], "iteration": iteration, "repeats differ": runs[0] != runs[1]}


def within_an_epoch():
    """What Accelerate goes by outside of a loader, and for the rest of an epoch: without a range test and after one."""
    accelerator = Accelerator(cpu=True, gradient_accumulation_steps=4)
    state = accelerator.gradient_state
    # The last batch is filled up.
    x = torch.randn(ROWS - 3, 3)
    found = []
    for tested in (False, True):
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        loader = DataLoader(TensorDataset(x, x.sum(1, keepdim=True)), BATCH)
        model, optimizer, loader = accelerator.prepare(model, optimizer, loader)

        def test(*given):
            # It stops at the last batch of an epoch.
            sweep = {"max_lr": 1e-4, "steps": 2 * len(loader), "stop_factor": None, "repeats": 1}  # noqa: B023
            range_test(*given, torch.nn.functional.mse_loss, loader, **sweep)  # noqa: B023

        seen = []
        for epoch in range(2):
            if tested:
                test(model, optimizer)
            seen.append([state.in_dataloader, state.end_of_dataloader, len(accelerator.gather_for_metrics(x[:BATCH]))])
            for number, (inputs, _) in enumerate(loader):
                if tested and epoch and number == 1:
                    test(model, optimizer)
                with accelerator.accumulate(model):
                    gathered = len(accelerator.gather_for_metrics(inputs))
                    seen.append([accelerator.sync_gradients, state.end_of_dataloader, gathered])
        found.append(seen)
    return found


def output_of(example):
    spec = importlib.util.spec_from_file_location("example", example)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with contextlib.redirect_stdout(io.StringIO()) as output:
        module.main()
    return output.getvalue()


def results():
    """What this process gets, by the name of the case."""
    found = {
        f"{accumulate}, {'prepared' if prepared else 'plain'}": train(accumulate, prepared=prepared)
        for accumulate in (1, 2)
        for prepared in (False, True)
    }
    found["wrapped"] = wrapped()
    found["seedable"] = seedable()
    found["within an epoch"] = within_an_epoch()
    found["example"] = output_of(EXAMPLE)
    found["world"] = Accelerator(cpu=True).num_processes
    return found
