#!/usr/bin/env bash
# Provide a Docker daemon that answers. Usage: bootstrap/docker.sh [start|stop|stop-idle].
# start (default): use the running one. Else start Debian's docker.io (installed when missing; root only), by systemd or, without it, directly.
# stop: stop a daemon that this script started, and no other. stop-idle: the same, when no container runs. Called by the Makefile.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

WAIT=60 # seconds until a started daemon must answer
ours=$CACHE/docker.started # "systemd", or the process id and its start time
log=$CACHE/dockerd.log

answers() { docker info --format '{{.ServerVersion}}' 2>/dev/null; }
born() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; } # the system may reuse a process id, but not with the same start time
by_systemd() { [ -d /run/systemd/system ]; }

directly() {
  if ! grep -q ' - cgroup2\? ' /proc/self/mountinfo; then
    no "no control groups are mounted here, so a Docker daemon cannot run" "/sys/fs/cgroup" "run as root of the system, not in an unprivileged container"
  fi
  # In its own session, without this script's lock: it runs on after this script.
  PATH=$PATH:/usr/sbin:/sbin setsid dockerd </dev/null >"$log" 2>&1 {LOCK}>&- &
  echo "$! $(born $!)" >"$ours"
}

start() {
  local version deadline
  if version=$(answers) && [ -n "$version" ]; then
    say "ready: Docker $version"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || no "the Docker daemon at DOCKER_HOST=$DOCKER_HOST does not answer" "docker info" "start that daemon, or unset DOCKER_HOST"
  [ "$(id -u)" = 0 ] || no "no Docker daemon answers, and only root may start one" "docker info, as $(id -un)" "start Docker and join its group, or run this as root"
  only_one docker
  answers >/dev/null && return
  if ! command -v dockerd >/dev/null && [ ! -x /usr/sbin/dockerd ]; then
    packages docker.io || no "no Docker, and the system's archive does not have docker.io" "dockerd" "install Docker 20.10 or newer"
  fi
  command -v docker >/dev/null || packages docker-cli || no "the Docker daemon is installed, its client is not" "docker" "install docker-cli"
  answers >/dev/null && { took "installed; its package started it"; return; }
  if by_systemd; then
    systemctl start docker.service || no "systemd could not start docker.service" "a running Docker daemon" "journalctl --unit docker.service"
    echo systemd >"$ours"
  else
    directly
  fi
  deadline=$((SECONDS + WAIT))
  until version=$(answers) && [ -n "$version" ]; do
    alive || failed "the Docker daemon ended at its start"
    [ "$SECONDS" -lt "$deadline" ] || failed "the Docker daemon did not answer within $WAIT s of its start"
    sleep 0.5
  done
  took "started Docker $version$(by_systemd || echo " without systemd, log $log")"
}

alive() {
  local pid start
  by_systemd && return
  read -r pid start <"$ours" && [ "$(born "$pid")" = "$start" ]
}

failed() {
  local next='journalctl --unit docker.service'
  by_systemd || { next="read $log"; tail -n 8 "$log" >&2; }
  no "$1" "docker info" "$next"
}

stop() {
  local pid start
  [ -f "$ours" ] || { say "this script did not start the Docker daemon: it stays"; return; }
  if [ "$1" = stop-idle ] && [ -n "$(docker ps --quiet 2>/dev/null)" ]; then
    say "containers run: the Docker daemon stays"
    return
  fi
  if [ "$(cat "$ours")" = systemd ]; then
    systemctl stop docker.service docker.socket
  else
    read -r pid start <"$ours"
    if [ -n "$start" ] && [ "$(born "$pid")" = "$start" ]; then
      kill "$pid"
      timeout 60 tail --pid="$pid" --sleep-interval=0.2 -f /dev/null || no "dockerd ($pid) does not end" "an end within 60 s" "read $log"
    fi
  fi
  rm -f "$ours"
  took "stopped the Docker daemon that this script started"
}

case ${1:-start} in
  start) start ;;
  stop | stop-idle) stop "$1" ;;
  *) no "unknown: $1" "start, stop or stop-idle" ;;
esac
