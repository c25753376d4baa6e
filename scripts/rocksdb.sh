#!/usr/bin/env bash
# Builds the RocksDB static library once per machine and prints the folder that holds it.
#
# RocksDB is some 340 C++ files; compiling it takes minutes that no later build should pay again.
# The library is kept in the user's cache, keyed by crate version, features and compiler, and the
# workspace links it through ROCKSDB_LIB_DIR and ROCKSDB_STATIC (see the Makefile).
set -euo pipefail

sys_version="0.19.0"
features='"bindgen-runtime", "lz4"'
cxx="${CXX:-c++}"
key="librocksdb-sys-${sys_version}-lz4-$($cxx -dumpfullversion -dumpversion)-$(uname -m)"
cache="${QUORATE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/quorate}"
home="$cache/rocksdb/$key"

if [ -f "$home/librocksdb.a" ]; then
  echo "$home"
  exit 0
fi

mkdir -p "$cache/rocksdb"
exec 9>"$cache/rocksdb/.lock"
flock 9
if [ -f "$home/librocksdb.a" ]; then
  echo "$home"
  exit 0
fi

echo "building RocksDB once for this machine (20 to 40 CPU minutes), kept in $home" >&2
work="$cache/rocksdb/$key.build"
mkdir -p "$work/src"
cat >"$work/Cargo.toml" <<TOML
[package]
name = "rocksdb-once"
version = "0.0.0"
edition = "2024"
publish = false

[dependencies]
librocksdb-sys = { version = "=$sys_version", default-features = false, features = [$features] }

[workspace]
TOML
echo "" >"$work/src/lib.rs"
(
  cd "$work"
  unset ROCKSDB_LIB_DIR ROCKSDB_STATIC RUSTFLAGS CARGO_TARGET_DIR
  CXXFLAGS="-O2 -g0" CFLAGS="-O2 -g0" CARGO_PROFILE_RELEASE_DEBUG=0 \
    cargo build --release >&2
)
library=$(find "$work/target/release/build" -name librocksdb.a | head -n 1)
[ -n "$library" ] || { echo "RocksDB was built but librocksdb.a was not found under $work" >&2; exit 1; }
mkdir -p "$home.new"
cp "$library" "$home.new/librocksdb.a"
rm -rf "$home"
mv "$home.new" "$home"
rm -rf "$work"
echo "$home"
