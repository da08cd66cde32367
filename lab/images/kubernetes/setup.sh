# Runs after node/setup.sh, in the same root.
mkdir -p /etc/containerd/certs.d /etc/cni/net.d /etc/kubernetes /etc/systemd/system/containerd.service.d /opt/kubernetes /var/lib/kubelet
install -m 644 /lab/containerd.toml /etc/containerd/config.toml
install -m 644 /lab/containerd.conf /etc/systemd/system/containerd.service.d/lab.conf
install -m 644 /lab/lab-kernel.service /etc/systemd/system/
install -m 755 /lab/lab-kernel /usr/local/sbin/
systemctl enable -q containerd.service lab-kernel.service

# The node boots with a driver: what lab-init takes for one, as the stand-in of AMD's package has it (site/packages.py). A stack file names
# the number of the group of its device files.
mkdir -p "/lib/modules/$(uname -r)/updates/dkms"
printf 'version=6.16.13\nsrcversion=0A1B2C3D4E5F60718293A4B\n' > "/lib/modules/$(uname -r)/updates/dkms/amdgpu.ko"
getent group render > /dev/null || groupadd --system render
groupmod --gid "$RENDER_GROUP" render
