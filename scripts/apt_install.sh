#!/usr/bin/env bash
# apt_install.sh PACKAGE [FILE]: install a Debian package unless FILE is there. Asks nothing and never for a password;
# where the user may not install, or there is no apt, it says so in a sentence and exits with 1.
set -euo pipefail
package=$1 file=${2:-}

if [ -n "$file" ] && [ -e "$file" ]; then
  exit 0
fi

run=()
if [ "$(id -u)" != 0 ]; then
  if ! command -v sudo >/dev/null || ! sudo -n true 2>/dev/null; then
    echo "$package is missing and this user may not install it. As root: apt-get install $package" >&2
    exit 1
  fi
  run=(sudo -n)
fi
if ! command -v apt-get >/dev/null; then
  echo "$package is missing, and this system has no apt-get to install it with." >&2
  exit 1
fi

echo "Installing $package ..."
run+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq)
# A stale list of packages is often good enough, so a failed update is not the end.
"${run[@]}" update >/dev/null || true
if ! "${run[@]}" install -y --no-install-recommends "$package" </dev/null >/dev/null; then
  echo "$package could not be installed." >&2
  exit 1
fi
