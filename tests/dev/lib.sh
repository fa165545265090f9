# shellcheck shell=sh
# Functions that dev and the scripts in this folder share. The scripts run in the root folder of the tree.

set -eu

root=$PWD
cache=$root/.cache
python=/usr/bin/python3 # Debian's own, because another python3 on PATH would not find Debian's pytest

# --- messages -------------------------------------------------------------------------------------

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

# Runs a command, and prints its output only if it fails.
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
        die "this command needs root, and sudo is not installed: $*"
    fi
}

# packages_of NAME...: prints the packages of these lines of the list.
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

# The installation of a package starts no service, and enables none at boot that only tests run. For this, dpkg
# finds the programs in no-services/ before the machine's own.
no_services=$root/tests/dev/no-services

# apt_install PACKAGE...
apt_install() {
    case $no_services in *:*) die "apt cannot work in a folder with a colon in its name: $root" ;; esac
    as_root test -x "$no_services/invoke-rc.d" || die "root cannot run the programs in $no_services"
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

# need NAME...: installs the packages of these lines of the list, if they are missing.
need() {
    missing=''
    for package in $(packages_of "$@"); do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
            missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    command -v apt-get >/dev/null || die "the equivalent of these Debian packages is missing:$missing"
    say "installing Debian packages:$missing"
    # shellcheck disable=SC2086 # a list of names, as below
    apt-cache show $missing >/dev/null 2>&1 || apt_update
    # shellcheck disable=SC2086
    if ! apt_install $missing; then
        say 'the package lists may be out of date: running apt-get update, then trying again'
        apt_update
        # shellcheck disable=SC2086
        apt_install $missing || die "could not install:$missing"
    fi
}

# --- building -------------------------------------------------------------------------------------

# locked NAME COMMAND...: keeps a part, and the build ahead of it, from building the same thing at the same time.
locked() {
    locked_name=$1
    shift
    mkdir -p "$root/build"
    flock "$root/build/$locked_name.lock" "$@"
}

# The build itself does not look for ccache. A developer's build uses it if it is installed.
# A build for tests links more than a hundred programs, for which mold needs a third of the usual linker's time.
configure() {
    : "${CMAKE_C_COMPILER_LAUNCHER=$(command -v ccache)}"
    linker=''
    case $1 in dev | dev-clang | tsan) linker=-fuse-ld=mold ;; esac
    quietly locked "$1" cmake --preset "$1" -DCMAKE_C_COMPILER_LAUNCHER="$CMAKE_C_COMPILER_LAUNCHER" \
        -DCMAKE_EXE_LINKER_FLAGS="$linker"
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

# use PRESET: builds it, and exports the paths that scripts need.
use() {
    build "$1"
    DAEMON_BIN=$root/build/$1/retryd
    PROVIDER_BIN=$root/build/$1/tests/provider/provider
    FLOOR_BIN=$root/build/$1/bench_floor
    SOURCE_DIR=$root
    export DAEMON_BIN PROVIDER_BIN FLOOR_BIN SOURCE_DIR
}

# --- running --------------------------------------------------------------------------------------

# The sanitizers of older compilers fail with too much address space randomisation.
no_aslr=''
if setarch "$(uname -m)" -R true 2>/dev/null; then
    no_aslr="setarch $(uname -m) -R"
fi

# Many tests hold many connections. This raises the limit on descriptors as far as the machine allows.
more_descriptors() {
    # shellcheck disable=SC3045 # Debian's sh knows it
    ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -Hn)" || true
}

# A part of the tests writes its reports to the folder REPORTS, where run_parts.py counts them.

# run_pytest REPORT ARGUMENTS...
run_pytest() {
    report=$REPORTS/$1.xml
    shift
    $no_aslr "${pytest_python:-$python}" -m pytest -q -p no:cacheprovider --junit-xml="$report" "$@"
}

# run_ctest PRESET: one more test at a time than there are CPUs, because some wait.
run_ctest() {
    ctest_log=$REPORTS/ctest.log
    if $no_aslr ctest --test-dir "build/$1" --output-on-failure --no-tests=error -L unit \
        -j $(($(nproc) + 1)) --output-junit "$REPORTS/ctest.xml" >"$ctest_log" 2>&1; then
        tail -n 3 "$ctest_log"
    else
        cat "$ctest_log"
        return 1
    fi
}

# All that runs there has one system.
packages_on_other_debian() { packages_of test-unit test-blackbox package bench; }

# on_other_debian COMMAND...: runs it in this tree on Debian 13 if this is 12, and on 12 if this is 13.
on_other_debian() {
    mkdir -p "$root/build"
    as_root flock "$root/build/debian.lock" env SOURCE_DIR="$root" setpriv --pdeathsig TERM \
        $python tests/service/other_debian.py "$(packages_on_other_debian | tr '\n' ' ')" "$@"
}
