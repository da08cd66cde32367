"""VERSION: fails the build unless the base image holds this version of vLLM; nothing given is nothing checked.

Owned by the role transformers, run as the first step of its Dockerfile with the image's own Python. What a builder appended to
the version (0.32.0+rocm723) is not compared.
"""

import importlib.metadata
import sys

wanted = sys.argv[1]
try:
    seen = importlib.metadata.version("vllm")
except importlib.metadata.PackageNotFoundError:
    seen = "none"
if wanted and wanted not in (seen, seen.partition("+")[0]):
    sys.exit(f"vLLM in the base image is {seen}, wanted {wanted} (transformers_base_vllm)")
print("vllm", seen)
