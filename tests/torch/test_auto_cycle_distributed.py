"""AutoCycle in processes that train together: one decision for all."""

import numpy as np
import pytest

# One xdist worker starts the processes, and has all tests that share them.
pytestmark = pytest.mark.xdist_group("torch-processes")

NAMES = [f"{kind}, {way}" for kind in ("DDP", "FSDP2", "ZeRO") for way in ("asks", "goes back")]


@pytest.mark.parametrize("name", NAMES)
def test_nan_in_one_process_is_left_out_in_all(name, processes):
    first, other = (found[name] for found in processes["auto_cycle"])
    assert {**first, "loads": None} == {**other, "loads": None}
    assert first["events"] == ["left_out"]
    assert np.isfinite(np.concatenate(first["weights"])).all()


@pytest.mark.parametrize("way", ["asks", "goes back"])
def test_shards_train_as_copies_do(way, processes):
    copies, shards = (processes["auto_cycle"][0][f"{kind}, {way}"] for kind in ("DDP", "FSDP2"))
    assert copies["rates"] == shards["rates"]
    for one, other in zip(copies["weights"], shards["weights"], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("way", ["asks", "goes back"])
def test_an_optimizer_in_parts_trains_as_a_whole_one(way, processes):
    whole, parts = (processes["auto_cycle"][0][f"{kind}, {way}"] for kind in ("DDP", "ZeRO"))
    assert whole["rates"] == parts["rates"]
    assert whole["weights"] == parts["weights"]


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_another_process_is_not_loaded(name, processes):
    own, of_first = processes["auto_cycle"][1][name]["loads"]
    assert own == ""
    assert ("got the state of process 0 of 2" in of_first) == (not name.startswith("DDP"))
