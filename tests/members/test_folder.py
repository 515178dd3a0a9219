"""Members in memory and in a folder: which are kept, what a kill leaves, and which folders are refused."""

import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cyclr import Member, MembersError
from cyclr.members.folder import MemberFolder
from cyclr.members.kept import KeptMembers, checked_members, shares


class Arrays:
    """States that are dicts of NumPy arrays."""

    suffix = ".npz"

    def shapes(self, state):
        return {name: list(array.shape) for name, array in state.items()}

    def not_finite(self, state):
        return next((name for name, array in state.items() if not np.isfinite(array).all()), None)

    def save(self, state, path):
        with path.open("xb") as file:
            np.savez(file, **state)

    def load(self, path):
        # NumPy leaves a damaged file open.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            return {name: file[name] for name in file}


def state(step):
    return {"weight": np.full((2, 3), step, float), "bias": np.zeros(3)}


def run(kept, steps, *, length=5, metrics=None):
    """Make updates of a run whose cycles have so many steps."""
    for step in steps:
        if kept.after_update(step, lambda step=step: step % length == length - 1):
            kept.add(step, 0.1, state(step), metrics)


def steps_of(kept):
    for member in kept.members:
        assert (member.state["weight"] == member.step).all()
    return [member.step for member in kept.members]


def files(folder):
    return sorted(path.name for path in folder.iterdir())


IN = pytest.mark.parametrize("in_folder", [False, True], ids=["memory", "folder"])


@IN
@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, [4, 9, 14, 19]),
        ({"keep": 2}, [14, 19]),
        ({"keep": 1}, [19]),
        ({"keep": 9}, [4, 9, 14, 19]),
        ({"every": 8}, [7, 15]),
        ({"every": 3, "keep": 3}, [14, 17, 20]),
        ({"every": 1, "keep": 2}, [20, 21]),
    ],
)
def test_members_are_kept_at_ends_or_every_few_updates(arguments, wanted, in_folder, tmp_path):
    kept = KeptMembers(Arrays(), folder=tmp_path / "made" if in_folder else None, **arguments)
    run(kept, range(22))
    assert steps_of(kept) == wanted
    if in_folder:
        assert files(tmp_path / "made") == sorted(["members.json", *(f"member-{step}.npz" for step in wanted)])


@pytest.mark.parametrize("keep", [None, 2])
def test_a_folder_is_found_again(tmp_path, keep):
    run(KeptMembers(Arrays(), folder=tmp_path, keep=keep), range(12), metrics={"loss": np.float32(0.5), "f1": math.nan})
    again = KeptMembers(Arrays(), folder=tmp_path, keep=keep)
    assert steps_of(again) == [4, 9]
    assert again.members[0].metrics["loss"] == 0.5
    assert math.isnan(again.members[0].metrics["f1"])
    assert again.members[0].lr == 0.1
    run(again, range(12, 22))
    assert steps_of(again) == ([4, 9, 14, 19] if keep is None else [14, 19])


@IN
@given(stop=st.integers(1, 30), back=st.integers(0, 30), keep=st.none() | st.integers(1, 4))
def test_a_run_that_goes_back_to_a_checkpoint_has_each_member_once(tmp_path_factory, in_folder, stop, back, keep):
    folder = tmp_path_factory.mktemp("members") if in_folder else None
    kept = KeptMembers(Arrays(), folder=folder, keep=keep)
    back = min(back, stop)
    run(kept, range(back))
    saved = kept.state_dict()
    run(kept, range(back, stop))
    again = KeptMembers(Arrays(), folder=folder, keep=keep)
    again.load_state_dict(saved)
    run(again, range(back, 40))
    assert steps_of(again) == [4, 9, 14, 19, 24, 29, 34, 39][-(keep or 8) :]
    if in_folder:
        assert steps_of(KeptMembers(Arrays(), folder=folder)) == steps_of(again)
        assert len(files(folder)) == 1 + len(again.members)


