"""The range test within Lightning's `fit`: it is the range test, and the fit is bitwise the fit without it.

https://github.com/Lightning-AI/pytorch-lightning/issues/6675,
https://github.com/Lightning-AI/pytorch-lightning/issues/1726
"""

import contextlib
import importlib.util
import multiprocessing
import random

import numpy as np
import pytest
import torch
from tests.torch.optimizers import TwoSteps
from torch.nn.functional import mse_loss
from torch.utils.data import DataLoader, RandomSampler, TensorDataset

from cyclr import Cyclical, RangeTestError
from cyclr.torch import Scheduler, range_test

if importlib.util.find_spec("lightning") is None:
    pytest.skip("Lightning is not installed", allow_module_level=True)


class _Parts:
    """`lightning_parts`, imported when a test first uses it: Lightning takes seconds, and each process collects."""

    def __getattr__(self, name):
        return getattr(importlib.import_module("tests.torch.lightning_parts"), name)


parts = _Parts()

pytestmark = [
    # Lightning advises on workers, and on intervals of logging.
    pytest.mark.filterwarnings("ignore::lightning.pytorch.utilities.warnings.PossibleUserWarning"),
    # It uses what torch has deprecated.
    pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning"),
]

RNG = np.random.default_rng(7)
X = torch.tensor(RNG.normal(size=(44, 3)), dtype=torch.float32)
Y = X @ torch.tensor([[1.0], [-2.0], [0.5]]) + 0.3 * torch.tensor(RNG.normal(size=(44, 1)), dtype=torch.float32)
SWEEP = {"min_lr": 1e-3, "max_lr": 0.05, "steps": 14, "stop_factor": None, "repeats": 1}
WORKERS = multiprocessing.get_context("forkserver")
WORKERS.set_forkserver_preload(["torch"])


def data(**changes):
    return DataLoader(TensorDataset(X, Y), **{"batch_size": 8, "shuffle": True, **changes})


def bits(values):
    """Values that can be compared by their repr; tensors by their bits."""
    if isinstance(values, torch.Tensor):
        return values.detach().numpy().tobytes()
    if isinstance(values, dict):
        return {name: bits(value) for name, value in values.items()}
    return [bits(value) for value in values] if isinstance(values, list) else values


class Fit:
    """A fit and everything about it that can be compared."""

    def __init__(self, callbacks=(), loader=data, make=None, error=None, module="Module", **trainer):
        self.module, self.logger, self.listener = getattr(parts, module)(make), parts.Recorder(), parts.Listener()
        torch.manual_seed(11), random.seed(11), np.random.seed(11)
        self.loader = loader()
        self.trainer = parts.trainer_of([self.listener, *callbacks], logger=self.logger, log_every_n_steps=1, **trainer)
        if error is None:
            self.trainer.fit(self.module, self.loader)
        else:
            with pytest.raises(error):
                self.trainer.fit(self.module, self.loader)

    def state(self):
        (optimizer,) = self.trainer.optimizers
        return {
            "heard": self.listener.heard,
            "told": self.logger.told,
            "weights": bits(self.module.state_dict()),
            "slots": [bits(slots) for slots in optimizer.state.values()],
            "rates": [group["lr"] for group in optimizer.param_groups],
            "scheduler": self.trainer.lr_scheduler_configs[0].scheduler.last_epoch,
            "attributes": (bits(self.module.outputs), self.module.by_index, self.module.count),
            "metric": (
                self.module.mean.update_count,
                self.module.mean.mean_value.item(),
                self.module.total.total.item(),
            ),
            "log": {"log", "log_dict"} & vars(self.module).keys(),
            "counters": (self.trainer.global_step, self.trainer.current_epoch, self.trainer.should_stop),
            "loops": self.trainer.fit_loop.state_dict(),
            "callbacks": [type(callback).__name__ for callback in self.trainer.callbacks],
            "loggers": [id(logger) == id(self.logger) for logger in self.trainer.loggers],
            "generators": (random.random(), np.random.random(), torch.rand(()).item(), self.drawn()),
            "modes": [module.training for module in self.module.modules()],
        }

    def drawn(self):
        """What the loader's own generators draw next."""
        sources = [getattr(self.loader, "generator", None), getattr(self.loader.sampler, "generator", None)]
        return [torch.rand((), generator=source).item() for source in sources if source is not None]


