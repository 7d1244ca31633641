# java.sh PRECOMPILED JAVA ARGUMENTS...
# Starts Java with the classes in PRECOMPILED. Told of an archive that is not there, Java would use none at all.
archive=$1/javac/javac.jsa java=$2
shift 2
[ ! -f "$archive" ] || set -- "-XX:SharedArchiveFile=$archive" "$@"
exec "$java" "$@"
