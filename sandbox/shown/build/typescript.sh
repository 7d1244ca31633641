# typescript.sh VERSION OUTPUT TSC ARGUMENTS...
# Compiles; when the program uses what only ECMAScript modules have, once more as one.
version=$1 output=$2 tsc=$3
shift 3
set -f # no file is meant by *
case $version in
[0-3].* | 4.[0-6] | 4.[0-6].*) usual="--target es2020 --lib es2020 --module commonjs" ;;
*) usual="--target es2022 --lib es2022 --module nodenext --moduleDetection force" ;;
esac
case $version in
[0-5].*) ;;
*) usual="$usual --types *" ;; # what older versions do unasked
esac
set -- "$tsc" $usual "$@"
said=$("$@")
status=$?
case $said in
*" error TS1309: "* | *" error TS1378: "* | *" error TS1432: "* | *" error TS1470: "*)
    if [ ! -e package.json ]; then
        echo '{"type": "module"}' >package.json
        said=$("$@")
        status=$?
    fi
    ;;
esac
[ -z "$said" ] || printf '%s\n' "$said"
[ $status = 0 ] || exit $status
[ -f "$output" ] && exit
echo "The compiler wrote no $output. Leave out compile_args that ask for something else, like --outDir." >&2
exit 1
