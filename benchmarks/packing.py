"""What padding costs: tokens computed for each useful one, and samples per second, of packed and padded micro-batches.

    python benchmarks/packing.py [--device cuda] [--samples 48]

First the cut alone, of a corpus in the proportions of the paper's second stage: global batches of 256 samples over eight workers. Then
forward and backward passes of the tiny model over the same samples in each way, after one another in every round, the best of several;
drawing, tokenising and the optimiser are left out. Pages are 1120 x 532 pixels, 760 visual tokens. Ratios within one run are what counts:
the tiny model's are not those of a large one, in which attention weighs less and a GPU's kernels prefer long rows.
"""

from __future__ import annotations

import argparse
import functools
import io
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))

import numpy as np
import torch
from PIL import Image

from cg_data.records import Message, Sample, content_id
from cg_data.settings import PageSettings
from cg_data.vocabulary import SampleKind, SampleSource, Split
from cg_train.batches import to_device
from cg_train.model.build import build_tiny, train_tokenizer
from cg_train.model.encode import encode_dialogue, image_tokens, picture_tokens, training_batch
from cg_train.model.pack import packed_batch
from cg_train.model.varlen import use_varlen
from cg_train.packs import Rows, SampleLengths, shares
from cg_train.recipe import Batching, PackedBatches, PaddedBatches, PictureSettings, TinyModel
from cg_train.step import answer_targets

PAGE = PageSettings(pixels_per_row=28, pixels_per_second=112, microvolts_per_row=100.0, subcolumns=4, multiple_of=28)
PICTURES = PictureSettings()
WAYS: dict[str, Batching] = {
    "padded": PaddedBatches(micro_batch=4),
    "padded, by length": PaddedBatches(micro_batch=4, by_length=True),
    "packed": PackedBatches(tokens=4096, images=8),
    "packed, one mask": PackedBatches(tokens=4096, images=8),
}
WORDS = np.array(["rhythm", "spindle", "sharp", "wave", "frontal", "left", "right", "slow", "alpha", "during", "channel", "shows", "no"])
KINDS = (
    # share of the paper's 294,000 samples; median words of an answer and how far they spread; has a page
    (SampleKind.MCQ, 100, 2, 0.3, True),
    (SampleKind.DESCRIPTION, 31, 150, 0.4, True),
    (SampleKind.COMPLEX_MCQ, 31, 3, 0.3, True),
    (SampleKind.CONVERSATION, 32, 200, 0.5, True),
    (SampleKind.CAPTION, 50, 50, 0.4, True),
    (SampleKind.GENERAL, 50, 60, 0.9, False),
)
ROUNDS = 3


def samples(count: int, seed: int) -> list[Sample]:
    """Dialogues of random words about pages of noise; of the general ones four in five are about a picture of noise."""
    random = np.random.default_rng(seed)
    weights = np.array([kind[1] for kind in KINDS], dtype=np.float64)
    return [_sample(number, KINDS[kind], random) for number, kind in enumerate(random.choice(len(KINDS), count, p=weights / weights.sum()))]


def _sample(number: int, kind: tuple[SampleKind, int, int, float, bool], random: np.random.Generator) -> Sample:
    name, _, median, spread, paged = kind
    question = " ".join(random.choice(WORDS, int(random.integers(8, 60))))
    answer = " ".join(random.choice(WORDS, max(1, int(median * random.lognormal(0, spread)))))
    pictured = not paged and random.random() < 0.8
    return Sample(
        sample_id=content_id("packing", number),
        segment_id="",
        recording_id="",
        corpus="",
        subject="",
        split=Split.TRAIN,
        kind=name,
        topic="",
        messages=(Message(role="user", content=question), Message(role="assistant", content=answer)),
        options=(),
        answer_index=-1,
        source=SampleSource.RULE,
        prompt_version="",
        detector_version="",
        mask=np.ones(19 if paged else 0, dtype=np.bool_),
        eeg_steps=random.integers(-300, 300, (19 if paged else 0, 2000)).astype(np.int16),
        picture=_picture(random) if pictured else None,
    )


def _picture(random: np.random.Generator) -> bytes:
    buffer = io.BytesIO()
    width, height = (int(pixels) for pixels in random.integers(200, 900, 2))
    Image.new("RGB", (width, height), (120, 40, 200)).save(buffer, "PNG")
    return buffer.getvalue()


def lengths_of(made: Sequence[Sample], tokenizer: Any) -> SampleLengths:
    visual = [picture_tokens(s.picture, PICTURES) if s.picture is not None else image_tokens(PAGE) * s.has_page for s in made]
    tokens = [len(encode_dialogue(tokenizer, s.messages, n, with_answer=True).input_ids) for s, n in zip(made, visual, strict=True)]
    return SampleLengths(tokens=np.array(tokens, dtype=np.int32), images=(np.array(visual) > 0).astype(np.int32))


