"""What AutoCycle did in a run, and why."""

from dataclasses import dataclass
from typing import Literal, get_args

from cyclr import _checks

What = Literal["left_out", "lowered", "went_back", "accepted", "raised", "tried", "ignored", "usual_rate"]


@dataclass(frozen=True)
class AutoEvent:
    """Something that AutoCycle did in a run.

    Attributes:
        step: step of the update before the event. If `skip` left a batch out, the batch was for the next update.
        what: one of the following.
            `"left_out"`: a batch was left out, and the learning rate did not change;
            `"lowered"`: an earlier state was restored, and the highest learning rate became lower;
            `"went_back"`: an earlier state was restored, with the same learning rates or after a failed trial;
            `"accepted"`: the loss rose again right after a rollback, and its level is the new reference;
            `"tried"`: for a tenth of the run, the learning rates are multiplied by a factor;
            `"raised"`: the higher learning rates of the trial are kept;
            `"ignored"`: the loss does not depend on the learning rate, so the rates are the schedule's again, and
            only NaN and infinite losses are acted on;
            `"usual_rate"`: the range test gave no bounds.
        why: the reason, in sentences.
        lr: learning rate of the update. If `skip` left a batch out, the learning rate of the next update.

    Raises:
        TypeError, ValueError: a value has the wrong type or is out of range.

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
