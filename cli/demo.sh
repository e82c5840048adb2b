#!/usr/bin/env bash
# The main job, on a real model: embed sentences with a receipt; then three providers, one of which lies about one bit deep in the
# model, and a referee that finds it. Installs what is missing (as root or with sudo), builds Release, fetches all-MiniLM-L6-v2.
set -euo pipefail
cd "$(dirname "$0")/.."
source cmake/packages.sh
install_packages "${build_packages[@]}"
mkdir -p build
echo "== building (the first time takes minutes)"
# A tree that is configured stays as it is; otherwise the tests, and the packages they need, are left out.
{ [ -e build/release/build.ninja ] || cmake --preset release -DVERBATIM_TESTS=OFF; } >build/demo.log 2>&1 &&
  cmake --build --preset release --target verbatim verbatim-verify >>build/demo.log 2>&1 ||
  { tail -20 build/demo.log; exit 1; }
model=$(tests/models.sh)
verbatim=build/release/bin/verbatim
work=$(mktemp -d)
providers=()
trap 'kill "${providers[@]}" 2>/dev/null; rm -rf "$work"' EXIT

texts=(--text "The same bits everywhere." --text "Anyone can check the result." --text "A cat sat on the mat.")
echo "== embedding three sentences, with a receipt"
$verbatim embed "$model" "${texts[@]}" --receipt "$work/receipt" --commit full --json >"$work/embed.json"
$verbatim embed "$model" "${texts[@]}"  # again, for people: the digest is the same
$verbatim receipt show "$work/receipt"
$verbatim receipt verify "$work/receipt" --model "$model"

echo "== three providers, one of which flips one bit in layer 3"
$verbatim task create "$model" "${texts[@]}" -o "$work/task"
# The node whose output is tampered with: the second feed-forward product of layer 3.
fault=0:$($verbatim task show "$work/task" | awk '$1 == "node" && $4 == "encoder.layer.3.output.dense" {print $2}'):1000:20
for i in 1 2 3; do
  lie=()
  [ $i -ne 2 ] || lie=(--inject-fault "$fault")
  $verbatim provider serve --listen 127.0.0.1:0 --model "$model" --json "${lie[@]}" >"$work/provider$i" 2>"$work/log$i" &
  providers+=($!)
done
addresses=()
for i in 1 2 3; do
  for _ in $(seq 300); do [ -s "$work/provider$i" ] && break; sleep 0.1; done
  addresses+=(--provider "$(sed 's/.*"address":"\([^"]*\)".*/\1/' "$work/provider$i")")
done

echo "== the referee"
status=0
$verbatim dispute run --task "$work/task" "${addresses[@]}" -o "$work/transcript" --json >"$work/verdict.json" || status=$?
$verbatim dispute explain "$work/transcript" | grep -vE '^[0-9]+  ' || true
python3 - "$work/verdict.json" "$work/embed.json" <<'PY'
import json, sys
verdict, run = (json.load(open(f)) for f in sys.argv[1:])
referee, whole = verdict["referee"], run["receipt"]
print(f"The referee read {referee['bytes_read']:,} bytes and computed {referee['operations']:,} operations in {referee['ms']:.0f} ms; "
      f"the whole run writes {whole['bytes_written']:,} bytes and takes {whole['operations']:,} operations.")
PY
echo "== anyone can judge the transcript again, offline"
build/release/bin/verbatim-verify transcript "$work/transcript" >/dev/null && echo "verbatim-verify agrees, byte for byte"
exit $status