WAYS = {
    "plain": {},
    "a closure": {"make": lambda p: TwoSteps(p, 0.01), "max_epochs": 1},
    "a tensor": {"make": lambda p: torch.optim.SGD(p, torch.tensor(0.01), momentum=0.9), "max_epochs": 1},
    "accumulation and clipping": {"accumulate_grad_batches": 4, "gradient_clip_val": 0.1},
    "half precision": {"precision": "bf16-mixed"},
    "fewer batches": {"limit_train_batches": 3},
    "a generator of its own": {"loader": lambda: data(generator=torch.Generator().manual_seed(5))},
    "a sampler with a generator": {
        "loader": lambda: data(shuffle=None, sampler=RandomSampler(X, generator=torch.Generator().manual_seed(5)))
    },
    "workers that persist": {
        "loader": lambda: data(num_workers=1, persistent_workers=True, multiprocessing_context=WORKERS)
    },
}


def rates_of(state):
    return [event[2] for event in state["heard"] if event[0] == "update"]


@pytest.mark.parametrize("name", WAYS)
def test_the_fit_is_bitwise_the_fit_without_it(name):
    finder = parts.RangeTestCallback(**{**SWEEP, "repeats": 3 if name == "plain" else 1})
    found, wanted = Fit([finder], **WAYS[name]).state(), Fit(**WAYS[name]).state()
    assert found.pop("callbacks") == [*wanted.pop("callbacks"), "RangeTestCallback"]
    assert repr(found) == repr(wanted)
    assert len(finder.result.lr) == 14
    assert len(set(rates_of(wanted))) > 2


def test_what_is_compared_is_deterministic_and_sensitive():
    """The comparisons above are worth something."""
    assert repr(Fit().state()) == repr(Fit().state())
    assert repr(Fit().state()) != repr(Fit(loader=lambda: [torch.rand(1), data()][1]).state())


def raising(error, step):
    def on_step(test):
        if test.recorded == step:
            raise error

    return on_step


ENDS = {
    "error": ({"on_step": raising(ZeroDivisionError(), 5)}, ZeroDivisionError, {}),
    "Ctrl-C": ({"on_step": raising(KeyboardInterrupt(), 5)}, (KeyboardInterrupt, SystemExit), {}),
    "no loss returned": ({}, RangeTestError, {"module": "Blind"}),
    "NaN at once": ({}, RangeTestError, {"loader": lambda: DataLoader(TensorDataset(X * float("nan"), Y), 8)}),
    "an optimizer that is not there": ({"optimizer": 1}, ValueError, {}),
}


@pytest.mark.parametrize(("changes", "error", "ways"), ENDS.values(), ids=ENDS)
def test_an_error_in_the_middle_leaves_everything_as_it_was(changes, error, ways):
    # At the same place of a fit without a range test, another callback raises the same.
    class Raises(parts.lightning.Callback):
        def on_train_start(self, trainer, pl_module):
            raise ZeroDivisionError

    finder = parts.RangeTestCallback(**{**SWEEP, **changes})
    found = Fit([finder], error=error, **ways).state()
    wanted = Fit([Raises()], error=ZeroDivisionError, **ways).state()
    found.pop("callbacks"), wanted.pop("callbacks")
    assert repr(found) == repr(wanted)
    assert finder.result is None


@pytest.mark.parametrize("own", [{}, {"log": print}])
def test_the_log_of_a_module_is_restored_by_what_replaced_it(own):
    module = parts.Linear()
    vars(module).update(own)
    with contextlib.ExitStack() as undo:
        parts._mute(module, undo)
        module.log("loss", 1.0)
        module.log_dict({"loss": 1.0})
    assert {name: vars(module)[name] for name in ("log", "log_dict") if name in vars(module)} == own


