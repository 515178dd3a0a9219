"""Transformers: find the bounds of the learning rate of a tiny BERT, built from its config, and keep the curve.

    python examples/transformers/find_bounds.py

The task is made up, so that nothing is downloaded: is the first token of a sequence among the smaller half?
Needs: pip install "cyclr[torch,plot]" transformers accelerate.
"""

import torch
from torch.utils.data import DataLoader
from transformers import BertConfig, BertForSequenceClassification, set_seed

from cyclr.torch import range_test

BATCH, WORDS = 32, 40


def main() -> None:
    set_seed(0)
    tokens = torch.randint(0, WORDS, (512, 8))
    labels = (tokens[:, 0] < WORDS // 2).long()
    data = [{"input_ids": row, "labels": label} for row, label in zip(tokens, labels, strict=True)]
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
    result = range_test(model, optimizer, loader=DataLoader(data, BATCH, shuffle=True), max_lr=1.0)
    print(result.bounds.reason)
    result.save("range_test.json")
    result.plot().figure.savefig("range_test.png")


if __name__ == "__main__":
    main()
