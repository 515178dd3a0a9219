"""Parameter groups whose learning rate decreases from the last layer to the first."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

from cyclr import _checks, _names


@_names.hinted
def layer_groups(
    model: torch.nn.Module,
    decay: float = 0.75,
    *,
    lr: float | None = None,
    weight_decay: float | None = None,
    min_scale: float = 0.0,
    layers: Callable[[str], int] | None = None,
    no_decay: Iterable[str] | None = None,
) -> list[dict[str, Any]]:
    """Return parameter groups in which earlier layers have lower learning rates (layer-wise decay).

    Layer i of n, from 0 at the input, has the `lr_scale` max(min_scale, decay^(n − 1 − i)). The last layer has 1.
    `Scheduler` and `range_test` multiply the learning rate of each group by its `lr_scale`, as timm's schedulers do.

    Args:
        model: the model. Parameters without `requires_grad` are left out.
        decay: factor from a layer to the previous layer, in (0, 1].
        lr: learning rate of the last layer. Each group then has its own learning rate, for training without a schedule.
        weight_decay: weight decay of matrices and kernels; by default the optimizer's. Biases and other vectors have no
            weight decay.
        min_scale: lower bound of `lr_scale`, in [0, 1].
        layers: function from a parameter's name to the index of its layer, ≥ 0. By default the layers are the model's
            children that have parameters. A child that has children itself is replaced by its children. Parameters of
            the model itself, such as position embeddings, are in layer 0.
        no_decay: names of other parameters without weight decay.

    Returns:
        One or two groups for each layer, in the order of the layers: first without, then with weight decay.

    Raises:
        TypeError, ValueError: an argument is out of range, a name is unknown, or the model has no parameters to train.

    Example:
        >>> import torch
        >>> from cyclr.torch import layer_groups
        >>> model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> groups = layer_groups(model, decay=0.5, lr=0.1, weight_decay=0.01)
        >>> [(group["lr_scale"], group["lr"], group.get("weight_decay")) for group in groups]
        [(0.5, 0.05, 0.0), (0.5, 0.05, 0.01), (1.0, 0.1, 0.0), (1.0, 0.1, 0.01)]
        >>> optimizer = torch.optim.AdamW(groups)

    Source: Howard and Ruder 2018, arXiv:1801.06146; Clark et al. 2020, arXiv:2003.10555.
    """
    decay = _checks.number("decay", decay, above=0, at_most=1)
    min_scale = _checks.number("min_scale", min_scale, at_least=0, at_most=1)
    numbers = {"lr": lr, "weight_decay": weight_decay}
    given = {name: _checks.number(name, value, at_least=0) for name, value in numbers.items() if value is not None}
    names = dict(model.named_parameters())
    without = {_checks.choice("no_decay", name, names) for name in no_decay or ()}
    index_of = _children(names) if layers is None else _checks.function("layers", layers, "of a parameter's name")
    held: dict[tuple[int, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in names.items():
        if parameter.requires_grad:
            layer = _checks.integer(f"layers({name!r})", index_of(name), at_least=0)
            held.setdefault((layer, parameter.ndim > 1 and name not in without), []).append(parameter)
    if not held:
        raise ValueError(f"model must have parameters that train; got {type(model).__name__} without any.")
    last = max(layer for layer, _ in held)
    groups = []
    for (layer, decays), parameters in sorted(held.items(), key=lambda item: item[0]):
        scale = max(min_scale, decay ** (last - layer))
        entries = {**given, "lr": given["lr"] * scale} if "lr" in given else given
        groups.append({"params": parameters, "lr_scale": scale, **entries, **({} if decays else {"weight_decay": 0.0})})
    return groups


def _children(names: Iterable[str]) -> Callable[[str], int]:
    """Return a function from a parameter's name to its layer: the child, or grandchild, that holds the parameter."""
    layers: dict[str, int] = {}
    layer, previous = -1, None
    for name in names:
        path = name.split(".")[:-1][:2]
        # A module's own parameters come before its children's parameters, and belong to its first layer.
        if previous is None or path[: len(previous)] != previous:
            layer += 1
        layers[name], previous = layer, path
    return layers.__getitem__
