"""The drop-in `cyclr.torch.CyclicLR` against torch's own, with random settings and with settings that torch gets wrong.

    python benchmarks/torch_cyclic_lr.py [SETTINGS]

Settings are drawn at random from the arguments that both accept: bounds, lengths (integers and fractions), modes,
functions, momentum, one to three parameter groups, SGD and AdamW. The values of each of 300 updates (learning rates,
momentum, betas) are compared. A difference is given as a share of the largest value of its kind. For settings without
functions and powers the table also has the error of both against the formula in exact fractions.
"""

import random
import sys
import warnings
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any

import torch
from torch.optim import lr_scheduler

from cyclr.torch import CyclicLR

UPDATES = 300
SCALES: dict[str, Callable[[float], float]] = {
    "halving": lambda x: 0.5**x,
    "inverse": lambda x: 1 / (1 + 0.01 * x),
    "half": lambda x: 0.5,
}


def optimizer(kind: str, groups: int, momentum: float = 0.9) -> Any:
    weights = [{"params": [torch.nn.Parameter(torch.zeros(1))]} for _ in range(groups)]
    return (
        torch.optim.SGD(weights, lr=0.1, momentum=momentum)
        if kind == "SGD"
        else torch.optim.AdamW(weights, lr=0.1, betas=(0.7, 0.95))
    )


def used(kind: type, drawn: dict[str, Any], updates: int = UPDATES) -> list[list[float]]:
    """Return learning rate and momentum of every group at every update."""
    made = optimizer(drawn["optimizer"], drawn["groups"], drawn.get("momentum", 0.9))
    scheduler = kind(made, **drawn["arguments"])
    seen = []
    for _ in range(updates):
        seen.append(
            [
                value
                for group in made.param_groups
                for value in (group["lr"], group["betas"][0] if "betas" in group else group["momentum"])
            ]
        )
        made.step()
        scheduler.step()
    return seen


def settings(count: int) -> Iterator[dict[str, Any]]:
    draw = random.Random(0)  # noqa: S311

    def pair(low: float, high: float) -> tuple[float, float]:
        one, other = sorted(round(draw.uniform(low, high), 6) for _ in range(2))
        return (one, other) if one < other else pair(low, high)

    def length() -> float:
        return draw.choice([draw.randint(1, 60), draw.randint(4, 400) / 4, round(draw.uniform(1, 50), 3)])

    for _ in range(count):
        groups = draw.randint(1, 3)
        lists = groups > 1 and draw.random() < 0.5
        rates = [pair(0, 1) for _ in range(groups if lists else 1)]
        base, top = ([r[end] for r in rates] if lists else rates[0][end] for end in (0, 1))
        low, high = pair(0.5, 0.99)
        arguments = {
            **{
                "base_lr": base,
                "max_lr": top,
                "step_size_up": length(),
                "step_size_down": draw.choice([None, length()]),
            },
            **{"mode": draw.choice(["triangular", "triangular2", "exp_range"]), "gamma": draw.uniform(0.9, 1)},
            **{"cycle_momentum": draw.random() < 0.7, "base_momentum": low, "max_momentum": high},
        }
        if draw.random() < 0.3:
            arguments |= {
                "scale_fn": SCALES[draw.choice(list(SCALES))],
                "scale_mode": draw.choice(["cycle", "iterations"]),
            }
        yield {"optimizer": draw.choice(["SGD", "AdamW"]), "groups": groups, "arguments": arguments}


def exact_rates(arguments: dict[str, Any]) -> list[Fraction]:
    """Return the first group's learning rates by the formula of the triangular mode, in fractions."""

    def first(value: Any) -> Fraction:
        return Fraction(repr(value[0] if isinstance(value, list) else value))

    low, high = first(arguments["base_lr"]), first(arguments["max_lr"])
    up = Fraction(repr(arguments["step_size_up"]))
    down = up if arguments["step_size_down"] is None else Fraction(repr(arguments["step_size_down"]))
    rates = []
    for step in range(UPDATES):
        offset = step % (up + down)
        rates.append(low + (high - low) * (offset / up if offset <= up else (up + down - offset) / down))
    return rates


