#!/usr/bin/env bash
# gpu_sanitizer.sh [--bin FOLDER] [--seconds N] [--all SECONDS] TOOL: on a machine with a GPU, kernels_test's tests of it, each in a
# process of its own under compute-sanitizer --tool TOOL (memcheck, racecheck, synccheck, initcheck), as many at a time as there are
# cores. A test has VERBATIM_MOST_CASES generated cases (2 unless that is set) and N seconds (60); all together have SECONDS (600).
# Prints how many were clean, which were not done in time, and what was found; exits with 1 where something was.
set -uo pipefail
tree=$(cd "$(dirname "$0")/.." && pwd)
bin=$tree/build/cuda/bin seconds=60 all=600 tool=''
while [ $# -gt 0 ]; do
  case $1 in
    --bin) bin=${2:?} && shift ;;
    --seconds) seconds=${2:?} && shift ;;
    --all) all=${2:?} && shift ;;
    -*) sed -n '2,5s/^# //p' "$0" >&2; exit 64 ;;
    *) tool=$1 ;;
  esac
  shift
done
sanitizer=$(command -v compute-sanitizer || echo /usr/local/cuda/bin/compute-sanitizer)
if [ -z "$tool" ] || [ ! -x "$sanitizer" ]; then
  sed -n '2,5s/^# //p' "$0" >&2
  exit 64
fi
export VERBATIM_MOST_CASES=${VERBATIM_MOST_CASES:-2} RC_PARAMS=${RC_PARAMS:-max_success=2}
bin=$(realpath "$bin")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$tree/tests" || exit
"$bin/kernels_test" --gtest_list_tests --gtest_filter='*/cuda' |
  awk '/^[^ ]/ { suite = $1 } /^ / { print suite $1 }' >"$work/tests"
one() {
  local log=$work/${3//\//_}.log status=0
  timeout "$seconds" "$1" --tool "$2" --error-exitcode 9 "$bin/kernels_test" --gtest_brief=1 --gtest_filter="$3" \
    >"$log" 2>&1 || status=$?
  case $status in
    0) echo "clean $3" ;;
    124) echo "unfinished $3" ;;
    *) echo "found $3 (exit code $status)" && grep -m 12 '=========' "$log" | sed 's/^/  /' ;;
  esac >"$work/${3//\//_}.result"
}
export -f one
export work seconds bin
timeout "$all" xargs -a "$work/tests" -P "$(nproc)" -I{} bash -c 'one "$@"' _ "$sanitizer" "$tool" {}
cat "$work"/*.result >"$work/all" 2>/dev/null
echo "$tool: $(wc -l <"$work/tests") tests, $(grep -c '^clean' "$work/all") clean, $(grep -c '^unfinished' "$work/all") unfinished" \
  "in $seconds s, $(grep -c '^found' "$work/all") with findings"
grep -v '^clean' "$work/all"
! grep -q '^found' "$work/all"
