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

UNSURE = "  # or the one you tested with"

_ARGUMENT = re.compile(r"(momentum=(?:\d+\.?\d*|\.\d+)|nesterov=True)", re.ASCII)


def optimizer(name: str | None) -> dict[str, str]:
    """Return the constructor of an optimizer in each framework.

    Args:
        name: as a record has it, such as `"SGD(momentum=0.9, nesterov=True)"`. A comment says to use one's own if other
            arguments are given, or none: older records leave arguments out. None and unknown names give SGD with
            momentum.

    Example:
        >>> optimizer("SGD(momentum=0.9)")["keras"]
        'SGD(LearningRate(schedule), momentum=0.9)'
        >>> optimizer("Adam")["optax"]
        'adam(schedule)  # or the one you tested with'
    """
    kind, _, rest = (name or "").replace(" ", "").partition("(")
    given = [argument for argument in rest.removesuffix(")").split(",") if argument]
    known = kind.lower() in NAMES
    taken = [argument for argument in given if kind.lower() == "sgd" and _ARGUMENT.fullmatch(argument)]
    note = "" if taken and taken == given else UNSURE
    optax = kind.lower() if known else "sgd"
    more = "".join(f", {argument}" for argument in (taken if known else ["momentum=0.9"]))
    return {
        "keras": f"{NAMES[optax]}(LearningRate(schedule){more}){note}",
        "torch": f"{NAMES[optax]}(model.parameters(), lr=schedule(0){more}){note}",
        "optax": f"{optax}(schedule{more}){note}",
    }
