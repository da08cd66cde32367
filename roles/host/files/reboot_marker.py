"""MARKER GOALS: record a reboot with these goals in the file MARKER; exit code 3, and the time, if the last one had the same goals.

Owns the marker file. Called by tasks/reboot.yml through `python3 -c`.
"""

import pathlib
import sys
import time

marker, goals = pathlib.Path(sys.argv[1]), sys.argv[2]
if marker.exists():
    when, _, attempted = marker.read_text().partition("\n")
    if attempted == goals:
        print(when)
        sys.exit(3)
marker.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
marker.write_text(time.strftime("%Y-%m-%d %H:%M:%S %Z") + "\n" + goals)
