"""What AutoCycle did in a run, and why."""

from dataclasses import dataclass
from typing import Literal, get_args

from cyclr import _checks

What = Literal["left_out", "lowered", "went_back", "accepted", "raised", "tried", "ignored", "usual_rate"]


@dataclass(frozen=True)
class AutoEvent:
    """Something that AutoCycle did in a run.

    Attributes:
        step: step of the update that it happened after. A batch that `skip` left out was for the update after it.
        what: `"left_out"`: a batch was left out, and the learning rate stayed; `"lowered"`: training went back, and
            the highest learning rate became lower; `"went_back"`: training went back at the same rate once more, or
            from rates that were tried in vain; `"accepted"`: the loss rose again at once, and its level is the new
            normal; `"tried"`: for a tenth of the run, the rates are a multiple of what they were; `"raised"`: the
            higher rates that were tried stay; `"ignored"`: the loss does not follow the learning rate, so that it is
            the schedule's again, and only losses that are NaN or infinite are acted on; `"usual_rate"`: the range test
            gave no bounds.
        why: the reason, in sentences.
        lr: learning rate of the update, or of the next one for a batch that `skip` left out.

    Raises:
        TypeError, ValueError: a value of another type or out of range.

    Example:
        >>> from cyclr.auto import AutoEvent
        >>> event = AutoEvent(step=70, what="left_out", why="The loss was NaN.", lr=0.01)
        >>> print(event)
        step 70, learning rate 0.01: The loss was NaN.
    """

    step: int
    what: What
    why: str
    lr: float

    def __post_init__(self) -> None:
        _checks.integer("step", self.step, at_least=-1)
        _checks.choice("what", self.what, get_args(What))
        _checks.number("lr", self.lr, at_least=0)

    def __str__(self) -> str:
        return f"step {self.step}, learning rate {self.lr:.3g}: {self.why}"
