"""Members of a run that goes on, back, into a fresh process and into another folder, in any order."""

import copy
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import CYCLES, Machine, searched

from cyclr import MembersError, OneCycle, WarmRestarts
from cyclr.members.kept import KeptMembers, checked_members

from .test_folder import Arrays, state

SCHEDULES = (
    CYCLES | st.builds(WarmRestarts, st.just(0.01), st.just(0.3), st.integers(1, 6)) | st.just(OneCycle(0.01, 0.3, 9))
)


class Run(Machine):
    """The model: the steps and rates of the members that are to be there."""

    @initialize(
        schedule=SCHEDULES,
        keep=st.none() | st.integers(1, 3),
        every=st.none() | st.integers(1, 5),
        in_folder=st.booleans(),
    )
    def begin(self, schedule, keep, every, in_folder):
        self.schedule, self.keep, self.every, self.in_folder = schedule, keep, every, in_folder
        self.root = Path(tempfile.mkdtemp())
        self.folder = self.root / "members" if in_folder else None
        self.kept = self.made()
        self.members, self.listed = [], []
        """What it has, and what its folder lists."""
        self.step = 0
        self.saved = []

    def teardown(self):
        if hasattr(self, "root"):
            shutil.rmtree(self.root)

    def made(self, keep=False):
        keep = self.keep if keep is False else keep
        return KeptMembers(Arrays(), keep=keep, every=self.every, folder=self.folder)

    def lr(self, step):
        return self.schedule(step)

    def is_due(self, step):
        return self.schedule.is_cycle_end(step) if self.every is None else (step + 1) % self.every == 0

    @rule(updates=st.integers(1, 12))
    def train(self, updates):
        for _ in range(updates):
            step, self.step = self.step, self.step + 1
            due = self.kept.after_update(step, lambda step=step: bool(self.schedule.is_cycle_end(step)))
            assert due == self.is_due(step)
            self.members = [each for each in self.members if each[0] < step]
            if due:
                self.kept.add(step, self.lr(step), state(step), {"loss": step / 2})
                self.members = [*self.members, (step, self.lr(step))]
                self.members = self.members if self.keep is None else self.members[-self.keep :]
                self.listed = [*self.members]

    @rule(back=st.integers(1, 20))
    def go_back(self, back):
        """To an earlier checkpoint, without a state of the members: what was made since is made again."""
        self.step = max(self.step - back, 0)

    @rule()
    def save(self):
        self.saved.append((copy.deepcopy(self.kept.state_dict()), self.step, [*self.members]))

    @precondition(lambda self: self.saved)
    @rule(data=st.data(), fresh=st.booleans())
    def load(self, data, fresh):
        saved, step, members = data.draw(st.sampled_from(self.saved))
        if fresh:
            self.kept = self.made()
            self.members = [*self.listed] if self.in_folder else []
        before = [member.step for member in self.kept.members]
        if not self.in_folder:
            self.kept.load_state_dict(saved)
            self.members, self.step = [*members], step
            return
        there = [each[0] for each in self.members]
        lost = [
            s for s, _ in members if s not in there and (self.keep is None or sum(t > s for t in there) < self.keep)
        ]
        if lost:
            with pytest.raises(MembersError, match=f"lists a member of step {lost[0]}"):
                self.kept.load_state_dict(saved)
            assert [member.step for member in self.kept.members] == before
        else:
            self.kept.load_state_dict(saved)
            self.step = step

    @rule()
    def start_again(self):
        """A new process, which knows its folder alone."""
        self.kept = self.made()
        self.members = [*self.listed] if self.in_folder else []

    @rule(keep=st.none() | st.integers(1, 3))
    def keep_others(self, keep):
        self.keep = keep
        self.start_again()

    @precondition(lambda self: self.in_folder and self.listed)
    @rule()
    def left_by_a_kill(self):
        (self.folder / ".member-99.npz.1.tmp").write_bytes(b"half")
        (self.folder / "member-9999.npz").write_bytes(b"not listed")

    @precondition(lambda self: self.in_folder)
    @rule(updates=st.integers(1, 12))
    def another_run_writes(self, updates):
        """It is noticed by the one that comes after it, unless that starts again."""
        other = self.made(keep=None)
        last = max((step for step, _ in self.listed), default=0) + 1
        other.add(last, 0.5, state(last), None)
        mine = next(s for s in range(self.step, 10**6) if self.is_due(s)) if self.has_ends() else None
        if mine is not None:
            self.kept.after_update(mine, lambda: True)
            with pytest.raises(MembersError, match="was changed by another run"):
                self.kept.add(mine, 0.5, state(mine), None)
        shutil.rmtree(self.folder)
        self.listed = []
        self.start_again()
        self.saved = []

    def has_ends(self):
        return self.every is not None or (self.schedule.has_cycle_ends and self.schedule.total_steps is None)

    @rule(bad=st.sampled_from([np.nan, np.inf]))
    def not_finite(self, bad):
        with pytest.raises(MembersError, match="must be finite"):
            self.kept.add(self.step, 0.1, {**state(0), "bias": np.array([0, bad, 0])}, None)

    @rule()
    def another_model(self):
        if self.kept._shapes is not None:
            with pytest.raises(MembersError, match="of this model"):
                self.kept.add(self.step, 0.1, {"weight": np.zeros((3, 3)), "bias": np.zeros(3)}, None)

    @invariant()
    def the_members_are_those(self):
        if not hasattr(self, "kept"):
            return
        held = self.kept.members
        assert [(member.step, member.lr) for member in held] == self.members
        for member in held:
            assert (member.state["weight"] == member.step).all()
            assert dict(member.metrics) == {"loss": member.step / 2}
        if held:
            assert checked_members(held, Arrays(), None) == held
        if self.in_folder:
            assert [(member.step, member.lr) for member in self.made().members] == self.listed
            files = {f"member-{step}.npz" for step, _ in self.listed}
            assert not self.listed or files <= {path.name for path in self.folder.iterdir()}


TestRun = searched(Run, 25, 30)
