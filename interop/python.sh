#!/usr/bin/env bash
# Prints the path of a Python that has gRPC: from an environment in the user's cache, made if it is not there.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/../scripts/env.sh"

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
    "${as_root[@]}" apt-get update -qq >&2
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y --no-install-recommends python3-venv >&2
  fi
  echo "installing Python's gRPC library into $venv" >&2
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement "$here/requirements.txt" >&2
  touch "$venv/ready"
fi
echo "$venv/bin/python"
