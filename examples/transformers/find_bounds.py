"""Transformers: find learning-rate bounds for a tiny BERT, built from its config, and save the curve.

    python examples/transformers/find_bounds.py

The task is artificial, so nothing is downloaded: is the first token of a sequence in the lower half of the vocabulary?
Needs: pip install "cyclr[torch,plot]" transformers accelerate.
"""

import tempfile

import torch
from transformers import BertConfig, BertForSequenceClassification, Trainer, TrainingArguments, set_seed

from cyclr.torch.transformers import range_test

BATCH, WORDS = 32, 40


def main() -> None:
    set_seed(0)
    tokens = torch.randint(0, WORDS, (512, 8))
    labels = (tokens[:, 0] < WORDS // 2).long()
    data = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    model = BertForSequenceClassification(BertConfig(vocab_size=WORDS, max_position_embeddings=8, **shape))
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(folder, per_device_train_batch_size=BATCH, use_cpu=True, report_to=[])
        trainer = Trainer(model, arguments, train_dataset=data)

        # The test uses the Trainer's own optimizer, data and loss. It leaves the Trainer exactly as it was.
        result = range_test(trainer, max_lr=1.0)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
