# typescript.sh TSC ARGUMENTS...
# Compiles; when the program uses what only ECMAScript modules have, once more as one.
said=$("$@")
status=$?
case $said in
*" error TS1309: "* | *" error TS1378: "* | *" error TS1432: "* | *" error TS1470: "*)
    if [ ! -e package.json ]; then
        echo '{"type": "module"}' >package.json
        exec "$@"
    fi
    ;;
esac
[ -z "$said" ] || printf '%s\n' "$said"
exit $status
