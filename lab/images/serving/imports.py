"""Imports what a start of the server imports, so that Python writes its bytecode: a third of what compiling all would write.

Run by setup.sh in the image; so it also shows that the wheels fit together.
"""

import importlib

import transformers

MODULES = (
    "aiter.vllm_plugin",
    "vllm.entrypoints.cli.main",
    "vllm.entrypoints.openai.api_server",
    "vllm.v1.engine.core",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.worker.cpu_model_runner",
    "vllm.model_executor.models.glm4_1v",
    "vllm.model_executor.models.glm4_moe",
    "vllm.reasoning.glm47_moe_reasoning_parser",
    "vllm.tool_parsers.glm47_moe_tool_parser",
)
CLASSES = ("Glm46VProcessor", "Glm46VImageProcessor", "Glm46VVideoProcessor", "PreTrainedTokenizerFast")

for name in MODULES:
    importlib.import_module(name)
for name in CLASSES:
    getattr(transformers, name)
