"""The code that the page offers to paste: constants alone, so that no string of a user's gets into it.

The page puts the schedule where `@schedule@` stands; `model` is the reader's own.
"""

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

OPTIMIZERS = {
    "sgd": {
        "keras": "SGD(LearningRate(schedule), momentum=0.9)",
        "torch": "SGD(model.parameters(), lr=schedule(0), momentum=0.9)",
        "optax": "sgd(schedule, momentum=0.9)",
    },
    "nesterov": {
        "keras": "SGD(LearningRate(schedule), momentum=0.9, nesterov=True)",
        "torch": "SGD(model.parameters(), lr=schedule(0), momentum=0.9, nesterov=True)",
        "optax": "sgd(schedule, momentum=0.9, nesterov=True)",
    },
    "adamw": {
        "keras": "AdamW(LearningRate(schedule))",
        "torch": "AdamW(model.parameters(), lr=schedule(0))",
        "optax": "adamw(schedule)",
    },
    "adam": {
        "keras": "Adam(LearningRate(schedule))",
        "torch": "Adam(model.parameters(), lr=schedule(0))",
        "optax": "adam(schedule)",
    },
    "rmsprop": {
        "keras": "RMSprop(LearningRate(schedule))",
        "torch": "RMSprop(model.parameters(), lr=schedule(0))",
        "optax": "rmsprop(schedule)",
    },
    "adagrad": {
        "keras": "Adagrad(LearningRate(schedule))",
        "torch": "Adagrad(model.parameters(), lr=schedule(0))",
        "optax": "adagrad(schedule)",
    },
}

UNKNOWN = "  # or the one you tested with"


def optimizer(name: str | None) -> dict[str, str]:
    """The constructor to show for an optimizer that a record names, by framework.

    A name that is not known, or no name, gives SGD with momentum and a comment.

    Example:
        >>> optimizer("Adam")["optax"]
        'adam(schedule)'
    """
    simple = (name or "").lower().replace("_", "").replace("-", "").replace(" ", "")
    known = {**OPTIMIZERS, "momentum": OPTIMIZERS["sgd"], "sgdmomentum": OPTIMIZERS["sgd"]}
    if simple in known:
        return known[simple]
    return {framework: text + UNKNOWN for framework, text in OPTIMIZERS["sgd"].items()}
