#!/usr/bin/env bash
# cross.sh RESULTS ARCH...: runs on every ARCH, under qemu, what the release build computed here, and compares digests. Appends to the
# file RESULTS one line a check: "passed NAME", "failed NAME" or "skipped NAME: reason". Models come from VERBATIM_MINILM and
# VERBATIM_STORIES. Exit code 0 also after failures: the results say.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$1
shift
work=$(mktemp -d build/cross.XXXXXX)
trap 'rm -rf "$work"' EXIT

passed() { echo "passed $1" | tee -a "$results"; }
failed() { echo "failed $1" | tee -a "$results"; sed 's/^/    /' "$2" | tail -20; }
skipped() { echo "skipped $1: $2" | tee -a "$results"; }

# digest FIELD < JSON: one field of a JSON document, in a canonical form.
digest() { python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)[sys.argv[1]], sort_keys=True))' "$1"; }

# same NAME FIELD COMMAND...: FIELD of what `verbatim COMMAND --json` prints is the same on every architecture as here.
same() {
  local name=$1 field=$2 arch
  shift 2
  if ! tests/on release verbatim "$@" --json 2>"$work/log" | digest "$field" >"$work/here" 2>>"$work/log"; then
    failed "release.$name" "$work/log"
    return
  fi
  for arch in "${archs[@]}"; do
    if tests/on "$arch" verbatim "$@" --json 2>"$work/log" | digest "$field" >"$work/there" 2>>"$work/log" &&
        diff "$work/here" "$work/there" >>"$work/log"; then
      passed "$arch.$name"
    else
      failed "$arch.$name" "$work/log"
    fi
  done
}

# each NAME PROGRAM ARGUMENT...: the program succeeds on every architecture.
each() {
  local name=$1 arch
  shift
  for arch in "${archs[@]}"; do
    [ -x "build/$arch/bin/$1" ] || continue
    if timeout 900 tests/on "$arch" "$@" >"$work/log" 2>&1; then passed "$arch.$name"; else failed "$arch.$name" "$work/log"; fi
  done
}

archs=("$@")
same selftest digests selftest
same selftest_seed digests selftest --seed 20240611
if [ -n "${VERBATIM_MINILM:-}" ]; then
  same minilm digest embed "$VERBATIM_MINILM" --text "The same bits everywhere."
else
  for arch in "${archs[@]}"; do skipped "$arch.minilm" "no model: VERBATIM_MINILM is not set"; done
fi
if [ -n "${VERBATIM_STORIES:-}" ]; then
  same stories text generate "$VERBATIM_STORIES" --prompt "" --max-tokens 200 --temperature 0
else
  for arch in "${archs[@]}"; do skipped "$arch.stories" "no model: VERBATIM_STORIES is not set"; done
fi
replays=(tests/replay/*.vreplay build/release/replays/*.vreplay)
each replay verbatim replay "${replays[@]}"
each core_test core_test --gtest_brief=1
each repops_test repops_test --gtest_brief=1
each kernels_test kernels_test --gtest_brief=1
