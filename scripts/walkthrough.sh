#!/usr/bin/env bash
# Types the walk-through of docs/OPERATIONS.md into three machines and checks how each command ends:
# scripts/walkthrough.sh path/to/quorate
#
# A machine is a network namespace with an address of its own, db1 is 10.77.0.1 and so on, and a folder
# as its home. The three are joined by a bridge in a fourth namespace, so nothing of this machine's own
# network changes. `scp` copies between the homes. A block of the document that begins with
# "```sh on=MACHINE exit=N" must end with N, or 0 if nothing is said.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
binary="$(realpath "${1:?usage: scripts/walkthrough.sh path/to/quorate}")"
document="$here/docs/OPERATIONS.md"
machines=(db1 db2 db3)

if [ "$(id -u)" != 0 ] || ! command -v ip >/dev/null || ! ip netns list >/dev/null 2>&1; then
  echo "skipped: network namespaces need root and iproute2 (apt-get install iproute2)"
  exit 0
fi

work="$(mktemp -d)"
space="quorate-$$"

# The nodes that still run: those whose folder is the home of a machine. Then the machines.
tidy() {
  local machine pid
  for machine in "${machines[@]}"; do
    pid="$(cat "$work/$machine/server.pid" 2>/dev/null)" || continue
    [ "$(readlink "/proc/$pid/cwd" 2>/dev/null)" = "$work/$machine" ] && kill -9 "$pid" || true
  done
  for machine in "${machines[@]}" net; do
    ip netns delete "$space-$machine" 2>/dev/null || true
  done
  rm -rf "$work"
}
trap tidy EXIT

mkdir "$work/bin" "$work/blocks"
ln -s "$binary" "$work/bin/quorate"
cat >"$work/bin/scp" <<SCP
#!/usr/bin/env bash
target="\${!#}"
machine="\${target%%:*}"
exec cp "\${@:1:\$#-1}" "$work/db\${machine##*.}/\${target#*:}"
SCP
chmod +x "$work/bin/scp"

ip netns add "$space-net"
ip -n "$space-net" link add bridge0 type bridge
ip -n "$space-net" link set bridge0 up
for machine in "${machines[@]}"; do
  mkdir "$work/$machine"
  touch "$work/$machine/.session"
  ip netns add "$space-$machine"
  ip -n "$space-net" link add "to-$machine" type veth peer name eth0 netns "$space-$machine"
  ip -n "$space-net" link set "to-$machine" master bridge0 up
  ip -n "$space-$machine" address add "10.77.0.${machine#db}/24" dev eth0
  ip -n "$space-$machine" link set lo up
  ip -n "$space-$machine" link set eth0 up
done

# One file for each block, in order: 01.db1.0 has the commands, the machine and the exit code.
awk -v folder="$work/blocks" '
  /^```sh on=/ {
    machine = $2; sub("on=", "", machine)
    code = 0
    if ($3 ~ /^exit=/) { code = $3; sub("exit=", "", code) }
    file = sprintf("%s/%02d.%s.%s", folder, ++count, machine, code)
    next
  }
  /^```/ { file = "" }
  file != "" { print > file }
' "$document"

for block in "$work"/blocks/*; do
  IFS=. read -r _ machine expected <<<"$(basename "$block")"
  home="$work/$machine"
  sed "s/^/$machine\$ /" "$block"
  code=0
  ip netns exec "$space-$machine" env -i HOME="$home" PATH="$work/bin:$PATH" \
    bash -eu -o pipefail -c 'cd; . ./.session; . "$1"' block "$block" || code=$?
  if [ "$code" != "$expected" ]; then
    echo "the last command of this block ended with $code, not $expected; logs of the nodes:" >&2
    tail -n 20 "$work"/db*/server.log >&2 || true
    exit 1
  fi
  # As in a shell that stays open.
  grep '^export ' "$block" >>"$home/.session" || true
done
echo "all $(find "$work/blocks" -type f | wc -l) steps of the walk-through ended as the document says"
