"""SECONDS: run `dpkg --configure -a`, which finishes an interrupted installation, when dpkg's lock is free.

Needs dpkg. Ends with dpkg's output and exit code; after SECONDS of waiting for the lock with a message like apt's.
Called by tasks/install.yml through `python3 -c`.
"""

import fcntl
import os
import pathlib
import subprocess
import sys
import time

LOCK = pathlib.Path("/var/lib/dpkg/lock-frontend")
end = time.monotonic() + int(sys.argv[1])
with LOCK.open("w") as lock:
    while True:
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except OSError:
            if time.monotonic() > end:
                sys.exit(f"Could not get lock {LOCK}")
            time.sleep(1)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "DPKG_FRONTEND_LOCKED": "1"}
    command = ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
    sys.exit(subprocess.run(command, env=environment, stdin=subprocess.DEVNULL).returncode)
