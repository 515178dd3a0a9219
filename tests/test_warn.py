"""Warnings name the user's line, whatever of cyclr and of a framework is in between."""

import math
import types

import pytest

import cyclr
from cyclr._warn import warn


def test_an_event_warns_at_the_line_of_the_loop() -> None:
    auto = cyclr.AutoCycle(60, cyclr.Cyclical.over(60, 1, 0.001, 0.01))
    with pytest.warns(UserWarning, match="The batch was left out") as warned:
        assert auto.skip(math.nan)
    assert warned[0].filename == __file__


def test_an_argument_warns_at_the_line_of_the_call() -> None:
    with pytest.warns(UserWarning, match="the schedule has total_steps=100") as warned:
        cyclr.AutoCycle(60, cyclr.Cyclical.over(100, 1, 0.001, 0.01))
    assert warned[0].filename == __file__


def test_frames_of_a_framework_are_left_out() -> None:
    module = types.ModuleType("keras.callbacks")
    exec("def call(function): function('a word')", vars(module))  # noqa: S102
    with pytest.warns(UserWarning, match="a word") as warned:
        module.call(warn)
    assert warned[0].filename == __file__
