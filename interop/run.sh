#!/usr/bin/env bash
# Runs smoke.py with its libraries against the binary given: interop/run.sh path/to/quorate
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

binary="${1:?usage: interop/run.sh path/to/quorate}"
shift
python="$("$here/python.sh")"
exec "$python" "$here/smoke.py" --quorate "$binary" "$@"
