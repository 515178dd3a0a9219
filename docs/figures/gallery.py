"""Draw the gallery of range tests: real ones, of a small network on scanned digits, good and ugly.

python docs/figures/gallery.py FOLDER
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader, TensorDataset

from cyclr import RangeTestResult
from cyclr.torch import range_test

_pixels, _digits = load_digits(return_X_y=True)
X, Y = torch.tensor(_pixels / 16, dtype=torch.float32), torch.tensor(_digits)


def network(width: int = 64, depth: int = 1) -> torch.nn.Sequential:
    """A dense network with ReLU from 64 pixels to 10 classes, the same at every call."""
    torch.manual_seed(0)
    sizes = [64, *[width] * depth, 10]
    layers: list[torch.nn.Module] = []
    for before, after in itertools.pairwise(sizes):
        layers += [torch.nn.Linear(before, after), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def sgd(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def adam(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.Adam(model.parameters())


def trained() -> torch.nn.Sequential:
    """The network when it knows the digits by heart."""
    model = network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(300):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(X), Y).backward()
        optimizer.step()
    return model


def result_of(
    model: torch.nn.Module,
    optimizer_of: Callable[[Any], torch.optim.Optimizer] = sgd,
    *,
    batch: int = 64,
    answers: torch.Tensor = Y,
    **options: Any,
) -> RangeTestResult:
    loader = DataLoader(TensorDataset(X, answers), batch, shuffle=True)
    return range_test(model, optimizer_of(model), torch.nn.functional.cross_entropy, loader, **options)


def random_answers() -> torch.Tensor:
    return Y[torch.randperm(len(Y), generator=torch.Generator().manual_seed(0))]


OK, NO_END, NOTHING, FEW = {"ok"}, {"no_divergence"}, {"flat", "noisy"}, {"too_few_points"}

# The name of the picture: what was tested, and what statuses the page's verdict is right for.
CASES: dict[str, tuple[Callable[[], RangeTestResult], set[str]]] = {
    "good": (lambda: result_of(network()), OK),
    "adam": (lambda: result_of(network(), adam), OK),
    "short": (lambda: result_of(network(), min_lr=1e-3, steps=40), OK),
    "not-far-enough": (lambda: result_of(network(), max_lr=0.1), NO_END),
    "too-low": (lambda: result_of(network(), max_lr=1e-5), NOTHING),
    "too-high": (lambda: result_of(network(), min_lr=5.0, max_lr=1000.0), NOTHING),
    "few-points": (lambda: result_of(network(), steps=10), FEW),
    "trained": (lambda: result_of(trained()), NOTHING),
    "nothing-to-learn": (lambda: result_of(network(), answers=random_answers()), NOTHING),
    "small-batches": (lambda: result_of(network(), batch=8), OK),
    "narrow-and-deep": (lambda: result_of(network(width=8, depth=8)), NOTHING),
}


def draw(result: RangeTestResult, file: Path) -> None:
    # Narrow, so that the words can be read on a phone too.
    with plt.rc_context({"figure.figsize": (5.2, 4)}):
        figure: Any = result.plot().figure
    figure.savefig(file, dpi=140)
    plt.close(figure)


def main() -> None:
    folder = Path(sys.argv[1]) / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    wrong = []
    for name, (run, statuses) in CASES.items():
        result = run()
        if result.bounds.status not in statuses:
            wrong.append(f"{name}: {result.bounds.status}, and not one of {sorted(statuses)}")
        print(f"{name}: {result!r}")
        draw(result, folder / f"{name}.png")
    if wrong:
        raise SystemExit("the page says otherwise: " + "; ".join(wrong))


if __name__ == "__main__":
    main()
