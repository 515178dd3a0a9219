"""Schedulers of other libraries, and the schedules that docs/how-to/migrate.md writes for them.

The Keras rows are compared on all three backends, in tests/keras/test_peers.py. What the libraries' own tests check and
cyclr refuses is not compared: negative rates, legs of no steps, calls by a fraction of an epoch.
"""

import inspect
import re

import jax
import numpy as np
import optax
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conformance import peers
from torch.optim import lr_scheduler

from cyclr import Anneal, Clock, Constant, Cyclical, Exponential, Halving, OneCycle, Product, Sequence, WarmRestarts

SYMBOLS = peers.symbols()
ROWS = [row for row in peers.rows() if not row.peer.startswith("keras")]
OPTAX = [row for row in ROWS if row.peer == "optax"]
FACTORS = "Multiplicative|Step|MultiStep|Constant|Linear|Exponential|Polynomial"
"""torch's schedulers that multiply the rate that they find, and so can be chained."""
CHAINABLE = [row for row in ROWS if row.peer == "torch.optim" and re.match(rf"({FACTORS})LR", row.old)]

few = settings(max_examples=15)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.peer}: {row.old}")
def test_the_page_gives_the_rates_of_the_peer(row):
    difference = row.difference(SYMBOLS)
    assert difference <= row.tolerance
    # A difference that the page states is there, and about as large.
    assert row.tolerance == peers.EXACT or difference > row.tolerance / 2


@few
@given(symbols=peers.any_symbols())
def test_the_page_holds_for_any_arguments(symbols):
    differences = {row.old: row.difference(symbols) for row in ROWS if row.tolerance == peers.EXACT}
    assert {old: found for old, found in differences.items() if not found <= peers.EXACT} == {}


def parts(rows):
    return st.lists(st.tuples(st.sampled_from(rows), peers.any_symbols()), min_size=2, max_size=4)


