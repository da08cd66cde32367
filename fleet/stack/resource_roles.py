"""The roles that each kind of resource runs. Imports nothing, so that the provider starts without the rest of fleet.stack.

Used by `role_vars` (the variables and files of a resource), fleet.impact and fleet.provider (the roles of a run).
"""

# In this order, as playbooks/KIND.yml does.
ROLES = {
    "host": ("host", "docker", "rocm"),
    "image": ("transformers",),
    "weights": ("weights",),
    "serving": ("vllm",),
}
# The private role that other roles include. A stack sets no variable of it, but its files count as theirs.
HELPER, HELPED = "long_task", ("image", "weights", "serving")
# Role variables that only the program sets, from the outputs of another kind of resource.
SET_BY_PROGRAM = {"vllm_image": "Image", "vllm_model_dir": "Weights", "vllm_model_manifest": "Weights"}
