"""trl's trainer with an order of rows and a loss of its own.

Traps: transformers draws the order of rows from the global random state, which a resume and a second process do not
share, so it has its own seed here; logits of every position take as long as all layers of a small model.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from datasets import Dataset
from torch.nn.functional import cross_entropy
from transformers.trainer_pt_utils import LengthGroupedSampler
from trl import SFTTrainer


class Batches(LengthGroupedSampler):
    """Rows in batches of like length, in an order that only the seed, the epoch and the effective batch decide."""

    def __init__(self, effective_batch: int, lengths: list[int], seed: int, epoch: Callable[[], int]):
        super().__init__(effective_batch, lengths=lengths)
        self.seed, self.epoch = seed, epoch

    def __iter__(self):
        """Row numbers of the epoch."""
        self.generator = torch.Generator().manual_seed(self.seed + self.epoch())
        return super().__iter__()


class Trainer(SFTTrainer):
    """SFTTrainer with its own order of rows that, on a CPU, computes logits only where an answer token is predicted.

    There trl scores every position, prompts and padding too, computes the logits again in the backward pass and
    multiplies them in float32. Its token accuracy and entropy are left out. On a GPU trl's fused kernel skips the other
    positions itself.
    """

    def _get_train_sampler(self, train_dataset=None):
        """The same order in every process and after a resume; see `Batches`."""
        grouped = super()._get_train_sampler(train_dataset)
        effective = grouped.batch_size * self.args.world_size
        return Batches(effective, grouped.lengths, self.args.data_seed, lambda: int(self.state.epoch or 0))

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean cross-entropy of the answer tokens, of all batches of a step where their number is given."""
        if self.args.device.type != "cpu" or return_outputs:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        labels = inputs["labels"][:, 1:]  # (B, T - 1): what each position predicts
        places = (labels != -100).any(0).nonzero().flatten()  # (P,)
        given = {k: v for k, v in inputs.items() if k != "labels"}
        logits = model(**given, logits_to_keep=places, use_cache=False).logits  # (B, P, V)
        loss = cross_entropy(logits.flatten(0, 1).float(), labels[:, places].flatten(), reduction="sum")
        if num_items_in_batch is None:
            return loss / (labels != -100).sum()
        # gradients are averaged over the processes, and the number of tokens is that of all
        workers = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
        return loss / num_items_in_batch * workers


def masked(rows: Dataset) -> int:
    """How many prepared rows hold no token that is learnt; a packed row counts as its parts."""
    lost = 0
    for row in rows:
        start = 0
        for length in row.get("seq_lengths") or [len(row["labels"])]:
            lost += all(label == -100 for label in row["labels"][start : start + length])
            start += length
    return lost
