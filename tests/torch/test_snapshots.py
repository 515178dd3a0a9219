"""Snapshots, ensemble and average for torch: members of any run, and what is made of them."""

import collections
import copy
import math
import types

import pytest
import torch
from tests.processes import run_kills
from tests.torch import auto_cycle_run as run
from torch import nn
from torch.nn.functional import mse_loss
from torch.optim import swa_utils

import cyclr
from cyclr import Member, MembersError
from cyclr.torch import AutoCycle, CycleEnd, Ensemble, Scheduler, Snapshots, average, ensemble

CYCLE = cyclr.Cyclical(0.02, 0.1, step_size=2)


def plain():
    return nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 2))


def normalized():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))


class Tied(nn.Module):
    """One weight under two names, a buffer that is not saved, and parameters of other kinds."""

    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 3, bias=False)
        self.second = nn.Linear(3, 3, bias=False)
        self.second.weight = self.first.weight
        self.last = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2))
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("scale", torch.full((), 0.5), persistent=False)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))
        self.register_buffer("nothing", None)

    def forward(self, x):
        self.calls += self.training
        return self.last(self.second(self.first(x)) * self.scale) * self.frozen


MODELS = {"plain": plain, "normalized": normalized, "tied": Tied}
every_model = pytest.mark.parametrize("kind", MODELS)


def data(count=20, size=16):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(count, size, 3, generator=generator)
    return [(inputs, inputs[:, :2] ** 2) for inputs in x]


class Run:
    """A run whose parts can be saved and loaded."""

    def __init__(self, kind="plain", schedule=CYCLE, wrap=lambda model: model, **arguments):
        torch.manual_seed(0)
        self.model = MODELS[kind]()
        self.trained = wrap(self.model)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = Scheduler(self.optimizer, schedule)
        self.snapshots = Snapshots(self.trained, self.scheduler, **arguments)
        self.seen = {}

    def train(self, steps):
        for step in steps:
            x, y = data()[step % 20]
            self.optimizer.zero_grad()
            mse_loss(self.trained(x), y).backward()
            self.optimizer.step()
            self.seen[step] = copy.deepcopy(self.model.state_dict())
            self.scheduler.step()
        return self

    def state_dict(self):
        return {name: getattr(self, name).state_dict() for name in ("model", "optimizer", "scheduler", "snapshots")}

    def load_state_dict(self, state):
        for name, saved in state.items():
            getattr(self, name).load_state_dict(saved)


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


IN = pytest.mark.parametrize("in_folder", [False, True], ids=["memory", "folder"])


@IN
@every_model
@pytest.mark.parametrize(
    ("arguments", "wanted"), [({}, [4, 8, 12, 16]), ({"keep": 2}, [12, 16]), ({"every": 3, "keep": 3}, [11, 14, 17])]
)
def test_members_are_the_weights_after_their_updates(kind, arguments, wanted, in_folder, tmp_path):
    trained = Run(kind, folder=tmp_path if in_folder else None, **arguments).train(range(18))
    members = trained.snapshots.members
    assert [member.step for member in members] == wanted
    for member in members:
        assert member.lr == CYCLE(member.step)
        assert same(member.state, trained.seen[member.step])
        assert {value.device.type for value in member.state.values()} == {"cpu"}


SCHEDULES = {
    "WarmRestarts": (cyclr.WarmRestarts(0.01, 0.1, 5), [4, 9, 14]),
    "Sequence": (cyclr.Sequence([cyclr.OneCycle(0.01, 0.1, 6), cyclr.WarmRestarts(0.01, 0.1, 4)], [6]), [5, 9, 13, 17]),
    "Clock": (cyclr.Clock(cyclr.WarmRestarts(0.01, 0.1, 2), every=3), [5, 11, 17]),
}


@pytest.mark.parametrize(("schedule", "ends"), SCHEDULES.values(), ids=SCHEDULES)
def test_every_schedule_with_ends_gives_members(schedule, ends):
    assert [member.step for member in Run(schedule=schedule).train(range(18)).snapshots.members] == ends


