#!/usr/bin/env bash
# Shows that paxos-core needs no std: links the probe with a C main and runs it; then adds `extern crate std` to a
# copy of the core and shows that the probe can no longer be built.
set -euo pipefail
cd "$(dirname "$0")"
target=${CARGO_TARGET_DIR:-$PWD/../target/probe}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

CARGO_TARGET_DIR=$target cargo build --release --quiet
cc main.c "$target/release/libprobe.a" -o "$scratch/probe"
"$scratch/probe"
echo "probe: a replica without std chose a command"

mkdir "$scratch/copy"
cp -r ../paxos-core "$scratch/copy/paxos-core"
cp -r ../probe "$scratch/copy/probe"
sed 's/^members = .*/members = ["paxos-core"]/' ../Cargo.toml > "$scratch/copy/Cargo.toml"
sed -i 's/^extern crate alloc;/extern crate alloc;\nextern crate std as named_by_mistake;/' "$scratch/copy/paxos-core/src/lib.rs"
grep -q named_by_mistake "$scratch/copy/paxos-core/src/lib.rs"
if CARGO_TARGET_DIR=$target/with-std cargo build --release --quiet --manifest-path "$scratch/copy/probe/Cargo.toml" 2> "$scratch/error"; then
    echo "probe: built although the core names std" >&2
    exit 1
fi
grep -q 'panic_impl' "$scratch/error" || { cat "$scratch/error" >&2; exit 1; }
echo "probe: with std in the core it fails, as it must: $(grep -m1 -o 'found duplicate lang item.*' "$scratch/error")"
