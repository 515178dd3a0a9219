"""Transformers: a `Trainer` with label smoothing, accumulation, clipping and its own optimizer, on a tiny GPT-2.

    python examples/loops/label_smoothing.py

The text is the language reference that is installed with Python.
Needs: pip install "cyclr[torch]" transformers accelerate.
"""

import tempfile
from pydoc_data.topics import topics

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

from cyclr.torch.transformers import range_test, set_schedule

CONTEXT, BATCH, ACCUMULATE, EPOCHS = 32, 8, 2, 3


def main() -> None:
    set_seed(0)
    text = torch.tensor(list("".join(topics.values()).encode("ascii", "replace")))
    windows = text.unfold(0, CONTEXT, CONTEXT)
    data = [{"input_ids": window, "labels": window} for window in windows[torch.randperm(len(windows))[:1100]]]
    sizes = {"vocab_size": 128, "n_positions": CONTEXT, "n_embd": 64, "n_layer": 1, "n_head": 2}
    model = GPT2LMHeadModel(GPT2Config(**sizes, bos_token_id=0, eos_token_id=0))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            gradient_accumulation_steps=ACCUMULATE,
            label_smoothing_factor=0.1,
            weight_decay=0.1,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(model, arguments, train_dataset=data[:1024], eval_dataset=data[1024:])

        # The test uses the Trainer's own loss (with label smoothing), optimizer, accumulation and clipping.
        result = range_test(trainer)
        print(result.bounds.reason)
        set_schedule(trainer, result.bounds)
        trainer.train()
        print(f"loss {trainer.evaluate()['eval_loss']:.2f}")


if __name__ == "__main__":
    main()
