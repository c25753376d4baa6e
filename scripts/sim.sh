#!/usr/bin/env bash
# Runs seeds of the simulation, one process each, and says how to replay those that fail.
#
#   scripts/sim.sh 1..100             seeds 1 to 100
#   scripts/sim.sh 4711               one seed, its log on the terminal
#   SCENARIO=name scripts/sim.sh ...  the scenario to run; left out: the binary's default
#   JOBS=N                            how many at once; left out: one for each core
#   SEED_TIMEOUT=S                    seconds until a seed counts as failed; left out: 180
#
# Every twentieth seed runs twice, in two processes, and must print the same, trace hash included.
#
# A seed is a process without address randomisation, because pointer values would otherwise reach
# hash orders and a failure could not be replayed.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/env.sh"

seeds="${1:-1..100}"
scenario="${SCENARIO:-}"
jobs="${JOBS:-$(nproc)}"
case "$seeds" in
  *..*) first="${seeds%%..*}" last="${seeds##*..}" ;;
  *) first="$seeds" last="$seeds" ;;
esac
[[ "$first" =~ ^[0-9]+$ && "$last" =~ ^[0-9]+$ && "$first" -le "$last" ]] ||
  { echo "seeds are A..B or one number, not \"$seeds\"" >&2; exit 2; }

"$here/cargo" --sim build --profile sim -p quorate-sim --bin quorate-sim
binary="$quorate_sim_target/sim/quorate-sim"

fixed=(setarch -R)
if ! setarch -R true 2>/dev/null; then
  echo "warning: this system does not allow setarch -R: a replay may take another course" >&2
  fixed=()
fi
command=("${fixed[@]}" "$binary" run)
[ -z "$scenario" ] || command+=(--scenario "$scenario")

if [ "$first" = "$last" ]; then
  exec env MADSIM_TEST_SEED="$first" "${command[@]}" --seed "$first"
fi

logs="$(mktemp -d "${TMPDIR:-/tmp}/quorate-sim.XXXXXX")"
run_seed() {
  seed="$1"; shift
  code=0
  [ $((seed % 20)) != 0 ] || set -- "$@" --check-determinism
  MADSIM_TEST_SEED="$seed" timeout "${SEED_TIMEOUT:-180}" "$@" --seed "$seed" >"$logs/$seed.log" 2>&1 || code=$?
  if [ "$code" = 0 ]; then
    rm -f "$logs/$seed.log"
  else
    echo "$code" >"$logs/$seed.code"
  fi
}
export -f run_seed
export logs
began="$(date +%s)"
seq "$first" "$last" | xargs -P "$jobs" -I{} bash -c 'run_seed "$@"' _ {} "${command[@]}"

failed=0
for seed in $(cd "$logs" && ls | sed -n 's/\.code$//p' | sort -n); do
  failed=$((failed + 1))
  echo "seed $seed failed with exit code $(cat "$logs/$seed.code"); the end of $logs/$seed.log:"
  tail -n 40 "$logs/$seed.log" | sed 's/^/  /'
  echo "replay: ${scenario:+SCENARIO=$scenario }scripts/sim.sh $seed"
done
total=$((last - first + 1))
echo "seeds $first to $last in $(($(date +%s) - began)) s"
echo "sim: $((total - failed)) passed, $failed failed"
if [ "$failed" = 0 ]; then
  rm -rf "$logs"
  exit 0
fi
exit 1
