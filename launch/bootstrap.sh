#!/usr/bin/env bash
# What every machine of a pod does, on a TPU VM as in a container of GKE: install twjax once, and run
# a command of it. launch/tpu_vm.py copies this file to the workers; launch/gke.py puts it into the
# manifest.
#
#   bootstrap.sh prepare KEY REQUIREMENT SETUP [NAME ATTEMPT]   installs, unless that attempt runs;
#                                                runs SETUP once a boot
#   bootstrap.sh start NAME ATTEMPT [K=V …] -- COMMAND …   in the background; the second time nothing
#   bootstrap.sh follow NAME ATTEMPT SLICE SEEN   its log to the end, each line as
#                                                [SLICE.WORKER+FROM] N:… for the one at FROM + N
#   bootstrap.sh stop NAME [KILL]                asks it to save and end
#   bootstrap.sh state NAME SLICE                one line
#   bootstrap.sh run KEY REQUIREMENT SETUP [K=V …] -- COMMAND …   in the foreground
set -euo pipefail

self=$(realpath "$0")
home=${TWJAX_HOME:-$HOME/twjax-launch}
mkdir -p "$home"

# Without what a URL has before its host: a name and password, or a token.
say() { echo "bootstrap: $*" | sed -E 's#(://)[^/@ ]+@#\1***@#g' >&2; }

boot() { cat /proc/sys/kernel/random/boot_id 2>/dev/null || echo unknown; }

# Whether a job's process is alive. After a reboot its number may be another's.
alive() {
  [ -f "$1/pid" ] && [ "$(cat "$1/boot" 2>/dev/null)" = "$(boot)" ] &&
    kill -0 "$(cat "$1/pid")" 2>/dev/null
}

# The worker's number within its slice: GKE says it in the environment, a TPU VM's metadata otherwise.
worker() {
  if [ -n "${TPU_WORKER_ID:-}" ]; then
    echo "$TPU_WORKER_ID"
    return
  fi
  local at=http://${GCE_METADATA_IP:-metadata.google.internal}/computeMetadata/v1
  curl -sf --max-time 10 -H 'Metadata-Flavor: Google' \
    "$at/instance/attributes/agent-worker-number" || echo 0
}

usable_python() {
  local python
  for python in python3.13 python3.12 python3.11 python3; do
    if "$python" -c 'import sys, venv, ensurepip
sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; then
      echo "$python"
      return
    fi
  done
}

install_into() {
  local folder=$1 requirement=$2 python
  python=$(usable_python)
  if [ -n "$python" ]; then
    "$python" -m venv "$folder"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check "$requirement"
  else
    # TPU VM images have Python 3.10; uv brings a newer one.
    python3 -m pip install --quiet --upgrade --target "$home/uv" uv
    "$home/uv/bin/uv" venv --quiet --python 3.12 "$folder"
    "$home/uv/bin/uv" pip install --quiet --python "$folder/bin/python" "$requirement"
  fi
}

prepare() {
  local key=$1 requirement=$2 setup=$3 job=$home/jobs/${4:-} attempt=${5:-} this pause
  # gcloud repeats a command whose connection broke; the first one may still be at work.
  exec 8>"$home/prepare.lock"
  flock 8
  this=$(boot)
  if [ -n "$setup" ] && [ "$(cat "$home/setup" 2>/dev/null)" != "$this $setup" ]; then
    say "runs the set-up command"
    bash -c "$setup" 8>&-
    echo "$this $setup" >"$home/setup"
  fi
  # An image may have twjax already.
  [ -n "$requirement" ] || return 0
  if [ "$(cat "$home/installed" 2>/dev/null)" = "$key" ] && [ -x "$home/env/bin/twjax" ]; then
    return
  fi
  if [ -n "$attempt" ] && [ "$(cat "$job/attempt" 2>/dev/null)" = "$attempt" ] && alive "$job"; then
    say "$4: attempt $attempt runs; what is installed stays as it is"
    return
  fi
  say "installs $requirement"
  for pause in 5 20 0; do
    rm -rf "$home/env" "$home/installed"
    if install_into "$home/env" "$requirement" 8>&-; then
      echo "$key" >"$home/installed"
      return
    fi
    [ "$pause" = 0 ] || { say "didn't work; again in $pause s" && sleep "$pause"; }
  done
  say "could not install $requirement"
  return 1
}

# Takes leading K=V words into the environment; the command is what follows --.
take_environment() {
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    export "${1?}"
    shift
  done
  shift
  command=("$([ -x "$home/env/bin/twjax" ] && echo "$home/env/bin/twjax" || echo twjax)" "$@")
}