def test_a_run_that_starts_again_replaces_its_members_when_it_makes_new_ones(tmp_path):
    run(KeptMembers(Arrays(), folder=tmp_path), range(20))
    again = KeptMembers(Arrays(), folder=tmp_path)
    run(again, range(6), length=7)
    assert again.members == []
    assert steps_of(KeptMembers(Arrays(), folder=tmp_path)) == [4, 9, 14, 19]
    run(again, range(6, 8), length=7)
    assert steps_of(KeptMembers(Arrays(), folder=tmp_path)) == [6]
    assert files(tmp_path) == ["member-6.npz", "members.json"]


def test_what_a_kill_left_is_removed_and_nothing_else(tmp_path):
    run(KeptMembers(Arrays(), folder=tmp_path), range(5))
    ours = ["member-7.npz", ".member-9.npz.0f3a.tmp", ".member-9.npz.0f3a.tmp.npz", ".members.json.0f3a.tmp"]
    theirs = ["member-best.npz", "member-7.txt", "notes.tmp", "member-7-old.npz"]
    for name in [*ours, *theirs]:
        (tmp_path / name).write_text("half")
    again = KeptMembers(Arrays(), folder=tmp_path)
    assert steps_of(again) == [4]
    run(again, range(5, 10))
    assert files(tmp_path) == sorted(["member-4.npz", "member-9.npz", "members.json", *theirs])


class Broken(Arrays):
    def save(self, state, path):
        path.write_text("half a fi")
        raise OSError("no space left")


def test_a_member_that_cannot_be_written_leaves_the_others(tmp_path):
    run(KeptMembers(Arrays(), folder=tmp_path), range(5))
    kept = KeptMembers(Broken(), folder=tmp_path)
    with pytest.raises(MembersError, match=r"the member of step 9 cannot be saved in .*: no space left\. Free space"):
        run(kept, range(5, 10))
    assert steps_of(KeptMembers(Arrays(), folder=tmp_path)) == steps_of(kept) == [4]
    assert files(tmp_path) == ["member-4.npz", "members.json"]


def test_a_folder_that_another_run_writes_to_is_refused(tmp_path):
    first, second = (KeptMembers(Arrays(), folder=tmp_path) for _ in range(2))
    run(first, range(5))
    with pytest.raises(MembersError, match=r"members\.json' was changed by another run after this run read it\. Give"):
        run(second, range(5))
    run(first, range(5, 10))
    assert steps_of(first) == steps_of(KeptMembers(Arrays(), folder=tmp_path)) == [4, 9]
    with pytest.raises(MembersError, match="was changed by another run"):
        run(second, range(5, 10))


def test_only_one_process_writes(tmp_path):
    writer, reader = (KeptMembers(Arrays(), folder=tmp_path, writes=writes) for writes in (True, False))
    run(reader, range(12))
    assert files(tmp_path) == []
    run(writer, range(12))
    assert steps_of(reader) == steps_of(writer) == [4, 9]


# Killed

PROGRAM = """
import sys
from pathlib import Path
import numpy as np
from tests.members.test_folder import Arrays, KeptMembers, state
folder, checkpoint = Path(sys.argv[1]), Path(sys.argv[2])
kept = KeptMembers(Arrays(), folder=folder, keep=4)
start = int(checkpoint.read_text()) if checkpoint.exists() else 0
for step in range(start, 400):
    if kept.after_update(step, lambda: step % 5 == 4):
        kept.add(step, 0.1, {**state(step), "more": np.zeros(20_000)}, {"loss": step})
    if step % 7 == 6:
        checkpoint.with_suffix(".new").write_text(str(step + 1))
        checkpoint.with_suffix(".new").replace(checkpoint)
    print(step, flush=True)
"""


