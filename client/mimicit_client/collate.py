"""A batch as a dict of lists and tensors, for DataLoader's `collate_fn`."""

from itertools import pairwise
from typing import Any

from mimicit_client.batch import Batch
from mimicit_client.sample import Turn, make_tensor


def collate(batch: Batch) -> dict[str, Any]:
    """The columns of a batch, with `group`, `epoch` and `step`.

    Texts are lists. Of a batch with pixels `images` is a uint8 tensor [B, n, H, W, 3] that shares
    the batch's memory, or a list of B tensors [n, H, W, 3] where the counts differ; else B lists of
    bytes. `context` is B lists of dicts. Raises ImportError for pixels without torch.
    """
    samples = batch[:]
    return {
        "group": batch.group,
        "epoch": batch.epoch,
        "step": batch.step,
        "dataset": [sample.dataset for sample in samples],
        "id": [sample.id for sample in samples],
        "instruction": [sample.instruction for sample in samples],
        "answer": [sample.answer for sample in samples],
        "image_ids": [list(sample.image_ids) for sample in samples],
        "images": _collate_images(batch),
        "rel_ins_ids": [list(sample.rel_ins_ids) for sample in samples],
        "context": [[_collate_turn(turn) for turn in sample.context] for sample in samples],
        "extra": [sample.extra for sample in samples],
        "substituted_for": [sample.substituted_for for sample in samples],
    }


def _collate_images(batch: Batch) -> Any:
    if not batch.has_pixels:
        return [[bytes(image) for image in sample.images] for sample in batch]
    import torch

    parts: list[torch.Tensor] = []
    counts: list[int] = []
    for run in batch.pixels:
        counts += [end - start for start, end in pairwise(run.starts)]
        if len(run.view):
            parts.append(make_tensor(run.view).view(-1, *run.shape))
    if not parts:
        return torch.empty((len(batch), 0, 0, 0, 3), dtype=torch.uint8)
    images = parts[0] if len(parts) == 1 else torch.cat(parts)
    if len(set(counts)) == 1:
        return images.view(len(batch), counts[0], *images.shape[1:])
    return list(torch.split(images, counts))


def _collate_turn(turn: Turn) -> dict[str, Any]:
    shown: Any = [bytes(image) for image in turn.images]
    if turn.images and turn.images[0].ndim == 3:
        shown = turn.tensor()
    return {
        "id": turn.id,
        "instruction": turn.instruction,
        "answer": turn.answer,
        "image_ids": list(turn.image_ids),
        "images": shown,
    }
