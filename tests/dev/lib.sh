# shellcheck shell=sh
# What dev and the scripts beside this one share. They run in the tree's own folder.

set -eu

root=$PWD
cache=$root/.cache
python=/usr/bin/python3 # Debian's own: another python3 on PATH would not see Debian's pytest

# --- talking --------------------------------------------------------------------------------------

if [ -t 1 ]; then
    bold=$(printf '\033[1m') red=$(printf '\033[31m') plain=$(printf '\033[0m')
else
    bold='' red='' plain=''
fi

say() { printf '%s==>%s %s\n' "$bold" "$plain" "$*"; }
warn() { printf '%sdev: %s%s\n' "$red" "$*" "$plain" >&2; }
die() {
    warn "$*"
    exit 1
}

# Runs a command that has nothing to say unless it fails.
quietly() {
    mkdir -p "$cache"
    quiet_log=$(mktemp "$cache/log.XXXXXX")
    quiet_status=0
    "$@" >"$quiet_log" 2>&1 || quiet_status=$?
    [ "$quiet_status" -eq 0 ] || cat "$quiet_log" >&2
    rm -f "$quiet_log"
    return "$quiet_status"
}

# --- packages -------------------------------------------------------------------------------------

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        die "this needs root, and there is no sudo: $*"
    fi
}

# packages_of NAME...: what these lines of the list stand for.
packages_of() {
    awk -v names="$*" '
        /^#/ { next }
        /^[^ ]/ { name = $1; $1 = "" }
        { list[name] = list[name] " " $0 }
        function tell(name, words, count, i) {
            count = split(list[name ":"], words)
            for (i = 1; i <= count; i++)
                if (sub(/^@/, "", words[i])) tell(words[i]); else print words[i]
        }
        END { count = split(names, name_of); for (i = 1; i <= count; i++) tell(name_of[i]) }
    ' "$root/tests/dev/packages" | sort -u
}

# No service starts while packages are installed, and none that only tests run is enabled at boot: what
# packages ask for that comes from no-services/, which dpkg finds before the machine's own.
no_services=$root/tests/dev/no-services

# apt_install PACKAGE...
apt_install() {
    case $no_services in *:*) die "apt cannot work from a folder with a colon in its name: $root" ;; esac
    as_root test -x "$no_services/invoke-rc.d" || die "root cannot run what is in $no_services"
    not_enabled=''
    for service in $(packages_of services); do
        case " $* " in *" ${service#*=} "*) not_enabled="$not_enabled ${service%=*}" ;; esac
    done
    quietly as_root env DEBIAN_FRONTEND=noninteractive RETRYD_NOT_ENABLED="$not_enabled" \
        apt-get install -y -qq --no-install-recommends --no-remove -o Dpkg::Use-Pty=0 \
        -o DPkg::Path="$no_services:/usr/sbin:/usr/bin:/sbin:/bin" \
        "$@" </dev/null
}

apt_update() { quietly as_root apt-get update -qq || die 'apt-get update failed'; }

# need NAME...: installs what these lines of the list stand for, where it is missing.
need() {
    missing=''
    for package in $(packages_of "$@"); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "needs the equivalent of these Debian packages:$missing"
    say "installing Debian packages:$missing"
    # shellcheck disable=SC2086 # a list of names, as below
    apt-cache show $missing >/dev/null 2>&1 || apt_update
    # shellcheck disable=SC2086
    if ! apt_install $missing; then
        say 'the package lists may be old: apt-get update, and once more'
        apt_update
        # shellcheck disable=SC2086
        apt_install $missing || die "could not install:$missing"
    fi
}

# --- building -------------------------------------------------------------------------------------

# locked NAME COMMAND...: what is made ahead of its turn and in it is not made by both at once.
locked() {
    locked_name=$1
    shift
    mkdir -p "$root/build"
    flock "$root/build/$locked_name.lock" "$@"
}

# The build itself looks for no ccache; where there is one, a developer's build uses it.
configure() {
    : "${CMAKE_C_COMPILER_LAUNCHER=$(command -v ccache)}"
    quietly locked "$1" cmake --preset "$1" -DCMAKE_C_COMPILER_LAUNCHER="$CMAKE_C_COMPILER_LAUNCHER"
}

build() {
    case $1 in
    release | dev | dev-clang | tsan | fuzz) ;;
    *) die "no such preset: $1 (dev, dev-clang, tsan, fuzz, release)" ;;
    esac
    need "build-$1"
    say "building $1" >&2
    if ! configure "$1" || ! quietly locked "$1" cmake --build --preset "$1" -- --quiet; then
        die 'the build failed'
    fi
}

# use PRESET: builds it, and tells scripts where it is.
use() {
    build "$1"
    RETRYD_BIN=$root/build/$1/retryd
    PROVIDER_BIN=$root/build/$1/tests/provider/provider
    RETRYD_SOURCE_DIR=$root
    export RETRYD_BIN PROVIDER_BIN RETRYD_SOURCE_DIR
}

# --- running --------------------------------------------------------------------------------------

# Sanitizers of older compilers cannot live with much address space randomisation.
no_aslr=''
if setarch "$(uname -m)" -R true 2>/dev/null; then
    no_aslr="setarch $(uname -m) -R"
fi

# Many tests hold many connections; take what the machine allows, within reason.
more_descriptors() {
    # shellcheck disable=SC3045 # Debian's sh knows it
    ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)" || true
}

# A part of the tests leaves its reports in the folder REPORTS, where run_parts.py counts them.

# run_pytest REPORT ARGUMENTS...
run_pytest() {
    report=$REPORTS/$1.xml
    shift
    $no_aslr "${pytest_python:-$python}" -m pytest -q -p no:cacheprovider --junit-xml="$report" "$@"
}

# run_ctest PRESET
run_ctest() {
    ctest_log=$REPORTS/ctest.log
    if $no_aslr ctest --test-dir "build/$1" --output-on-failure --no-tests=error -L unit \
        -j "$(nproc)" --output-junit "$REPORTS/ctest.xml" >"$ctest_log" 2>&1; then
        tail -n 3 "$ctest_log"
    else
        cat "$ctest_log"
        return 1
    fi
}

# on_other_debian COMMAND...: in this tree, on Debian 13 where this is 12, and the other way round.
on_other_debian() {
    mkdir -p "$root/build"
    as_root flock "$root/build/debian.lock" env RETRYD_SOURCE_DIR="$root" setpriv --pdeathsig TERM \
        $python tests/service/other_debian.py "$(packages_of test-unit test-blackbox | tr '\n' ' ')" "$@"
}