WRAPPERS = {
    "compiled": lambda model: torch.compile(model, backend="eager"),
    "data parallel": nn.DataParallel,
    "bfloat16": lambda model: model,
}


@IN
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_wrappers_leave_no_trace_in_members(wrapper, in_folder, tmp_path):
    trained = Run(wrap=WRAPPERS[wrapper], folder=tmp_path if in_folder else None)
    if wrapper == "bfloat16":
        trained.model.to(torch.bfloat16)
    for _ in range(6):
        trained.optimizer.step()
        trained.scheduler.step()
    (member,) = trained.snapshots.members
    assert same(member.state, trained.model.state_dict())
    x = torch.randn(4, 3, dtype=trained.model[0].weight.dtype)
    for made in (ensemble(trained.trained, [member]), average(trained.trained, [member])):
        assert torch.equal(made(x), trained.model(x))


def test_members_of_an_auto_cycle_are_none_of_its_range_test():
    model = run.network()
    optimizer = run.OPTIMIZERS["momentum"](model)
    auto = AutoCycle(model, optimizer, total_steps=1500)
    ends, every, tested = Snapshots(model, auto), Snapshots(model, auto, every=10), 0
    for x, y in run.batches(1500):
        optimizer.zero_grad()
        loss = mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        auto.step(loss)
        tested += auto.testing
    assert [member.step for member in ends.members] == [1499]
    # The last update of the test ends it.
    assert tested > 30
    assert [member.step for member in every.members] == [step for step in range(9, 1500, 10) if step > tested]
    assert same(ends.members[0].state, model.state_dict())


def test_validation_leaves_modes_statistics_and_gradients_alone():
    def validate(model):
        assert not model.training
        assert not torch.is_grad_enabled()
        return {"loss": mse_loss(model(data()[0][0]), data()[0][1])}

    validated, other = Run("normalized", validate=validate), Run("normalized")
    for trained in (validated, other):
        trained.model[3].eval()
        torch.manual_seed(3)
        trained.train(range(10))
    assert same(validated.model.state_dict(), other.model.state_dict())
    assert validated.model.training
    assert not validated.model[3].training
    for member in validated.snapshots.members:
        validated.model.load_state_dict(member.state)
        validated.model.eval()
        assert member.metrics == {"loss": validate_loss(validated.model)}


def validate_loss(model):
    with torch.no_grad():
        return mse_loss(model(data()[0][0]), data()[0][1]).item()


@IN
@pytest.mark.parametrize("at", [1, 4, 5, 6, 9, 13])
@pytest.mark.parametrize("keep", [None, 2])
def test_a_split_run_has_the_members_of_the_whole(at, in_folder, keep, tmp_path):
    folders = [tmp_path / name if in_folder else None for name in ("whole", "split")]
    whole = Run(folder=folders[0], keep=keep).train(range(18))
    first = Run(folder=folders[1], keep=keep).train(range(at))
    torch.save(first.state_dict(), tmp_path / "checkpoint")
    # The first part goes on after its last checkpoint, as before a kill.
    first.train(range(at, at + 3))
    second = Run(folder=folders[1], keep=keep)
    second.load_state_dict(torch.load(tmp_path / "checkpoint", weights_only=True))
    second.train(range(at, 18))
    assert [m.step for m in second.snapshots.members] == [m.step for m in whole.snapshots.members]
    for one, other in zip(second.snapshots.members, whole.snapshots.members, strict=True):
        assert same(one.state, other.state)


def test_after_kills_the_members_are_those_of_the_whole_run():
    run_kills("torch")


# ensemble


def members_of(kind="plain", count=3):
    """Members whose tensors have nothing in common, and a model of their kind."""
    members = []
    for step in range(count):
        torch.manual_seed(step)
        model = MODELS[kind]()
        for x, _ in data(3):
            model(x)
        members.append(Member(step, 0.1, {name: value.clone() for name, value in model.state_dict().items()}))
    torch.manual_seed(99)
    return members, MODELS[kind]()


