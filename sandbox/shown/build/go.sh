# go.sh GO PROGRAM FOLDER ARGUMENTS...
# Builds the package in FOLDER: as a part of its module when there is a go.mod, else from its files alone.
# An image has the library in compiled form, to be read there. A time of now keeps Go from tidying it.
if [ -d /usr/local/share/occd-go ] && mkdir -p "$GOCACHE"; then
    ln -s /usr/local/share/occd-go/?? /usr/local/share/occd-go/README "$GOCACHE"
    date +%s > "$GOCACHE/trim.txt"
fi
go=$1 program=$PWD/$2 folder=$3
shift 3
set -- "$@" -o "$program"
module=$PWD/$folder
while [ -n "$module" ] && [ ! -f "$module/go.mod" ]; do module=${module%/*}; done
if [ -n "$module" ]; then
    package=$PWD/$folder
    cd "$module" || exit
    set -- "$@" ".${package#"$module"}"
else
    for file in "$folder"/*.go; do
        case $file in *_test.go) ;; *) set -- "$@" "$file" ;; esac
    done
fi
"$go" build "$@" || exit
[ -x "$program" ] && exit
echo "This is not a program: it needs \"package main\" with a func main." >&2
exit 1
