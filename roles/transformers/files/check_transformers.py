"""COMMIT PROCESSOR [MODULE...]: fails the build unless the image holds that commit of transformers and its processor works.

Owned by the role transformers, run as the last step of its Dockerfile with the image's own Python.
"""

import getpass
import importlib
import importlib.metadata
import json
import sys

import numpy
import transformers

commit, processor, modules = sys.argv[1], sys.argv[2], sys.argv[3:]
try:
    getpass.getuser()
except (KeyError, OSError):  # OSError since Python 3.13
    sys.exit(
        "this user has no name in the image: torch before 2.13 cannot be imported\nwanted: USER and LOGNAME in its environment"
    )
origin = json.loads(importlib.metadata.distribution("transformers").read_text("direct_url.json") or "{}")
seen = origin.get("vcs_info", {}).get("commit_id", "a release, not a source build")
if seen != commit:
    sys.exit(f"transformers in the image is {seen}, wanted {commit}")
family = processor.removesuffix("Processor")
getattr(transformers, processor)  # the name itself: a release that does not have it raises here
picture = numpy.full((448, 448, 3), 127, dtype=numpy.uint8)
image = getattr(transformers, f"{family}ImageProcessor")()(images=[picture], return_tensors="pt")
video = getattr(transformers, f"{family}VideoProcessor")()(
    videos=[numpy.stack([picture] * 4)],
    video_metadata=[{"fps": 2.0, "total_num_frames": 4, "duration": 2.0}],
    return_tensors="pt",
)
for module in modules:
    importlib.import_module(module)
print("transformers", transformers.__version__, seen, processor, sorted(image), sorted(video))