def found_by(module, loader, changes=None, **trainer):
    finder = parts.RangeTestCallback(**{**SWEEP, **(changes or {})}, then_train=False)
    one = parts.trainer_of([finder], **trainer)
    one.fit(module, loader)
    assert (one.global_step, one.current_epoch) == (0, 0)
    return finder.result


def expected(loader, changes=None, **arguments):
    module = parts.Linear()
    optimizer = module.configure_optimizers()
    return range_test(module.linear, optimizer, mse_loss, loader, **{**SWEEP, **(changes or {})}, **arguments)


CHANGES = {
    "completed": {},
    "diverged": {"max_lr": 1e3, "stop_factor": 4.0, "smoothing": 0.0},
    "another seed": {"seed": 3},
    "linear": {"spacing": "linear"},
}


@pytest.mark.parametrize("changes", CHANGES.values(), ids=CHANGES)
def test_a_finder_finds_what_the_range_test_finds_and_does_not_train(changes):
    module = parts.Linear()
    before = bits(module.state_dict())
    result = found_by(module, data(), changes)
    assert bits(module.state_dict()) == before
    assert result == expected(data(), changes)
    assert result.stop_reason == ("diverged" if "stop_factor" in changes else "completed")


def test_accumulation_makes_one_point_of_every_update():
    """https://github.com/Lightning-AI/pytorch-lightning/issues/1726"""
    loader = data(batch_size=11, shuffle=False)  # four batches, so that an epoch ends with an update
    result = found_by(parts.Linear(), loader, accumulate_grad_batches=2)
    np.testing.assert_allclose(result.loss, expected(loader, accumulate=2).loss, rtol=1e-6)


def test_loss_scaling_that_skips_makes_no_point():
    class Scaled(parts.Linear):
        def training_step(self, batch):
            # The gradient passes through half precision here.
            return (64 * super().training_step(batch)).half().float()

    plugin = parts.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=2.0**20))
    loader = data(batch_size=44, shuffle=False)
    result = found_by(Scaled(), loader, {"min_lr": 1e-3 / 64, "max_lr": 0.05 / 64}, plugins=[plugin])
    assert (result.stop_reason, len(result.lr)) == ("completed", 14)
    np.testing.assert_allclose(result.loss / 64, expected(loader).loss, rtol=1e-3)
    assert plugin.scaler.get_scale() == 2.0**20


def test_gradients_that_no_scale_helps_stop_the_test():
    class Broken(parts.Linear):
        calls = 0

        def training_step(self, batch):
            loss = super().training_step(batch)
            self.calls += 1
            if self.calls > 3:
                loss.register_hook(lambda gradient: gradient * float("nan"))
            return loss

    plugin = parts.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=1.0))
    result = found_by(Broken(), data(), plugins=[plugin])
    assert (result.stop_reason, len(result.lr)) == ("non_finite", 3)


def test_gradients_are_clipped_as_in_training():
    result = found_by(parts.Linear(lambda p: torch.optim.SGD(p, 0.01)), data(), gradient_clip_val=1e-9)
    constant = found_by(parts.Linear(lambda p: torch.optim.SGD(p, 0.01)), data(), {"min_lr": 1e-12, "max_lr": 1e-11})
    np.testing.assert_allclose(result.loss, constant.loss, rtol=1e-6)


