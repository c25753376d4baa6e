#!/usr/bin/env bash
# Types the commands of docs/FIRST_HALF_HOUR.md into one shell, as printed, and stops at the first that does not
# end as the page says: scripts/newcomer.sh path/to/quorate
#
# The block "```sh build" is left out: the binary given is on the path instead. "```sh exit=N" must end with N.
set -euo pipefail
root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
binary="$(realpath "${1:?usage: scripts/newcomer.sh path/to/quorate}")"
document="$root/docs/FIRST_HALF_HOUR.md"
cd "$root"

if [ -e first ]; then
  echo "the folder $root/first is in the way; the page begins with making it" >&2
  exit 1
fi
for port in 6440 6441 6480 6450 6451 6490 6460 6461 6500; do
  if (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then
    echo "port $port is taken: the page uses the usual ones" >&2
    exit 1
  fi
done

work="$(mktemp -d)"
done_with=no

# Nodes that still run are those whose folder is the page's.
tidy() {
  local file pid
  for file in "$root"/first/*.pid; do
    pid="$(cat "$file" 2>/dev/null)" || continue
    [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$root/first" ] && kill -9 "$pid" || true
  done
  if [ "$done_with" = no ]; then
    echo "the page does not work as printed; the logs of the nodes:" >&2
    tail -n 5 "$root"/first/*.log >&2 2>/dev/null || true
  fi
  rm -rf "$work" "$root/first"
}
trap tidy EXIT

mkdir "$work/bin" "$work/blocks"
ln -s "$binary" "$work/bin/quorate"
PATH="$work/bin:$PATH"
unset QUORATE_ENDPOINTS QUORATE_TLS_DIR

awk -v folder="$work/blocks" '
  /^```sh build/ { next }
  /^```sh/ {
    code = 0
    if ($2 ~ /^exit=/) { code = $2; sub("exit=", "", code) }
    file = sprintf("%s/%02d.%s", folder, ++count, code)
    next
  }
  /^```/ { file = "" }
  file != "" { print > file }
' "$document"

for block in "$work"/blocks/*; do
  expected="${block##*.}"
  sed 's/^/$ /' "$block"
  if [ "$expected" = 0 ]; then
    # In this shell: folder, variables and background processes are those of the next block.
    . "$block"
  else
    code=0
    (. "$block") || code=$?
    if [ "$code" != "$expected" ]; then
      echo "ended with $code, not $expected" >&2
      exit 1
    fi
  fi
done
done_with=yes
printf '\nevery command of docs/FIRST_HALF_HOUR.md works as printed\n'
