# Functions for the vendors' scripts, which run after it. Input: LAB_KEY, the armoured key of the lab's package archive.
set -e
export DEBIAN_FRONTEND=noninteractive
kernel=/lib/modules/$(uname -r)

deb() { # NAME VERSION FIELDS POSTINST: build /tmp/NAME.deb, which runs POSTINST
  rm -rf "/tmp/deb/$1" && mkdir -p "/tmp/deb/$1/DEBIAN"
  printf 'Package: %s\nVersion: %s\nArchitecture: amd64\nMaintainer: Lab <lab@lab.internal>\nDescription: lab stand-in\n' "$1" "$2" >"/tmp/deb/$1/DEBIAN/control"
  [ -z "$3" ] || printf '%s\n' "$3" >>"/tmp/deb/$1/DEBIAN/control"
  printf '#!/bin/sh\nset -e\n%s\n' "$4" >"/tmp/deb/$1/DEBIAN/postinst" && chmod 755 "/tmp/deb/$1/DEBIAN/postinst"
  dpkg-deb --root-owner-group --build "/tmp/deb/$1" "/tmp/$1.deb" >/dev/null
}

older_driver() { # the stand-in driver of release 30.30.0, which no repository of the lab has
  deb amdgpu-dkms 1:6.16.6.30300000-2238411.24.04 "" "mkdir -p $kernel/updates/dkms
printf 'version=6.16.6\nsrcversion=0A1B2C3D4E5F60718293A4B\n' >$kernel/updates/dkms/amdgpu.ko"
  dpkg --install /tmp/amdgpu-dkms.deb >/dev/null
}

key_file() { # PATH: write the archive's key in binary form to the path in the vendor's sources
  mkdir -p "$(dirname "$1")" && printf '%s\n' "$LAB_KEY" | gpg --dearmor >"$1"
}