def outputs(model, members, x):
    """What each member predicts by itself."""
    model = copy.deepcopy(model).eval()
    found = []
    for member in members:
        model.load_state_dict(member.state)
        found.append(model(x).detach())
    return found


@every_model
@pytest.mark.parametrize("weights", [None, [1, 2, 5]])
@pytest.mark.parametrize("activation", [None, lambda logits: logits.softmax(-1)], ids=["as it is", "softmax"])
def test_an_ensemble_predicts_the_weighted_mean_of_its_members(kind, weights, activation):
    members, model = members_of(kind)
    before, x = copy.deepcopy(model.state_dict()), torch.randn(5, 3)
    made = ensemble(model, members, activation=activation, weights=weights)
    found = torch.stack([(activation or (lambda value: value))(output) for output in outputs(model, members, x)])
    shares = torch.tensor(weights or [1.0, 1.0, 1.0])
    wanted = (found * (shares / shares.sum())[:, None, None]).sum(0)
    made.train()
    for _ in range(2):
        torch.testing.assert_close(made(x), wanted)
    assert same(model.state_dict(), before)
    assert model.training
    assert not any(module.training for module in made.modules())


def test_an_ensemble_has_gradients_of_its_inputs_and_none_of_its_weights():
    members, model = members_of("normalized")
    x = torch.randn(5, 3, requires_grad=True)
    ensemble(model, members).requires_grad_(False)(x).sum().backward()
    wanted = sum(torch.func.grad(lambda x, m=m: outputs_sum(model, m, x))(x.detach()) for m in members) / 3
    torch.testing.assert_close(x.grad, wanted)


def outputs_sum(model, member, x):
    return torch.func.functional_call(copy.deepcopy(model).eval(), member.state, x).sum()


def test_an_ensemble_follows_its_module_to_another_type():
    members, model = members_of("normalized")
    made, x = ensemble(model, members), torch.randn(5, 3)
    wanted = made(x)
    assert made.double()(x.double()).dtype == torch.float64
    torch.testing.assert_close(made(x.double()).float(), wanted)


