"""Which roles each kind of resource runs. Needs nothing, so that the provider can ask it without the cost of the rest of plan.

Used by rolevars (which variables and files concern a resource) and by fleet.provider (which roles a run consists of).
"""

# In this order, as playbooks/KIND.yml does.
ROLES = {
    "host": ("host", "docker", "rocm"),
    "image": ("transformers",),
    "weights": ("weights",),
    "serving": ("vllm",),
}
# The private role that others include; it has no variables of a stack's, but its files count as theirs.
HELPER, HELPED = "long_task", ("image", "weights", "serving")
# Role variables that only the program knows, from the outputs of another kind of resource: a node has said them, no stack file.
SET_BY_PROGRAM = {"vllm_image": "Image", "vllm_model_dir": "Weights", "vllm_model_manifest": "Weights"}
