"""Check the promises of cyclr on a GPU, and measure its cost, in one table.

    python benchmarks/gpu.py                # with one CUDA GPU; no section starts after 6 minutes
    python benchmarks/gpu.py --short        # the same checks on tiny models, on a CPU too: seconds
    python benchmarks/gpu.py --only compile --only cost

It needs cyclr, torch, jax and numpy. All data is generated: nothing is downloaded or written. A row is a check (`ok` or
`FAILED`) or a measured number. If the library or the device of a section is missing, the section is skipped with the
reason. The exit status is 1 if a check failed.

- **no trace**: training after a range test against training without one: weights, optimizer, losses and generators.
- **split run**: a run that is saved and resumed in new objects, against an uninterrupted run.
- **precision**: bfloat16, and a gradient scaler (float16 on a GPU) that skips updates with overflow: the schedule must
  not advance at skipped updates.
- **compile**: number of recompilations while the learning rate changes at every update; a CUDA graph against eager.
- **cost**: an update with a `Scheduler`, as a ratio to an update with a scheduler of torch, in one run.
- **AutoCycle**: a run including its copies of the state, as a ratio to the same run with a `Scheduler`.
- **study**: images of 32 × 32 × 3, a small CNN, a range test and one cycle, against fixed learning rates.

*Equal* means equal to the last bit. On a GPU this needs `torch.use_deterministic_algorithms(True)`, which is on for
these sections, and XLA's deterministic operations. A CUDA graph is compared within 1e-4, because it may use other
kernels.
"""

import argparse
import io
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

# Read when CUDA and XLA start.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
if "--short" not in sys.argv:
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_gpu_deterministic_ops=true".strip()

import numpy as np

import cyclr

RATES = (0.01, 0.03, 0.1, 0.3)
LIMIT = 360
"""No section starts after these seconds, so that the command ends within 8 minutes."""


class Row(NamedTuple):
    """A line of the table. `ok` is None for a measured number, and for a skipped section."""

    what: str
    value: str
    ok: bool | None = None


class SkippedError(Exception):
    """A section cannot run here."""


@dataclass
class Size:
    """The sizes of models, data and runs."""

    device: str
    short: bool

    def of(self, short: int, long: int) -> int:
        return short if self.short else long


def equal(ones: list[Any], others: list[Any]) -> Row:
    """Compare tensors and arrays to the last bit."""
    pairs = list(zip(ones, others, strict=True))
    bits = [[np.asarray(one.cpu() if hasattr(one, "cpu") else one).tobytes() for one in pair] for pair in pairs]
    differ = sum(one != other for one, other in bits)
    return Row("", f"{len(pairs) - differ} of {len(pairs)} arrays equal", differ == 0)


def network(size: Size, seed: int, *, dropout: float = 0.2) -> Any:
    import torch
    from torch import nn

    torch.manual_seed(seed)
    width = size.of(4, 32)
    layers = [nn.Conv2d(3, width, 3, stride=2, padding=1), nn.BatchNorm2d(width), nn.ReLU()]
    layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), nn.BatchNorm2d(2 * width), nn.ReLU()]
    layers += [nn.Flatten(), nn.Dropout(dropout), nn.Linear(2 * width * 64, 10)]
    return nn.Sequential(*layers).to(size.device)


def images(size: Size, count: int, seed: int, noise: float = 2.0) -> tuple[Any, Any]:
    """Return images of ten classes: a smooth pattern for each class, plus noise."""
    random = np.random.default_rng(seed)
    coarse = np.random.default_rng(0).normal(size=(10, 3, 8, 8)).repeat(4, 2).repeat(4, 3)
    labels = random.integers(10, size=count)
    pixels = coarse[labels] + noise * random.normal(size=(count, 3, 32, 32))
    import torch

    return torch.tensor(pixels, dtype=torch.float32, device=size.device), torch.tensor(labels, device=size.device)


def batches(size: Size, count: int, seed: int = 1) -> list[tuple[Any, Any]]:
    of = size.of(8, 128)
    x, y = images(size, count * of, seed)
    return list(zip(x.split(of), y.split(of), strict=True))


def update(model: Any, optimizer: Any, batch: tuple[Any, Any], scheduler: Any = None) -> Any:
    from torch.nn.functional import cross_entropy

    optimizer.zero_grad()
    loss = cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    if scheduler is not None:
        scheduler.step()
    return loss.detach()


