# Shared by the scripts beside it, which source this file: paths, messages, what is installed.
# shellcheck shell=bash
set -euo pipefail

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$HOME/.cache/weir/target}
# Node and npm from the npm registry, where the system's are missing or too old.
NODE_DIR=$HOME/.cache/weir/node
NODE_MIN=20.19

PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
if [[ -x $NODE_DIR/node_modules/.bin/node ]]; then
  PATH="$NODE_DIR/node_modules/.bin:$PATH"
fi
export PATH

say() { printf '%s\n' "$*" >&2; }

die() {
  say "error: $*"
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

is_root() { [[ $(id -u) -eq 0 ]]; }

# version_at_least HAVE WANT
version_at_least() { [[ $(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1) == "$2" ]]; }

have_node() {
  have node && have npm || return 1
  local version
  version=$(node --version 2>/dev/null) || return 1
  version_at_least "${version#v}" "$NODE_MIN"
}

# A compiler for the eBPF programs: as bpf/build.rs looks for one.
have_clang() {
  local command=${BPF_CLANG-}
  [[ -n $command ]] && have "${command%% *}" && return
  # Not `grep -q`: it would end before the list does, which counts as a failure of the pipe.
  compgen -c clang | grep -xE 'clang(-[0-9]+)?' >/dev/null
}

# Whether ui/dist is what the sources beside it build to. Without node only the listed files can
# be checked, which is enough for a clean checkout.
ui_is_current() {
  if have_node; then
    (cd "$ROOT/ui" && node scripts/hash.mjs --check >/dev/null 2>&1)
  else
    (cd "$ROOT/ui" && [[ -f dist.sha256 ]] && sha256sum --check --status dist.sha256 2>/dev/null)
  fi
}

# The newest rustc this workspace was not told to reject.
rust_min() { sed -n 's/^rust-version = "\(.*\)"/\1/p' "$ROOT/Cargo.toml"; }

have_cargo() {
  have cargo || return 1
  local version
  # With rustup this also installs the toolchain that rust-toolchain.toml names.
  version=$(cd "$ROOT" && cargo --version 2>/dev/null | awk '{ print $2 }') || return 1
  [[ -n $version ]] && version_at_least "$version" "$(rust_min)"
}

# elapsed SINCE: seconds, for the section headings.
elapsed() { printf '%d s' "$((SECONDS - $1))"; }
