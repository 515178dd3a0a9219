"""The code that a page offers to paste: constants only, so that it holds no string of a user.

The page replaces `@schedule@`; `model` is the reader's own.
"""

import re

KERAS = """\
import cyclr
import keras
from cyclr.keras import LearningRate

@schedule@
optimizer = keras.optimizers.@optimizer@
# Next: model.compile(optimizer, loss=...), then model.fit for @total@ steps in all.
"""

TORCH = """\
import cyclr
import torch
from cyclr.torch import Scheduler

@schedule@
optimizer = torch.optim.@optimizer@
scheduler = Scheduler(optimizer, lr=schedule)
# In the training loop, after every optimizer.step(): scheduler.step()
"""

OPTAX = """\
import cyclr
import optax

@schedule@
optimizer = optax.@optimizer@
# A cyclr schedule is an Optax schedule as it is; train for @total@ steps.
"""

FRAMEWORKS = {"keras": KERAS, "torch": TORCH, "optax": OPTAX}

NAMES = {name.lower(): name for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")}
"""The names of optimizers in Optax, and in Keras and torch."""

_FIRST = {"keras": "LearningRate(schedule)", "torch": "model.parameters(), lr=schedule(0)", "optax": "schedule"}
"""The first arguments of every optimizer."""

UNSURE = "  # or the one you tested with"

_SHARED = re.compile(r"(momentum=(?:\d+\.?\d*|\.\d+)|nesterov=True)", re.ASCII)
"""Arguments of SGD that mean the same in every framework."""

_NUMBER = r"(?:-?\d+(?:\.\d*)?(?:e[+-]?\d+)?|True|False|None|\.\.\.)"
_ARGUMENT = rf"[a-z]\w*=(?:{_NUMBER}|\({_NUMBER},\)|\({_NUMBER}(?:, {_NUMBER})+\))"
_TESTED = re.compile(
    rf"(?P<module>keras\.optimizers|torch\.optim|optax)\.(?P<call>[A-Za-z]\w*(?:\({_ARGUMENT}(?:, {_ARGUMENT})*\))?)",
    re.ASCII,
)
_MODULES = {"keras.optimizers": "keras", "torch.optim": "torch", "optax": "optax"}


def framework(name: str | None) -> str:
    """Return the framework of the optimizer that was tested; `"keras"` if the name has no module."""
    tested = _TESTED.fullmatch(name or "")
    return _MODULES[tested["module"]] if tested else "keras"


def optimizer(name: str | None) -> dict[str, str]:
    """Return the constructor of an optimizer in each framework.

    Args:
        name: the optimizer that was tested. With its module, such as `"torch.optim.AdamW(weight_decay=0.1)"`, it is
            written as it is in its own framework, and a comment names it in the others if their arguments may differ.
            `...` stands for an argument to fill in.
            Without, as records have it, such as `"SGD(momentum=0.9, nesterov=True)"`, a comment says to use one's own
            if other arguments are given, or none: older records leave arguments out. None and unknown names give SGD
            with momentum.

    Example:
        >>> optimizer("SGD(momentum=0.9)")["keras"]
        'SGD(LearningRate(schedule), momentum=0.9)'
        >>> optimizer("Adam")["optax"]
        'adam(schedule)  # or the one you tested with'
        >>> optimizer("torch.optim.Adam(betas=(0.9, 0.98))")["torch"]
        'Adam(model.parameters(), lr=schedule(0), betas=(0.9, 0.98))'
        >>> optimizer("torch.optim.Adam(betas=(0.9, 0.98))")["optax"]
        'adam(schedule)  # tested: torch.optim.Adam(betas=(0.9, 0.98))'
    """
    tested = _TESTED.fullmatch(name or "")
    text = tested["call"] if tested else (name or "").replace(" ", "")
    kind, _, rest = text.partition("(")
    given = [argument for argument in rest.removesuffix(")").split(",") if argument]
    known = kind.lower() in NAMES
    taken = [argument.strip() for argument in given if kind.lower() == "sgd" and _SHARED.fullmatch(argument.strip())]
    note = "" if taken and len(taken) == len(given) else f"  # tested: {name}" if tested else UNSURE
    optax = kind.lower() if known else "sgd"
    more = "".join(f", {argument}" for argument in (taken if known else ["momentum=0.9"]))
    code = {key: f"{optax if key == 'optax' else NAMES[optax]}({first}{more}){note}" for key, first in _FIRST.items()}
    if tested:
        own = framework(name)
        code[own] = f"{kind}({', '.join(filter(None, (_FIRST[own], rest.removesuffix(')'))))})"
    return code
