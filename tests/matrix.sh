#!/usr/bin/env bash
# matrix.sh [ARCH...]: the scalar reference by gcc and clang at -O0, -O2 and -O3, for x86-64, i686 (SSE2), aarch64, s390x and riscv64
# (or the ARCHs given), the foreign ones under qemu: every build's selftest digests, of seed 1 and of four that are drawn anew
# (MATRIX_SEEDS="1 2": these), are those of `build/release/bin/verbatim`, which runs vector code; every replay file gives its own, and
# every case of a golden file (tests/golden, all operators but If, Loop and Scan) the recorded bits. MATRIX_COMPILERS=gcc and
# MATRIX_LEVELS=-O2 leave out the others; MATRIX_JOBS rows, one a core if it is not set, run at once. Says on stderr how each ended and
# prints the table as Markdown; exit code 1 on any difference. Two core-hours, most of it compiling. Not part of CI.
set -uo pipefail
cd "$(dirname "$0")/.."
source cmake/packages.sh
install_packages "${matrix_packages[@]}" || exit
archs=("$@")
[ $# -gt 0 ] || archs=(x86_64 i686 aarch64 s390x riscv64)
verbatim=build/release/bin/verbatim
[ -x $verbatim ] || { echo "$verbatim is not built: cmake --preset release && cmake --build --preset release --target verbatim" >&2; exit 69; }
read -ra seeds <<<"${MATRIX_SEEDS:-1 $(od -An -N16 -tu4 /dev/urandom)}"
replays=(tests/replay/*.vreplay)
[ -d build/release/replays ] && replays+=(build/release/replays/*.vreplay)
goldens=(tests/golden/*.jsonl)
mkdir -p build/matrix

# What every build has to print.
for seed in "${seeds[@]}"; do
  $verbatim selftest --seed "$seed" --json | python3 -c '
import json, sys
for group, digest in sorted(json.load(sys.stdin)["digests"].items()):
    print("selftest", sys.argv[1], group, digest)' "$seed" || exit
done >build/matrix/expected
printf 'replay %s same\n' "${replays[@]}" >>build/matrix/expected
for file in "${goldens[@]}"; do echo "golden $file $(wc -l <"$file") same"; done >>build/matrix/expected

# build ARCH COMPILER LEVEL DIR
build() {
  local arch=$1 compiler=$2 flags=$3 dir=$4 command
  [ "$arch" = i686 ] && flags+=" -msse2 -mfpmath=sse"
  case $compiler in
    gcc) command=$arch-linux-gnu-g++ ;;
    clang) command=clang++-14 flags+=" --target=$arch-linux-gnu" ;;
  esac
  cmake -S tests/matrix -B "$dir" -G Ninja -DCMAKE_CXX_COMPILER="$command" -DCMAKE_CXX_FLAGS="$flags" \
    -DCMAKE_CXX_COMPILER_LAUNCHER="env;CCACHE_BASEDIR=$PWD;CCACHE_NOHASHDIR=1;ccache" &&
    cmake --build "$dir" -j 1
}

# sound EMULATOR: whether it multiplies 3 by 5. QEMU 7.2, Debian 12's, gives 160 for s390x's MDEBR, which clang uses.
sound() {
  local probe=build/matrix/mdebr
  printf 'int main(void) { volatile float a = 3, b = 5; float x = a, y = b; double d;\n%s\nreturn d == 15 ? 0 : 1; }' \
    '__asm__("ler %%f0,%1\n\tmdebr %%f0,%2\n\tldr %0,%%f0" : "=f"(d) : "f"(x), "f"(y) : "f0");' >$probe.c
  s390x-linux-gnu-gcc -static -O1 $probe.c -o $probe && "$1" $probe
}

# The s390x emulator: Debian's own where it is sound, else that of its backports, unpacked under build/matrix/qemu.
s390x_emulator() {
  local state=$PWD/build/matrix/qemu apt
  sound qemu-s390x && { echo qemu-s390x; return; }
  if [ ! -x "$state/usr/bin/qemu-s390x" ]; then
    mkdir -p "$state/lists/partial" "$state/cache/archives/partial"
    echo "deb http://deb.debian.org/debian bookworm-backports main" >"$state/sources.list"
    apt=(apt-get -qq -o "Dir::Etc::SourceList=$state/sources.list" -o Dir::Etc::SourceParts=/dev/null -o "Dir::State=$state"
         -o "Dir::State::lists=$state/lists" -o "Dir::Cache=$state/cache" -o "APT::Sandbox::User=$(id -un)")
    { "${apt[@]}" update && (cd "$state" && "${apt[@]}" download qemu-user) && dpkg -x "$state"/qemu-user_*.deb "$state"; } >&2 || return
  fi
  sound "$state/usr/bin/qemu-s390x" && echo "$state/usr/bin/qemu-s390x"
}

# run ARCH DIR: i686 runs as it is where the kernel lets it.
run() {
  local program=$2/verbatim-digests emulator=()
  case $1 in
    x86_64) ;;
    i686) "$program" 2>/dev/null || emulator=(qemu-i386) ;;
    s390x) emulator=("$s390x") ;;
    *) emulator=("qemu-$1") ;;
  esac
  "${emulator[@]}" "$program" "${seeds[@]}" "${replays[@]}" "${goldens[@]}"
}

# row ARCH COMPILER LEVEL DIR: prints the table's row; logs beside DIR. Exit code 1 on any difference.
row() {
  local dir=$4 status=0 kind want have cell="| $1 | $2 | $3 |"
  if ! build "$@" >"$dir.log" 2>&1; then
    echo "$cell not built: $dir.log | | |"
    return 1
  fi
  run "$1" "$dir" >"$dir.out" 2>>"$dir.log"
  for kind in selftest replay golden; do
    want=$(grep -c "^$kind" build/matrix/expected)
    have=$(grep "^$kind" "$dir.out" | grep -cFxf - build/matrix/expected)
    [ "$want" = "$have" ] || status=1
    cell+=" $have of $want |"
  done
  echo "$cell"
  return $status
}

if [[ " ${archs[*]} " == *" s390x "* ]]; then
  s390x=$(s390x_emulator) || { echo "no sound emulator for s390x" >&2; exit 69; }
fi
echo "Seeds ${seeds[*]}; ${#replays[@]} replay files; ${#goldens[@]} golden files of $(cat "${goldens[@]}" | wc -l) cases; $($verbatim selftest --json | python3 -c 'import json, sys; print("compared with the backend", json.load(sys.stdin)["backend"])')."
echo
running=0
status=0
finished() { wait -n || status=1; running=$((running - 1)); }
dirs=()
for arch in "${archs[@]}"; do
  for compiler in ${MATRIX_COMPILERS:-gcc clang}; do
    for level in ${MATRIX_LEVELS:--O0 -O2 -O3}; do
      [ $running -lt "${MATRIX_JOBS:-$(nproc)}" ] || finished
      dirs+=("build/matrix/$arch-$compiler$level")
      row "$arch" "$compiler" "$level" "${dirs[-1]}" | tee "${dirs[-1]}.row" >&2 &
      running=$((running + 1))
    done
  done
done
while [ $running -gt 0 ]; do finished; done
echo "| processor | compiler | level | digests equal | replays equal | golden equal |"
echo "|---|---|---|---|---|---|"
cat "${dirs[@]/%/.row}"
exit $status