@pytest.mark.parametrize("swept", [0, 1])
def test_one_of_several_optimizers_is_swept_and_all_are_put_back(swept):
    """https://github.com/davidtvs/pytorch-lr-finder/issues/16"""
    finder, ends = parts.RangeTestCallback(**SWEEP, optimizer=swept), []
    for callbacks in ([finder], []):
        used = [], []
        module = parts.Gan(used)
        torch.manual_seed(4)
        trainer = parts.trainer_of(callbacks, max_epochs=1)
        trainer.fit(module, data())
        schedulers = [config.scheduler.last_epoch for config in trainer.lr_scheduler_configs]
        ends.append((bits(module.state_dict()), schedulers, trainer.global_step, [rates[-6:] for rates in used]))
        if callbacks:
            assert used[swept][:14] == finder.result.lr.tolist()
            assert len(used[0]) == len(used[1]) == 14 + 6
        if callbacks and swept == 1:
            assert set(used[0][:14]) == {0.01}
    assert ends[0] == ends[1]


@pytest.mark.parametrize("mode", ["min_size", "max_size_cycle"])
def test_several_loaders_at_once(mode):
    class Several(parts.Linear):
        def training_step(self, batch):
            return mse_loss(self.linear(batch["left"][0]), batch["right"][1])

    loaders = {"left": data(shuffle=False), "right": data(shuffle=False, batch_size=8)}
    result = found_by(Several(), parts.CombinedLoader(loaders, mode))
    np.testing.assert_allclose(result.loss, expected(data(shuffle=False)).loss, rtol=1e-6)


def test_data_that_are_no_data_loader():
    batches = [(X[i : i + 8], Y[i : i + 8]) for i in range(0, 40, 8)]

    class Rows:
        def __iter__(self):
            return iter(batches)

    np.testing.assert_allclose(found_by(parts.Linear(), Rows()).loss, expected(batches).loss, rtol=1e-6)


def test_an_iterator_is_refused_as_training_could_not_read_it_again():
    with pytest.raises(ValueError, match=r"^the training data must be readable twice.*; got generator, which is an"):
        found_by(parts.Linear(), (pair for pair in [(X, Y)] * 30))


@pytest.mark.parametrize("swept", [lambda wrapper: wrapper, lambda wrapper: wrapper.optimizer], ids=["wrapper", "held"])
def test_updates_of_an_optimizer_that_fabric_wraps_are_not_counted_either(swept):
    model = torch.nn.Linear(3, 1)
    fabric = parts.lightning.Fabric(accelerator="cpu", devices=1)
    model, optimizer = fabric.setup(model, torch.optim.SGD(model.parameters(), 0.1))
    schedulers = [Scheduler(one, Cyclical(0.01, 0.05, 4)) for one in (optimizer, optimizer.optimizer)]
    range_test(model, swept(optimizer), mse_loss, data(), **SWEEP)
    for scheduler in schedulers:
        scheduler.step()
    assert [scheduler.last_epoch for scheduler in schedulers] == [0, 0]


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found_by(parts.Linear(), data(), enable_checkpointing=True)
    assert list(tmp_path.iterdir()) == []


def test_it_runs_at_the_beginning_of_every_fit():
    torch.manual_seed(0)
    finder = parts.RangeTestCallback(**SWEEP)
    module, trainer = parts.Linear(), parts.trainer_of([finder], max_epochs=1)
    trainer.fit(module, data())
    first = finder.result
    trainer.fit_loop.max_epochs = 2
    trainer.fit(module, data())
    assert first.loss[0] > 1.5 * finder.result.loss[0]
    assert trainer.global_step == 12


BAD = {
    "rates": ({"min_lr": 1.0, "max_lr": 0.1}, ValueError, r"^max_lr must be greater than min_lr"),
    "seed": ({"seed": -1}, ValueError, r"^seed must be an integer of at least 0"),
    "optimizer": ({"optimizer": 0.5}, TypeError, r"^optimizer must be an integer"),
}


@pytest.mark.parametrize(("arguments", "error", "message"), BAD.values(), ids=BAD)
def test_a_bad_argument_is_an_error_at_once(arguments, error, message):
    with pytest.raises(error, match=message):
        parts.RangeTestCallback(**arguments)


