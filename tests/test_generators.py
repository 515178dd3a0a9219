"""Seeding and restoring random number generators, and the loaders and samplers that hold some."""

import random
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from tests.processes import run

from cyclr import _generators


def draws():
    """The next numbers of all global generators."""
    numbers = [random.random(), float(np.random.random())]
    if "torch" in sys.modules:
        numbers.append(float(sys.modules["torch"].rand(())))
    return numbers


class Sampler:
    """Orders the data by the number of the epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def set_epoch(self, epoch):
        self.epoch = epoch


def test_the_same_seed_gives_the_same_numbers():
    _generators.seed_all(7)
    first = draws()
    _generators.seed_all(8)
    other = draws()
    _generators.seed_all(7)
    assert draws() == first != other


@pytest.mark.parametrize("seed", [0, 2**32, 2**64 + 3])
def test_seeds_of_any_size_are_taken(seed):
    _generators.seed_all(seed, SimpleNamespace(generator=None))


def test_restored_generators_go_on_as_if_nothing_had_been_drawn():
    generators = _generators.Generators()
    first = draws()
    _generators.seed_all(3)
    draws()
    generators.restore()
    assert draws() == first


def test_torch_is_seeded_and_restored_only_if_it_is_loaded():
    code = (
        "import random, sys; from cyclr import _generators; state = random.getstate()\n"
        "generators = _generators.Generators(); _generators.seed_all(1)\n"
        "import types; sys.modules['torch'] = types.SimpleNamespace()\n"
        "generators.restore(); assert random.getstate() == state"
    )
    run([sys.executable, "-c", code])


class OneDevice:
    """An accelerator with one device, as MPS is."""

    state = 5

    def get_rng_state(self):
        return self.state

    def set_rng_state(self, state):
        self.state = state


class AllDevices:
    """An accelerator with several devices, as CUDA is."""

    states = (5, 6)

    def get_rng_state(self):
        raise AssertionError("this is one of several devices")

    def get_rng_state_all(self):
        return self.states

    def set_rng_state_all(self, states):
        self.states = states


@pytest.mark.parametrize(("module", "name", "moved"), [(OneDevice(), "state", 9), (AllDevices(), "states", (9, 9))])
def test_every_device_of_the_accelerator_is_restored(monkeypatch, module, name, moved):
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("cpu"))
    monkeypatch.setattr(torch, "get_device_module", lambda device: module)
    before = getattr(module, name)
    generators = _generators.Generators()
    setattr(module, name, moved)
    generators.restore()
    assert getattr(module, name) == before


@pytest.mark.parametrize(
    "wrap",
    [
        lambda holder: holder,
        lambda holder: SimpleNamespace(sampler=holder),
        lambda holder: SimpleNamespace(batch_sampler=SimpleNamespace(sampler=holder)),
        lambda holder: SimpleNamespace(base_dataloader=SimpleNamespace(batch_sampler=holder)),
        lambda holder: SimpleNamespace(loaders=[SimpleNamespace(sampler=holder), None]),
    ],
    ids=["loader", "sampler", "sampler of the batch sampler", "wrapped loader", "combined loaders"],
)
def test_a_generator_is_found_wherever_a_loader_holds_it(wrap):
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(1)
    loader = wrap(SimpleNamespace(generator=generator))
    generators, first = _generators.Generators(loader), torch.rand((), generator=generator)
    _generators.seed_all(4, loader)
    assert torch.rand((), generator=generator) == torch.rand((), generator=torch.Generator().manual_seed(4))
    generators.restore()
    assert torch.rand((), generator=generator) == first


def test_loaders_that_hold_one_another_are_walked_once():
    first, second = SimpleNamespace(), SimpleNamespace()
    first.sampler, second.batch_sampler = second, first
    assert _generators.loaders(first) == [first, second]
    assert _generators.loaders(None) == []


def test_epochs_of_samplers_move_by_the_seed_and_are_restored():
    sampler, counted = Sampler(2), SimpleNamespace(epoch=4)
    loader = SimpleNamespace(sampler=sampler, batch_sampler=counted, loaders=Sampler)
    generators = _generators.Generators(loader)
    _generators.seed_all(3, loader)
    assert (sampler.epoch, counted.epoch) == (5, 4)
    counted.epoch = 9
    generators.restore()
    assert (sampler.epoch, counted.epoch) == (2, 4)


def test_a_loader_that_sets_the_epoch_of_its_sampler_moves_it_once():
    class Loader(Sampler):
        def set_epoch(self, epoch):
            self.epoch = self.sampler.epoch = epoch

    loader = Loader(1)
    loader.sampler = Sampler(1)
    _generators.seed_all(3, loader)
    assert (loader.epoch, loader.sampler.epoch) == (4, 4)


def test_objects_without_attributes_are_data_too():
    for data in (None, [1, 2], iter([1]), np.zeros(3), object()):
        _generators.Generators(data).restore()
        _generators.seed_all(0, data)
