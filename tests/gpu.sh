#!/usr/bin/env bash
# gpu.sh [--bin FOLDER] [--commit HASH] [--cases PREFIX]... REPORT|--results: on a machine with a GPU, from a built tree: runs
# kernels_test, shared by as many processes as there are cores, and verbatim-bench --backend cuda, all cases or those PREFIXes', and
# writes one Markdown file: REPORT, or docs/results/gpu-DEVICE.md; anew after the tests and after each family of cases, so that a run
# that is cut off leaves what it had. FOLDER: where the programs are (build/cuda/bin). HASH: what they were
# built from, where git cannot say. cuBLAS is looked for where the loader does, in the toolkit, and beside python3's packages.
# GTEST_FILTER and LD_LIBRARY_PATH hold as always. The device's clocks are read, never set.
set -uo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
usage() { sed -n '2,6s/^# //p' "$0" >&2; exit 64; }
bin=$tree/build/cuda/bin commit='' cases=() report=''
while [ $# -gt 0 ]; do
  case $1 in
    --bin) bin=${2:?} && shift ;;
    --commit) commit=${2:?} && shift ;;
    --cases) cases+=("${2:?}") && shift ;;
    --results) report=results ;;
    -*) usage ;;
    *) report=$1 ;;
  esac
  shift
done
[ -n "$report" ] || usage
bin=$(realpath "$bin")
commit=${commit:-$(git -C "$tree" describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null || echo unknown)}

gpu() { nvidia-smi -i 0 --query-gpu="$1" --format=csv,noheader; }
device=$(gpu name) || exit 69
if [ "$report" = results ]; then
  name=${device,,}
  report=$tree/docs/results/gpu-${name//[^a-z0-9]/-}.md
fi
report=$(realpath -m "$report")
packages=$(python3 -c 'import importlib.util as u; print(u.find_spec("nvidia").submodule_search_locations[0])' 2>/dev/null)
for folder in /usr/local/cuda/lib64 ${packages:+"$packages"/*/lib}; do
  [ ! -e "$folder/libcublasLt.so.13" ] || LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$folder
done
export LD_LIBRARY_PATH

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
clocks() { gpu clocks.sm,clocks.max.sm,clocks.mem,power.limit,temperature.gpu; }
before=$(clocks)
cd "$tree/tests" || exit
processes=$(nproc)
tests=()
for ((i = 0; i < processes; i++)); do
  GTEST_TOTAL_SHARDS=$processes GTEST_SHARD_INDEX=$i "$bin/kernels_test" --gtest_brief=1 >"$work/tests.$i" 2>&1 &
  tests+=($!)
done
tested=0
for process in "${tests[@]}"; do wait "$process" || tested=$?; done
skipped_there=$(cat "$work"/tests.* | grep -cE '^\[  SKIPPED \] .*/cuda')
[ "$skipped_there" -eq 0 ] || tested=1

# table FILE...: the rows of verbatim-bench --json in Markdown.
table() {
  python3 -c '
import json, sys
columns = ["name", "shape", "ours", "peer", "unit", "ratio", "of_limit", "limit", "peer_name", "peer_version", "peer_kernel"]
print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
for file in sys.argv[1:]:
    for row in json.load(open(file)):
        print("| " + " | ".join(str("" if row.get(c) is None else row[c]) for c in columns) + " |")' "$@"
}
indented() { sed 's/^/    /'; }
# count PASSED|FAILED|SKIPPED: of all processes' tests.
count() { cat "$work"/tests.* | sed -nE "s/^\\[  $1 *\\] ([0-9]+) tests?.*/\\1/p" | awk '{ sum += $1 } END { print sum + 0 }'; }
# write_report ENDED: of what has run so far.
write_report() {
  printf '# On a GPU: %s\n\n' "$device"
  printf 'Commit %s, %s. Written by tests/gpu.sh.\n\n' "$commit" "$(date -u +%F)"
  printf -- '- %s\n' "$(head -1 "$work/log")"
  printf -- '- SM clock, its maximum, memory clock, power limit, degrees: %s before, %s after\n' "$before" "$(clocks)"
  for program in kernels_test verbatim-bench; do
    printf -- '- sha256 of %s: %s\n' "$program" "$(sha256sum <"$bin/$program" | cut -d' ' -f1)"
  done
  printf '\n## kernels_test (exit code %d)\n\n' "$tested"
  printf '%d passed, %d failed, %d skipped (%d of the GPU), in %d processes.\n' "$(count PASSED)" "$(count FAILED)" "$(count SKIPPED)" \
    "$skipped_there" "$processes"
  grep -hE '^\[  FAILED  \] .*[^:]$' "$work"/tests.* | sort -u | indented
  printf '\n## verbatim-bench --backend cuda (%s)\n\n' "$1"
  [ "$row" -gt 0 ] || return
  printf 'Medians of alternating samples of device time; ratio: ours over the peer.\n\n'
  table "$work"/rows.*.json
  echo
  grep -E '^(verbatim-bench:|not compared)' "$work/log" | indented
}
measured=0 row=0
: >"$work/log"
write_report "not begun" >"$report"
[ ${#cases[@]} -gt 0 ] ||
  mapfile -t cases < <("$bin/verbatim-bench" --backend cuda --list | sed 's/[_ ].*//' | awk '!seen[$0]++')
for prefix in "${cases[@]}"; do
  row=$((row + 1))
  "$bin/verbatim-bench" "$prefix" --backend cuda --json 2>&1 >"$work/rows.$row.json" | tee -a "$work/log" >&2
  status=${PIPESTATUS[0]}
  [ "$status" -eq 0 ] || measured=$status
  write_report "$([ "$row" -eq ${#cases[@]} ] && echo "exit code $measured" || echo "cut off after $prefix")" >"$report"
done
echo "$report"
[ "$tested" -eq 0 ] && [ "$measured" -eq 0 ]
