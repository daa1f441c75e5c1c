#!/usr/bin/env bash
# Makes a Python environment and installs what Tapeout needs, not Tapeout itself.
#
#   scripts/setup_env.sh VENV CONSTRAINTS SET...
#
# VENV is the environment's folder. A SET is `core` (run-time and build requirements) or the name of an
# extra of pyproject.toml. Needs Python >= 3.11 and a C++20 compiler; on Debian, as root, it installs
# those that are missing, else it says which ones are.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=$1 constraints=$2
shift 2
python=${PYTHON:-python3}

need() { # need WHAT PACKAGE...: installs the Debian packages that bring WHAT, or says so and stops
    local what=$1
    shift
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "setup: $what is missing, installing $*"
        apt-get update -qq </dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" </dev/null
    else
        echo "setup: $what is missing; install it (Debian, Ubuntu: sudo apt-get install $*)" >&2
        exit 1
    fi
}

command -v "$python" >/dev/null || need "$python" python3 python3-venv python3-dev
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
    echo "setup: $("$python" --version) is too old, 3.11 is needed; choose another: make PYTHON=python3.12" >&2
    exit 1
}
version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
"$python" -c 'import ensurepip, venv' 2>/dev/null || need "the venv module of $version" "$version-venv"
"$python" -c 'import pathlib, sysconfig; (pathlib.Path(sysconfig.get_path("include")) / "Python.h").open()' \
    2>/dev/null || need "Python.h of $version" "$version-dev"
command -v "${CXX:-c++}" >/dev/null || need "a C++ compiler" g++
case " $* " in *" test "*) # judges of some tests, which are skipped without them
    for judge in berkeley-abc iverilog chromium; do
        [ "$(id -u)" != 0 ] || command -v $judge >/dev/null || need $judge $judge
    done ;;
esac

if ! "$venv/bin/python" -c 'import pip' 2>/dev/null; then
    rm -rf "$venv"
    "$python" -m venv "$venv"
fi
mapfile -t requirements < <("$venv/bin/python" - "$@" <<'EOF'
import sys
import tomllib

with open("pyproject.toml", "rb") as file:
    settings = tomllib.load(file)
project = settings["project"]
for name in sys.argv[1:]:
    if name == "core":
        print(*settings["build-system"]["requires"], *project["dependencies"], sep="\n")
    else:
        print(*project["optional-dependencies"][name], sep="\n")
EOF
)
echo "setup: installing $* into $venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --no-input \
    -c "$constraints" "${requirements[@]}" </dev/null
