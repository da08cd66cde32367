"""A machine of QEMU behind the BMC of redfish_machine.py: firmware, a bare disk, two drives for virtual media, a network card.

Owns its emulated processor (no KVM), and the image of an installer instead of Ubuntu's and Debian's: it finds the medium CIDATA by its
label, writes a system to the bare disk, runs the medium's late_command.sh on it as those do, and switches off. Needs root and Debian's
archive, from which it installs some packages. Used by tests/machine/test_metal.py.
"""

import gzip
import shutil
import subprocess
from pathlib import Path

from lab.images import rootfs
from tests.support.redfish_machine import Machine

PACKAGES = (
    *("qemu-system-x86", "mmdebstrap", "isolinux", "syslinux", "syslinux-common", "mtools", "dosfstools", "fdisk"),
    *("e2fsprogs", "xorriso", "cpio", "busybox-static", "kmod"),
)
SYSTEM = ("linux-image-cloud-amd64", "systemd-sysv", "udev", "dbus", "openssh-server", "python3-minimal", "iproute2")
# The modules of disk and drives for the installer's small system.
MODULES = ("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "sr_mod", "isofs", "ext4", "crc32c_generic")
CONSOLE = "console=ttyS0,115200 net.ifnames=0"
BOOT, ROOT = 96, 900  # MiB of the two partitions
INSTALLER = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /seed /cd /target /bin
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for module in $(cat /modules); do insmod "/lib/$module"; done
for try in 1 2 3 4 5 6 7 8 9 10; do [ -b /dev/vda ] && [ -b /dev/sr0 ] && [ -b /dev/sr1 ] && break; sleep 1; done
for drive in /dev/sr0 /dev/sr1; do
  label=$(dd if=$drive bs=1 skip=32808 count=6 2>/dev/null)
  case $label in CIDATA) seed=$drive ;; *) cd=$drive ;; esac
done
mount -t iso9660 -o ro "$seed" /seed && mount -t iso9660 -o ro "$cd" /cd || { echo "no medium"; exec sh; }
echo "installer: writes the disk"
gunzip -c /cd/disk.gz | dd of=/dev/vda bs=1M 2>/dev/null; sync
blockdev --rereadpt /dev/vda; sleep 1
mount -t ext4 /dev/vda2 /target && sh /seed/late_command.sh /target || { echo "not installed"; exec sh; }
umount /target; sync
echo "installer: ended"
poweroff -f
"""


class Metal(Machine):
    """Switched off, with a bare disk of zeros. `image` makes its installer; `console` has its output."""

    process: "subprocess.Popen[bytes] | None" = None

    @property
    def bare_disk(self) -> Path:
        """The disk, with room for the system and as empty as a new one."""
        path = self.folder / "disk.raw"
        if not path.exists():
            with path.open("wb") as file:
                file.truncate((BOOT + ROOT + 8) << 20)
        return path

    @property
    def console(self) -> Path:
        """The output of its serial port."""
        return self.folder / "console"

    def switch_on(self, device: str) -> None:
        """Start QEMU, from the virtual CD first or from the disk."""
        media = [self.inserted(device_name) for device_name in ("Cd", "Floppy")] if self.media() else []
        self.wiped += device == "Cd"
        drives = [
            option
            for number, file in enumerate(media)
            for option in (
                *("-drive", f"if=none,id=cd{number},media=cdrom,readonly=on,format=raw,file={file}"),
                *("-device", f"scsi-cd,drive=cd{number},bootindex={number + (1 if device == 'Cd' else 10)}"),
            )
        ]
        self.process = subprocess.Popen(
            [
                *("qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "768", "-display", "none", "-no-reboot"),
                *("-serial", f"file:{self.console}", "-monitor", "none", "-device", "virtio-scsi-pci", *drives),
                *("-drive", f"if=none,id=hd,format=raw,cache=unsafe,file={self.bare_disk}"),
                *("-device", "virtio-blk-pci,drive=hd,bootindex=5"),
                *("-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{self.ssh_port}-:22"),
                *("-device", "virtio-net-pci,netdev=net,romfile="),
            ],
            stdin=subprocess.DEVNULL,
        )

    def switch_off(self) -> None:
        """End QEMU, as the power switch does."""
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None

    def ended(self) -> bool:
        """Return whether the machine has switched itself off."""
        return self.process is not None and self.process.poll() is not None


def image(folder: Path) -> Path:
    """Make the installer's image: a CD that boots, with a system for the disk on it."""
    rootfs.need(*PACKAGES)
    root = folder / "root"
    _system(root, folder)
    disk, cd = folder / "disk", folder / "cd"
    cd.mkdir()
    kernel, initrd = next(root.glob("boot/vmlinuz-*")), next(root.glob("boot/initrd.img-*"))
    _disk(disk, root, kernel, initrd, folder)
    with disk.open("rb") as raw, gzip.open(cd / "disk.gz", "wb", 1) as packed:
        shutil.copyfileobj(raw, packed, 1 << 20)
    shutil.copy(kernel, cd / "linux")
    _installer(cd / "initrd", root, folder)
    for file in ("/usr/lib/ISOLINUX/isolinux.bin", "/usr/lib/syslinux/modules/bios/ldlinux.c32"):
        shutil.copy(file, cd)
    (cd / "isolinux.cfg").write_text(f"DEFAULT i\nLABEL i\n LINUX linux\n APPEND initrd=initrd {CONSOLE}\n")
    boot = "-b isolinux.bin -c boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table"
    iso = folder / "installer.iso"
    _run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-V", "INSTALLER", *boot.split(), "-o", str(iso), str(cd))
    return iso


