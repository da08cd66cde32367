#!/usr/bin/env bash
# A Docker Engine that answers. Usage: bootstrap/docker.sh [start|stop|stop-idle].
# start (default): the running one, else Debian's docker.io (installed when missing; root only), started by systemd or, without it, by hand.
# stop: ends only an engine that this script started; stop-idle does so only when no container runs. Called by the Makefile.
set -euo pipefail
# shellcheck source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

WAIT=60 # seconds until a started engine must answer
ours=$CACHE/docker.started # "systemd", or the process id and when it was started
log=$CACHE/dockerd.log

answers() { docker info --format '{{.ServerVersion}}' 2>/dev/null; }
born() { awk '{print $22}' "/proc/$1/stat" 2>/dev/null; } # a process id may be used again, but not with the same start time
by_systemd() { [ -d /run/systemd/system ]; }

by_hand() {
  if ! grep -q ' - cgroup2\? ' /proc/self/mountinfo; then
    no "no control groups are mounted here, an engine cannot run" "/sys/fs/cgroup" "run as the system's root, not in a container without privileges"
  fi
  # In a session of its own, without our lock: it outlives this script.
  PATH=$PATH:/usr/sbin:/sbin setsid dockerd </dev/null >"$log" 2>&1 {LOCK}>&- &
  echo "$! $(born $!)" >"$ours"
}

start() {
  local version deadline
  if version=$(answers) && [ -n "$version" ]; then
    say "ready: engine $version"
    return
  fi
  [ -z "${DOCKER_HOST:-}" ] || no "the engine at DOCKER_HOST=$DOCKER_HOST does not answer" "docker info" "start that engine, or unset DOCKER_HOST"
  [ "$(id -u)" = 0 ] || no "no Docker Engine answers, and only root may start one" "docker info, as $(id -un)" "start Docker, be in its group; or run this as root"
  only_one docker
  answers >/dev/null && return
  if ! command -v dockerd >/dev/null && [ ! -x /usr/sbin/dockerd ]; then
    packages docker.io || no "no Docker Engine, and the system's archive does not give docker.io" "dockerd" "install Docker Engine 20.10 or newer"
  fi
  command -v docker >/dev/null || packages docker-cli || no "the engine is here, its client is not" "docker" "install docker-cli"
  answers >/dev/null && { took "installed and started with its package"; return; }
  if by_systemd; then
    systemctl start docker.service || no "systemd could not start docker.service" "an engine that runs" "journalctl --unit docker.service"
    echo systemd >"$ours"
  else
    by_hand
  fi
  deadline=$((SECONDS + WAIT))
  until version=$(answers) && [ -n "$version" ]; do
    alive || failed "the engine ended at its start"
    [ "$SECONDS" -lt "$deadline" ] || failed "the engine did not answer within $WAIT s of its start"
    sleep 0.5
  done
  took "started engine $version$(by_systemd || echo " by hand, log $log")"
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
  [ -f "$ours" ] || { say "the engine was not started from here: it stays"; return; }
  if [ "$1" = stop-idle ] && [ -n "$(docker ps --quiet 2>/dev/null)" ]; then
    say "containers run: the engine stays"
    return
  fi
  if [ "$(cat "$ours")" = systemd ]; then
    systemctl stop docker.service docker.socket
  else
    read -r pid start <"$ours"
    if [ -n "$start" ] && [ "$(born "$pid")" = "$start" ]; then
      kill "$pid"
      timeout 60 tail --pid="$pid" --sleep-interval=0.2 -f /dev/null || no "dockerd ($pid) does not end" "its process gone within 60 s" "read $log"
    fi
  fi
  rm -f "$ours"
  took "stopped the engine that was started from here"
}

case ${1:-start} in
  start) start ;;
  stop | stop-idle) stop "$1" ;;
  *) no "unknown: $1" "start, stop or stop-idle" ;;
esac
