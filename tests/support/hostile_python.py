"""Scripts that replace a node's python3 with one that rewrites its output, and restore the real one.

Used by tests/machine/test_hostile.py and tests/e2e/test_e2e_hostile.py.
"""

from pathlib import Path

PLANT = """
real=$(readlink -f /usr/bin/python3)
echo "$real" > /root/real-python
cat > /root/rule <<'END'
RULE
END
rm /usr/bin/python3
{ echo '#!/bin/bash'; cat <<END; } > /usr/bin/python3
set -o pipefail
$real "\\$@" | sed -u -f /root/rule
END
chmod 755 /usr/bin/python3
"""
REMOVE = "test ! -e /root/real-python || ln -sfn $(cat /root/real-python) /usr/bin/python3; rm -f /root/real-python"


def expression(trace: Path) -> str:
    """Return a template that makes the file `trace` where Ansible evaluates it."""
    return f"{{{{ lookup('ansible.builtin.pipe', 'touch {trace}') }}}}"


def plant(rule: str) -> str:
    """Return the script that passes python3's output through a sed rule."""
    return PLANT.replace("RULE", rule)
