# java.sh ARCHIVE JAVA ARGUMENTS...
# Starts Java with the classes in ARCHIVE. Told of an archive that is not there, Java would use none at all.
archive=$1 java=$2
shift 2
[ ! -f "$archive" ] || set -- "-XX:SharedArchiveFile=$archive" "$@"
exec "$java" "$@"
