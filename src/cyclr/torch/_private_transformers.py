"""Private names of Transformers. Each is used in one function, which gives the reason."""

from typing import Any

from transformers.trainer_utils import TrainerMemoryTracker


def measure_no_memory(trainer: Any) -> None:
    """Give a trainer a memory tracker that does nothing.

    The trainer's own tracker starts a thread in `train()`, which only the end of training stops. The public argument
    `skip_memory_metrics` has no effect after the trainer is created.
    """
    trainer._memory_tracker = TrainerMemoryTracker(skip_memory_metrics=True)
