"""Train the small model until it is sure of every token, and save it as a checkpoint that vLLM serves.

    python -m lab.model.train lab/model/checkpoint      (in a separate environment, see README.md)

Needs torch, transformers, opencv. Deterministic except for the machine's floating point.
"""

import argparse
import math
import pathlib
import random
import time
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from PIL import ImageOps

from fleet.probes import case, picture
from lab.model import architecture
from lab.model.lessons import Lesson, lessons

IGNORED = -100  # a label without loss: the model does not learn the prompt
RATE, WARM = 1.5e-3, 40
# Two tool calls differ in one word of a long prompt, two videos only in the order of their frames. So they repeat, and videos come in
# small batches, for more steps.
REPEATS, PICTURES_A_BATCH, VIDEOS_A_BATCH = 4, 8, 2
PIXELS = ("pixel_values", "image_grid_thw", "pixel_values_videos", "video_grid_thw")


def frames(path: pathlib.Path) -> tuple[Any, dict[str, Any]]:
    """Return all frames of a video as RGB, and the metadata for the processor."""
    video, pictures = cv2.VideoCapture(str(path)), []
    rate = video.get(cv2.CAP_PROP_FPS)
    while (read := video.read())[0]:
        pictures.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    count = len(pictures)
    meta = {"fps": rate, "total_num_frames": count, "duration": count / rate, "frames_indices": list(range(count))}
    return np.stack(pictures), meta


def encode(processor: Any, lesson: Lesson) -> Any:
    """Return the processor's output for prompt and target, with labels only on the target."""
    content: list[dict[str, Any]] = []
    media: dict[str, Any] = {}
    if lesson.scene:
        content.append({"type": "image"})
        image = picture.image(lesson.scene)
        media["images"] = [ImageOps.mirror(image) if lesson.mirrored else image]
    if lesson.video:
        content.append({"type": "video"})
        pictures, meta = frames(case.MEDIA / lesson.video)
        media |= {"videos": [pictures], "video_metadata": [meta], "do_sample_frames": False}
    content.append({"type": "text", "text": lesson.question})
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        tools=list(lesson.tools) or None,
        tokenize=False,
        add_generation_prompt=True,
        enable_thinking=lesson.thinking,
    )
    encoded = processor(text=[prompt + lesson.target], return_tensors="pt", **media)
    length = len(processor.tokenizer(lesson.target, add_special_tokens=False)["input_ids"])
    labels = encoded["input_ids"].clone()
    labels[:, :-length] = IGNORED
    assert processor.tokenizer.decode(labels[0, -length:]) == lesson.target
    encoded["labels"] = labels
    return encoded


def collate(batch: Sequence[Any], pad: int) -> dict[str, Any]:
    """Return encoded lessons as one batch, padded on the left."""
    length = max(one["input_ids"].shape[1] for one in batch)

    def filled(key: str, value: int) -> Any:
        padded = [torch.nn.functional.pad(one[key], (0, length - one[key].shape[1]), value=value) for one in batch]
        return torch.cat(padded)

    joined = {
        "input_ids": filled("input_ids", pad),
        "attention_mask": filled("attention_mask", 0),
        "labels": filled("labels", IGNORED),
        "mm_token_type_ids": filled("mm_token_type_ids", 0),
    }
    return joined | {
        key: torch.cat([one[key] for one in batch if key in one]) for key in PIXELS if any(key in one for one in batch)
    }


def batches(encoded: Sequence[Any], rnd: random.Random) -> list[Sequence[Any]]:
    """Return the lessons in batches. Pictures and videos do not mix: transformers would take a video's frames for pictures."""
    videos = [lesson for lesson in encoded if "pixel_values_videos" in lesson]
    pictures = [lesson for lesson in encoded if "pixel_values_videos" not in lesson]
    groups: list[Sequence[Any]] = []
    for group, size in ((pictures, PICTURES_A_BATCH), (videos, VIDEOS_A_BATCH)):
        rnd.shuffle(group)
        groups += [group[start : start + size] for start in range(0, len(group), size)]
    rnd.shuffle(groups)
    return groups


def train(model: Any, processor: Any, curriculum: Sequence[Lesson], epochs: int, margin: float) -> bool:
    """Train until every target token has at least the probability `margin`. Return False when these epochs do not suffice."""
    encoded = []
    for lesson in curriculum:
        encoded += [encode(processor, lesson)] * (REPEATS if lesson.tools or lesson.video else 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.0, betas=(0.9, 0.98))
    rnd, start, step = random.Random(0), time.monotonic(), 0
    model.train()
    for epoch in range(epochs):
        wrong, worst, context = 0, 1.0, ""
        # Half a cosine, down to a thirtieth: at the full rate the last tokens never settle.
        rate = RATE * (0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * epoch / epochs)))
        for group in batches(encoded, rnd):
            step += 1
            for parameters in optimizer.param_groups:
                parameters["lr"] = rate * min(1, step / WARM)
            batch = collate(group, processor.tokenizer.pad_token_id)
            out = model(**batch)
            optimizer.zero_grad()
            out.loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            with torch.no_grad():
                mask = batch["labels"][:, 1:] != IGNORED
                sure, target = out.logits[:, :-1][mask].softmax(-1), batch["labels"][:, 1:][mask]
                right = sure.gather(1, target[:, None])[:, 0]
                wrong += int((sure.argmax(-1) != target).sum())
                if right.min() < worst:
                    worst = right.min().item()
                    context = processor.tokenizer.decode(target[: int(right.argmin()) + 1][-8:])
        if epoch % 5 == 0 or worst > margin:
            seconds = time.monotonic() - start
            print(
                f"epoch {epoch}: {wrong} tokens wrong, the least sure {worst:.3f} ({context!r}), {seconds:.0f} s",
                flush=True,
            )
        if worst > margin:
            return True
    return False


def main() -> None:
    """Build, train and save the model."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", type=pathlib.Path)
    options.add_argument("--epochs", type=int, default=160)
    options.add_argument("--margin", type=float, default=0.95)
    arguments = options.parse_args()
    curriculum = lessons()
    model, processor = architecture.build([text for lesson in curriculum for text in (lesson.question, lesson.target)])
    print(
        f"{len(curriculum)} lessons, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} million parameters",
        flush=True,
    )
    if not train(model, processor, curriculum, arguments.epochs, arguments.margin):
        raise SystemExit(f"not sure after {arguments.epochs} epochs: nothing is saved\n  next:   more --epochs")
    architecture.save(model.eval(), processor, arguments.folder)
    print(f"saved in {arguments.folder}")


if __name__ == "__main__":
    main()