start() {
  local name=$1 attempt=$2 job=$home/jobs/$1
  shift 2
  mkdir -p "$job"
  exec 9>"$job/lock"
  flock 9
  if [ "$(cat "$job/attempt" 2>/dev/null)" = "$attempt" ]; then
    say "$name: attempt $attempt was started before"
    return
  fi
  if alive "$job"; then
    kill -KILL -- "-$(cat "$job/pid")" 2>/dev/null || true
  fi
  rm -f "$job/ended" "$job/asked" "$job/pid"
  take_environment "$@"
  setsid nohup bash "$self" supervise "$name" "${command[@]}" \
    >"$job/log" 2>&1 </dev/null 9>&- &
  boot >"$job/boot"
  echo $! >"$job/pid"
  echo "$attempt" >"$job/attempt"
}

# The background process: passes SIGTERM on (a machine that goes away, or `stop`) and writes down
# whether that was why the command ended.
supervise() {
  local job=$home/jobs/$1 child code=0 last=0
  shift
  "$@" &
  child=$!
  trap '[ -f "$job/asked" ] || echo "the machine" >"$job/asked"
    kill -TERM "$child" 2>/dev/null || true' TERM INT HUP
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  # A signal ends `wait` early; the child's own code is still there then.
  wait "$child" 2>/dev/null || last=$?
  [ "$last" = 127 ] || [ "$code" -lt 128 ] || code=$last
  echo "$code $(cat "$job/asked" 2>/dev/null || true)" >"$job/ended.new"
  mv "$job/ended.new" "$job/ended"
}

# A command that has saved because its machine goes away ends with 0, which Kubernetes would take for
# the end of the run.
foreground() {
  local child code=0 last=0 asked=
  "$@" &
  child=$!
  trap 'asked=1; kill -TERM "$child" 2>/dev/null || true' TERM INT
  wait "$child" || code=$?
  while kill -0 "$child" 2>/dev/null; do
    code=0
    wait "$child" || code=$?
  done
  wait "$child" 2>/dev/null || last=$?
  [ "$last" = 127 ] || [ "$code" -lt 128 ] || code=$last
  if [ -n "$asked" ] && [ "$code" = 0 ]; then code=75; fi
  return "$code"
}

describe_end() {
  local job=$1 code who
  if [ ! -f "$job/ended" ]; then
    echo "lost: it left no exit code"
    return
  fi
  read -r code who <"$job/ended" || true
  echo "ended: exit code $code${who:+ after it was asked to stop by $who}"
}

follow() {
  local name=$1 attempt=$2 slice=$3 seen=$4 job=$home/jobs/$1 number from=0 pair on=()
  number=$(worker)
  for pair in $seen; do
    if [ "${pair%%=*}" = "$number" ]; then from=${pair#*=}; fi
  done
  if [ "$(cat "$job/attempt" 2>/dev/null)" != "$attempt" ]; then
    echo "[$slice.$number]! lost: attempt $attempt was not started here"
    return
  fi
  if alive "$job"; then on=(-s 0.5 -f --pid="$(cat "$job/pid")"); fi
  # gcloud repeats a command whose connection broke, with the same SEEN: only the numbers tell which
  # lines are new. grep also ends a last line that has no end.
  tail -n "+$((from + 1))" ${on[@]+"${on[@]}"} "$job/log" |
    { grep -an --line-buffered '' || true; } | sed -u "s/^/[$slice.$number+$from] /"
  # The ! tells this line from what the program prints.
  echo "[$slice.$number]! $(describe_end "$job")"
}

stop() {
  local job=$home/jobs/$1 signal=${2:+KILL}
  alive "$job" || return 0
  if [ -n "$signal" ]; then
    kill -KILL -- "-$(cat "$job/pid")" 2>/dev/null || true
  else
    echo "the user" >"$job/asked"
    kill -TERM "$(cat "$job/pid")" 2>/dev/null || true
  fi
}

state() {
  local name=$1 job=$home/jobs/$1 number what
  number=$(worker)
  if [ ! -f "$job/attempt" ]; then
    what="nothing was started"
  elif alive "$job"; then
    what="attempt $(cat "$job/attempt") runs: $(tail -n 1 "$job/log" | cut -c 1-200)"
  else
    what="attempt $(cat "$job/attempt") $(describe_end "$job")"
  fi
  echo "[$2.$number] $what"
}

case ${1:-} in
  prepare | start | supervise | follow | stop | state) "$@" ;;
  run)
    prepare "$2" "$3" "$4"
    shift 4
    take_environment "$@"
    foreground "${command[@]}"
    ;;
  *)
    sed -n 's/^# \{0,1\}//p' "$self" >&2
    exit 2
    ;;
esac
