"""Make the lab's checkpoint as it was before training: the same shapes, with seeded noise as weights.

It loads and answers, also /health, but sees nothing: a deployment must refuse it. Needs only Python, so that a lab can make it
from the committed checkpoint. Called by lab/site.py.
"""

import json
import random
import shutil
import struct
from pathlib import Path
from typing import Any

WEIGHTS, GENERATION = "model.safetensors", "generation_config.json"
TOKENS = "model.language_model.embed_tokens.weight"  # one row a token
LENGTH = struct.Struct("<Q")  # a safetensors file begins with the length of its JSON header
# bfloat16, little-endian: sign, 8 bits of exponent, 7 of mantissa. Noise has a random sign and mantissa, and the exponent
# of 2 to the -6: its size is 0.016 to 0.031, about the initializer_range of architecture.py.
ZERO, ONE = b"\x00\x00", b"\x80\x3f"
LOW, HIGH = bytes(0x80 | byte for byte in range(256)), bytes(0x3C | byte & 0x80 for byte in range(256))


def make(source: Path, target: Path) -> None:
    """Copy a checkpoint from `source` to the new folder `target`, with noise as weights. Raises ValueError unless they are bfloat16.

    Its generation_config.json makes every token the last: otherwise it would never stop, and a probe that lets it think would wait for
    4096 tokens. The same source always gives the same bytes.
    """
    shutil.copytree(source, target, ignore=shutil.ignore_patterns(WEIGHTS, GENERATION))
    content = (source / WEIGHTS).read_bytes()
    start = LENGTH.size + LENGTH.unpack_from(content)[0]
    tensors = json.loads(content[LENGTH.size : start])
    tensors.pop("__metadata__", None)
    weights, noise = bytearray(content[:start]), random.Random(0)
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        if tensor["dtype"] != "BF16":
            raise ValueError(f"{source / WEIGHTS}: {name} is {tensor['dtype']}, wanted BF16")
        weights += _fresh(name, tensor, noise)
    (target / WEIGHTS).write_bytes(weights)
    generation = json.loads((source / GENERATION).read_text())
    generation["eos_token_id"] = list(range(tensors[TOKENS]["shape"][0]))
    (target / GENERATION).write_text(json.dumps(generation) + "\n")


def _fresh(name: str, tensor: dict[str, Any], noise: random.Random) -> bytes:
    """Return an initial tensor for training: biases zero, weights of norms one, matrices noise."""
    first, behind = tensor["data_offsets"]
    count: int = (behind - first) // len(ONE)
    if len(tensor["shape"]) == 1:
        return (ZERO if name.endswith("bias") else ONE) * count
    values = bytearray(2 * count)
    values[0::2] = noise.randbytes(count).translate(LOW)
    values[1::2] = noise.randbytes(count).translate(HIGH)
    return bytes(values)
