"""Builds the seed of an installation: an ISO 9660 image labelled CIDATA with the answers for a system's own installer.

User, our keys, host key and the installation's mark come from one script in it, late_command.sh, which every installer runs at its end.
Reads only that file; needs pycdlib (imported when called). Called by install and fleet.provider.baremetal.
"""

import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LABEL = "CIDATA"
# The file with the nonce of the installation, on the installed system.
MARK = "/etc/glm-fleet-installed"
# Keys that the stack's own `autoinstall` cannot set: they would override ours.
OURS = ("version", "identity", "ssh", "user-data", "shutdown")

LATE_COMMAND = Path(__file__).with_name("late_command.sh")
# Runs the script in an installer, which finds the medium by its label.
RUN_LATE_COMMAND = (
    f"mkdir -p /run/seed && mount -o ro /dev/disk/by-label/{LABEL} /run/seed && sh /run/seed/late_command.sh /target"
)
PRESEED = """\
# Nothing is asked; the site's part is below.
d-i debconf/priority select critical
d-i netcfg/get_hostname string {name}
d-i netcfg/get_domain string
d-i passwd/root-login boolean true
d-i passwd/root-password-crypted password !
d-i passwd/make-user boolean false
d-i pkgsel/include string openssh-server python3 sudo
d-i cdrom-detect/eject boolean false
d-i finish-install/reboot_in_progress note
d-i debian-installer/exit/poweroff boolean true
d-i preseed/late_command string {run_late_command}
"""


@dataclass(frozen=True)
class Seed:
    """Content of a seed. `autoinstall` (ubuntu) and `preseed` (debian) are the site's part: disks, network, mirror."""

    kind: Literal["ubuntu", "debian"]
    name: str
    nonce: str
    user: str
    authorized: Sequence[str]
    public: str
    private: str = field(repr=False)
    autoinstall: Mapping[str, Any] = field(default_factory=dict)
    preseed: str = ""

    def files(self) -> dict[str, str]:
        """Return the text of the medium's files by name."""
        variables = {
            "user": self.user,
            "private": self.private.strip(),
            "public": self.public,
            "authorized": "\n".join(self.authorized),
            "name": self.name,
            "nonce": self.nonce,
            "mark": MARK,
        }
        values = "".join(f"{key}={shlex.quote(value)}\n" for key, value in variables.items())
        script = {"late_command.sh": LATE_COMMAND.read_text(), "values": values}
        if self.kind == "debian":
            answers = PRESEED.format(name=self.name, run_late_command=RUN_LATE_COMMAND) + self.preseed
            return {"preseed.cfg": answers, **script}
        meta = f"instance-id: {self.name}-{self.nonce}\n"
        return {"meta-data": meta, "user-data": self._autoinstall(), **script}

    def _autoinstall(self) -> str:
        import yaml

        own = {key: value for key, value in self.autoinstall.items() if key not in OURS}
        answers = {
            **own,
            "version": 1,
            "ssh": {"install-server": True, "allow-pw": False},
            # For the first boot of the installed system: cloud-init would otherwise replace the host keys.
            "user-data": {
                "hostname": self.name,
                "users": [],
                "disable_root": False,
                "ssh_deletekeys": False,
                "ssh_genkeytypes": ["ed25519"],  # it exists, so none is generated
            },
            "late-commands": [*own.get("late-commands", ()), RUN_LATE_COMMAND],
            "shutdown": "poweroff",
        }
        return f"#cloud-config\n{yaml.safe_dump({'autoinstall': answers}, sort_keys=False)}"

    def image(self) -> bytes:
        """Return the medium as bytes of an ISO image, about 70 KB."""
        import pycdlib

        iso, out = pycdlib.PyCdlib(), io.BytesIO()
        iso.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
        for number, (name, text) in enumerate(self.files().items()):
            content = text.encode()
            iso.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
        iso.write_fp(out)
        iso.close()
        return out.getvalue()
