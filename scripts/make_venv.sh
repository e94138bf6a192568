#!/usr/bin/env bash
# Make a virtual environment of Python 3.11 or newer in the folder given; leave one that works alone.
set -euo pipefail
folder=$1

recent='import sys; sys.exit(sys.version_info < (3, 11))'
if "$folder/bin/python" -c "$recent" 2>/dev/null && "$folder/bin/python" -m pip --version >/dev/null 2>&1; then
  exit 0
fi

for python in ${PYTHON:-} python3.11 python3 python3.12 python3.13; do
  if "$python" -c "$recent" 2>/dev/null; then
    # Debian keeps the part of Python that makes environments in a package of its own.
    if ! "$python" -c 'import venv; from ensurepip import bootstrap' 2>/dev/null; then
      version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
      "$(dirname "$0")/apt_install.sh" "python$version-venv" || exit 1
    fi
    rm -rf "$folder"
    exec "$python" -m venv "$folder"
  fi
done

echo "Glass Box needs Python 3.11 or newer, and none was found. On Debian: apt-get install python3 python3-venv" >&2
exit 1
