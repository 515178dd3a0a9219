"""The code that a page shows for copying. It consists of constants, so that it contains no string of a user.

The page replaces `@schedule@` and `@total@`. The reader has to supply `model` and `state`.
"""

import re
from collections.abc import Mapping

KERAS = """\
import cyclr
import keras
from cyclr.keras import LearningRate

@schedule@
optimizer = keras.optimizers.@call@
# Next: model.compile(optimizer, loss=...), then model.fit for @total@ steps in all.
"""

TORCH = """\
import cyclr
import torch
from cyclr.torch import Scheduler

@schedule@
optimizer = torch.optim.@call@
scheduler = Scheduler(optimizer, lr=schedule)
# In the training loop, after every optimizer.step(): scheduler.step()
"""

OPTAX = """\
import cyclr
import optax

@schedule@
optimizer = optax.@call@
# A cyclr schedule is an Optax schedule as it is; train for @total@ steps.
"""

KERAS_AUTO = """\
import cyclr
import keras
from cyclr.keras import AutoCycle

@schedule@
optimizer = keras.optimizers.@call@
# Next: model.compile(optimizer, loss=...), then for @total@ steps in all
# model.fit(..., callbacks=[AutoCycle(schedule)])
"""

TORCH_AUTO = """\
import cyclr
import torch
from cyclr.torch import AutoCycle

@schedule@
optimizer = torch.optim.@call@
auto = AutoCycle(model, optimizer, total_steps=@total@, schedule=schedule)
# In the training loop, after every optimizer.step(): auto.step(loss)
"""

OPTAX_AUTO = """\
import cyclr
import optax
from cyclr.jax import AutoCycle

@schedule@
optimizer = optax.inject_hyperparams(optax.@kind@)(@arguments@)
auto = AutoCycle(state, total_steps=@total@, schedule=schedule)
# In the training loop, after every update with the learning rate auto.lr: state = auto.step(loss, state)
"""

SCHEDULED = {"keras": KERAS, "torch": TORCH, "optax": OPTAX}
AUTO = {"keras": KERAS_AUTO, "torch": TORCH_AUTO, "optax": OPTAX_AUTO}

_OWN = {
    "cosine": {
        "keras": "keras.optimizers.schedules.CosineDecay",
        "torch": "torch.optim.lr_scheduler.CosineAnnealingLR",
        "optax": "optax.cosine_decay_schedule",
    },
    "plateau": {
        "keras": "keras.callbacks.ReduceLROnPlateau",
        "torch": "torch.optim.lr_scheduler.ReduceLROnPlateau",
        "optax": "optax.contrib.reduce_on_plateau",
    },
}

NAMES = {name.lower(): name for name in ("SGD", "Adam", "AdamW", "RMSprop", "Adagrad")}
"""Names of optimizers: in Optax, and in Keras and torch."""

_FIRST = {"keras": "LearningRate(schedule)", "torch": "model.parameters(), lr=schedule(0)", "optax": "schedule"}
"""The first arguments of every optimizer."""

_FIRST_AUTO = {"keras": "", "torch": "model.parameters(), lr=0.01", "optax": "0.01"}
"""The first arguments with AutoCycle, which sets the learning rate before the first update."""

UNKNOWN = "# The tested optimizer is not recorded.\n# Put yours in place of this SGD.\n"
OTHER = "# The tested optimizer is not one of the framework's own.\n# Put yours in place of this SGD.\n"
UNSURE = "# Settings of the tested optimizer may be missing.\n# Compare them with yours.\n"

MEMBERS = "# The score belongs to several members of this run. Snapshots keeps members for ensemble() or average().\n"

_SHARED = re.compile(r"(momentum=(?:\d+\.?\d*|\.\d+)|nesterov=True)", re.ASCII)
"""Arguments of SGD with the same meaning in every framework."""

_NUMBER = r"(?:-?\d+(?:\.\d*)?(?:e[+-]?\d+)?|True|False|None|\.\.\.)"
_ARGUMENT = rf"[a-z]\w*=(?:{_NUMBER}|\({_NUMBER},\)|\({_NUMBER}(?:, {_NUMBER})+\))"
_TESTED = re.compile(
    rf"(?P<module>keras\.optimizers|torch\.optim|optax)\.(?P<call>[A-Za-z]\w*(?:\({_ARGUMENT}(?:, {_ARGUMENT})*\))?)",
    re.ASCII,
)
_MODULES = {"keras.optimizers": "keras", "torch.optim": "torch", "optax": "optax"}


