#!/usr/bin/env bash
# Makes a Debian machine with Rust ready to build Quorate: compilers, then RocksDB, once.
#
#   scripts/setup.sh           installs what is missing
#   scripts/setup.sh --check   only says what is missing; exit code 1 if something is
#
# Idempotent, and quick when nothing is missing. Elsewhere than on Debian or its relatives it names
# what is missing and leaves the installing to you.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
. "$here/env.sh"

only_check=no
case "${1:-}" in
  "") ;;
  --check) only_check=yes ;;
  *) echo "usage: scripts/setup.sh [--check]" >&2; exit 2 ;;
esac

missing=()
need() { # package, why
  missing+=("$1")
  echo "missing: $1: $2" >&2
}

has_libclang() {
  compgen -G "/usr/lib/llvm-*/lib/libclang*.so*" >/dev/null ||
    compgen -G "/usr/lib*/libclang*.so*" >/dev/null ||
    compgen -G "/usr/lib/*-linux-gnu/libclang*.so*" >/dev/null ||
    [ -n "${LIBCLANG_PATH:-}" ]
}

if ! command -v c++ >/dev/null || ! command -v cc >/dev/null || ! command -v make >/dev/null; then
  need build-essential "compiles RocksDB and links the binary"
fi
command -v clang >/dev/null || need clang "finds the C headers for the RocksDB bindings"
has_libclang || need libclang-dev "reads RocksDB's C header to make its Rust bindings"

if [ "${#missing[@]}" -gt 0 ]; then
  if [ "$only_check" = yes ]; then
    echo "would run: apt-get install -y --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
  if ! command -v apt-get >/dev/null; then
    echo "there is no apt-get here: install the above with your package manager, then try again" >&2
    exit 1
  fi
  as_root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || { echo "run as root: apt-get install -y ${missing[*]}" >&2; exit 1; }
    as_root=(sudo)
  fi
  echo "installing ${missing[*]}" >&2
  "${as_root[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y --no-install-recommends "${missing[@]}"
fi

rust_needed="$(sed -n 's/^rust-version = "\(.*\)"$/\1/p' "$quorate_root/Cargo.toml")"
if ! command -v cargo >/dev/null; then
  echo "cargo is missing: install Rust $rust_needed or newer, see https://www.rust-lang.org/tools/install" >&2
  exit 1
fi
rust_found="$(cd "$quorate_root" && rustc --version | cut -d' ' -f2)"
if [ "$(printf '%s\n' "$rust_needed" "${rust_found%%-*}" | sort -V | head -n 1)" != "$rust_needed" ]; then
  echo "Rust $rust_found is too old, $rust_needed is needed: run \`rustup update stable\`" >&2
  exit 1
fi

if [ "$only_check" = yes ]; then
  echo "packages and Rust $rust_found are there; RocksDB is built on first use into $quorate_cache/rocksdb"
  exit 0
fi
"$here/rocksdb.sh" >/dev/null