def of_cut(lengths: SampleLengths, way: str, *, batch: int, workers: int) -> dict[str, float]:
    """Figures of whole global batches: what is computed by what is useful, and how much longer the slowest worker takes than the mean."""
    batching, steps = WAYS[way], len(lengths.tokens) // batch
    computed, scores, slowest, micro = 0.0, 0.0, [], 0
    for rows in np.arange(steps * batch).reshape(steps, batch):
        cut = shares(rows, lengths, batching=batching, workers=workers)
        sizes = np.array([[_computed(lengths.tokens[group], way) for group in mine] for mine in cut])
        computed, micro = computed + sizes[..., 0].sum(), micro + sizes.shape[1]
        scores += sizes[..., 1].sum()
        slowest.append(sizes[..., 0].max(axis=0).sum() / sizes[..., 0].sum(axis=1).mean())
    useful = lengths.tokens[: steps * batch].astype(np.float64)
    return {
        "computed_by_useful": computed / useful.sum(),
        "scores_by_useful": scores / (useful**2).sum(),
        "slowest_by_mean": float(np.mean(slowest)),
        "micro_batches_per_step": micro / steps,
    }


def _computed(tokens: Rows, way: str) -> tuple[int, int]:
    """Tokens of a micro-batch, and pairs of tokens whose scores a layer computes."""
    total, longest = int(tokens.sum()), int(tokens.max())
    if way == "packed":
        return total, int((tokens.astype(np.int64) ** 2).sum())
    return (total, total**2) if way == "packed, one mask" else (len(tokens) * longest, len(tokens) * longest**2)


def passes(model: Any, processor: Any, made: Sequence[Sample], lengths: SampleLengths, batching: Batching) -> list[Mapping[str, Any]]:
    """The inputs of each forward pass of one worker and one step."""
    make: Callable[..., Mapping[str, Any]] = training_batch
    if isinstance(batching, PackedBatches):
        make = functools.partial(packed_batch, positions_of=model.model.get_rope_index)
    (mine,) = shares(np.arange(len(made)), lengths, batching=batching, workers=1)
    groups = [[made[row] for row in rows] for rows in mine]
    settings = {"processor": processor, "page": PAGE, "pictures": PICTURES, "max_tokens": 4096}
    return [make(group, [sample.eeg_uv for sample in group], **settings) for group in groups]


def seconds(model: Any, inputs: Sequence[Mapping[str, Any]], way: str, device: str) -> float:
    """Of forward and backward over all `inputs`."""
    use_varlen(model) if way == "packed" else model.set_attn_implementation("sdpa")
    share = torch.stack([answer_targets(one) for one in inputs]).sum().to(device)
    model.zero_grad(set_to_none=True)
    begun = time.perf_counter()
    for one in inputs:
        model(**to_device(one, device), num_items_in_batch=share).loss.backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--samples", type=int, default=48, help="of the passes that are timed, a multiple of four")
    given = parser.parse_args()
    torch.set_num_threads(1)
    corpus = samples(2048, seed=1)
    tiny = TinyModel()
    model, processor = build_tiny(tiny, train_tokenizer([m.content for s in corpus[:200] for m in s.messages], tiny.vocabulary), PAGE)
    model.config.text_config.use_cache = False
    model.to(given.device).train()
    lengths = lengths_of(corpus, processor.tokenizer)
    timed = corpus[: given.samples]
    few = SampleLengths(tokens=lengths.tokens[: len(timed)], images=lengths.images[: len(timed)])
    inputs = {name: passes(model, processor, timed, few, way) for name, way in WAYS.items()}
    best_s = dict.fromkeys(WAYS, np.inf)
    for _ in range(ROUNDS):
        for name, one in inputs.items():
            best_s[name] = min(best_s[name], seconds(model, one, name, given.device))
    figures = {name: {**of_cut(lengths, name, batch=256, workers=8), "samples_per_s": len(timed) / best_s[name]} for name in WAYS}
    sys.stdout.write(f"tokens: mean {lengths.tokens.mean():.0f}, {lengths.tokens.min()} to {lengths.tokens.max()}\n")
    padded_per_s = figures["padded"]["samples_per_s"]
    sys.stdout.write(f"{'':20s} tokens computed/useful  scores computed/useful  slowest/mean  micro-batches  samples/s  of padded\n")
    for name, row in figures.items():
        cut = f"{row['computed_by_useful']:22.3f} {row['scores_by_useful']:23.3f} {row['slowest_by_mean']:13.3f}"
        speed = f"{row['micro_batches_per_step']:14.1f} {row['samples_per_s']:10.2f} {row['samples_per_s'] / padded_per_s:10.3f}"
        sys.stdout.write(f"{name:20s} {cut} {speed}\n")
    sys.stdout.write("\n" + json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
