"""Build a GLM-4.6V of 1.2 million parameters, with the real architecture, form of tokenizer, template and processors.

Needs torch, transformers and tokenizers (in a separate environment, see README.md). Called by train.py. Its files have the names and
forms of the real model's, so the same vLLM flags and roles serve it.
"""

import json
import pathlib
import random
from collections.abc import Iterator
from typing import Any

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GenerationConfig,
    Glm4vMoeConfig,
    Glm4vMoeForConditionalGeneration,
    Glm46VImageProcessor,
    Glm46VProcessor,
    Glm46VVideoProcessor,
    PreTrainedTokenizerFast,
)

TEMPLATE = pathlib.Path(__file__).with_name("chat_template.jinja")
# GLM's added tokens, in GLM's order.
SPECIAL = [
    "<|endoftext|>",
    "[MASK]",
    "[gMASK]",
    "[sMASK]",
    "<sop>",
    "<eop>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|observation|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|begin_of_video|>",
    "<|end_of_video|>",
    "<|begin_of_audio|>",
    "<|end_of_audio|>",
]
# These stay in the decoded text, for vLLM's glm45 parsers and for readers of boxes.
VISIBLE = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "</tool_response>",
    "<arg_key>",
    "</arg_key>",
    "<arg_value>",
    "</arg_value>",
]
PIXELS = 28  # one token of the language model covers 28 x 28 pixels
# At most this many tokens per picture. The processor shrinks a bigger one: the probes' 448 x 336 to half, which is enough to see
# bottles and trains four times faster.
PICTURE_TOKENS, VIDEO_TOKENS = 48, 4096


def tokenizer(texts: list[str], size: int = 1024) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE of `size` tokens on `texts` and on numbers and JSON like those of the answers."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=[], show_progress=False, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(_corpus(texts), trainer)
    tokens = [*((text, True) for text in SPECIAL), *((text, False) for text in VISIBLE)]
    tokens += [
        ("/nothink", True),
        ("<|begin_of_box|>", False),
        ("<|end_of_box|>", False),
        ("<|image|>", True),
        ("<|video|>", True),
    ]
    bpe.add_tokens([AddedToken(text, special=special, normalized=False) for text, special in tokens])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        eos_token="<|endoftext|>",
        pad_token="<|endoftext|>",
        padding_side="left",
        model_max_length=131072,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = TEMPLATE.read_text()
    return fast


def build(texts: list[str]) -> tuple[Any, Any]:
    """Return a model with random weights (seeded) and its processor."""
    torch.manual_seed(0)
    words = tokenizer(texts)
    return Glm4vMoeForConditionalGeneration(_config(words)), _processor(words)


def save(model: Any, processor: Any, folder: pathlib.Path) -> None:
    """Write model and processor in bfloat16 as the hub would hold them, readable for every user."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    processor.save_pretrained(folder)
    text = model.config.text_config
    GenerationConfig(
        eos_token_id=text.eos_token_id,
        pad_token_id=text.pad_token_id,
        do_sample=True,
        temperature=0.8,
        top_p=0.6,
        top_k=2,
    ).save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # save_pretrained leaves the weights 0600


def _corpus(texts: list[str]) -> Iterator[str]:
    rnd = random.Random(0)
    for _ in range(200):
        yield from texts
    for _ in range(500):
        box = [rnd.randint(0, 999) for _ in range(4)]
        yield json.dumps([{"bbox_2d": box, "label": "bottle"}]) + f" [[{box[0]},{box[1]},{box[2]},{box[3]}]]"
    # Whole words that an answer copies from its prompt.
    yield from ["Paris", "London", " Paris", " London", "get_weather", "city", "bbox_2d", "label"] * 200
    yield from ["0.0 seconds", "1.0 seconds", "2.0 seconds", "3.0 seconds"] * 200


def _config(words: PreTrainedTokenizerFast) -> Glm4vMoeConfig:
    ids = words.convert_tokens_to_ids
    text = {
        "vocab_size": (len(words) + 63) // 64 * 64,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 32,  # attention on the CPU needs at least 32
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "attention_bias": True,
        "initializer_range": 0.03,
        # the real one has head_dim 128 and sections [8, 12, 12]
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10000.0,
            "partial_rotary_factor": 0.5,
            "mrope_section": [2, 3, 3],
        },
        "eos_token_id": [ids("<|endoftext|>"), ids("<|user|>"), ids("<|observation|>")],
        "pad_token_id": ids("<|endoftext|>"),
        "moe_intermediate_size": 64,
        "n_routed_experts": 8,
        "num_experts_per_tok": 2,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "norm_topk_prob": True,
        "routed_scaling_factor": 1.0,
        "use_qk_norm": False,  # vLLM reads it; the class of transformers has no such field
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "num_heads": 2,
        "image_size": 336,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "out_hidden_size": 128,
        "initializer_range": 0.06,  # 0.02 leaves the picture three times weaker than the text at this width
        "intermediate_size": 256,
        "rms_norm_eps": 1e-5,
    }
    tokens = {
        f"{name}_token_id": ids(f"<|{text}|>")
        for name, text in {
            "image": "image",
            "video": "video",
            "image_start": "begin_of_image",
            "image_end": "end_of_image",
            "video_start": "begin_of_video",
            "video_end": "end_of_video",
        }.items()
    }
    return Glm4vMoeConfig(
        text_config=text,
        vision_config=vision,
        architectures=["Glm4vMoeForConditionalGeneration"],
        tie_word_embeddings=False,
        **tokens,
    )


def _processor(words: PreTrainedTokenizerFast) -> Glm46VProcessor:
    def size(tokens: int) -> dict[str, int]:
        # These are areas, despite their names: two frames x height x width.
        return {"shortest_edge": 112 * 112, "longest_edge": PIXELS * PIXELS * 2 * tokens}

    return Glm46VProcessor(
        image_processor=Glm46VImageProcessor(size=size(PICTURE_TOKENS)),
        tokenizer=words,
        video_processor=Glm46VVideoProcessor(size=size(VIDEO_TOKENS)),
        chat_template=TEMPLATE.read_text(),
    )
