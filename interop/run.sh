#!/usr/bin/env bash
# Runs smoke.py with its libraries against the binary given: interop/run.sh path/to/quorate
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../scripts/env.sh"

binary="${1:?usage: interop/run.sh path/to/quorate}"
shift
command -v python3 >/dev/null || { echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 1; }

# One environment for each set of pins and Python version.
key="$({ python3 --version; cat "$here/requirements.txt"; } | sha256sum | cut -c1-12)"
venv="$quorate_cache/interop/$key"
if [ ! -f "$venv/ready" ]; then
  rm -rf "$venv"
  mkdir -p "$quorate_cache/interop"
  if ! python3 -c 'import ensurepip' 2>/dev/null; then
    echo "installing python3-venv: it makes the environment for Python's gRPC library" >&2
    as_root=()
    [ "$(id -u)" = 0 ] || as_root=(sudo)
    "${as_root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y --no-install-recommends python3-venv
  fi
  echo "installing Python's gRPC library into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
  touch "$venv/ready"
fi
exec "$venv/bin/python" "$here/smoke.py" --quorate "$binary" "$@"
