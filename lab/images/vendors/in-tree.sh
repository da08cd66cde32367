# A machine on which the distribution's own amdgpu runs.
mkdir -p "$kernel/kernel/drivers/gpu/drm/amd/amdgpu"
printf 'srcversion=1111111111111111111111A\n' >"$kernel/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko"
cat >/etc/systemd/system/lab-in-tree.service <<'UNIT'
[Unit]
ConditionPathExists=!/lib/modules/%v/updates/dkms/amdgpu.ko

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /usr/local/sbin/lab-vendor-load /lib/modules/%v/kernel/drivers/gpu/drm/amd/amdgpu/amdgpu.ko

[Install]
WantedBy=multi-user.target
UNIT
systemctl enable -q lab-in-tree.service
