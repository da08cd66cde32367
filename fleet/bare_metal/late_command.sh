#!/bin/sh
# Run by an installer at its end: makes the system in the folder $1 one that we can log in to, and that shows the pinned host key.
# Lies on the medium of a seed (seed.py), beside `values`, which says for which machine. Needs no more than a small system's shell has.
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
# The last thing: what has it was installed to its end.
printf '%s\n' "$nonce" >"$target$mark"
chmod 0644 "$target$mark"
sync
