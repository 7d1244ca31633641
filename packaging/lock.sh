#!/bin/sh
# Writes packaging/locked: the newest releases that pyproject.toml allows, with the hashes of their files, for
# CPython 3.11 and newer on Linux. `make lock` starts it, and nothing else writes there.
# PYTHON and UV name the programs. KEEP=1 changes only what pyproject.toml no longer allows, and ONLY=NAME also takes
# the newest release of this package, which another package may have asked for.
set -eu
python=${PYTHON:-python3} uv=${UV:-uv}

# uv does not read pip's configuration, and a machine may have another index there.
UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-$("$python" -m pip config get global.index-url 2>/dev/null || true)}
[ -z "$UV_DEFAULT_INDEX" ] || export UV_DEFAULT_INDEX

if [ -n "${ONLY:-}" ] && ! grep -qx "$ONLY==.*" packaging/locked/*.txt; then
    echo "occd: cannot lock: packaging/locked has no package $ONLY" >&2
    exit 1
fi

project=$PWD
made=$(mktemp -d)
trap 'rm -rf "$made"' EXIT
cp pyproject.toml "$made"
if [ -n "${KEEP:-}${ONLY:-}" ]; then # uv prefers what its output names already
    cp packaging/locked/*.txt "$made"
    cat packaging/locked/run.txt packaging/locked/build.txt packaging/locked/dev.txt packaging/locked/binary.txt \
        > "$made/all.txt"
fi
cd "$made" # so that the files name no folder of this machine

compile() {
    "$uv" pip compile --quiet --no-config --no-sources --universal --python-version 3.11 --only-binary :all: \
        --generate-hashes --no-emit-index-url --custom-compile-command "make lock" ${ONLY:+--upgrade-package "$ONLY"} \
        --output-file "$@"
}

"$python" -c 'import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > build-system

# All at once first, so that a package has the same version in all files.
compile all.txt pyproject.toml build-system --group dev --group binary
compile run.txt pyproject.toml --constraint all.txt
compile build.txt build-system --constraint all.txt
compile dev.txt --group dev --constraint all.txt
compile binary.txt --group binary --constraint all.txt
compile checkers.txt --group checkers --no-deps
compile compose.txt --group compose

rm all.txt
mkdir -p "$project/packaging/locked"
cp ./*.txt "$project/packaging/locked"