def compare(count: int) -> None:
    largest = ours_off = theirs_off = 0.0
    exact = 0
    for drawn in settings(count):
        ours, theirs = used(CyclicLR, drawn), used(lr_scheduler.CyclicLR, drawn)
        for column in range(len(ours[0])):
            top = max(abs(row[column]) for row in theirs) or 1.0
            difference = max(abs(a[column] - b[column]) for a, b in zip(ours, theirs, strict=True))
            largest = max(largest, difference / top)
        if drawn["arguments"]["mode"] == "triangular" and "scale_fn" not in drawn["arguments"]:
            exact += 1
            rates = exact_rates(drawn["arguments"])
            top = float(max(rates)) or 1.0
            ours_off = max(ours_off, *(float(abs(Fraction(a[0]) - r)) / top for a, r in zip(ours, rates, strict=True)))
            theirs_off = max(
                theirs_off, *(float(abs(Fraction(b[0]) - r)) / top for b, r in zip(theirs, rates, strict=True))
            )
    print(f"{count} random settings, {UPDATES} updates each: largest difference {largest:.1e} of the largest value")
    print(f"  against exact fractions ({exact} of them): cyclr {ours_off:.1e}, torch {theirs_off:.1e}")


def at(step: int, **changes: Any) -> dict[str, Any]:
    arguments = {"base_lr": 0.001, "max_lr": 0.006, "cycle_momentum": False, **changes}
    return {"optimizer": "SGD", "groups": 1, "arguments": arguments, "step": step}


WRONG = {
    "triangular2, update 2,100 of cycles of 2": at(2100, step_size_up=1, mode="triangular2"),
    "base_lr above max_lr": at(1, base_lr=0.1, max_lr=0.01, step_size_up=4),
    "step_size_up=-5": at(1, step_size_up=-5),
    "step_size_up=0": at(0, step_size_up=0),
    "base_lr=-0.1": at(0, base_lr=-0.1),
    "max_lr=inf": at(1, max_lr=float("inf"), step_size_up=4),
    "exp_range, gamma=1.5, update 60": at(60, step_size_up=4, mode="exp_range", gamma=1.5),
    "base_momentum above max_momentum": at(
        1, step_size_up=4, cycle_momentum=True, base_momentum=0.95, max_momentum=0.5
    ),
    "SGD made without momentum": {**at(0, step_size_up=4, cycle_momentum=True), "momentum": 0.0},
}


def outcome(kind: type, drawn: dict[str, Any]) -> str:
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rate, momentum = used(kind, drawn, drawn["step"] + 1)[-1]
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}".split(". ")[0][:100]
    told = ", and warns" if any("without momentum" in str(warning.message) for warning in caught) else ""
    return f"lr {rate:.6g}, momentum {momentum:g}{told}"


def add_group(kind: type) -> str:
    made = optimizer("SGD", 1)
    scheduler = kind(made, 0.001, 0.006, 4)
    made.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))]})
    try:
        made.step()
        scheduler.step()
    except Exception as error:  # noqa: BLE001
        return f"{type(error).__name__}: {error}"
    return f"lr {[group['lr'] for group in made.param_groups]}"


def read_twice(kind: type) -> str:
    made = optimizer("SGD", 1)
    scheduler = kind(made, 0.001, 0.006, 4, base_momentum=0.8, max_momentum=0.9)
    made.step()
    scheduler.step()
    before = made.param_groups[0]["momentum"]
    scheduler.last_epoch += 2
    scheduler.get_lr()
    after = made.param_groups[0]["momentum"]
    return "asking for the rate leaves the momentum" if before == after else f"get_lr() sets momentum {after:g}"


def far(kind: type) -> str:
    """The learning rate at update 10^9 with cycles of 14 steps: step 6 of a cycle, at 6 / 7 of the way up."""
    made = optimizer("SGD", 1)
    scheduler = kind(made, 0.0, 1.0, 7, cycle_momentum=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scheduler.step(10**9)
    rate = made.param_groups[0]["lr"]
    return f"off by {abs(rate - 6 / 7):.1e} of the amplitude"


def main() -> None:
    warnings.filterwarnings("ignore", message=".*(lr_scheduler.step|optimizer.step|get_last_lr).*")
    compare(int(sys.argv[1]) if len(sys.argv) > 1 else 3000)
    print(f"{'setting':44} {'torch':72} cyclr")
    for name, drawn in WRONG.items():
        print(f"{name:44} {outcome(lr_scheduler.CyclicLR, drawn):72} {outcome(CyclicLR, drawn)}")
    for name, run in (
        ("a group added later", add_group),
        ("a getter", read_twice),
        ("update 10^9, step_size_up=7", far),
    ):
        print(f"{name:44} {run(lr_scheduler.CyclicLR):72} {run(CyclicLR)}")


if __name__ == "__main__":
    main()
