"""The code that the page offers to paste: constants alone, so that no string of a user's gets into it.

The page puts the schedule where `@schedule@` stands; `model` is the reader's own.
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

NAMES = {
    "sgd": ("SGD", "SGD", "sgd"),
    "adam": ("Adam", "Adam", "adam"),
    "adamw": ("AdamW", "AdamW", "adamw"),
    "rmsprop": ("RMSprop", "RMSprop", "rmsprop"),
    "adagrad": ("Adagrad", "Adagrad", "adagrad"),
}
"""What Keras, torch and Optax call an optimizer."""

UNSURE = "  # or the one you tested with"

_ARGUMENT = re.compile(r"(momentum=(?:\d+\.?\d*|\.\d+)|nesterov=True)", re.ASCII)


def optimizer(name: str | None) -> dict[str, str]:
    """The constructor to show for an optimizer that a record names, by framework.

    Args:
        name: such as `"SGD(momentum=0.9, nesterov=True)"`. What is not known by name, or has arguments besides these,
            gets a comment that says to use one's own, and so does a name alone, which older records have also of
            optimizers with arguments; None and unknown names are shown as SGD with momentum.

    Example:
        >>> optimizer("SGD(momentum=0.9)")["keras"]
        'SGD(LearningRate(schedule), momentum=0.9)'
        >>> optimizer("Adam")["optax"]
        'adam(schedule)  # or the one you tested with'
    """
    kind, _, rest = (name or "").replace(" ", "").partition("(")
    given = [argument for argument in rest.removesuffix(")").split(",") if argument]
    known = kind.lower() if kind.lower() in NAMES else None
    taken = [argument for argument in given if known == "sgd" and _ARGUMENT.fullmatch(argument)]
    note = "" if taken and taken == given else UNSURE
    keras, torch, optax = NAMES[known or "sgd"]
    more = "".join(f", {argument}" for argument in (taken if known else ["momentum=0.9"]))
    return {
        "keras": f"{keras}(LearningRate(schedule){more}){note}",
        "torch": f"{torch}(model.parameters(), lr=schedule(0){more}){note}",
        "optax": f"{optax}(schedule{more}){note}",
    }
