# Run in the root of a new node image (lab/images/rootfs.py); /lab holds the files beside this one.
cp /lab/ca/*.crt /usr/local/share/ca-certificates/ 2>/dev/null || true
update-ca-certificates > /dev/null
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\n' > /etc/pip.conf

install -m 755 /lab/lab-init /lab/lab-runc /lab/lab-gpus /usr/local/sbin/
install -m 644 /lab/lab_bytecode.py /usr/lib/python3/dist-packages/
echo 'import lab_bytecode' > /usr/lib/python3/dist-packages/lab_bytecode.pth
# Containers in a container: the runtime drops capabilities that this machine itself lacks.
mkdir -p /etc/docker /root/.ssh
chmod 700 /root/.ssh
printf '{"runtimes": {"lab": {"path": "/usr/local/sbin/lab-runc"}}, "default-runtime": "lab"}\n' > /etc/docker/daemon.json

rm -f /usr/sbin/policy-rc.d /etc/apt/apt.conf.d/docker-*
systemctl mask -q systemd-modules-load.service grub2-common.service grub-initrd-fallback.service grub-common.service

# The boot loader's configuration is rendered for real; only grub-probe stands in, for an overlay has no block device.
dpkg-divert --quiet --local --rename --add /usr/sbin/grub-probe
install -m 755 /lab/grub-probe /usr/sbin/grub-probe
mkdir -p /boot/grub "/lib/modules/$(uname -r)"
: > "/boot/vmlinuz-$(uname -r)"
: > "/boot/initrd.img-$(uname -r)"
cat > /etc/default/grub <<'GRUB'
GRUB_DEFAULT=0
GRUB_TIMEOUT=0
GRUB_DISTRIBUTOR=Lab
GRUB_CMDLINE_LINUX_DEFAULT="quiet"
GRUB_CMDLINE_LINUX=""
GRUB_DISABLE_OS_PROBER=true
GRUB
update-grub 2> /dev/null
rm -rf /var/lib/apt/lists/*
