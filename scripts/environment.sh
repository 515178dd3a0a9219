# Sourced by the other scripts: install this checkout with the named extras into .venv, and put .venv first on PATH.
# Nothing is installed if pyproject.toml, constraints.txt and the extras have not changed since the last call.

# environment EXTRAS [ABOUT]: ABOUT describes the size and the duration of the first installation.
environment() {
    local extras=$1 about=${2:-a few minutes} stamp=".venv/.cyclr-installed-$1" log=.venv/setup.log wanted began=$SECONDS
    wanted=$(cat pyproject.toml constraints.txt | cksum)
    if [ ! -f "$stamp" ] || [ "$(cat "$stamp")" != "$wanted" ]; then
        echo "Setting up .venv with cyclr[$extras]: $about the first time." >&2
        .venv/bin/python -m pip --version >/dev/null 2>&1 || _new_venv || return
        if ! PYTHONUNBUFFERED=1 .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off \
            --constraint constraints.txt --editable ".[$extras]" 2>&1 | tee "$log" | _progress; then
            grep -E '^ *ERROR:' "$log" | tail -n 4 >&2 || true
            echo "Setting up failed; $log has the output of pip. Check the network and the free space on the disk," \
                "then run the same command again. Finished downloads are kept." >&2
            return 1
        fi
        printf '%s' "$wanted" >"$stamp"
        echo "Set up in $((SECONDS - began)) s; .venv takes $(du -sh .venv | cut -f1)." >&2
    fi
    PATH="$PWD/.venv/bin:$PATH"
}

# Create .venv with the first Python that supports the versions in constraints.txt.
_new_venv() {
    local python found="" tried="${PYTHON:-python3 python3.11 python3.12 python3.13}"
    for python in $tried; do
        "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null || continue
        found=$python
        break
    done
    if [ -z "$found" ]; then
        echo "cyclr needs Python 3.11, 3.12 or 3.13; tried $tried. Install one, or set PYTHON=/path/to/python3.11." >&2
        return 1
    fi
    "$found" -m venv --clear .venv >&2 || {
        rm -rf .venv
        echo "$found cannot create a virtual environment. On Debian and Ubuntu: apt install python3-venv." >&2
        return 1
    }
}

# Show the progress of pip: in a terminal on one changing line, elsewhere only the steps that take long.
_progress() {
    local line width
    width=$(stty size 2>/dev/null </dev/tty | cut -d ' ' -f 2)
    while IFS= read -r line; do
        line=${line#"${line%%[! ]*}"}
        case $line in
            Installing\ collected*) line="Installing $(wc -w <<<"${line#*: }") packages, the longest part" ;;
            Collecting* | Downloading* | Using\ cached* | WARNING:\ Retrying*) ;;
            *) continue ;;
        esac
        if [ -t 2 ]; then
            printf '\r\033[K%.*s' $((${width:-80} - 1)) "$line" >&2
        elif [[ $line == Installing* || $line =~ \([0-9]{2,}[.0-9]*\ MB ]]; then
            echo "$line" >&2
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}
