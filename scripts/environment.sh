# Sourced by the other scripts: make .venv hold this checkout with the extras named, and put it first on PATH.
# It does nothing when pyproject.toml, constraints.txt and the extras are those of the last time.

environment() {
    local extras=$1 python=${PYTHON:-python3} wanted stamp
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || {
        echo "cyclr needs Python 3.11 or newer; set PYTHON to one." >&2
        return 1
    }
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    stamp=".venv/.cyclr-installed-$extras"
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        echo "Setting up .venv with cyclr[$extras]; this takes a few minutes the first time." >&2
        [ -x .venv/bin/python ] || "$python" -m venv .venv
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            --constraint constraints.txt --editable ".[$extras]"
        printf '%s' "$wanted" >"$stamp"
    fi
    PATH="$PWD/.venv/bin:$PATH"
}
