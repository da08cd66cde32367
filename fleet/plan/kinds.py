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
HELPER, HELPED = "work", ("image", "weights", "serving")
