#!/usr/bin/env bash
# Installs the Autobahn testsuite, which runs on Python 2.7 only, into the directory given.
# PYTHON (default python3) runs virtualenv; PYTHON27 names the Python 2.7 to use, if it is not found by itself.
set -euo pipefail

testsuite='autobahntestsuite==25.10.1'
virtualenv='virtualenv==20.21.1' # the last series that makes environments for 2.7, which need no pip of their own

destination=${1:?usage: install.sh DIRECTORY}
python=${PYTHON:-python3}

find_python27() {
    local candidates=("${PYTHON27:-}" python2.7) candidate is27='import sys; sys.exit(sys.version_info[:2] != (2, 7))'
    if command -v pyenv >/dev/null; then candidates+=("$(pyenv root)"/versions/2.7*/bin/python2.7); fi
    for candidate in "${candidates[@]}"; do
        # Run it: a pyenv shim is on PATH even where it leads nowhere.
        if [[ -n $candidate ]] && "$candidate" -c "$is27" 2>/dev/null; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    return 1
}

if ! python27=$(find_python27); then
    echo "autobahn: Python 2.7 is missing, and the testsuite runs on nothing newer: neither python2.7 on PATH nor a" \
        "2.7 of pyenv. 'pyenv install 2.7.18' builds one; PYTHON27=/path/to/python2.7 names one elsewhere." >&2
    exit 1
fi
echo "autobahn: installing $testsuite for $python27 into $destination"

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
rm -rf "$destination"
"$python" -m pip install -qq --target "$scratch" "$virtualenv"
PYTHONPATH=$scratch "$python" -m virtualenv --quiet --python "$python27" --no-periodic-update "$destination"
"$destination/bin/python" -m pip install -qq --disable-pip-version-check "$testsuite"
"$destination/bin/wstest" --help >/dev/null
