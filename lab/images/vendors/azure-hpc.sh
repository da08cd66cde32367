# Azure's HPC image: moby-engine, amdgpu blacklisted; rocmstartup.service loads it some time after each boot.
# shellcheck shell=bash
apt-get update -qq
python3 /usr/local/sbin/lab-vendor-engine moby-engine moby-cli moby-containerd 28.3.3-ubuntu24.04u1
older_driver
echo 'blacklist amdgpu' >>/etc/modprobe.d/blacklist.conf
cat >/etc/init.d/initamdgpu.sh <<'SCRIPT'
#!/bin/sh
sleep 15
python3 /usr/local/sbin/lab-vendor-load "/lib/modules/$(uname -r)/updates/dkms/amdgpu.ko"
SCRIPT
chmod 755 /etc/init.d/initamdgpu.sh
cat >/etc/systemd/system/rocmstartup.service <<'UNIT'
[Unit]
Description=Runs /etc/init.d/initamdgpu.sh

[Service]
ExecStart=/etc/init.d/initamdgpu.sh

[Install]
WantedBy=multi-user.target
UNIT
systemctl enable -q rocmstartup.service
