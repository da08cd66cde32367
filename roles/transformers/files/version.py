"""FOLDER TAG: print the version of transformers in an image; reads it once and keeps it beside the build files.

Ends with an error if the image's answer is not a version. Called by tasks/run.yml through `python3 -c`.
"""

import pathlib
import re
import subprocess
import sys

kept = pathlib.Path(sys.argv[1], sys.argv[2].rpartition(":")[2] + ".version")
if not kept.exists():
    code = "import importlib.metadata as m; print(m.version('transformers'))"
    options = ["--rm", "--network=none", "--pull=never", "--read-only", "--cap-drop=ALL", "--entrypoint=python3"]
    kept.write_text(
        subprocess.run(
            ["docker", "run", *options, sys.argv[2], "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=600,  # seconds: a daemon that hangs never answers
        ).stdout
    )
version = kept.read_text().strip()
if not re.fullmatch(r"[0-9A-Za-z][0-9A-Za-z.+!_-]{0,63}", version):
    kept.unlink()
    sys.exit(f"the version of transformers that {sys.argv[2]} says is none\nwanted: letters, digits and . + ! _ -")
print(version)
