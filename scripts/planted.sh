#!/usr/bin/env bash
# Plants every bug in turn and says how many seeds it takes to catch it.
#
#   scripts/planted.sh                    all bugs, three trials each
#   scripts/planted.sh --bug NAME         one; see `quorate-sim bugs`
#   scripts/planted.sh --trials N         more trials, a better median
#
# Bugs are hunted by simulated clusters, those that clusters hardly ever meet by the explorer of the
# Paxos core.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/env.sh"

"$here/cargo" --sim build --quiet --profile sim -p quorate-sim --bin quorate-sim
explorer="$("$here/cargo" --sim test --profile sim -p quorate-paxos --test explorer --no-run \
  --message-format json 2>/dev/null |
  sed -n 's/.*"name":"explorer".*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)"
[ -x "$explorer" ] || { echo "the explorer was not built: scripts/cargo --sim test --profile sim -p quorate-paxos --test explorer" >&2; exit 1; }
exec "$quorate_sim_target/sim/quorate-sim" planted --explorer "$explorer" "$@"
