"""Files of members and ensembles from outside are read, or refused by a short message in little time and memory."""

import os
import resource
import time
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.outside import LONGEST_MESSAGE, REFUSED, changes, check, examples

import cyclr
from cyclr import Member
from cyclr.errors import MembersError
from cyclr.torch import Ensemble, Scheduler, Snapshots, ensemble

pytestmark = pytest.mark.filterwarnings("ignore")

LIMIT = 2**29
"""Bytes of memory that a reader may take."""


def model():
    return torch.nn.Linear(2, 1)


def state_of(weight=None, **entries):
    weight = torch.ones(1, 2) if weight is None else weight
    member = {"step": 1, "lr": 0.1, "metrics": {"loss": 0.5}, "state": {"weight": weight, "bias": torch.zeros(1)}}
    return {"version": 1, "weights": [1.0], "members": [member], **entries}


def use(loaded):
    assert loaded(torch.ones(3, 2)).shape == (3, 1)
    loaded.set_extra_state(loaded.get_extra_state())
    assert repr(loaded.members)


def saved(path, state):
    torch.save(state, path)
    return path


@examples(30)
@given(data=st.data())
def test_the_state_of_an_ensemble_is_refused_or_predicts(data, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "ensemble.pt"

    state = data.draw(changes(state_of(model().weight.detach())))
    try:
        torch.save(state, path)
    except RecursionError:
        return
    check(path, lambda path: Ensemble.load(path, model()), use)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "ensemble.pt"
    ensemble(model(), [Member(step, 0.1, model().state_dict()) for step in (1, 2)]).save(path)
    return path


@examples(30)
@given(data=st.data())
def test_a_damaged_file_of_an_ensemble_is_refused_or_predicts(good, data):
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))]
    path = good.with_name("damaged.pt")
    path.write_bytes(content)
    check(path, lambda path: Ensemble.load(path, model()), use)


def shared(levels):
    value = []
    for _ in range(levels):
        value = [value, value]
    return value


def cyclic():
    value = []
    value.append(value)
    return value


STATES = {
    "a tensor of 10^12 elements in 4 bytes": lambda: state_of(torch.zeros(1).expand(10**12)),
    "weights of 10^12 elements": lambda: state_of(weights=torch.ones(1).expand(10**12)),
    "a version of 10^12 elements": lambda: state_of(version=torch.ones(1).expand(10**12)),
    "a list that is printed as 2^60 lists": lambda: state_of(weights=shared(60)),
    "only such a list": lambda: shared(60),
    "a list that holds itself": lambda: state_of(weights=cyclic()),
    "a sparse tensor": lambda: state_of(torch.ones(1, 2).to_sparse()),
    "a large sparse tensor": lambda: state_of(torch.sparse_coo_tensor([[0], [0]], [1.0], (10**9, 10**9)).coalesce()),
    "a tensor without elements": lambda: state_of(torch.ones(1, 2, device="meta")),
    "a quantized tensor": lambda: state_of(torch.quantize_per_tensor(torch.ones(1, 2), 0.1, 0, torch.qint8)),
    "a nested tensor": lambda: state_of(torch.nested.nested_tensor([torch.ones(2)])),
    "weights that are not finite": lambda: state_of(torch.tensor([[1.0, float("nan")]])),
    "weights of 8 bits that are not finite": lambda: state_of(
        torch.tensor([[1.0, float("nan")]]).to(torch.float8_e4m3fn)
    ),
}


@pytest.mark.parametrize("kind", STATES)
def test_a_state_that_claims_too_much_is_refused_at_once(kind, tmp_path):
    refused(lambda: Ensemble.load(saved(tmp_path / "ensemble.pt", STATES[kind]()), model()))


def refused(read):
    """Check that the reader refuses in less than 5 seconds and half a GiB."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    with Path("/proc/self/statm").open() as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + LIMIT, before[1]))
    start = time.process_time()
    try:
        with pytest.raises((*REFUSED, OSError)) as caught:
            read()
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert time.process_time() - start < 5
    assert len(str(caught.value)) < LONGEST_MESSAGE
    return str(caught.value)


@pytest.mark.parametrize("record", ["data/0", "data.pkl", "extra"])
def test_an_archive_that_would_fill_the_memory_is_refused(record, good, tmp_path):
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(tmp_path / "bomb", "w", zipfile.ZIP_DEFLATED) as bomb:
        for info in source.infolist():
            if not info.filename.endswith(record):
                bomb.writestr(info.filename, source.read(info))
        with bomb.open(f"archive/{record}", "w") as file:
            for _ in range(100):
                file.write(bytes(2**20))
    assert "more than 100 times its size" in refused(lambda: Ensemble.load(tmp_path / "bomb", model()))


def other_kinds(path):
    yield os.mkfifo
    yield lambda path: path.symlink_to("/dev/zero")
    yield lambda path: path.mkdir()
    yield lambda path: path.symlink_to(path)
    yield lambda path: (path.touch(), os.truncate(path, 2**40))
    yield lambda path: path.write_bytes(b"")
    yield lambda path: path.write_bytes(b"\xff" * 100)


KINDS = ["pipe", "device", "folder", "loop", "sparse", "empty", "other"]


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_a_path_to_something_else_is_refused_at_once(kind, tmp_path):
    path = tmp_path / "ensemble.pt"
    [*other_kinds(path)][kind](path)
    refused(lambda: Ensemble.load(path, model()))


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=KINDS)
def test_a_member_that_became_something_else_is_refused_at_once(kind, tmp_path):
    trained = model()
    optimizer = torch.optim.SGD(trained.parameters(), 0.1)
    scheduler = Scheduler(optimizer, cyclr.Cyclical(0.01, 0.1, 5))
    snapshots = Snapshots(trained, scheduler, every=1, keep=1, folder=tmp_path / "members")
    trained(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    scheduler.step()
    (member,) = snapshots.members
    assert member.state["bias"].shape == (1,)
    path = tmp_path / "members" / f"member-{member.step}.safetensors"
    path.unlink()
    [*other_kinds(path)][kind](path)
    message = refused(lambda: member.state)
    assert "cannot be read as the state of a member" in message
    with pytest.raises(MembersError):
        ensemble(trained, [member])
