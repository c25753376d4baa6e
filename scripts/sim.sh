#!/usr/bin/env bash
# Builds quorate-sim and runs it.
#
#   scripts/sim.sh 1..100             seeds 1 to 100, one process each
#   scripts/sim.sh 4711               one seed, its log on the terminal
#   SCENARIO=name scripts/sim.sh ...  the scenario to run; left out: each seed has its own
#   scripts/sim.sh WORD ...           anything else goes to quorate-sim as it is: run --fresh 200,
#                                     regressions, bugs, replay 4711 --verbose
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/env.sh"

"$here/cargo" --sim build --quiet --profile sim -p quorate-sim --bin quorate-sim
binary="$quorate_sim_target/sim/quorate-sim"

case "${1:-1..100}" in
  *..*) exec "$binary" run --seeds "${1:-1..100}" --scenario "${SCENARIO:-all}" ;;
  *[!0-9]*) exec "$binary" "$@" ;;
  *)
    if ! setarch -R true 2>/dev/null; then
      echo "warning: this system does not allow setarch -R: a replay may take another course" >&2
      exec env MADSIM_TEST_SEED="$1" "$binary" replay "$1" ${SCENARIO:+--scenario "$SCENARIO"}
    fi
    MADSIM_TEST_SEED="$1" exec setarch -R "$binary" replay "$1" ${SCENARIO:+--scenario "$SCENARIO"} ;;
esac
