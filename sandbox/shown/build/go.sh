# go.sh PRECOMPILED GO PROGRAM FOLDER ARGUMENTS...
# Builds the package in FOLDER: as a part of its module when there is a go.mod, else from its files alone.
# The library in compiled form is read where it is. A time of now keeps Go from tidying it.
for library in "${2%/*}/../pkg/std" "$1/std" /usr/local/share/occd-go; do
    if [ -d "$library/00" ] && mkdir -p "$GOCACHE"; then
        ln -s "$library"/?? "$library/README" "$GOCACHE"
        date +%s > "$GOCACHE/trim.txt"
        break
    fi
done
export XDG_CONFIG_HOME=/tmp/go-config # it counts there how it was used, which is nothing that the program needs
go=$2 program=$PWD/$3 folder=$4
shift 4
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
