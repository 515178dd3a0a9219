"""The Ray engine on a real Ray: started here, and as a cluster of two nodes."""

import concurrent.futures
import importlib.util
import json
import os
import signal
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from tests.processes import LIMIT

from cyclr.errors import CyclrError, MissingExtraError
from cyclr.experiments import Spec, compare, read_records
from cyclr.experiments import trial as trials
from cyclr.experiments.engines.ray import RayEngine
from cyclr.experiments.events import Epoch, Event, Finished, Progress
from cyclr.experiments.spec import Trial
from cyclr.records import Record

for package in ("torch", "ray"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

pytestmark = [
    pytest.mark.filterwarnings("ignore::FutureWarning:ray", "ignore::ResourceWarning", "ignore::DeprecationWarning"),
    # One xdist worker starts Ray, and has all tests that share it.
    pytest.mark.xdist_group("ray"),
]

MakeSpec = Callable[..., Spec]
SMALL = {"object_store_memory": 80 * 2**20}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes, each a raylet of its own with one CPU."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ray.cluster_utils import Cluster

        # Ray itself gives each node 30 s to register, which a busy machine exceeds.
        head = {"num_cpus": 1, "include_dashboard": False, "wait": False, **SMALL}
        nodes = Cluster(initialize_head=True, head_node_args=head)
        nodes.add_node(num_cpus=1, wait=False, **SMALL)
        nodes.wait_for_nodes(timeout=LIMIT)
    yield nodes
    nodes.shutdown()


def test_a_cluster_of_two_nodes_records_what_one_process_does_and_retries_what_died(
    cluster: Any, blob_spec: MakeSpec, tmp_path: Path, timeless: Callable[[Any], Any]
) -> None:
    # The user's file is shipped: the workers have no other way to it.
    policies = [{"kind": "fixed", "lr": 0.1}, {"kind": "triangular"}]
    spec = blob_spec(policies=policies, seeds=[0], range_test={"min_lr": 1e-4, "steps": 60})
    events: list[Event] = []
    records = compare(spec, tmp_path / "run", engine="ray", address=cluster.address, tell=events.append)
    by_id = {record.trial: timeless(record) for record in records}
    for trial in spec.trials():
        assert by_id[trial.id] == timeless(trials.run_trial(trial))
    epochs = [event for event in events if isinstance(event, Epoch) and event.trial == spec.trials()[1].id]
    assert [event.values["step"] for event in epochs] == [10, 20]

    deadly = blob_spec("dies_once", epochs=4)
    killed = list(RayEngine(address=cluster.address, retries=2).run(deadly.trials()))
    assert [record.status for record in killed] == ["ok"], killed[0].error
    fatal = list(RayEngine(address=cluster.address, retries=0).run(blob_spec("dies").trials()))
    assert fatal[0].status == "failed"
    assert "its worker died 1 times; last: " in fatal[0].error


def test_the_folder_of_a_file_outside_of_the_comparisons_own_is_shipped(
    cluster: Any, blob_spec: MakeSpec, blobs: Path, tmp_path: Path
) -> None:
    (blobs / "user_model.py").write_text("def build():\n    from blobs import build\n    return build()\n")
    (tmp_path / "conf").mkdir()
    for workload in ("../user/user_model.py:build", f"{blobs}/user_model.py:build"):
        spec = blob_spec(epochs=1).replace(workload=workload, folder=str(tmp_path / "conf"))
        (record,) = RayEngine(address=cluster.address).run(spec.trials())
        assert (record.status, record.error) == ("ok", None)
        assert (record.trial, record.workload) == (spec.trials()[0].id, workload)
        assert record.workload_sha256 == spec.trials()[0].file_sha256


def test_a_folder_that_ray_does_not_take_is_named_with_its_size(
    cluster: Any, blob_spec: MakeSpec, blobs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray
    from ray._private.runtime_env import packaging

    monkeypatch.setattr(packaging, "GCS_STORAGE_MAX_SIZE", 2**20)
    (blobs / "data.bin").write_bytes(os.urandom(3 * 2**20))
    message = r"Ray could not send .*user' of 3\.0 MiB, 3\.0 MiB of them in 'data\.bin' \(.*\.rayignore"
    with pytest.raises(CyclrError, match=message):
        list(RayEngine(address=cluster.address).run(blob_spec().trials()))
    assert not ray.is_initialized()


LIGHT = """
import time
from pathlib import Path
import ray

STARTED = Path({started!r})

def build():
    if ray.get_runtime_context().get_node_id() == {node!r}:
        STARTED.touch()
    while not STARTED.exists() or ray.get_runtime_context().get_node_id() == {node!r}:
        time.sleep(0.05)
    raise OSError("no data")
"""


def test_a_node_that_is_killed_with_its_trials_loses_no_record(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1, wait=False, **SMALL)
    cluster.wait_for_nodes(timeout=LIMIT)
    # Trials on this node never end, and the others end when one of them has started.
    (tmp_path / "light.py").write_text(LIGHT.format(started=str(tmp_path / "started"), node=node.node_id))
    policies = [{"kind": "fixed", "lr": 0.1}]
    spec = Spec(policies, workload="light.py:build", epochs=1, seeds=range(6), folder=str(tmp_path))
    events: list[Event] = []

    def tell(event: Event) -> None:
        events.append(event)
        if isinstance(event, Finished) and node in cluster.list_all_nodes():
            cluster.remove_node(node, allow_graceful=False)

    records = compare(spec, tmp_path / "run", engine="ray", address=cluster.address, tell=tell)
    assert sorted(record.trial for record in records) == sorted(trial.id for trial in spec.trials())
    assert {record.error for record in records} == {"OSError: no data (light.py, line 13)"}
    assert [event.stage for event in events if isinstance(event, Progress)].count("worker died") == 1


# This one goes last: after a Ray of its own, this process can connect to no other cluster.
DRIVER = """
import json, sys
from cyclr.experiments import Spec, compare
from cyclr.experiments.events import Finished
spec = Spec.from_dict(json.loads(sys.argv[1]), folder=sys.argv[2])
compare(spec, sys.argv[3], engine="ray", address=sys.argv[4],
        tell=lambda event: print("record" if isinstance(event, Finished) else "", flush=True))
"""


def test_a_driver_that_is_killed_is_started_again_on_a_ray_of_this_machine(
    cluster: Any, blob_spec: MakeSpec, blobs: Path, tmp_path: Path
) -> None:
    spec = blob_spec(seeds=[0, 1, 2], epochs=4)
    run = tmp_path / "run"
    arguments = [json.dumps(spec.to_dict()), str(blobs), str(run), cluster.address]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", DRIVER, *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    while process.stdout.readline() != "record\n":
        assert process.poll() is None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    before = [record.trial for record in read_records(run)]
    assert before
    compare(spec, run, engine="ray", workers=2, init=SMALL)
    names = [json.loads(line)["trial"] for line in (run / "records.jsonl").read_text().splitlines()]
    assert names[: len(before)] == before
    assert sorted(names) == sorted(trial.id for trial in spec.trials())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cpus": -1}, "cpus must be a finite number of at least 0"),
        ({"gpus": -0.5}, "gpus must be a finite number of at least 0"),
        ({"retries": -1}, "retries must be an integer of at least 0"),
        ({"address": "auto", "workers": 2}, "workers must be left out with an address"),
    ],
)
def test_options_are_checked_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RayEngine(**options)


