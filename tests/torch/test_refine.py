"""Trial cycles in torch: the batches that they share, what they leave behind, and what ends them."""

import copy
import math
import random

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from cyclr import Bounds
from cyclr.range_test.refine import KEPT_MOST, TrialTest
from cyclr.torch import Scheduler, range_test

X, Y = load_digits(return_X_y=True)
DATA = TensorDataset(torch.tensor(X / 16, dtype=torch.float32), torch.tensor(Y))
LENGTH = {"total_steps": 1000, "refine": 500}


def make(optimizer=torch.optim.SGD, **settings):
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Dropout(0.1), torch.nn.Linear(32, 10)
    )
    generator = torch.Generator().manual_seed(1)
    loader = DataLoader(DATA, batch_size=64, shuffle=True, generator=generator)
    return model, optimizer(model.parameters(), lr=0.01, **settings), loader


def test_the_same_test_chooses_the_same_and_leaves_no_trace():
    model, optimizer, loader = make(momentum=0.9)
    before = copy.deepcopy(model.state_dict()), torch.get_rng_state(), loader.generator.get_state()
    result = range_test(model, optimizer, cross_entropy, loader, **LENGTH)
    after = model.state_dict(), torch.get_rng_state(), loader.generator.get_state()
    assert all(map(torch.equal, before[0].values(), after[0].values()))
    assert all(map(torch.equal, before[1:], after[1:]))
    assert optimizer.state == {}
    assert [parameter.grad for parameter in model.parameters()] == [None] * 4
    assert range_test(model, optimizer, cross_entropy, loader, **LENGTH) == result
    assert 2 <= len(result.trials) <= 6


@pytest.mark.parametrize("seed", [0, None])
def test_every_trial_trains_on_the_same_samples_and_keeps_the_same_out(seed):
    model, optimizer, loader = make()
    trials = {}

    def loss_of(model, batch):
        running[-1].append((batch[1].tolist(), optimizer.param_groups[0]["lr"]))
        return cross_entropy(model(batch[0]), batch[1])

    running = [[]]

    def note(test):
        if isinstance(test, TrialTest):
            trials.setdefault(test.top, []).append(running[-1][-1])

    range_test(model, optimizer, loader=loader, loss_of=loss_of, seed=seed, on_step=note, **LENGTH)
    assert len(trials) >= 2
    first, *others = [[labels for labels, _ in seen] for seen in trials.values()]
    for other in others:
        assert other[: len(first)] == first[: len(other)]
    for top, seen in trials.items():
        trained, kept = seen[:100], seen[100:]
        assert 0 < len(kept) <= KEPT_MOST
        assert not {str(labels) for labels, _ in trained} & {str(labels) for labels, _ in kept}
        assert max(lr for _, lr in trained) == top
        assert all(0 < lr < 1e-6 * top for _, lr in kept)
        # Three passes over the batches that are not kept out.
        assert len({str(labels) for labels, _ in trained}) == 25


def test_the_losses_of_a_trial_are_those_of_training_with_the_schedule():
    model, optimizer, _ = make(momentum=0.9)
    batches = [DATA[i : i + 64] for i in range(0, 640, 64)]
    model[2].p = 0.0
    start = copy.deepcopy(model.state_dict())
    result = range_test(model, optimizer, cross_entropy, batches, **LENGTH)
    trial = next(trial for trial in result.trials if trial.ended == "completed")
    model.load_state_dict(start)
    schedule = Bounds(trial.max_lr / 100, trial.max_lr, "ok", "").schedule(total_steps=len(trial.losses))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheduler, losses = Scheduler(optimizer, lr=schedule), []
    order = [batch for place, batch in enumerate(batches) if place != 6] * 20
    for inputs, targets in order[: len(trial.losses)]:
        optimizer.zero_grad()
        loss = cross_entropy(model(inputs), targets)
        loss.backward()
        optimizer.step()
        scheduler.step()
        losses.append(loss.item())
    assert losses == list(trial.losses)
    with torch.no_grad():
        assert cross_entropy(model(batches[6][0]), batches[6][1]).item() == pytest.approx(trial.kept, rel=1e-6)


@pytest.mark.parametrize("kind", [torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad])
def test_measuring_what_was_kept_out_changes_no_weight(kind):
    model, optimizer, loader = make(kind, weight_decay=0.01)
    ends = {}

    def note(test):
        if isinstance(test, TrialTest) and test.recorded >= test.length:
            weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
            ends.setdefault(test.top, []).append(weights.clone())

    range_test(model, optimizer, cross_entropy, loader, total_steps=1000, refine=240, on_step=note)
    assert ends
    for first, *others in ends.values():
        assert len(others) == 4
        assert all(torch.allclose(first, other, rtol=1e-5, atol=1e-7) for other in others)


