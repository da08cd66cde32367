"""The seed of an installation: what a system's own installer reads from a small medium, so that the machine is ours at its first start.

Reads late_command.sh beside it, nothing else: text in, the bytes of an ISO 9660 image labelled CIDATA out (pycdlib, imported when called). The user, our keys, the host key and the
mark of this installation are brought by one script, late_command.sh, which every installer runs at its end. Called by the provider's BareMetal.
"""

import io
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LABEL = "CIDATA"
# Where an installed system says which installation it is.
MARK = "/etc/glm-fleet-installed"
# What a stack may not say in its own part: it would undo ours.
OURS = ("version", "identity", "ssh", "user-data", "shutdown")

LATE = Path(__file__).with_name("late_command.sh")
# How each installer comes to the script: the medium is found by its label.
FOUND = (
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
d-i preseed/late_command string {found}
"""


@dataclass(frozen=True)
class Seed:
    """What an installation brings. `autoinstall` (ubuntu) and `preseed` (debian) are the site's part: disks, network, mirror."""

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
        """Return the files of the medium by name."""
        own = {
            "user": self.user,
            "private": self.private.strip(),
            "public": self.public,
            "authorized": "\n".join(self.authorized),
            "name": self.name,
            "nonce": self.nonce,
            "mark": MARK,
        }
        values = "".join(f"{key}={shlex.quote(value)}\n" for key, value in own.items())
        ours = {"late_command.sh": LATE.read_text(), "values": values}
        if self.kind == "debian":
            return {"preseed.cfg": PRESEED.format(name=self.name, found=FOUND) + self.preseed, **ours}
        return {
            "meta-data": f"instance-id: {self.name}-{self.nonce}\n",
            "user-data": self._autoinstall(),
            **ours,
        }

    def _autoinstall(self) -> str:
        import yaml

        own = {key: value for key, value in self.autoinstall.items() if key not in OURS}
        told = {
            **own,
            "version": 1,
            "ssh": {"install-server": True, "allow-pw": False},
            # The installed system's own first start: cloud-init would make other host keys there.
            "user-data": {
                "hostname": self.name,
                "users": [],
                "disable_root": False,
                "ssh_deletekeys": False,
                "ssh_genkeytypes": ["ed25519"],  # which is there
            },
            "late-commands": [*own.get("late-commands", ()), FOUND],
            "shutdown": "poweroff",
        }
        return f"#cloud-config\n{yaml.safe_dump({'autoinstall': told}, sort_keys=False)}"

    def image(self) -> bytes:
        """Return the medium: about 70 KB."""
        import pycdlib

        made, out = pycdlib.PyCdlib(), io.BytesIO()
        made.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
        for number, (name, text) in enumerate(self.files().items()):
            content = text.encode()
            made.add_fp(io.BytesIO(content), len(content), f"/F{number}.;1", rr_name=name, joliet_path=f"/{name}")
        made.write_fp(out)
        made.close()
        return out.getvalue()
