"""Old names work for one minor release, with a warning that says the new name and when the old one goes."""

import pytest

import cyclr
from cyclr import experiments, records


def test_the_statistics_of_experiments_are_records() -> None:
    with pytest.warns(
        DeprecationWarning, match=r"is now cyclr\.records; the old name is removed in cyclr 0\.3"
    ) as said:
        assert experiments.statistics is records
    assert said[0].filename == __file__
    with pytest.raises(AttributeError, match="has no attribute 'statistic'"):
        experiments.statistic  # noqa: B018
    # Whoever makes 0.3 removes the old name, this test, and the row of docs/support.md.
    assert tuple(map(int, cyclr.__version__.split(".")[:2])) < (0, 3)
