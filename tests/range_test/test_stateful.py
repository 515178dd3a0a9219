"""`RangeTest` driven by any loop: what it gives and keeps is what was recorded, whatever comes between."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule
from tests.stateful import Machine, searched

from cyclr import RangeTest, RangeTestError, RangeTestResult
from cyclr.range_test.driver import BROKEN_AT_MOST, learning_rates


class Sweep(Machine):
    """The model: the finite losses, in groups of `per_rate`, and how many broken ones came in a row."""

    @initialize(
        steps=st.integers(2, 30),
        per_rate=st.sampled_from([1, 1, 3]),
        spacing=st.sampled_from(["exponential", "linear"]),
        stop_factor=st.none() | st.just(4.0),
        evaluates=st.booleans(),
        restores=st.booleans(),
    )
    def begin(self, steps, per_rate, spacing, stop_factor, evaluates, restores):
        self.per_rate = per_rate
        self.rates = learning_rates(0.001, 1.0, steps, spacing)
        self.value = 0.5
        self.test = RangeTest(
            0.001,
            1.0,
            steps,
            spacing,
            stop_factor=stop_factor,
            updates_per_rate=per_rate,
            evaluate=(lambda: self.value) if evaluates else None,
            restores=restores,
        )
        self.evaluates, self.stop_factor, self.restores = evaluates, stop_factor, restores
        self.losses, self.group, self.broken = [], [], []
        self.left_out, self.updates = [], 0
        self.taken, self.reason = False, None

    @rule()
    def take(self):
        if self.reason is not None:
            with pytest.raises(StopIteration):
                next(self.test)
        elif self.taken:
            with pytest.raises(RangeTestError, match="was not called for learning rate number"):
                next(self.test)
        else:
            ahead = self.test.upcoming(4)
            wanted = np.repeat(self.rates[len(self.losses) :], self.per_rate)[len(self.group) :][:4]
            np.testing.assert_array_equal(ahead, wanted)
            assert next(self.test) == self.rates[len(self.losses)]
            self.taken = True

    @rule(
        loss=st.sampled_from([0.5, 0.49, 2.0, 1e308, -1e308, 0.0]) | st.floats(-2, 2),
        wraps=st.sampled_from([float, np.float32, np.array]),
    )
    def record(self, loss, wraps):
        if not self.taken:
            with pytest.raises(RangeTestError, match="before a learning rate was taken"):
                self.test.record(loss)
            return
        with np.errstate(over="ignore"):
            given = wraps(loss)
        loss = float(given)
        self.value = loss
        self.test.record(given)
        self.taken = False
        if self.reason is not None:
            return
        self.updates += 1
        if not math.isfinite(loss):
            self.broke(loss)
            return
        self.left_out += self.broken
        self.broken = []
        self.group.append(loss)
        if len(self.group) == self.per_rate:
            mean = math.fsum(each / self.per_rate for each in self.group) if self.per_rate > 1 else loss
            self.losses.append(loss if self.evaluates else mean)
            self.group = []
            if self.test.stopped and len(self.losses) < len(self.rates):
                # When it has diverged is tested by itself.
                assert self.stop_factor is not None
                assert len(self.losses) >= 12
                self.reason = "diverged"
            elif len(self.losses) == len(self.rates):
                self.reason = "diverged" if self.test._stop_reason == "diverged" else "completed"

    @precondition(lambda self: self.taken)
    @rule(bad=st.sampled_from([math.nan, math.inf, -math.inf]), times=st.integers(1, 12))
    def record_broken(self, bad, times):
        for _ in range(times):
            if not self.taken:
                if self.reason is not None:
                    return
                self.take()
            self.test.record(bad)
            self.taken = False
            if self.reason is None:
                self.updates += 1
                self.broke(bad)

    def broke(self, bad):
        self.broken.append((self.updates - 1, self.rates[len(self.losses)], repr(bad).replace("nan", "NaN")))
        if len(self.broken) > BROKEN_AT_MOST:
            self.reason, self.broken = "non_finite", self.broken[:1]

    @precondition(lambda self: self.taken)
    @rule(wrong=st.sampled_from([None, "0.5", [0.1, 0.2], 1j]))
    def a_loss_of_a_wrong_kind_changes_nothing(self, wrong):
        with pytest.raises((TypeError, ValueError)):
            self.test.record(wrong)

    @rule(reason=st.sampled_from(["data_exhausted", "interrupted"]))
    def stop(self, reason):
        self.test.stop(reason)
        if self.reason is None:
            self.reason = reason
            # The test ended in doubt: whether the batch or the rate was to blame is not known.
            self.broken = self.broken[:1]

    @precondition(lambda self: self.reason is None)
    @rule()
    def end_by_gradients(self):
        self.test.end_by_gradients()
        self.updates += 1
        self.reason, self.broken = "non_finite", [(self.updates - 1, self.rates[len(self.losses)], "NaN")]

    @rule()
    def result(self):
        """At any time, and twice the same."""
        if not self.losses:
            with pytest.raises(RangeTestError, match="needs at least one finite loss"):
                self.test.result()
            return
        result = self.test.result()
        np.testing.assert_array_equal(result.lr, self.rates[: len(self.losses)])
        np.testing.assert_array_equal(result.loss, self.losses)
        assert result.stop_reason == (self.reason or "interrupted")
        assert [(met.update, met.lr, met.value) for met in result.left_out] == self.left_out
        ended = [(met.update, met.lr, met.value) for met in [result.ended_by] if met is not None]
        assert ended == (self.broken if self.reason else [])
        assert result == self.test.result()
        bounds = result.bounds
        if bounds.usable:
            low, high = bounds
            assert 0 < low < high <= self.rates[-1]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "test.json"
            result.save(path)
            assert RangeTestResult.load(path) == result

    @invariant()
    def what_can_be_read_is_what_was_recorded(self):
        if not hasattr(self, "test"):
            return
        test = self.test
        assert (test.recorded, test.updates, test.stopped) == (len(self.losses), self.updates, self.reason is not None)
        assert test.in_doubt == (bool(self.broken) and self.reason is None)
        if self.losses:
            assert test.last == (self.rates[len(self.losses) - 1], self.losses[-1])


TestSweep = searched(Sweep, 40, 40)
