#!/usr/bin/env bash
# gpu_sanitizer.sh [--bin FOLDER] [--seconds N] [--all SECONDS] TOOL: on a machine with a GPU, kernels_test's tests of it, each in a
# process of its own under compute-sanitizer --tool TOOL (memcheck, racecheck, synccheck, initcheck), as many at a time as there are
# cores. A test has VERBATIM_MOST_CASES generated cases (2 unless that is set) and N seconds (60); all together have SECONDS (600).
# Prints how many were clean, which were not done in time, and what was found. Exits with 1 where something was, with 2 where a test
# was not done or not begun.
set -uo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
bin=$tree/build/cuda/bin seconds=60 all=600 tool=''
while [ $# -gt 0 ]; do
  case $1 in
    --bin) bin=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --all) all=${2:?} && shift ;;
    -*) sed -n '2,6s/^# //p' "$0" >&2; exit 64 ;;
    *) tool=$1 ;;
  esac
  shift
done
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ -z "$tool" ] || [ ! -x "$sanitizer" ]; then
  sed -n '2,6s/^# //p' "$0" >&2
  exit 64
fi
export VERBATIM_MOST_CASES=${VERBATIM_MOST_CASES:-2} RC_PARAMS=${RC_PARAMS:-max_success=2}
bin=$(realpath "$bin")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$tree/tests" || exit
"$bin/kernels_test" --gtest_list_tests --gtest_filter='*/cuda' |
  awk '/^[^ ]/ { suite = $1 } /^ / { print suite $1 }' >"$work/tests"
deadline=$(($(date +%s) + all))
one() {
  local log=$work/${3//\//_}.log status=0 left=$((deadline - $(date +%s)))
  [ "$left" -gt 0 ] || return 0
  [ "$left" -lt "$seconds" ] || left=$seconds
  timeout "$left" "$1" --tool "$2" --error-exitcode 9 "$bin/kernels_test" --gtest_brief=1 --gtest_filter="$3" \
    >"$log" 2>&1 || status=$?
  case $status in
    0) echo "clean $3" ;;
    124) echo "unfinished $3" ;;
    *) echo "found $3 (exit code $status)" && grep -m 12 '=========' "$log" | sed 's/^/  /' ;;
  esac >"$work/${3//\//_}.result"
}
export -f one
export work seconds bin deadline
xargs -a "$work/tests" -P "$(nproc)" -I{} bash -c 'one "$@"' _ "$sanitizer" "$tool" {}
cat "$work"/*.result >"$work/all" 2>/dev/null
tests=$(wc -l <"$work/tests") clean=$(grep -c '^clean' "$work/all") unfinished=$(grep -c '^unfinished' "$work/all")
found=$(grep -c '^found' "$work/all")
echo "$tool: $tests tests, $clean clean, $unfinished unfinished, $((tests - clean - unfinished - found)) not begun, $found with findings"
grep -v '^clean' "$work/all"
[ "$found" -eq 0 ] || exit 1
[ "$tests" -gt 0 ] && [ "$clean" -eq "$tests" ] || exit 2
