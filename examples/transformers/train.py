"""Transformers: run a range test and train a tiny model, built from its config, with the `Trainer`.

    python examples/transformers/train.py

The task is artificial, so nothing is downloaded: is the first token of a sequence in the lower half of the vocabulary?
Needs: pip install "cyclr[torch]" transformers accelerate.
"""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from cyclr.torch.transformers import range_test, set_schedule

BATCH, EPOCHS, WORDS = 32, 3, 40


def main() -> None:
    set_seed(0)
    tokens = torch.randint(0, WORDS, (640, 8))
    labels = (tokens[:, 0] < WORDS // 2).long()
    data = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
    train, test = data[:512], data[512:]
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=8, **shape))
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
        trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=test)

        result = range_test(trainer, max_lr=1.0)  # leaves the trainer exactly as it was
        print(result.bounds.reason)
        set_schedule(trainer, result.bounds)  # one cycle over all updates of train()

        trainer.train()
        predictions = trainer.predict(test)
    accuracy = (predictions.predictions.argmax(1) == predictions.label_ids).mean()
    print(f"accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main()