def state_of(model: Any, optimizer: Any) -> list[Any]:
    """All tensors of a training, and the states of torch's generators."""
    import torch

    memory = [value for entry in optimizer.state.values() for value in entry.values() if torch.is_tensor(value)]
    generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    return [*model.state_dict().values(), *memory, *generators]


def no_trace(size: Size) -> Iterator[Row]:
    import torch
    from torch.nn.functional import cross_entropy

    from cyclr.torch import range_test

    data = batches(size, size.of(3, 40))

    def stop(test: Any) -> None:
        if test.recorded == 5:
            raise RuntimeError("as asked")

    def trained(how: dict[str, Any] | None) -> list[Any]:
        model = network(size, 0)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=size.device == "cuda")
        losses = [update(model, optimizer, batch) for batch in data]
        if how is not None:
            try:
                range_test(
                    model,
                    optimizer,
                    cross_entropy,
                    data,
                    steps=size.of(12, 150),
                    repeats=size.of(1, 2),
                    verbose=0,
                    **how,
                )
            except RuntimeError as error:
                if str(error) != "as asked":
                    raise
        losses += [update(model, optimizer, batch) for batch in data]
        return [*losses, *state_of(model, optimizer)]

    plain = trained(None)
    for name, how in (
        ("completed", {"max_lr": 0.1, "stop_factor": None}),
        ("diverged", {"max_lr": 1e6}),
        ("raised in the middle", {"on_step": stop}),
    ):
        yield equal(plain, trained(how))._replace(what=f"PyTorch, {name}")


def jax_step(compiled: list[int]) -> Callable[..., Any]:
    """Return a step of SGD with momentum on a small network with dropout. Every trace adds an entry to `compiled`."""
    import jax
    import jax.numpy as jnp

    def step(state: Any, batch: Any, lr: Any) -> Any:
        compiled.append(1)
        weights, memory, key = state
        key, own = jax.random.split(key)

        def loss_of(weights: Any) -> Any:
            hidden = jnp.tanh(batch[0] @ weights["in"])
            kept = hidden * jax.random.bernoulli(own, 0.8, hidden.shape)
            return jnp.mean((kept @ weights["out"] - batch[1]) ** 2)

        loss, gradient = jax.value_and_grad(loss_of)(weights)
        memory = jax.tree.map(lambda m, g: 0.9 * m + g, memory, gradient)
        return (jax.tree.map(lambda w, m: w - lr * m, weights, memory), memory, key), loss

    return step


def jax_start(size: Size) -> tuple[Any, list[Any]]:
    import jax

    if size.device == "cuda" and jax.default_backend() != "gpu":
        raise SkippedError(f"JAX runs on {jax.default_backend()!r}: install jax[cuda12]")
    width, random = size.of(16, 512), np.random.default_rng(0)
    x = random.normal(size=(20, 32, width)).astype(np.float32)
    shapes = {"in": (width, width), "out": (width, 1)}
    weights = {name: (0.1 * random.normal(size=shape)).astype(np.float32) for name, shape in shapes.items()}
    start = jax.device_put((weights, jax.tree.map(np.zeros_like, weights), jax.random.key(0)))
    return start, jax.device_put([(one, one[:, :1]) for one in x])


def arrays_of(state: Any) -> list[Any]:
    import jax

    return [np.asarray(leaf) for leaf in jax.tree.leaves((*state[:2], jax.random.key_data(state[2])))]


def no_trace_jax(size: Size) -> Iterator[Row]:
    import jax

    from cyclr.jax import range_test

    start, data = jax_start(size)
    step = jax_step([])
    compiled = jax.jit(step)

    def trained(how: dict[str, Any] | None) -> list[Any]:
        state, losses = start, []
        for epoch in range(2):
            if epoch and how is not None:
                # Its own compilation takes seconds.
                measured = {"step_fn": compiled, "chunk": None} if size.short else {"step_fn": step}
                range_test(state=state, batches=data, steps=size.of(12, 150), verbose=0, **measured, **how)
            for batch in data:
                state, loss = compiled(state, batch, np.float32(0.01))
                losses.append(loss)
        return [*losses, *arrays_of(state)]

    plain = trained(None)
    for name, how in (("completed", {"max_lr": 0.1, "stop_factor": None}), ("diverged", {"max_lr": 1e6})):
        yield equal(plain, trained(how))._replace(what=f"JAX, {name}")


