"""Private names of Transformers: each in one function, with the reason why it is needed."""

from typing import Any

from transformers.trainer_utils import TrainerMemoryTracker


def measure_no_memory(trainer: Any) -> None:
    """Give a trainer a tracker that does nothing: the own one starts a thread in `train()`, which only its end stops.

    `skip_memory_metrics` of the arguments is read when the trainer is created.
    """
    trainer._memory_tracker = TrainerMemoryTracker(skip_memory_metrics=True)