class Outputs(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.layer = kind, nn.Linear(3, 2)

    def forward(self, x, scale=1.0):
        return self.kind(scale * self.layer(x))


Pair = collections.namedtuple("Pair", ["first", "second"])
KINDS = {
    "tuple": (lambda y: (y, 2 * y), lambda output: output[1] / 2),
    "list": (lambda y: [y, None], lambda output: output[0]),
    "dict": (lambda y: {"logits": y, "more": {"hidden": -y}}, lambda output: -output["more"]["hidden"]),
    "named": (lambda y: Pair(y, y + 1), lambda output: output.second - 1),
    "ordered": (lambda y: collections.OrderedDict(a=y), lambda output: output["a"]),
}


@pytest.mark.parametrize(("kind", "read"), KINDS.values(), ids=KINDS)
def test_outputs_of_several_tensors_are_averaged_one_by_one(kind, read):
    model = Outputs(kind)
    members = [Member(s, 0.1, {n: v + s for n, v in copy.deepcopy(model.state_dict()).items()}) for s in range(2)]
    x = torch.randn(4, 3)
    output = ensemble(model, members)(x, scale=2.0)
    plain_model = Outputs(lambda y: y)
    plain_model.load_state_dict({name: value + 0.5 for name, value in model.state_dict().items()})
    torch.testing.assert_close(read(output), plain_model(x, scale=2.0))
    assert type(output) is type(kind(x))


def test_outputs_of_transformers_are_averaged():
    transformers = pytest.importorskip("transformers")
    kind = transformers.modeling_outputs.SequenceClassifierOutput
    model = Outputs(lambda y: kind(logits=y))
    output = ensemble(model, [Member(0, 0.1, model.state_dict())] * 2)(torch.ones(1, 3))
    assert isinstance(output, kind)
    assert output.loss is None
    torch.testing.assert_close(output.logits, model(torch.ones(1, 3)).logits)


@pytest.mark.parametrize("output", [torch.tensor([1]), "label", types.SimpleNamespace(logits=torch.ones(1))])
def test_an_output_without_a_mean_is_refused(output):
    model = Outputs(lambda y: output)
    with pytest.raises(
        TypeError, match=r"output must be floating-point tensors to be averaged; got .*Pass activation="
    ):
        ensemble(model, [Member(0, 0.1, model.state_dict())])(torch.ones(1, 3))


def test_members_in_a_folder_are_read_one_at_a_time(tmp_path, monkeypatch):
    trained = Run(folder=tmp_path).train(range(18))
    made, read = ensemble(trained.model, trained.snapshots.members), []
    load = trained.snapshots._kept._format.load
    monkeypatch.setattr(
        type(trained.snapshots._kept._format), "load", lambda self, path: read.append(path) or load(path)
    )
    x = torch.randn(4, 3)
    torch.testing.assert_close(made(x), torch.stack(outputs(trained.model, trained.snapshots.members, x)).mean(0))
    assert len(read) == 2 * 4
    (tmp_path / "member-8.safetensors").unlink()
    with pytest.raises(MembersError, match=r"member-8\.safetensors' cannot be read as the state of a member"):
        made(x)


@pytest.mark.parametrize("way", ["file", "state_dict"])
@every_model
def test_an_ensemble_is_saved_and_loaded_as_a_whole(kind, way, tmp_path):
    members, model = members_of(kind)
    made, x = ensemble(model, members, weights=[1, 2, 5]), torch.randn(5, 3)
    if way == "file":
        made.save(tmp_path / "ensemble.pt")
        loaded = Ensemble.load(tmp_path / "ensemble.pt", MODELS[kind]())
    else:
        torch.save(made.state_dict(), tmp_path / "state.pt")
        loaded = ensemble(model, members[:1])
        loaded.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert torch.equal(loaded(x), made(x))
    assert [(m.step, m.lr) for m in loaded.members] == [(m.step, m.lr) for m in members]
    assert loaded.weights == made.weights
    assert len([*tmp_path.iterdir()]) == 1


def test_another_file_is_no_ensemble(tmp_path):
    members, model = members_of()
    (tmp_path / "text").write_text("no ensemble")
    torch.save({"a": 1}, tmp_path / "other")
    ensemble(*members_of("normalized")[::-1]).save(tmp_path / "normalized")
    with pytest.raises(ValueError, match=r"path must be a file that Ensemble\.save wrote; got path="):
        Ensemble.load(tmp_path / "text", model)
    with pytest.raises(ValueError, match=r"must come from an Ensemble of cyclr\.torch of version 1; got keys \['a'\]"):
        Ensemble.load(tmp_path / "other", model)
    with pytest.raises(MembersError, match="the member of step 0 must be of this model"):
        Ensemble.load(tmp_path / "normalized", model)
    with pytest.raises(FileNotFoundError):
        Ensemble.load(tmp_path / "none", model)
    assert len(members) == 3


# average


@every_model
def test_an_average_is_that_of_torch(kind):
    trained = Run(kind)
    averaged = swa_utils.AveragedModel(trained.model)
    CycleEnd(lambda step: averaged.update_parameters(trained.model), trained.scheduler)
    trained.train(range(18))
    made = average(trained.model, trained.snapshots.members, data())
    torch.manual_seed(5)
    swa_utils.update_bn(data(), averaged)
    torch.manual_seed(5)
    made = average(trained.model, trained.snapshots.members, data())
    for (name, one), other in zip(made.state_dict().items(), averaged.module.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7, msg=name)
    assert made.training


def test_an_average_of_latest_weights_is_that_of_torch():
    trained = Run(every=3, keep=3)
    averaged = swa_utils.AveragedModel(trained.model)
    trained.train(range(18))
    for step in (11, 14, 17):
        trained.model.load_state_dict(trained.seen[step])
        averaged.update_parameters(trained.model)
    made = average(trained.model, trained.snapshots.members)
    for one, other in zip(made.parameters(), averaged.module.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


def test_a_running_average_of_torch_is_a_member():
    trained = Run("normalized")
    running = swa_utils.AveragedModel(trained.model, multi_avg_fn=swa_utils.get_ema_multi_avg_fn(0.9))
    for step in range(18):
        trained.train([step])
        running.update_parameters(trained.model)
    made = average(trained.model, [Member(17, CYCLE(17), running.module.state_dict())], data())
    for one, other in zip(made.parameters(), running.module.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(made[1].running_mean, running.module[1].running_mean)


@every_model
def test_a_weighted_average(kind):
    members, model = members_of(kind)
    before = copy.deepcopy(model.state_dict())
    made = average(model, iter(members), data(), weights=[1, 0, 3])
    for name, value in made.named_parameters():
        wanted = 0.25 * members[0].state[name].double() + 0.75 * members[2].state[name].double()
        torch.testing.assert_close(value.detach().double(), wanted, rtol=1e-6, atol=1e-7)
        assert value.requires_grad is dict(model.named_parameters())[name].requires_grad
    assert same(model.state_dict(), before)
    assert kind != "tied" or made.first.weight is made.second.weight
    assert kind != "tied" or made.calls == members[2].state["calls"]


BATCHES = {
    "tuples": lambda: data(4),
    "inputs": lambda: [x for x, _ in data(4)],
    "dicts": lambda: [{"input": x} for x, _ in data(4)],
    "loader": lambda: torch.utils.data.DataLoader(torch.cat([x for x, _ in data(4)]), batch_size=16),
    "iterator": lambda: iter(data(4)),
}


@pytest.mark.parametrize("batches", BATCHES.values(), ids=BATCHES)
def test_every_kind_of_batches_gives_the_statistics(batches):
    members, model = members_of("normalized")
    torch.manual_seed(0)
    made = average(model, members, batches())
    x = torch.cat([x for x, _ in data(4)])
    torch.testing.assert_close(made[1].running_mean, made[0](x).mean(0), rtol=1e-4, atol=1e-5)
    assert made[1].momentum == 0.1


def test_data_that_gives_no_statistics_is_refused():
    members, model = members_of("normalized")
    with pytest.raises(
        ValueError, match=r"data must be given for a model with batch .* got data=None, and a BatchNorm1d"
    ):
        average(model, members)
    used = iter(data(2))
    assert len([*used]) == 2
    with pytest.raises(ValueError, match="data must hold at least one batch; got none"):
        average(model, members, used)
    with pytest.raises(ValueError, match="data must give finite statistics"):
        average(model, members, [torch.full((4, 3), math.nan)])


def test_batch_normalization_without_statistics_needs_no_data():
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3, track_running_stats=False))
    average(model, [Member(0, 0.1, model.state_dict())])


# What is refused


def test_what_gives_no_members_is_refused(tmp_path):
    model = plain()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    constant = Scheduler(optimizer, cyclr.Constant(0.1))
    with pytest.raises(ValueError, match=r"Snapshots needs a schedule with cycle ends; got Constant.*or pass every="):
        Snapshots(model, constant)
    Snapshots(model, constant, every=3)
    with pytest.raises(TypeError, match=r"model must be a torch\.nn\.Module; got OrderedDict"):
        Snapshots(model.state_dict(), constant, every=3)
    with pytest.raises(TypeError, match="scheduler must be a cyclr"):
        Snapshots(model, optimizer)
    with pytest.raises(TypeError, match="validate must be a function"):
        Snapshots(model, constant, every=3, validate={"loss": 1})
    with pytest.raises(ValueError, match="keep must be an integer of at least 1"):
        Snapshots(model, constant, every=3, keep=0)

    class Extra(nn.Linear):
        def get_extra_state(self):
            return {"not": "a tensor"}

    with pytest.raises(
        TypeError, match=r"must hold only tensors to be kept as a member; got _extra_state of type dict"
    ):
        Snapshots(Extra(1, 1), constant, every=3)


def test_a_folder_of_another_model_is_refused_at_once(tmp_path):
    Run(folder=tmp_path).train(range(6))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(MembersError, match=r"which has 1\.weight of shape \[8\]; got no 1\.weight\. Choose another"):
        Run("normalized", folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@IN
def test_weights_that_are_not_finite_are_refused_in_the_update(in_folder, tmp_path):
    trained = Run(folder=tmp_path if in_folder else None).train(range(6))
    with torch.no_grad():
        trained.model[2].bias[0] = math.inf
    with pytest.raises(MembersError, match=r"a member must be finite; got NaN or infinity in .* after step 8"):
        trained.train(range(6, 10))
    assert [member.step for member in trained.snapshots.members] == [4]


def test_members_of_another_model_are_refused():
    members, model = members_of()
    others, _ = members_of("normalized")
    for combine in (ensemble, average):
        with pytest.raises(MembersError, match="the member of step 0 must be of this model"):
            combine(model, others, *([data()] if combine is average else []))
        with pytest.raises(TypeError, match=r"must be the dict from model\.state_dict\(\), .*; got \[1\]"):
            combine(model, [Member(0, 0.1, [1])])
        with pytest.raises(ValueError, match="members must hold at least one"):
            combine(model, [])
        with pytest.raises(ValueError, match="weights must hold a number for each of the 3 members"):
            combine(model, members, weights=[1, 2])
    with pytest.raises(TypeError, match="activation must be a function"):
        ensemble(model, members, activation="softmax")


def test_metrics_that_are_no_numbers_are_refused():
    with pytest.raises(TypeError, match=r"validate\(model\) must be a dict of numbers by name; got 0\.5"):
        Run(validate=lambda model: 0.5).train(range(6))


def test_lazy_layers_are_compared_when_their_shapes_are_known():
    model = nn.LazyLinear(2)
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)
    snapshots = Snapshots(model, scheduler := Scheduler(optimizer, CYCLE))
    model(torch.ones(1, 3))
    for _ in range(6):
        optimizer.step()
        scheduler.step()
    assert snapshots.members[0].state["weight"].shape == (2, 3)


# Trainers


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_lightning_has_members():
    lightning = pytest.importorskip("lightning")

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer, self.ends = nn.Linear(3, 2), []

        def training_step(self, batch, index):
            return mse_loss(self.layer(batch[0]), batch[1])

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = Scheduler(optimizer, CYCLE)
            CycleEnd(self.ends.append, scheduler)
            self.snapshots = Snapshots(self.layer, scheduler)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    module = Module()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2, accumulate_grad_batches=2, accelerator="cpu", enable_model_summary=False, **quiet
    )
    trainer.fit(module, torch.utils.data.DataLoader(data(), batch_size=None))
    assert module.ends == [member.step for member in module.snapshots.members] == [4, 8, 12, 16]


