"""Snapshots in processes that train together: the same members in all, written by one."""

import numpy as np
import pytest

# One xdist worker starts the processes, and has all tests that share them.
pytestmark = pytest.mark.xdist_group("torch-processes")


@pytest.mark.parametrize("kind", ["DDP", "FSDP2"])
@pytest.mark.parametrize("place", ["memory", "folder"])
def test_all_processes_have_the_whole_members(kind, place, processes):
    first, other = (found[f"{kind}, {place}"] for found in processes["snapshots"])
    assert first == other
    assert first["steps"] == [9, 19]
    assert first["member"] == first["last"]
    assert first["average"] != first["last"]
    if place == "folder":
        assert first["files"] == ["member-19.safetensors", "member-9.safetensors", "members.json"]


def test_shards_have_the_members_of_copies(processes):
    copies, shards = (processes["snapshots"][0][f"{kind}, folder"] for kind in ("DDP", "FSDP2"))
    np.testing.assert_allclose(copies["metrics"], shards["metrics"], rtol=1e-4, atol=1e-6)
    for one, other in zip(copies["average"], shards["average"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