def split_run(size: Size) -> Iterator[Row]:
    import torch

    from cyclr.torch import Scheduler

    count = size.of(6, 120)
    data = batches(size, count)
    cycle = cyclr.Cyclical(1e-4, 1e-2, step_size=7)
    fused = {"fused": True} if size.device == "cuda" else {}
    for name, make in (
        ("SGD, momentum scheduled", partial(torch.optim.SGD, momentum=0.9)),
        ("AdamW, fused" if fused else "AdamW", partial(torch.optim.AdamW, weight_decay=0.01, **fused)),
    ):
        momentum = {"momentum": cycle.mirrored(0.8, 0.9)} if name.startswith("SGD") else {}

        def made(make: Any = make, momentum: Any = momentum) -> tuple[Any, Any, Any]:
            model = network(size, 0, dropout=0)
            optimizer = make(model.parameters(), lr=1e-3)
            return model, optimizer, Scheduler(optimizer, cycle, **momentum)

        def run(parts: tuple[Any, Any, Any], some: list[Any]) -> list[float]:
            used = []
            for batch in some:
                used.append(float(parts[1].param_groups[0]["lr"]))
                update(*parts[:2], batch, parts[2])
            return used

        whole = made()
        rates = run(whole, data)
        first, resumed, file = made(), made(), io.BytesIO()
        used = run(first, data[: count // 2])
        torch.save([part.state_dict() for part in first], file)
        file.seek(0)
        for part, state in zip(resumed, torch.load(file, weights_only=True), strict=True):
            part.load_state_dict(state)
        used += run(resumed, data[count // 2 :])
        row = equal(state_of(*whole[:2]), state_of(*resumed[:2]))
        exact = used == rates == [cycle(step) for step in range(count)]
        yield Row(f"PyTorch, {name}", f"{row.value}, rates {'equal' if exact else 'DIFFER'}", bool(row.ok) and exact)


def precision(size: Size) -> Iterator[Row]:
    import torch
    from torch.nn.functional import cross_entropy

    from cyclr.torch import Scheduler, range_test

    on_gpu, count = size.device == "cuda", size.of(6, 100)
    data, cycle = batches(size, count), cyclr.Cyclical(1e-4, 1e-2, step_size=5)
    for name, dtype, scales in (
        ("bfloat16", torch.bfloat16, False),
        ("float16, scaler" if on_gpu else "bfloat16, scaler", torch.float16 if on_gpu else torch.bfloat16, True),
    ):
        model = network(size, 0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        scaler = torch.amp.GradScaler(size.device, enabled=scales)
        scheduler = Scheduler(optimizer, cycle)
        used, skipped = [], 0
        for number, batch in enumerate(data):
            rate, before = optimizer.param_groups[0]["lr"], model[0].weight.detach().clone()
            optimizer.zero_grad()
            with torch.autocast(size.device, dtype):
                loss = cross_entropy(model(batch[0]), batch[1])
            # The gradients of every fourth update overflow.
            scaler.scale(loss * np.inf if scales and number % 4 == 0 else loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            if torch.equal(before, model[0].weight):
                skipped += 1
            else:
                used.append(rate)
        exact = used == [cycle(step) for step in range(len(used))] and scheduler.last_epoch == len(used)
        # Without an update there is nothing to check.
        fits = exact and bool(used) and (skipped > 0) == scales
        yield Row(name, f"{len(used)} updates, {skipped} skipped, rates {'equal' if exact else 'DIFFER'}", fits)
        before = deepcopy([*state_of(model, optimizer), torch.tensor(scaler.get_scale())])
        result = range_test(
            *(model, optimizer, cross_entropy, data),
            steps=size.of(12, 150),
            repeats=1,
            autocast=dtype,
            scaler=scaler if scales else None,
            verbose=0,
        )
        row = equal(before, [*state_of(model, optimizer), torch.tensor(scaler.get_scale())])
        points = f"{len(result.loss)} points, {result.bounds.status}"
        yield row._replace(what=f"{name}: range test", value=f"{points}; {row.value}")


def compiling(size: Size) -> Iterator[Row]:
    import torch

    from cyclr.torch import Scheduler

    calls: list[int] = []
    inner: Any = torch._dynamo.lookup_backend("inductor" if size.device == "cuda" else "eager")

    def counting(graph: Any, inputs: Any) -> Any:
        calls.append(1)
        return inner(graph, inputs)

    data, cycle = batches(size, 4), cyclr.Cyclical(1e-4, 1e-2, step_size=5)
    for name, tensor in (("rate is a number", False), ("rate is a tensor", True)):
        torch.compiler.reset()
        model = network(size, 0)
        rate: Any = torch.tensor(0.1, device=size.device) if tensor else 0.1
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=0.9)
        scheduler = Scheduler(optimizer, cycle)
        compiled = torch.compile(model, backend=counting)
        # torch compiles again for every new learning rate that is a number, so only the model is compiled then.
        step = torch.compile(optimizer.step, backend=counting) if tensor else optimizer.step
        used, first = [], 0
        for number in range(20):
            x, y = data[number % len(data)]
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(compiled(x), y).backward()
            used.append(float(optimizer.param_groups[0]["lr"]))
            step()
            scheduler.step()
            first = len(calls) if number == 3 else first
        wanted = [cycle(number) for number in range(20)]
        exact = np.allclose(used, wanted, rtol=1e-6, atol=0)
        again, calls[:] = len(calls) - first, []
        what = "torch.compile of " + ("model and optimizer.step" if tensor else "the model")
        yield Row(f"{what}, {name}", f"{again} recompilations in 16 updates", again == 0 and exact)
    yield cuda_graph(size)


def cuda_graph(size: Size) -> Row:
    """Replay captured updates while the learning rate, a tensor on the GPU, changes, and make them in eager mode."""
    import torch
    from torch.nn.functional import cross_entropy

    from cyclr.torch import Scheduler

    if size.device != "cuda":
        return Row("CUDA graph", "skipped: there is no CUDA GPU")
    (x, y), cycle = batches(size, 1)[0], cyclr.Cyclical(1e-5, 1e-3, step_size=5)
    ends = []
    for captured in (False, True):
        model = network(size, 0, dropout=0)
        # SGD would read the tensor in every update, and a CUDA graph cannot do that.
        optimizer = torch.optim.Adam(model.parameters(), lr=torch.tensor(1e-3, device="cuda"), capturable=True)

        def one(model: Any = model, optimizer: Any = optimizer) -> None:
            optimizer.zero_grad(set_to_none=False)
            cross_entropy(model(x), y).backward()
            optimizer.step()

        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                one()
        torch.cuda.current_stream().wait_stream(stream)
        run: Any = one
        if captured:
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                one()
            run = graph.replay
        scheduler = Scheduler(optimizer, cycle, counts="calls")
        for _ in range(30):
            run()
            scheduler.step()
        rate = float(optimizer.param_groups[0]["lr"])
        ends.append((torch.cat([part.detach().flatten() for part in model.parameters()]), rate))
    (eager, _), (replayed, rate) = ends
    apart = float((eager - replayed).norm() / eager.norm())
    return Row("CUDA graph", f"relative difference to eager {apart:.1e}", apart < 1e-4 and np.isclose(rate, cycle(30)))


def compiling_jax(size: Size) -> Iterator[Row]:
    import jax

    from cyclr.jax import AutoCycle

    (state, data), traced = jax_start(size), list[int]()
    step = jax.jit(jax_step(traced))
    cycle = cyclr.Cyclical.over(40, 2, 1e-4, 1e-2)
    auto = AutoCycle(state, total_steps=40, schedule=cycle)
    for number in range(40):
        state, loss = step(state, data[number % len(data)], auto.lr)
        state = auto.step(loss, state)
    yield Row("JAX, jit", f"traced {len(traced)} times in 40 updates", len(traced) == 1)


def seconds(run: Callable[[], Any], device: str) -> float:
    """Return the seconds of a call, including its work on the GPU."""
    import torch

    began = time.perf_counter()
    run()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began


def ratio(ones: list[float], others: list[float]) -> str:
    low, middle, high = statistics.quantiles([a / b for a, b in zip(ones, others, strict=True)], n=4)
    return f"{middle:.3f} (middle half {low:.3f} to {high:.3f})"


def cost(size: Size) -> Iterator[Row]:
    import torch
    import torch_step_cost
    from torch.optim import lr_scheduler

    from cyclr.torch import Scheduler

    warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
    rounds, updates = size.of(3, 21), size.of(2, 100)
    batch = batches(size, 1)[0]
    cases: dict[str, Callable[[Any], Any]] = {
        "Scheduler": lambda optimizer: Scheduler(optimizer, cyclr.Cyclical(1e-3, 6e-3, step_size=200)),
        "CyclicLR": lambda o: lr_scheduler.CyclicLR(o, 1e-3, 6e-3, 200, cycle_momentum=False),
        "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 6e-3, 10**9, cycle_momentum=False),
    }
    runs = {}
    for name, attach in cases.items():
        model = network(size, 0)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        runs[name] = partial(update, model, optimizer, batch, attach(optimizer))
    spent: dict[str, list[float]] = {name: [] for name in cases}
    for number in range(rounds + 1):
        for name in [*cases][number % 3 :] + [*cases][: number % 3]:
            taken = seconds(lambda run=runs[name]: [run() for _ in range(updates)], size.device)
            spent[name] += [taken / updates] if number else []
    yield Row("whole update with Scheduler", f"{statistics.median(spent['Scheduler']) * 1e3:.3f} ms")
    for name in ("CyclicLR", "OneCycleLR"):
        yield Row(f"… against torch's {name}", ratio(spent["Scheduler"], spent[name]))
    alone: dict[str, list[float]] = {"Scheduler": [], "torch CyclicLR": []}
    made = {}
    for name in alone:
        groups, make = torch_step_cost.CASES[name]
        optimizer = torch_step_cost.sgd(groups)
        made[name] = optimizer, make(optimizer)
    for number in range(rounds + 1):
        for name in alone if number % 2 else [*alone][::-1]:
            taken = torch_step_cost.seconds(*made[name], updates=size.of(200, 4000))
            alone[name] += [taken] if number else []
    yield Row("step() with its hooks, against CyclicLR.step()", ratio(alone["Scheduler"], alone["torch CyclicLR"]))


def auto_cycle(size: Size) -> Iterator[Row]:
    import torch

    from cyclr.torch import AutoCycle, Scheduler

    rounds, count = size.of(2, 7), size.of(6, 300)
    data, cycle = batches(size, size.of(4, 50)), cyclr.Cyclical.over(count, 1, 1e-4, 1e-3)

    def run(copies: str | None) -> tuple[float, float]:
        """Seconds, and the largest memory of the GPU in bytes; copies None is a Scheduler."""
        model = network(size, 0)
        optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        auto: Any = None
        if copies is not None:
            auto = AutoCycle(model, optimizer, total_steps=count, schedule=cycle, copies_on=copies)
        scheduler = Scheduler(optimizer, cycle) if auto is None else None
        if size.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

        def train() -> None:
            for number in range(count):
                # Both read the loss: AutoCycle needs it, and a plain loop shows it.
                loss = update(model, optimizer, data[number % len(data)], scheduler).item()
                if auto is not None:
                    auto.step(loss)

        taken = seconds(train, size.device)
        if auto is not None and auto.events:
            raise AssertionError(f"the run must be calm; it had {auto.events[0]}")
        return taken, torch.cuda.max_memory_allocated() if size.device == "cuda" else 0

    kinds = {"Scheduler": None, "copies beside the weights": size.device, "copies on the CPU": "cpu"}
    kinds = kinds if size.device == "cuda" else dict([*kinds.items()][:2])
    spent: dict[str, list[float]] = {name: [] for name in kinds}
    memory = {}
    for number in range(rounds + 1):
        for name, copies in kinds.items():
            taken, memory[name] = run(copies)
            spent[name] += [taken] if number else []
    for name in [*kinds][1:]:
        more = f", {(memory[name] - memory['Scheduler']) / 2**20:.1f} MiB more" if size.device == "cuda" else ""
        yield Row(f"run of {count} updates, {name}", f"{ratio(spent[name], spent['Scheduler'])}{more}")


def study(size: Size) -> Iterator[Row]:
    import torch
    from torch.nn.functional import cross_entropy

    from cyclr.torch import Scheduler, range_test

    epochs, count = size.of(1, 5), size.of(10, 160)
    x_val, y_val = images(size, size.of(64, 4000), 2, noise=6.0)
    x, y = images(size, count * size.of(8, 128), 1, noise=6.0)

    def trained(seed: int, schedule: Any) -> float:
        model = network(size, seed)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
        scheduler = Scheduler(optimizer, schedule)
        order = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            for rows in torch.randperm(len(x), generator=order).to(size.device).split(len(x) // count):
                update(model, optimizer, (x[rows], y[rows]), scheduler)
        model.eval()
        with torch.no_grad():
            return float((model(x_val).argmax(1) == y_val).float().mean())

    seeds = range(size.of(1, 3))
    model = network(size, 0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    data = list(zip(x.split(len(x) // count), y.split(len(x) // count), strict=True))
    bounds = range_test(
        model, optimizer, cross_entropy, data, steps=size.of(12, 150), repeats=size.of(1, 3), verbose=0
    ).bounds
    # With --short the network is so tiny that its range test may give no bounds.
    found = bounds.usable or size.short
    low, high = bounds.numbers or (np.nan, np.nan)
    yield Row("range test", f"{bounds.status}: {low:.3g} to {high:.3g}", found)
    total = epochs * count
    policies: dict[str, Any] = {f"fixed {rate}": cyclr.Constant(rate) for rate in RATES[size.of(2, 0) :]}
    if bounds.usable:
        policies["one cycle between the bounds"] = bounds.schedule(total_steps=total)
    for name, schedule in policies.items():
        scores = [trained(seed, schedule) for seed in seeds]
        spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        what = f"{name}, {total} updates, {len(scores)} seeds"
        yield Row(what, f"validation accuracy {statistics.mean(scores):.4f}{spread}", all(map(np.isfinite, scores)))


SECTIONS: dict[str, tuple[Callable[[Size], Iterator[Row]], ...]] = {
    "no trace": (no_trace, no_trace_jax),
    "split run": (split_run,),
    "precision": (precision,),
    "compile": (compiling, compiling_jax),
    "cost": (cost,),
    "AutoCycle": (auto_cycle,),
    "study": (study,),
}
_EXACT = ("no trace", "split run", "precision")
"""Sections that compare bits."""


def too_late(name: str, size: Size) -> Iterator[Row]:
    """Replace a section that would start too late."""
    yield Row(name, f"skipped: {LIMIT} s are over. Run it with --only")


def rows_of(section: str, function: Callable[[Size], Iterator[Row]], size: Size) -> Iterator[Row]:
    """Yield the rows of a section. A section that cannot run is skipped, and a section that raises has failed."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.use_deterministic_algorithms(section in _EXACT)
    try:
        yield from function(size)
    except ImportError as error:
        yield Row(function.__name__, f"skipped: {error}")
    except SkippedError as error:
        yield Row(function.__name__, f"skipped: {error}")
    except Exception as error:  # noqa: BLE001  # The other sections still run.
        yield Row(function.__name__, f"{type(error).__name__}: {error}".splitlines()[0], ok=False)


def machine() -> tuple[str, str]:
    """Return the device to run on, and a line that describes it without the host name."""
    found = {"Python": platform.python_version(), "cyclr": cyclr.__version__, "NumPy": np.__version__}
    device, name = "cpu", platform.processor() or platform.machine()
    for package in ("torch", "jax"):
        try:
            found[package] = __import__(package).__version__
        except ImportError:
            continue
    torch: Any = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        device, name = "cuda", f"{torch.cuda.get_device_name(0)}, CUDA {torch.version.cuda}"
    return device, f"{name}; {', '.join(f'{package} {version}' for package, version in found.items())}"


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--short", action="store_true", help="tiny models: for a look, and for the tests")
    parser.add_argument("--only", action="append", choices=[*SECTIONS], help="a section; may be given several times")
    given = parser.parse_args(arguments)
    device, line = machine()
    size = Size(device, given.short)
    if size.short and "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    print(line + (" (short form: its numbers say nothing about speed)" if given.short else ""), flush=True)
    failed, started = 0, time.perf_counter()
    for section in given.only or SECTIONS:
        began, worked = time.perf_counter(), time.process_time()
        for function in SECTIONS[section]:
            if began - started > LIMIT:
                function = partial(too_late, function.__name__)
            for row in rows_of(section, function, size):
                result = {None: "", True: "ok", False: "FAILED"}[None if row.ok is None else bool(row.ok)]
                failed += result == "FAILED"
                print(f"| {section:9} | {row.what:58} | {row.value:66} | {result:6} |", flush=True)
        spent = f"{time.perf_counter() - began:.1f} s, {time.process_time() - worked:.1f} s of CPU"
        print(f"  {section}: {spent}", file=sys.stderr, flush=True)
    print(f"{failed} checks failed." if failed else "Every check passed.")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
