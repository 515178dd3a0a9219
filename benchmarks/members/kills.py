"""Runs that keep members in a folder, and are killed by SIGKILL at random moments and resumed each time.

    python benchmarks/members/kills.py torch [--kills 10]
    KERAS_BACKEND=tensorflow python benchmarks/members/kills.py keras
    python benchmarks/members/kills.py jax

A run of 240 updates ends a cycle every 8 updates and keeps the last 4 members of 1 MB. It saves a checkpoint every few
updates (Keras: `BackupAndRestore`) and continues from there. After each kill the folder must hold the last members up
to the moment of the kill, each once, with the weights of a run that was not killed, bit for bit. Otherwise the exit
status is 1.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import cyclr

STEPS, CYCLE, KEEP, WIDTH = 240, 8, 4, 512
SCHEDULE = cyclr.WarmRestarts(0.001, 0.01, CYCLE)


def numbers(step: int) -> np.ndarray:
    return np.random.default_rng(step).normal(size=(8, WIDTH)).astype("float32")


def torch_run(folder: Path, keep: int | None, train: bool):
    import torch

    from cyclr.torch import Scheduler, Snapshots

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(WIDTH, WIDTH), torch.nn.BatchNorm1d(WIDTH), torch.nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    scheduler = Scheduler(optimizer, SCHEDULE)
    snapshots = Snapshots(model, scheduler, keep=keep, folder=folder / "members")
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "snapshots": snapshots}
    start, checkpoint = 0, folder / "checkpoint.pt"
    if train and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        start = state["step"]
        for name, part in parts.items():
            part.load_state_dict(state[name])
    for step in range(start, STEPS if train else 0):
        x = torch.from_numpy(numbers(step))
        optimizer.zero_grad()
        (model(x) - x.flip(1)).square().mean().backward()
        optimizer.step()
        scheduler.step()
        if step % 7 == 6:
            state = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**state, "step": step + 1}, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
        print(step, flush=True)
    return snapshots.members, lambda state: [value.numpy() for value in state.values()]


def keras_run(folder: Path, keep: int | None, train: bool):
    import keras

    from cyclr.keras import LearningRate, Snapshots

    class Printed(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            print(int(keras.ops.convert_to_numpy(self.model.optimizer.iterations)) - 1, flush=True)

    snapshots = Snapshots(keep=keep, folder=folder / "members")
    if train:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(WIDTH), keras.layers.BatchNormalization(), keras.layers.Activation("tanh")]
        model = keras.Sequential([keras.Input((WIDTH,)), *layers])
        model.compile(keras.optimizers.SGD(LearningRate(SCHEDULE), momentum=0.9), "mse")
        x = np.concatenate([numbers(step) for step in range(12)])
        backup = keras.callbacks.BackupAndRestore(folder / "backup", double_checkpoint=True)
        given = {"batch_size": 8, "epochs": STEPS // 12, "shuffle": False, "verbose": 0}
        model.fit(x, x[:, ::-1], callbacks=[snapshots, backup, Printed()], **given)
    return snapshots.members, lambda state: state


def jax_run(folder: Path, keep: int | None, train: bool):
    import jax
    import jax.numpy as jnp

    from cyclr.jax import Snapshots

    params = {"kernel": jax.random.normal(jax.random.key(0), (WIDTH, WIDTH)) / WIDTH, "bias": jnp.zeros(WIDTH)}
    snapshots = Snapshots(SCHEDULE, keep=keep, folder=folder / "members", like=params)

    @jax.jit
    def update(params, x, lr):
        slopes = jax.grad(lambda params: jnp.mean((jnp.tanh(x @ params["kernel"] + params["bias"]) - x[:, ::-1]) ** 2))
        return jax.tree.map(lambda value, slope: value - 100 * lr * slope, params, slopes(params))

    start, checkpoint = 0, folder / "checkpoint.npz"
    if train and checkpoint.exists():
        with np.load(checkpoint) as file:
            start, params = int(file["step"]), {name: jnp.asarray(file[name]) for name in params}
    for step in range(start, STEPS if train else 0):
        params = update(params, numbers(step), SCHEDULE(step))
        snapshots.after(step, params)
        if step % 7 == 6:
            np.savez(folder / "new.npz", step=step + 1, **params)
            (folder / "new.npz").replace(checkpoint)
        print(step, flush=True)
    return snapshots.members, jax.tree.leaves


RUNS = {"torch": torch_run, "keras": keras_run, "jax": jax_run}


def trained(kind: str, folder: Path, keep: int | None, until: int = STEPS, wait: float = 0.0) -> int:
    """Train in a process that is killed soon after an update, and return the last update that it reported."""
    folder.mkdir(exist_ok=True)
    last, killed = -1, False
    command = [sys.executable, __file__, kind, "--train", str(folder), "--keep", str(keep or 0)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            last = max(last, int(line))
            if last >= until and not killed:
                # The process continues until the kill, so the kill may hit any operation.
                time.sleep(wait)
                os.kill(process.pid, signal.SIGKILL)
                killed = True
    if process.returncode not in (0, -signal.SIGKILL):
        sys.exit(f"a process ended with {process.returncode}")
    return last


def faults(kind: str, folder: Path, last: int, whole: dict[int, list[np.ndarray]]) -> tuple[int, int, int]:
    """Return the numbers of members that are lost, duplicate, and different from the uninterrupted run."""
    members, leaves = RUNS[kind](folder, KEEP, False)
    steps = [member.step for member in members]
    newest = max([*steps, *(step for step in whole if step <= last)], default=-1)
    wanted = [step for step in whole if step <= newest][-KEEP:]

    def is_other(member: cyclr.Member) -> bool:
        try:
            found = leaves(member.state)
        except cyclr.MembersError:
            return True
        expected = whole.get(member.step, [])
        return len(found) != len(expected) or not all(map(np.array_equal, found, expected))

    return len({*wanted} - {*steps}), len(steps) - len({*steps}), sum(map(is_other, members))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=RUNS)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--keep", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.train is not None:
        RUNS[given.kind](given.train, given.keep or None, True)
        return
    rng = np.random.default_rng(given.seed)
    with tempfile.TemporaryDirectory() as root:
        trained(given.kind, Path(root, "whole"), None)
        members, leaves = RUNS[given.kind](Path(root, "whole"), None, False)
        whole = {member.step: leaves(member.state) for member in members}
        folder, found, listed = Path(root, "killed"), [], []
        for until in [*sorted(rng.integers(1, STEPS - 20, given.kills)), STEPS]:
            last = trained(given.kind, folder, KEEP, until, rng.uniform(0, 0.01))
            found.append(faults(given.kind, folder, last, whole))
            if (folder / "members" / "members.json").exists():
                content = json.loads((folder / "members" / "members.json").read_text())
                listed = [f"member-{member['step']}{content['suffix']}" for member in content["members"]]
        left = {path.name for path in (folder / "members").iterdir()} - {*listed, "members.json"}
    lost, twice, other = map(sum, zip(*found, strict=True))
    print(
        f"{given.kind}: {given.kills} kills, {len(whole)} members of the whole run; after the kills and at the end "
        f"{lost} lost, {twice} there twice, {other} half written or other; {len(left)} files left at the end"
    )
    sys.exit(1 if lost or twice or other or left or len(whole) != STEPS // CYCLE else 0)


if __name__ == "__main__":
    main()