def framework(name: str | None) -> str:
    """Return the framework of the tested optimizer, or `"keras"` if the name has no module."""
    tested = _TESTED.fullmatch(name or "")
    return _MODULES[tested["module"]] if tested else "keras"


def templates(name: str | None, *, auto: bool = False) -> dict[str, str]:
    """Return the code for each framework, in which `@schedule@` and `@total@` must be replaced.

    Args:
        name: the tested optimizer, as for `optimizer`. If the optimizer or its settings are not known, the code starts
            with a comment about it.
        auto: True for the code of AutoCycle, which starts from the schedule or from None.
    """
    found = {}
    for key, template in (AUTO if auto else SCHEDULED).items():
        note, kind, arguments = optimizer(name, key, auto=auto)
        parts = {"kind": kind, "arguments": arguments, "call": f"{kind}({arguments})"}
        found[key] = note + filled(template, parts)
    return found


def filled(template: str, parts: Mapping[str, str]) -> str:
    """Return a template in which placeholders such as `@total@` are replaced by name. Unknown placeholders stay."""
    return re.sub("@([a-z]+)@", lambda match: parts.get(match[1], match[0]), template)


def own_schedulers(moved_by: str) -> dict[str, str]:
    """Return comments in place of code, for a learning rate set by the framework's scheduler or by an unknown one."""
    known = _OWN.get(moved_by, dict.fromkeys(SCHEDULED, ""))
    said = "# The framework's own scheduler set the learning rate, without cyclr:\n# {}\n"
    return {key: said.format(name) if name else "# The schedule is not recorded.\n" for key, name in known.items()}


def optimizer(name: str | None, key: str, *, auto: bool = False) -> tuple[str, str, str]:
    r"""Return a comment for the first line, the name of an optimizer, and its arguments in a framework.

    Args:
        name: the tested optimizer. A name with a module, such as `"torch.optim.AdamW(weight_decay=0.1)"`, is used
            unchanged for its own framework. For other frameworks, whose arguments may differ, the comment contains this
            name. `...` stands for an argument to fill in.
            A name without a module, such as `"SGD(momentum=0.9, nesterov=True)"`, comes from a record. The comment then
            warns that arguments may be missing, unless all arguments are the same in every framework: older records
            omit arguments. None and unknown names give SGD with momentum.
        key: `"keras"`, `"torch"` or `"optax"`.
        auto: True for AutoCycle.

    Example:
        >>> optimizer("SGD(momentum=0.9)", "keras")
        ('', 'SGD', 'LearningRate(schedule), momentum=0.9')
        >>> optimizer("torch.optim.Adam(betas=(0.9, 0.98))", "torch")
        ('', 'Adam', 'model.parameters(), lr=schedule(0), betas=(0.9, 0.98)')
        >>> optimizer("torch.optim.Adam(betas=(0.9, 0.98))", "optax")
        ('# Tested with torch.optim.Adam(betas=(0.9, 0.98)).\n# Use the same settings here.\n', 'adam', 'schedule')
    """
    tested = _TESTED.fullmatch(name or "")
    text = tested["call"] if tested else (name or "").replace(" ", "")
    kind, _, rest = text.partition("(")
    rest = rest.removesuffix(")")
    first = (_FIRST_AUTO if auto else _FIRST)[key]
    if tested and framework(name) == key:
        return "", kind, ", ".join(filter(None, (first, rest)))
    given = [argument.strip() for argument in rest.split(",") if argument]
    known = kind.lower() in NAMES
    taken = [argument for argument in given if kind.lower() == "sgd" and _SHARED.fullmatch(argument)]
    if taken and len(taken) == len(given):
        note = ""
    elif tested:
        instead = "Use the same settings here." if known else "Put it in place of this SGD."
        note = f"# Tested with {name}.\n# {instead}\n"
    else:
        note = UNSURE if known else OTHER if name else UNKNOWN
    optax = kind.lower() if known else "sgd"
    arguments = ", ".join(filter(None, (first, *(taken if known else ["momentum=0.9"]))))
    return note, optax if key == "optax" else NAMES[optax], arguments
