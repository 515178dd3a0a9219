"""Transformers: test and train a tiny model, built from its config, with the `Trainer`.

    python examples/transformers/train.py

The task is made up, so that nothing is downloaded: is the first token of a sequence among the smaller half?
Needs: pip install "cyclr[torch]" transformers accelerate.
"""

import tempfile

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from cyclr.torch import Scheduler, range_test

BATCH, EPOCHS, WORDS = 32, 3, 40


def main() -> None:
    set_seed(0)
    tokens = torch.randint(0, WORDS, (640, 8))
    labels = (tokens[:, 0] < WORDS // 2).long()
    data = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
    train, test = data[:512], data[512:]
    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=8,
        hidden_dropout_prob=0.0,
    )
    model = BertForSequenceClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

    # Batches are dicts of arguments, and the model computes the loss itself.
    loader = DataLoader(train, BATCH, shuffle=True)
    result = range_test(model, optimizer, loader=loader, max_lr=1.0)
    print(result.bounds.reason)

    schedule = result.bounds.schedule(total_steps=EPOCHS * len(loader))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            folder,
            num_train_epochs=EPOCHS,
            per_device_train_batch_size=BATCH,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            disable_tqdm=True,
            logging_strategy="no",
        )
        trainer = Trainer(
            model,
            arguments,
            train_dataset=train,
            eval_dataset=test,
            optimizers=(optimizer, Scheduler(optimizer, schedule)),
        )
        trainer.train()
        predictions = trainer.predict(test)
    accuracy = (predictions.predictions.argmax(1) == predictions.label_ids).mean()
    print(f"accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