@pytest.mark.parametrize(
    ("said", "message"), [("no luck\nall ports are taken\n", r"\(all ports are taken\)\. "), ("", r"\(RayError\)\. ")]
)
def test_a_ray_error_without_a_file_to_send_is_reported_unchanged(
    monkeypatch: pytest.MonkeyPatch, said: str, message: str
) -> None:
    import ray

    def init(**_: Any) -> None:
        raise ray.exceptions.RayError(said)

    monkeypatch.setattr(ray, "init", init)
    spec = Spec([{"kind": "fixed", "lr": 0.1}], epochs=1, seeds=[0])
    with pytest.raises(CyclrError, match=f"Ray did not start {message}"):
        list(RayEngine().run(spec.trials()))


def test_a_task_sends_a_message_each_half_second_and_its_record_last(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[RayEngine.__module__]
    (trial,) = Spec([{"kind": "fixed", "lr": 0.1}], epochs=1, seeds=[0]).trials()
    events = [Epoch(trial.id, {"step": step}) for step in range(100)]
    record = trials.empty_record(trial)
    waits = []

    def run(trial: Trial, tell: Callable[[Event], None]) -> Record:
        for event in events:
            tell(event)
        return record

    def wait(futures: Any, timeout: float) -> Any:
        # The trial has ended each time, and the task sees it the third time.
        waits.append(timeout)
        ended = concurrent.futures.wait(futures)
        return ended if len(waits) > 2 else SimpleNamespace(done=set())

    monkeypatch.setattr(module, "run_trial", run)
    monkeypatch.setattr(module, "wait", wait)
    assert list(module._run_in_task(trial)) == [events, [Finished(record)]]
    assert waits == [0.5] * 3


def test_without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'pip install "cyclr\[ray\]"'):
        RayEngine()
