#!/bin/sh
# Gives the new system in the folder $1 its user, our SSH keys, the pinned host key and the installation's mark. Run by an installer at its end.
# On the medium of a seed (seed.py), beside `values`, which is the machine's own. Uses only what the shell of a small system has.
set -eu
target=$1
# shellcheck source=/dev/null
. "$(dirname "$0")/values"
: "${user:?}" "${private:?}" "${public:?}" "${authorized:?}" "${name:?}" "${nonce:?}" "${mark:?}"

umask 077
mkdir -p "$target/etc/ssh"
rm -f "$target"/etc/ssh/ssh_host_*
printf '%s\n' "$private" >"$target/etc/ssh/ssh_host_ed25519_key"
printf '%s\n' "$public" >"$target/etc/ssh/ssh_host_ed25519_key.pub"
chmod 0644 "$target/etc/ssh/ssh_host_ed25519_key.pub"
if [ "$user" != root ]; then
  grep -q "^$user:" "$target/etc/passwd" || chroot "$target" useradd --create-home --shell /bin/bash "$user"
  mkdir -p "$target/etc/sudoers.d"
  printf '%s ALL=(ALL) NOPASSWD: ALL\n' "$user" >"$target/etc/sudoers.d/90-glm-fleet"
  chmod 0440 "$target/etc/sudoers.d/90-glm-fleet"
fi
home=$(grep "^$user:" "$target/etc/passwd" | cut -d: -f6)
owner=$(grep "^$user:" "$target/etc/passwd" | cut -d: -f3,4)
mkdir -p "$target$home/.ssh"
printf '%s\n' "$authorized" >"$target$home/.ssh/authorized_keys"
chown -R "$owner" "$target$home/.ssh"
printf '%s\n' "$name" >"$target/etc/hostname"
chmod 0644 "$target/etc/hostname"
# Last: a system with the mark was installed to the end.
printf '%s\n' "$nonce" >"$target$mark"
chmod 0644 "$target$mark"
sync
