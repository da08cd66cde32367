"""SECONDS: finishes what an interrupted installation left half done, as `dpkg --configure -a` does, once nobody else installs.

Needs dpkg. Ends with dpkg's words and exit code; after SECONDS of waiting with those of apt about who holds the lock.
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
