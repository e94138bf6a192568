#!/usr/bin/env bash
# Install requirements-dev.txt into an empty environment and write down the version of everything that came with it.
set -euo pipefail
cd "$(dirname "$0")/.."

fresh=$(mktemp -d)
trap 'rm -rf "$fresh"' EXIT
.venv/bin/python -m venv "$fresh"
"$fresh/bin/python" -m pip install --quiet -r requirements-dev.txt
{
  echo "# Every package that requirements.txt, requirements-redis.txt and requirements-dev.txt bring in, for pip's -c. Made by \`make lock\`."
  "$fresh/bin/python" -m pip freeze --exclude pip --exclude setuptools
} >constraints.txt
echo "constraints.txt: $(grep -c == constraints.txt) packages"
