#!/usr/bin/env bash
# cross.sh RESULTS ARCH...: runs on every ARCH, under qemu, what the release build computed here, and compares digests. Appends to the
# file RESULTS one line a check: "passed NAME", "failed NAME" or "skipped NAME: reason". Models come from VERBATIM_MINILM,
# VERBATIM_STORIES and VERBATIM_SHARED_DATA. Exit code 0 also after failures: the results say.
set -uo pipefail
cd "$(dirname "$0")/.."
results=$1
shift
work=$(mktemp -d "$PWD/build/cross.XXXXXX")
trap 'rm -rf "$work"' EXIT

passed() { echo "passed $1" | tee -a "$results"; }
failed() { echo "failed $1" | tee -a "$results"; sed 's/^/    /' "$2" | tail -20; }
skipped() { echo "skipped $1: $2" | tee -a "$results"; }

# digest FIELD < JSON: one field of a JSON document, in a canonical form.
digest() { python3 -c 'import json, sys; print(json.dumps(json.load(sys.stdin)[sys.argv[1]], sort_keys=True))' "$1"; }

# everywhere NAME COMMAND ARGUMENT...: COMMAND ARCH LOG ARGUMENT... decides NAME on every architecture, on all of them at once.
everywhere() {
  local name=$1 command=$2 arch
  shift 2
  for arch in "${archs[@]}"; do
    if "$command" "$arch" "$work/$arch.log" "$@"; then passed "$arch.$name"; else failed "$arch.$name" "$work/$arch.log"; fi &
  done
  wait
}

# same NAME FIELD COMMAND...: FIELD of what `verbatim COMMAND --json` prints is the same on every architecture as here.
same() {
  local name=$1 field=$2
  shift 2
  if tests/on release verbatim "$@" --json 2>"$work/log" | digest "$field" >"$work/here" 2>>"$work/log"; then
    everywhere "$name" same_as_here "$field" "$@"
  else
    failed "release.$name" "$work/log"
  fi
}
same_as_here() {
  local arch=$1 log=$2 field=$3
  shift 3
  tests/on "$arch" verbatim "$@" --json 2>"$log" | digest "$field" >"$work/$arch.out" 2>>"$log" && diff "$work/here" "$work/$arch.out" >>"$log"
}

succeeds() {
  local arch=$1 log=$2
  shift 2
  timeout 1800 tests/on "$arch" "$@" >"$log" 2>&1
}

# tests PROGRAM: the tests of a program pass on every architecture, as many processes as there are cores. Those that it skips go to
# RESULTS.
tests() {
  local arch
  everywhere "$1" shards_succeed "$1"
  for arch in "${archs[@]}"; do
    awk -v name="$arch.$1" '/: Skipped$/ { getline reason }
      /^\[  SKIPPED \] .* \(/ { print "skipped " name "." $4 ": " reason }' "$work/$arch.log" >>"$results"
  done
}
shards_succeed() {
  local arch=$1 log=$2 program=$3 shard pids=() well=() ill=()
  export GTEST_TOTAL_SHARDS=$(nproc)
  for ((shard = 0; shard < GTEST_TOTAL_SHARDS; ++shard)); do
    mkdir -p "$work/$arch.$shard"  # tests write files of one name
    TEST_TMPDIR=$work/$arch.$shard GTEST_SHARD_INDEX=$shard succeeds "$arch" "$log.$shard" "$program" &
    pids+=($!)
  done
  for shard in "${!pids[@]}"; do
    if wait "${pids[shard]}"; then well+=("$log.$shard"); else ill+=("$log.$shard"); fi
  done
  cat "${well[@]}" "${ill[@]}" >"$log"  # a failure's last lines are shown
  rm "${well[@]}" "${ill[@]}"
  [ ${#ill[@]} -eq 0 ]
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
# Other people's models on inputs that `lock` makes from a seed.
models=${VERBATIM_SHARED_DATA:-/nonexistent}/models
if [ -d "$models" ]; then
  same magika cases lock "$models/magika_standard_v3_3.onnx" --range bytes=0:256 --seed 1
  same silero_onnx cases lock "$models/silero_vad_op18_ifless.onnx:sr=16000" --dim sequence=576
  same silero cases lock "$models/silero_vad_16k.safetensors"
  same super_resolution cases lock "$models/super_resolution.onnx" --dim batch_size=1 --seed 1
else
  for arch in "${archs[@]}"; do
    for model in magika silero_onnx silero super_resolution; do
      skipped "$arch.$model" "no models: VERBATIM_SHARED_DATA names no folder"
    done
  done
fi
replays=(tests/replay/*.vreplay build/release/replays/*.vreplay)
everywhere replay succeeds verbatim replay "${replays[@]}"
tests core_test
# The oracle of `prove unary` is compared with MPFR by the release build, whose host runs the proofs.
GTEST_FILTER='-*UnaryOracle*' tests repops_test
tests kernels_test
# Properties on fewer cases: a release build has tried them all.
RC_PARAMS="max_success=10" tests verify_test

# A dispute over MiniLM, settled here, is judged everywhere to the same bytes; so is a signed receipt.
settle() {
  local verbatim=build/release/bin/verbatim i pids=() addresses=() status=0
  $verbatim task create "$VERBATIM_MINILM" --text "Who is right?" -o "$work/task" &&
    $verbatim embed "$VERBATIM_MINILM" --text "Who is right?" --receipt "$work/receipt" --commit full || return
  for i in 1 2; do
    $verbatim provider serve --listen 127.0.0.1:0 --model "$VERBATIM_MINILM" --json $([ $i = 1 ] || echo --inject-fault 0:40:7:20) \
      >"$work/provider$i" &
    pids+=($!)
  done
  for i in 1 2; do
    for _ in $(seq 300); do [ -s "$work/provider$i" ] && break; sleep 0.1; done
    addresses+=(--provider "$(sed 's/.*"address":"\([^"]*\)".*/\1/' "$work/provider$i")")
  done
  $verbatim dispute run --task "$work/task" "${addresses[@]}" -o "$work/transcript" || status=$?
  kill "${pids[@]}"
  wait "${pids[@]}" 2>/dev/null
  return "$status"
}
judge() { tests/on "$1" verbatim-verify "$2" "$work/$2"; }
judges_as_here() { judge "$1" "$3" >"$work/$1.out" 2>&1; diff "$work/here" "$work/$1.out" >"$2"; }
if [ -z "${VERBATIM_MINILM:-}" ]; then
  for arch in "${archs[@]}"; do skipped "$arch.judge" "no model: VERBATIM_MINILM is not set"; done
elif ! settle >"$work/log" 2>&1 || ! grep -q '^Provider 2 .* is refuted' "$work/log"; then
  failed release.judge "$work/log"
else
  for file in transcript receipt; do
    judge release $file >"$work/here" 2>&1
    everywhere judge_$file judges_as_here $file
  done
fi
