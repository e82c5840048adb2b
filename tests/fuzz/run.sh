#!/usr/bin/env bash
# run.sh [SECONDS [NAME...]]: builds the libFuzzer targets (preset fuzz: clang, ASan, UBSan) and runs each, or the named ones, for
# SECONDS (default 10) from its corpus. What they find stays in build/fuzz/found; a crash fails the run.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-10}
shift || true
cmake --preset fuzz >build/fuzz-configure.log || { cat build/fuzz-configure.log; exit 1; }
cmake --build --preset fuzz --target fuzzers

names=("$@")
if [ ${#names[@]} -eq 0 ]; then
  for file in tests/fuzz/*_fuzz.cc; do [ -e "$file" ] && names+=("$(basename "$file" _fuzz.cc)"); done
fi
passed=0 failed=()
for name in "${names[@]}"; do
  mkdir -p "build/fuzz/found/$name"
  log=build/fuzz/found/$name.log
  if "build/fuzz/bin/${name}_fuzz" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -max_len=65536 -print_final_stats=1 \
      -artifact_prefix="build/fuzz/found/$name-" "build/fuzz/found/$name" "tests/fuzz/corpus/$name" >"$log" 2>&1; then
    passed=$((passed + 1))
    echo "fuzz.$name: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs in $seconds s"
  else
    failed+=("$name")
    echo "fuzz.$name FAILED:"
    grep -vE '^#[0-9]+' "$log" | tail -40
  fi
done
echo "fuzzers: $passed passed, ${#failed[@]} failed"
[ ${#failed[@]} -eq 0 ]