def made_by_torch(chosen, lr):
    """An optimizer, and the schedulers of torch that the rows write."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    names = {**vars(lr_scheduler), "optimizer": optimizer}
    return optimizer, [eval(row.old, {**names, **symbols}) for row, symbols in chosen]  # noqa: S307


@few
@given(chosen=parts(CHAINABLE), lr=st.floats(0.01, 1.0))
def test_a_product_is_the_chain_of_any_schedulers(chosen, lr):
    optimizer, schedulers = made_by_torch(chosen, lr)
    wanted = peers.of_torch(lr_scheduler.ChainedScheduler(schedulers), optimizer, range(60))
    ours = lr * Product(*(row.schedule({**symbols, "lr": 1.0}) for row, symbols in chosen))
    np.testing.assert_allclose(ours(np.arange(60)), wanted, rtol=0, atol=peers.EXACT * wanted.max())


@few
@given(
    # torch starts a MultiplicativeLR a step ahead, and from the rate that it finds.
    chosen=parts([row for row in CHAINABLE if "Multiplicative" not in row.old]),
    lr=st.floats(0.01, 1.0),
    lengths=st.lists(st.integers(1, 25), min_size=3, max_size=3),
)
def test_a_sequence_is_torchs_sequence_of_any_schedulers(chosen, lr, lengths):
    lengths = lengths[: len(chosen) - 1]
    with peers.quietly():
        optimizer, schedulers = made_by_torch(chosen, lr)
        milestones = np.cumsum(lengths).tolist()
        sequence = lr_scheduler.SequentialLR(optimizer, schedulers, milestones)
        wanted = peers.of_torch(sequence, optimizer, range(60))
    ours = Sequence([row.schedule({**symbols, "lr": lr}) for row, symbols in chosen], lengths)
    np.testing.assert_allclose(ours(np.arange(60)), wanted, rtol=0, atol=peers.EXACT * wanted.max())


def assert_as_torch(ours, scheduler, lr, steps, **options):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    wanted = peers.of_torch(scheduler(optimizer, **options), optimizer, range(steps))
    np.testing.assert_allclose(ours(np.arange(steps)), wanted, rtol=0, atol=peers.EXACT * wanted.max())


@few
@given(
    up=st.integers(1, 30),
    rest=st.integers(2, 30),
    div=st.floats(1.5, 100),
    final_div=st.floats(1.5, 1e4),
    shape=st.sampled_from(["sinusoidal", "triangular"]),
    three_phase=st.booleans(),
)
def test_one_cycle_of_torch_with_any_options(up, rest, div, final_div, shape, three_phase):
    steps, base = 1 + (2 if three_phase else 1) * up + rest, 0.1 / div
    fall = up if three_phase else None
    assert_as_torch(
        OneCycle(base, 0.1, steps, rise=up, fall=fall, final_lr=base / final_div, shape=shape),
        lr_scheduler.OneCycleLR,
        0.1,
        steps,
        max_lr=0.1,
        total_steps=steps,
        pct_start=(up + 1) / steps,
        anneal_strategy="cos" if shape == "sinusoidal" else "linear",
        div_factor=div,
        final_div_factor=final_div,
        three_phase=three_phase,
        cycle_momentum=False,
    )


@few
@given(
    base=st.floats(0.0, 0.05),
    up=st.integers(1, 30),
    down=st.integers(1, 30),
    mode=st.sampled_from(["triangular", "triangular2", "exp_range"]),
    gamma=st.floats(0.9, 1.0),
)
def test_cycles_of_torch_with_any_options(base, up, down, mode, gamma):
    decay = {"triangular": None, "triangular2": Halving(), "exp_range": Exponential(gamma)}[mode]
    assert_as_torch(
        Cyclical(base, 0.1, up, step_size_down=down, decay=decay),
        lr_scheduler.CyclicLR,
        0.1,
        200,
        base_lr=base,
        max_lr=0.1,
        step_size_up=up,
        step_size_down=down,
        mode=mode,
        gamma=gamma,
        cycle_momentum=False,
    )


@few
@given(end=st.floats(0.0, 0.09), length=st.integers(1, 40), growth=st.integers(1, 4))
def test_restarts_of_torch_with_any_options(end, length, growth):
    ours = WarmRestarts(end, 0.1, length, growth=growth)
    torchs = lr_scheduler.CosineAnnealingWarmRestarts
    assert_as_torch(ours, torchs, 0.1, 200, T_0=length, T_mult=growth, eta_min=end)


@few
@given(
    symbols=peers.any_symbols(),
    begin=st.integers(0, 20),
    staircase=st.booleans(),
    grows=st.booleans(),
    bounded=st.booleans(),
)
def test_exponential_decay_of_optax_with_any_options(symbols, begin, staircase, grows, bounded):
    lr, steps, gamma = symbols["lr"], symbols["n"], symbols["gamma"]
    factor, limit = (1 / gamma, 1e9) if grows else (gamma, 0.0)
    if bounded:
        limit = 1.2 if grows else 0.85
    theirs = optax.exponential_decay(lr, steps, factor, begin, staircase, limit * lr if bounded else None)
    leg = Anneal(1, factor, 1 if staircase else steps, "exponential", limit=limit)
    ours = lr * (Clock(leg, every=steps) if staircase else leg)
    ours = Sequence([Constant(lr), ours], [begin]) if begin else ours
    with peers.float64("optax"):
        wanted = peers.of_optax(theirs, range(512))
    np.testing.assert_allclose(ours(np.arange(512)), wanted, rtol=0, atol=peers.EXACT * wanted.max())


def test_compiled_schedules_are_those_of_optax():
    ours = [row.schedule(SYMBOLS) for row in OPTAX]
    compiled = jax.jit(jax.vmap(lambda step: [schedule(step) for schedule in ours]))
    for row, found in zip(OPTAX, compiled(np.arange(300, dtype=np.int32)), strict=True):
        wanted = row.reference(SYMBOLS)
        np.testing.assert_allclose(found[: len(wanted)], wanted, rtol=0, atol=1e-6 * wanted.max(), err_msg=row.old)


@pytest.mark.parametrize(
    "ours",
    [
        Anneal(0.1, 0, 10**10, "cosine"),
        Anneal(0.1, 0, 10**10),
        0.1 * Anneal(1, 0.5, 10**10, "exponential", limit=0),
        Sequence([Constant(0.1), Constant(0.0)], [10**10]),
    ],
)
def test_a_leg_may_be_longer_than_its_steps_can_count(ours):
    steps = np.array([0, 1, 10**6, 2**31 - 1], dtype=np.int32)
    found = jax.jit(jax.vmap(ours))(steps)
    np.testing.assert_allclose(found, ours(steps), rtol=1e-6)
    if ours == Anneal(0.1, 0, 10**10, "cosine"):  # Optax itself overflows in the others.
        np.testing.assert_allclose(found, jax.vmap(optax.cosine_decay_schedule(0.1, 10**10))(steps), rtol=1e-6)


def exported(module, pattern):
    """Public classes and functions of a module, but not of those that it imports, whose names match a pattern."""
    collects = module.startswith(("keras", "optax"))  # what its private modules define
    public = {name: value for name, value in vars(peers.imported(module)).items() if re.search(pattern, name)}
    return {
        name
        for name, value in public.items()
        if (inspect.isclass(value) or inspect.isfunction(value)) and not name.startswith("_")
        if collects or value.__module__ == module
    }


EXPORTED = {
    "torch.optim.lr_scheduler": "(LR|Scheduler|Restarts)$",
    "torch.optim.swa_utils": "LR$",
    "keras.optimizers.schedules": "^[A-Z]",
    "keras.callbacks": "LearningRate|LR",
    "optax.schedules": "^[a-z]",
    "optax": "schedule",
    "optax.contrib": "plateau",
    "transformers.optimization": "^get_.*schedule|(Schedule|LR|Scheduler)$",
    "ignite.handlers.param_scheduler": "",
    "ignite.handlers.state_param_scheduler": "",
}
"""Which names of a module are schedulers: what a library adds must get a row on the page."""


@pytest.mark.parametrize("module", EXPORTED)
def test_every_scheduler_of_an_installed_library_is_on_the_page(module):
    names = exported(module, EXPORTED[module])
    if module == "transformers.optimization":
        names |= {kind.value for kind in peers.imported(module).TYPE_TO_SCHEDULER_FUNCTION}
    code = " ".join(re.findall(r"`([^`\n]+)`", peers.PAGE.read_text(encoding="utf-8")))
    assert names
    assert names - set(re.findall(r"\w+", code)) == set()