@pytest.mark.parametrize("least", [{"min_epochs": 1}, {"min_steps": 3}])
def test_a_finder_needs_a_trainer_that_may_stop_at_once(least):
    with pytest.raises(
        ValueError, match=r"^then_train=False needs a trainer that may stop before its first epoch; got"
    ):
        found_by(parts.Linear(), data(), **least)


# Several processes


@pytest.mark.xdist_group("torch-processes")
@pytest.mark.parametrize(("name", "accumulate"), [("plain", 1), ("accumulation", 2)])
def test_two_processes_find_what_one_finds_with_the_global_batch_and_train_as_without(name, accumulate, processes):
    """https://github.com/Lightning-AI/pytorch-lightning/issues/8983"""
    first, second = (found[name] for found in processes["lightning"])
    wanted = importlib.import_module("tests.torch.lightning_worker").alone(accumulate)
    assert first == second
    assert first["same training"]
    assert (first["updates"], first["reason"]) == (6 // accumulate, "completed")
    assert first["lr"] == wanted.lr.tolist()
    np.testing.assert_allclose(first["loss"], wanted.loss, rtol=1e-9)


@pytest.mark.xdist_group("torch-processes")
@pytest.mark.parametrize(("name", "points"), [("NaN on one", 14), ("NaN on one, with a scaler", 14)])
def test_a_broken_batch_of_one_process_is_left_out_by_both(name, points, processes):
    first, second = (found[name] for found in processes["lightning"])
    assert first == second
    assert (first["reason"], len(first["lr"])) == ("completed", points)


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("scaled", [False, True])
def test_batches_without_a_loss_are_left_out(accumulate, scaled):
    """https://github.com/Lightning-AI/pytorch-lightning/issues/17992"""
    loader = [(x, y) for x, y in data(batch_size=4, shuffle=False)]
    pairs = [loader[i : i + accumulate] for i in range(0, len(loader) // 2 * 2, accumulate)]
    used = [batch for pair in pairs if any(x[0, 0] < 0.5 for x, _ in pair) for batch in pair]
    assert 2 * accumulate <= len(used) < len(loader)
    results = []
    for batches in (loader[: len(loader) // 2 * 2], used):
        plugin = parts.MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu", init_scale=4.0))
        trainer = {"accumulate_grad_batches": accumulate, "plugins": [plugin] if scaled else []}
        results.append(found_by(parts.Selective(), DataLoader(batches, None), **trainer))
    assert results[0] == results[1]
    assert len(results[0].lr) == 14


@pytest.mark.parametrize("name", ["fake", "both"])
def test_a_logged_value_is_the_loss_of_a_module_that_returns_nothing(name):
    class Logging(parts.Gan):
        def training_step(self, batch):
            fake = super().training_step(batch)
            self.log_dict({"both": 2 * fake, "other": 0.0})

    results = []
    for kind, changes in ((parts.Gan, {}), (Logging, {"monitor": name})):
        torch.manual_seed(4)
        results.append(found_by(kind(([], [])), data(), changes))
    np.testing.assert_allclose(results[1].loss, (2 if name == "both" else 1) * results[0].loss, rtol=1e-6)
    for monitor in (None, "loss"):
        message = r"^the loss to record must be returned .* got monitor=(None|'loss'), .* 'fake', 'both', 'other'\."
        with pytest.raises(RangeTestError, match=message):
            found_by(Logging(([], [])), data(), {"monitor": monitor})


@pytest.mark.parametrize(
    ("bar", "verbose", "shown"), [(True, "auto", 1), (False, "auto", 0), (False, 1, 1), (True, 0, 0)]
)
def test_a_trainer_without_a_progress_bar_shows_no_line(bar, verbose, shown, monkeypatch, capsys):
    pytest.importorskip("tqdm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    finder = parts.RangeTestCallback(**SWEEP, verbose=verbose, then_train=False)
    parts.trainer_of([finder], enable_progress_bar=bar).fit(parts.Linear(), data())
    assert ("range test: 0/14" in capsys.readouterr().err) == shown
