# What scripts/run, scripts/test and scripts/check share; sourced by them, never run. The way that is taken
# every time (`prepare` with nothing to do) starts no other process: it costs a millisecond.

CDPATH='' cd -P -- "${BASH_SOURCE[0]%/*}/.."
root=$PWD
CDPATH='' cd -- "$OLDPWD" 2>/dev/null || true # a folder that is gone is no reason to fail
venv=$root/.venv

say() { printf 'minihv: %s\n' "$*" >&2; }
die() { say "$*"; exit 240; }

# prepare run|test: a .venv with minihv in it (and with the tools of the tests). What is installed is written
# down, and done again only when pyproject.toml or the place of the checkout has changed.
prepare() {
    is_prepared "$1" && return
    [[ -w $root ]] || die "expected a folder where .venv can be made, found $root, which is read-only"
    # Two at a time would be in each other's way. Without flock (util-linux) nothing guards against that.
    exec 9<"$root"
    if command -v flock >/dev/null; then flock 9; fi
    is_prepared "$1" || install_minihv "$1"
    exec 9<&-
}

is_prepared() {
    local stamp is project
    [[ -x $venv/bin/python && -x $venv/bin/minihv ]] || return 1
    read -r -d '' project <"$root/pyproject.toml" || true # to the end of the file, which is no success
    wanted=$root$'\n'$project
    for stamp in "$venv/minihv-test" "$venv/minihv-$1"; do
        [[ -r $stamp ]] || continue
        read -r -d '' is <"$stamp" || true
        [[ $is == "$wanted" ]] && return
    done
    return 1
}

install_minihv() {
    local extras=
    [[ $1 == test ]] && extras='[dev]'
    [[ -x $venv/bin/python ]] && "$venv/bin/python" -m pip --version >/dev/null 2>&1 || make_venv
    say "installing minihv and what it needs into .venv (once)"
    # The compat mode writes a plain .pth file: the import hook of the other modes costs 10 ms at each start.
    local log=$venv/minihv-install.log
    if ! "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root$extras" \
        --config-settings editable_mode=compat >"$log" 2>&1; then
        explain_pip "$log"
    fi
    # Compiled here and now: where PYTHONDONTWRITEBYTECODE is set, each start would compile everything again.
    "$venv/bin/python" -m compileall -q "$root/minihv" || say "minihv could not be compiled ahead; it starts slower"
    is_prepared "$1" || printf '%s\n' "$wanted" >"$venv/minihv-$1"
}

make_venv() {
    local python
    python=$(find_python) || exit
    "$python" -m venv --clear "$venv" >&2 || { rm -rf -- "$venv"; die "$python -m venv $venv failed, see above"; }
}

# The first Python that is new enough and can make virtual environments.
find_python() {
    local candidate seen= bare=
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        command -v "$candidate" >/dev/null || continue
        seen="$seen${seen:+, }$candidate ($("$candidate" -V 2>&1))"
        "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue
        if "$candidate" -c 'import venv, ensurepip' 2>/dev/null; then
            echo "$candidate"
            return
        fi
        bare=${bare:-$candidate}
    done
    if [[ -n $bare ]]; then
        die "expected a Python with venv and ensurepip, $bare has them not;" \
            "install them (Debian, Ubuntu: apt install $bare-venv)"
    fi
    die "expected Python 3.11 or newer as python3, found ${seen:-none}; install it (Debian, Ubuntu: apt install" \
        "python3 python3-venv)"
}

explain_pip() {
    cat -- "$1" >&2
    if grep -qiE 'connection|resolve|timed out|max retries|proxy|no matching distribution' "$1"; then
        die "pip found no package index that has what minihv needs, see above; connect to the network, or name" \
            "an index or a folder of wheels (PIP_INDEX_URL, PIP_FIND_LINKS)"
    fi
    die "pip could not install minihv, see above; remove $venv and try again when that is mended"
}
