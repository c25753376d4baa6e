# Where builds go and which RocksDB they link. Sourced by the other scripts; knows nothing else.
#
# Build output lives in the user's cache, so that a fresh checkout does not compile the world again.
# QUORATE_CACHE moves all of it; CARGO_TARGET_DIR moves build output alone.

quorate_root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
quorate_cache="${QUORATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quorate}"

# The simulation has its own folder beside the other: it is another build of everything, and the two
# would throw each other's output away.
quorate_target="${CARGO_TARGET_DIR:-$quorate_cache/target}"
quorate_sim_target="${QUORATE_SIM_TARGET_DIR:-$quorate_target/sim}"
