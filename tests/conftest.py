"""What all tests share."""

import os

import pytest
from hypothesis import settings

# CI draws the same examples at every run; other runs draw new ones.
settings.register_profile("cyclr", deadline=None, max_examples=60, derandomize="CI" in os.environ)
settings.load_profile("cyclr")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run tests of one `xdist_group` in one worker under `--dist loadgroup`.

    pytest-xdist appends the group to the node id. pytest 9.2 does not read where pytest-xdist 3.8 writes it:
    https://github.com/pytest-dev/pytest-xdist/issues/1386
    """
    if not getattr(config.option, "loadgroup", False):
        return
    for item in items:
        mark = item.get_closest_marker("xdist_group")
        if mark and not item.nodeid.endswith(f"@{mark.args[0]}"):
            item._id = item._id.parse(f"{item.nodeid}@{mark.args[0]}")