@pytest.mark.filterwarnings("ignore")
def test_a_run_of_lightning_with_auto_cycle_has_members():
    lightning = pytest.importorskip("lightning")
    from cyclr.torch.lightning import AutoCycleCallback

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def training_step(self, batch, index):
            return mse_loss(self.layer(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    class Keep(lightning.Callback):
        def on_train_start(self, trainer, module):
            self.snapshots = Snapshots(module, auto.auto)

    auto, keep = AutoCycleCallback(cyclr.Cyclical.over(40, 2, 0.001, 0.01)), Keep()
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", enable_model_summary=False, callbacks=[auto, keep], **quiet
    )
    trainer.fit(Module(), torch.utils.data.DataLoader(data(), batch_size=None))
    assert [member.step for member in keep.snapshots.members] == [19, 39]


def test_a_run_of_accelerate_has_members():
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True, gradient_accumulation_steps=2)
    model = plain()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model, optimizer, scheduler = accelerator.prepare(model, optimizer, Scheduler(optimizer, CYCLE))
    ends, snapshots = [], Snapshots(model, scheduler)
    CycleEnd(ends.append, scheduler)
    for x, y in data() * 2:
        with accelerator.accumulate(model):
            optimizer.zero_grad()
            accelerator.backward(mse_loss(model(x), y))
            optimizer.step()
            scheduler.step()
    assert ends == [member.step for member in snapshots.members] == [4, 8, 12, 16]
