#!/bin/sh
# Set up $VENV with pinned packages, and say what the machine lacks. Run by `make setup`.
set -eu

say() { printf 'setup: %s\n' "$*" >&2; }

version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null) || {
  say "no Python found; install Python 3.11 or 3.12, or name one: make setup PYTHON=/path/to/python"
  exit 1
}
case "$version" in
  3.11 | 3.12) ;;
  *)
    say "Python $version is not supported: dgl 2.1.0 has wheels up to 3.12, langchain needs 3.11"
    say "install Python 3.11 or 3.12, or name one: make setup PYTHON=/path/to/python"
    exit 1
    ;;
esac

# Local hosts are network namespaces; `ip`, `tc`, `unshare` and `nsenter` make them.
missing=""
for pair in ip:iproute2 tc:iproute2 unshare:util-linux nsenter:util-linux; do
  PATH="$PATH:/usr/sbin:/sbin" command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
if [ -n "$missing" ]; then
  packages=$(printf '%s\n' $missing | sort -u | tr '\n' ' ')
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    say "installing Debian packages: $packages"
    apt-get update -qq && apt-get install -y -qq $packages >/dev/null
  else
    say "these Debian packages are missing and I may not install them: $packages"
    say "without them hosts share the loopback; to have them: sudo apt-get install $packages"
  fi
fi

[ -x "$VENV/bin/python" ] || { say "creating $VENV with Python $version"; "$PYTHON" -m venv "$VENV"; }
say "installing pinned packages (about 5 GB, most of it CUDA libraries that torch brings)"
"$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
say "compiling kernels once"
"$VENV/bin/python" -m rudder.training.warm_up
"$VENV/bin/python" -m rudder.bench.simulated.warm_up
say "ready: $VENV/bin/rudder"
