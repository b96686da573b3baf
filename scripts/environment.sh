# Sourced by quickstart.sh and test.sh: makes .venv in the checkout, installs what is new, activates it.

export SDL_VIDEODRIVER="${SDL_VIDEODRIVER:-dummy}"  # CarRacing draws without a display
export PYTHONUNBUFFERED=1

# pyenv's shims exist for versions that don't run: every candidate has to answer
right_version() {
    "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null
}

find_python() {
    local candidate without=""
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3 python; do
        if right_version "$candidate"; then
            if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
                echo "$candidate"
                return
            fi
            without="$candidate"
        fi
    done
    if [ -n "$without" ]; then
        echo "error: $without can't make environments: install its venv module (Debian, Ubuntu: apt install python3-venv)" >&2
    else
        echo "error: no Python 3.11, 3.12 or 3.13 found: install one, or name it: PYTHON=/path/to/python $0" >&2
    fi
    return 1
}

make_environment() {
    local python
    python="$(find_python)"
    echo "making .venv with $("$python" --version)" >&2
    rm -rf .venv
    "$python" -m venv .venv
}

# install EXTRAS: only when pyproject.toml, constraints.txt or the folder's place have changed
install() {
    local extras="$1" stamp state
    stamp=".venv/installed-$extras"
    state="$(cat pyproject.toml constraints.txt <(pwd) | .venv/bin/python -c \
        'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())')"
    if [ "$(cat "$stamp" 2>/dev/null)" != "$state" ]; then
        echo "installing worldmodels[$extras] into .venv" >&2
        .venv/bin/python -m pip install --quiet --disable-pip-version-check \
            -c constraints.txt -e ".[$extras]" >&2
        echo "$state" >"$stamp"
    fi
}

# moved environments still run, but their scripts name the old place: rebuild those too
usable() {
    right_version .venv/bin/python &&
        .venv/bin/python -c 'import pip' 2>/dev/null &&
        grep -qF "$PWD/.venv" .venv/bin/activate
}

usable || make_environment
install "$1"
export PATH="$PWD/.venv/bin:$PATH" VIRTUAL_ENV="$PWD/.venv"
unset PYTHONHOME
