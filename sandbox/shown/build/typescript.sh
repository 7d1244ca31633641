# typescript.sh OUTPUT TSC ARGUMENTS...
# Compiles; when the program uses what only ECMAScript modules have, once more as one.
output=$1
shift
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
