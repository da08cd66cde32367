# A machine whose firmware checks signatures, and that has no enrolled key of DKMS.
cat >/etc/systemd/system/lab-secure-boot.service <<'UNIT'
[Service]
Type=oneshot
ExecStart=/bin/sh -c 'mount -t tmpfs tmpfs /sys/firmware && mkdir -p /sys/firmware/efi/efivars && printf "\\006\\000\\000\\000\\001" >/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c'

[Install]
WantedBy=multi-user.target
UNIT
systemctl enable -q lab-secure-boot.service
printf '#!/bin/sh\n[ "$1" != --test-key ] || echo "$2 is not enrolled"\n' >/usr/bin/mokutil && chmod 755 /usr/bin/mokutil
mkdir -p /var/lib/shim-signed/mok && : >/var/lib/shim-signed/mok/MOK.der
