#!/usr/bin/env bash
# run.sh: how accurate each precision is, the evidence of docs/results/accuracy.md. Needs build/release, VERBATIM_MINILM (a folder of
# all-MiniLM-L6-v2) and VERBATIM_STORIES (stories260K). The stories are the model's own, drawn at temperature 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
verbatim=build/release/bin/verbatim
precisions=bf16,fp16,fp8,fp8-precise,s1x1,s2x1,s1x2,s2x2,s3x3,s4x4,w8a8,w4a8,w3a8,w2a8,w1a8
stories=$(mktemp)
trap 'rm -f "$stories"' EXIT
for seed in 1 2 3 4 5 6; do
  $verbatim generate "$VERBATIM_STORIES" --max-tokens 400 --temperature 1 --seed $seed 2>/dev/null
done >"$stories"
echo "stories260K, $(wc -w <"$stories") words"
$verbatim eval "$VERBATIM_STORIES" --text-file "$stories" --precision $precisions
echo "all-MiniLM-L6-v2, $(wc -l <tests/accuracy/sentences.txt) sentences"
$verbatim eval "$VERBATIM_MINILM" --text-file tests/accuracy/sentences.txt --precision $precisions
echo "single operators against binary64"
$verbatim eval "$VERBATIM_MINILM" --text-file tests/accuracy/sentences.txt --tensors