def test_after_a_kill_at_any_moment_no_member_is_lost_or_there_twice(tmp_path):
    folder, checkpoint = tmp_path / "members", tmp_path / "checkpoint"
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PROGRAM, folder, checkpoint]
    generator = np.random.default_rng(0)
    for until in [*sorted(generator.integers(1, 380, 10)), None]:
        with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                if until is not None and int(line) >= until:
                    # It goes on meanwhile, so that this comes in the middle of anything.
                    os.kill(process.pid, signal.SIGKILL)
                    break
            process.wait()
        if (folder / "members.json").exists():
            kept = KeptMembers(Arrays(), folder=folder)
            found = steps_of(kept)
            assert found == [*range(found[0], found[-1] + 1, 5)]
            assert len(found) == min(found[-1] // 5 + 1, 4)
            assert [member.metrics["loss"] for member in kept.members] == found
    assert process.returncode == 0
    assert found == [384, 389, 394, 399]
    assert len(files(folder)) == 5


# What is refused


def test_a_folder_of_another_model_is_refused_and_left_as_it_is(tmp_path):
    run(KeptMembers(Arrays(), folder=tmp_path), range(10))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    for other, words in [
        ({"weight": np.zeros((2, 4)), "bias": np.zeros(3)}, r"weight of shape \[2, 4\]; got weight of shape \[2, 3\]"),
        ({"weight": np.zeros((2, 3))}, r"no bias; got bias of shape \[3\]"),
        ({**state(0), "scale": np.zeros(1)}, r"scale of shape \[1\]; got no scale"),
    ]:
        kept = KeptMembers(Arrays(), folder=tmp_path)
        with pytest.raises(MembersError, match=f"must be of this model, which has {words}\\. Choose another folder"):
            kept.check(kept._format.shapes(other))
        kept.after_update(0, lambda: False)
        with pytest.raises(MembersError, match=words):
            kept.add(4, 0.1, other, {})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@IN
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_member_that_is_not_finite_is_refused(in_folder, value, tmp_path):
    kept = KeptMembers(Arrays(), folder=tmp_path if in_folder else None)
    run(kept, range(5))
    with pytest.raises(MembersError, match="must be finite; got NaN or infinity in bias after step 9"):
        kept.add(9, 0.1, {**state(9), "bias": np.array([0, value, 0])}, {})
    assert steps_of(kept) == [4]


DAMAGES = {
    "no JSON": lambda content: "{",
    "a list": lambda content: "[]",
    "another version": lambda content: json.dumps({**content, "version": 2}),
    "another format": lambda content: json.dumps({**content, "suffix": ".weights.h5"}),
    "no members": lambda content: json.dumps({"version": 1, "suffix": ".npz", "shapes": {}}),
    "a step twice": lambda content: json.dumps({**content, "members": content["members"][:1] * 2}),
    "another order": lambda content: json.dumps({**content, "members": content["members"][::-1]}),
    "a negative step": lambda content: json.dumps({**content, "members": [{"step": -1, "lr": 0, "metrics": {}}]}),
    "a metric in words": lambda content: json.dumps(
        {**content, "members": [{"step": 4, "lr": 0, "metrics": {"a": "good"}}]}
    ),
    "shapes in words": lambda content: json.dumps({**content, "shapes": {"weight": ["two"]}}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_list_is_refused(tmp_path, damage):
    run(KeptMembers(Arrays(), folder=tmp_path), range(10))
    listing = tmp_path / "members.json"
    listing.write_text(damage(json.loads(listing.read_text())))
    with pytest.raises(MembersError, match=r"members\.json' must be a list of members with files \.npz, as Snapshots"):
        KeptMembers(Arrays(), folder=tmp_path)


def test_a_file_that_is_gone_or_damaged_is_refused(tmp_path):
    run(KeptMembers(Arrays(), folder=tmp_path), range(10))
    kept = KeptMembers(Arrays(), folder=tmp_path)
    (tmp_path / "member-4.npz").write_bytes((tmp_path / "member-9.npz").read_bytes()[:50])
    with pytest.raises(MembersError, match=r"member-4\.npz' cannot be read as the state of a member"):
        kept.members[0].state  # noqa: B018
    (tmp_path / "member-4.npz").unlink()
    with pytest.raises(MembersError, match=r"lists member-4\.npz, which is not in the folder"):
        KeptMembers(Arrays(), folder=tmp_path)


def test_a_state_that_does_not_fit_is_refused(tmp_path):
    memory, folder = KeptMembers(Arrays()), KeptMembers(Arrays(), folder=tmp_path)
    for kept in (memory, folder):
        run(kept, range(10))
    with pytest.raises(ValueError, match=r"with members in a folder, but this Snapshots keeps its members in memory"):
        memory.load_state_dict(folder.state_dict())
    with pytest.raises(ValueError, match=r"with members in memory, but this Snapshots keeps its members in a folder"):
        folder.load_state_dict(memory.state_dict())
    for wrong in ({}, None, {"version": 9, "members": []}):
        with pytest.raises(ValueError, match="must come from Snapshots"):
            memory.load_state_dict(wrong)
    with pytest.raises(MembersError, match=r"lists a member of step 4, but folder .* has members of steps \[\]"):
        KeptMembers(Arrays(), folder=tmp_path / "new").load_state_dict(folder.state_dict())
    other = KeptMembers(Arrays())
    other.check({"weight": [2, 3]})
    with pytest.raises(MembersError, match=r"state_dict must be of this model, which has no bias; got bias"):
        other.load_state_dict(memory.state_dict())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"keep": 0}, ValueError, "keep must be an integer of at least 1"),
        ({"every": 0}, ValueError, "every must be an integer of at least 1"),
        ({"every": 2.5}, TypeError, "every must be an integer"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, error, words):
    with pytest.raises(error, match=words):
        KeptMembers(Arrays(), **arguments)


# Combining

SHAPES = Arrays().shapes(state(0))


def test_members_to_combine_are_checked():
    members = [Member(step, 0.1, state(step)) for step in (4, 9)]
    assert checked_members(iter(members), Arrays(), SHAPES) == members
    with pytest.raises(ValueError, match="members must hold at least one Member; got none"):
        checked_members([], Arrays(), SHAPES)
    with pytest.raises(TypeError, match=r"members must hold Members, such as snapshots\.members; got 3"):
        checked_members([3], Arrays(), SHAPES)
    with pytest.raises(TypeError, match="members must be a list of Members"):
        checked_members(3, Arrays(), SHAPES)
    with pytest.raises(MembersError, match="the member of step 5 must be of this model"):
        checked_members([*members, Member(5, 0.1, {"weight": np.zeros(2)})], Arrays(), None)
    with pytest.raises(MembersError, match="NaN or infinity in weight of the member of step 5"):
        checked_members([Member(5, 0.1, {**state(0), "weight": np.full((2, 3), math.nan)})], Arrays(), SHAPES)


def test_weights_are_shares():
    assert shares(None, 4) == [0.25] * 4
    assert shares([1, 3], 2) == shares((0.5, 1.5), 2) == [0.25, 0.75]
    assert shares(np.array([0, 2]), 2) == [0, 1]
    for wrong, error in (
        ([1], ValueError),
        ([0, 0], ValueError),
        ([1, -1], ValueError),
        ([1, math.nan], ValueError),
        (3, TypeError),
        (["1", 2], TypeError),
    ):
        with pytest.raises(error, match="weights"):
            shares(wrong, 2)


def test_a_member_is_checked_and_printed_without_its_weights():
    assert repr(Member(4, 0.1, state(4), {"loss": np.float32(0.5)})) == "Member(step=4, lr=0.1, metrics={'loss': 0.5})"
    for arguments in ((-1, 0.1), (4, -0.1), (4.5, 0.1)):
        with pytest.raises((TypeError, ValueError), match="must be"):
            Member(*arguments, state(4))
    with pytest.raises(TypeError, match="metrics must be a dict of numbers by name; got 3"):
        Member(4, 0.1, state(4), 3)
    with pytest.raises(TypeError, match=r"metrics\['loss'\] must be a number"):
        Member(4, 0.1, state(4), {"loss": "low"})


def test_a_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "members").write_text("a file")
    kept = KeptMembers(Arrays(), folder=tmp_path / "members")
    with pytest.raises(MembersError, match=r"cannot be saved in .*: (File exists|Not a directory)\."):
        run(kept, range(5))
    assert MemberFolder(tmp_path / "none", Arrays(), writes=True).read() == (None, [])
