#!/usr/bin/env bash
# run.sh [--quick]: on a bare Debian 12, as root or with sudo: installs what is missing, builds Release and both cross builds, runs all
# tests here and the cross checks under qemu, runs the fuzzers briefly, and ends with the count of what passed. --quick: Release and
# its tests alone. Test data is looked for in ../shared/data; what is not there is said, and skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/packages.sh
quick=no
case "${1:-}" in
  --quick) quick=yes ;;
  "") ;;
  *) sed -n '2,4s/^# //p' "$0" >&2; exit 64 ;;
esac

packages=("${build_packages[@]}" "${test_packages[@]}")
[ $quick = yes ] || packages+=("${fuzz_packages[@]}" "${cross_packages[@]}")
install_packages "${packages[@]}"

mkdir -p build
results=$PWD/build/results.txt
junit=$PWD/build/ctest.xml
: >"$results"
rm -f "$junit"
jobs=$(nproc)

say() { printf '\n== %s (%d:%02d)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }

# build PRESET [TARGET...]: configures and builds; a warning is an error. Prints the log only when it fails.
build() {
  local preset=$1 log=build/$1.log targets=()
  shift
  [ $# -eq 0 ] || targets=(--target "$@")
  say "building $preset"
  if cmake --preset "$preset" -DCMAKE_COMPILE_WARNING_AS_ERROR=ON >"$log" 2>&1 &&
      cmake --build --preset "$preset" -j "$jobs" "${targets[@]}" >>"$log" 2>&1; then
    echo "passed build.$preset" >>"$results"
  else
    grep -nE 'error|Error|FAILED|undefined reference' "$log" | head -20
    tail -30 "$log"
    echo "failed build.$preset" >>"$results"
    return 1
  fi
}

say "test data"
data=$(realpath -m ../shared/data)
if [ -d "$data" ]; then
  export VERBATIM_SHARED_DATA=$data
  [ -d "$data/models/stories260K" ] && export VERBATIM_STORIES=$data/models/stories260K
  if [ -e "$data/onnx-node/cases.tar.xz" ]; then
    export VERBATIM_ONNX_NODE_DIR=$PWD/build/onnx-node
    if [ ! -e "$VERBATIM_ONNX_NODE_DIR/.complete" ]; then
      mkdir -p "$VERBATIM_ONNX_NODE_DIR"
      tar -xf "$data/onnx-node/cases.tar.xz" -C "$VERBATIM_ONNX_NODE_DIR"
      touch "$VERBATIM_ONNX_NODE_DIR/.complete"
    fi
  fi
  if [ -d "$data/tensor-core" ]; then
    export VERBATIM_TENSOR_CORE_DIR=$PWD/build/tensor-core
    if [ ! -e "$VERBATIM_TENSOR_CORE_DIR/.complete" ]; then
      mkdir -p "$VERBATIM_TENSOR_CORE_DIR"
      for archive in "$data"/tensor-core/*.tar.xz; do tar -xf "$archive" -C "$VERBATIM_TENSOR_CORE_DIR"; done
      touch "$VERBATIM_TENSOR_CORE_DIR/.complete"
    fi
  fi
  echo "shared test data: ../shared/data"
else
  echo "absent shared-data" >>"$results"
  echo "../shared/data is absent: tests on stories260K, on the newer ONNX node cases and on recorded hardware outputs are skipped"
fi
if VERBATIM_MINILM=$(tests/models.sh); then
  export VERBATIM_MINILM
  echo "all-MiniLM-L6-v2: ${VERBATIM_MINILM#"$PWD"/}"
else
  unset VERBATIM_MINILM
  echo "all-MiniLM-L6-v2 could not be had: its tests are skipped"
fi

if build release; then
  say "tests"
  if ctest --test-dir build/release -j "$jobs" --output-on-failure --no-tests=error --output-junit "$junit" >build/ctest.log 2>&1; then
    echo "passed ctest" >>"$results"
  else
    grep -vE ' (Passed|\*\*\*Skipped) ' build/ctest.log | tail -200
    echo "failed ctest" >>"$results"
  fi
  tail -n 200 build/ctest.log | grep -E 'tests passed|Total Test time' || true
fi

say "CUDA"
PATH=$PATH:/usr/local/cuda/bin
if ! command -v nvcc >/dev/null; then
  echo "CUDA is absent (no nvcc): its kernels are not built"
  echo "skipped build.cuda: no nvcc" >>"$results"
elif compgen -G 'kernels/cuda/*.cu' >/dev/null; then
  build cuda verbatim_cuda || true  # the kernels; running them takes a GPU
else
  echo "nvcc is there; the tree has no CUDA kernels yet"
fi

if [ $quick = no ]; then
  archs=()
  for arch in aarch64 s390x; do
    build $arch verbatim verbatim-verify core_test repops_test kernels_test verify_test && archs+=("$arch")
  done
  say "cross checks"
  [ ${#archs[@]} -eq 0 ] || tests/cross.sh "$results" "${archs[@]}"

  say "fuzzing"
  if compgen -G 'tests/fuzz/*_fuzz.cc' >/dev/null; then
    tests/fuzz/run.sh 5 >build/fuzz.log 2>&1 || true
    grep -E '^fuzz' build/fuzz.log || tail -30 build/fuzz.log
    if grep -q '^fuzzers: .*, 0 failed' build/fuzz.log; then echo "passed fuzz.brief"; else echo "failed fuzz.brief"; fi >>"$results"
  fi
fi

say "summary"
python3 tests/summary.py "$results" "$junit"