def test_a_broken_batch_is_left_out_of_the_trials_too():
    model, optimizer, _ = make()
    batches = [[x.clone(), y] for x, y in (DATA[i : i + 64] for i in range(0, 1280, 64))]
    batches[3][0][0, 0] = math.nan
    result = range_test(model, optimizer, cross_entropy, batches, **LENGTH)
    assert result.left_out
    assert "completed" in {trial.ended for trial in result.trials}
    assert all(map(np.isfinite, (loss for trial in result.trials for loss in trial.losses)))


def test_an_interrupt_keeps_what_is_known_and_restores_the_model():
    model, optimizer, loader = make()
    before = copy.deepcopy(model.state_dict())
    updates = []

    def interrupt(test):
        if isinstance(test, TrialTest):
            updates.append(test)
            if len(updates) == 150:
                raise KeyboardInterrupt

    result = range_test(model, optimizer, cross_entropy, loader, on_step=interrupt, **LENGTH)
    assert [trial.ended for trial in result.trials] == ["completed", "interrupted"]
    assert "interrupted" in result.bounds.reason
    assert all(map(torch.equal, before.values(), model.state_dict().values()))


def test_the_loss_on_validation_data_judges_if_it_is_given():
    model, optimizer, loader = make()
    calls = []

    def evaluate(model):
        calls.append(model.training)
        return cross_entropy(model(DATA.tensors[0][:300]), DATA.tensors[1][:300])

    result = range_test(
        model, optimizer, cross_entropy, loader, evaluate=evaluate, steps=60, total_steps=1000, refine=200
    )
    completed = [trial for trial in result.trials if trial.ended == "completed"]
    assert len(calls) == len(result.lr) + len(completed)
    assert all(0 < trial.kept < 2.5 for trial in completed)


def test_workers_make_the_same_trials_and_accumulation_counts_updates():
    def run(workers=0, **arguments):
        model, optimizer, _ = make()
        model[2].p = 0.0
        loader = DataLoader(DATA, batch_size=64, shuffle=True, num_workers=workers)
        return range_test(model, optimizer, cross_entropy, loader, **LENGTH, **arguments).trials

    assert run(workers=1) == run()
    batches = []
    trials = run(accumulate=2, on_step=lambda test: batches.append(test.recorded))
    completed = [len(trial.losses) for trial in trials if trial.ended == "completed"]
    assert completed
    assert set(completed) == {100}


def test_an_iterator_is_refused():
    model, optimizer, loader = make()
    with pytest.raises(ValueError, match="read again"):
        range_test(model, optimizer, cross_entropy, iter(loader), **LENGTH)


def test_groups_with_ranges_of_their_own_are_refused_and_groups_with_ratios_keep_them():
    model, _, loader = make()
    groups = [{"params": model[0].parameters()}, {"params": model[3].parameters(), "lr": 0.02}]
    optimizer = torch.optim.SGD(groups, lr=0.01)
    with pytest.raises(ValueError, match="refine must be 0 if min_lr or max_lr is a list"):
        range_test(model, optimizer, cross_entropy, loader, min_lr=[1e-6, 1e-5], max_lr=[1.0, 10.0], **LENGTH)
    ranges = {"min_lr": [1e-6, 1e-5], "max_lr": [1.0, 10.0]}
    assert not range_test(model, optimizer, cross_entropy, loader, total_steps=1000, **ranges).trials
    ratios = set()
    range_test(
        model,
        optimizer,
        cross_entropy,
        loader,
        total_steps=1000,
        refine=240,
        on_step=lambda test: ratios.add(round(optimizer.param_groups[1]["lr"] / optimizer.param_groups[0]["lr"], 6)),
    )
    assert ratios == {2.0}


def test_a_step_of_ones_own_is_tried_too():
    model, optimizer, loader = make(momentum=0.9)

    def step(batch):
        optimizer.zero_grad()
        loss = cross_entropy(model(batch[0]), batch[1])
        loss.backward()
        optimizer.step()
        return loss

    by_step = range_test(model, optimizer, loader=loader, step_fn=step, **LENGTH)
    assert by_step.trials == range_test(model, optimizer, cross_entropy, loader, **LENGTH).trials


def test_global_generators_are_as_they_were():
    model, optimizer, loader = make()
    states = random.getstate(), np.random.get_state()[1].tolist()
    range_test(model, optimizer, cross_entropy, loader, **LENGTH)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == states