def _system(root: Path, folder: Path) -> None:
    """Make the system to install: Debian with an SSH server, and no host key or user of its own."""
    keyring, lines = rootfs.archive("bookworm", folder)
    (folder / "sources").write_text("\n".join(lines) + "\n")
    hooks = (
        'printf "[Match]\\nName=eth0\\n[Network]\\nDHCP=yes\\n" >"$1"/etc/systemd/network/eth0.network',
        'chroot "$1" systemctl enable systemd-networkd ssh',
        'rm -f "$1"/etc/ssh/ssh_host_*',
        'printf "/dev/vda2 / ext4 defaults 0 1\\n" >"$1"/etc/fstab',
    )
    included = f"--include={','.join(SYSTEM)}"
    _run(
        *("mmdebstrap", "--mode=root", "--variant=minbase", f"--keyring={keyring}", included, *rootfs.LEAN),
        *(f"--customize-hook={hook}" for hook in hooks),
        *("bookworm", str(root), str(folder / "sources")),
    )


def _disk(disk: Path, root: Path, kernel: Path, initrd: Path, folder: Path) -> None:
    """Make the disk: a partition from which it boots, and one with the system."""
    boot, system = folder / "boot.fat", folder / "root.ext4"
    for file, size in ((boot, BOOT), (system, ROOT), (disk, BOOT + ROOT + 1)):
        with file.open("wb") as disk_file:
            disk_file.truncate(size << 20)
    _run("mkfs.vfat", str(boot))
    config = folder / "syslinux.cfg"
    config.write_text(f"DEFAULT s\nLABEL s\n LINUX linux\n APPEND initrd=initrd root=/dev/vda2 rw {CONSOLE}\n")
    for source, name in ((kernel, "linux"), (initrd, "initrd"), (config, "syslinux.cfg")):
        _run("mcopy", "-i", str(boot), str(source), f"::{name}")
    _run("syslinux", "--install", str(boot))
    _run("mkfs.ext4", "-q", "-F", "-d", str(root), str(system))
    table = f"label: dos\n2048,{BOOT * 2048},c,*\n{2048 + BOOT * 2048},{ROOT * 2048},83\n"
    subprocess.run(["sfdisk", "-q", disk], input=table.encode(), check=True)
    with disk.open("r+b") as out:
        out.write(Path("/usr/lib/syslinux/mbr/mbr.bin").read_bytes())
        for file, start in ((boot, 1), (system, 1 + BOOT)):
            out.seek(start << 20)
            with file.open("rb") as part:
                shutil.copyfileobj(part, out, 1 << 20)


def _installer(initrd: Path, root: Path, folder: Path) -> None:
    """Make the installer's own small system: busybox, the modules of the kernel in their order, and its script."""
    tree = folder / "initrd"
    for name in ("bin", "lib"):
        (tree / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", tree / "bin")
    release = next((root / "lib" / "modules").iterdir()).name
    lines: list[str] = []
    for module in MODULES:
        output = _run("modprobe", "-d", str(root), "-S", release, "--show-depends", module)
        lines += [line.split()[1] for line in output.splitlines() if line.startswith("insmod")]
    files = list(dict.fromkeys(lines))
    for file in files:
        shutil.copy(file, tree / "lib")
    (tree / "modules").write_text("\n".join(Path(file).name for file in files) + "\n")
    (tree / "init").write_text(INSTALLER)
    (tree / "init").chmod(0o755)
    names = subprocess.run(["find", "."], cwd=tree, capture_output=True, check=True).stdout
    packed = subprocess.run(
        ["cpio", "-o", "-H", "newc", "--quiet"], cwd=tree, input=names, capture_output=True, check=True
    )
    initrd.write_bytes(gzip.compress(packed.stdout, 1))


def _run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
