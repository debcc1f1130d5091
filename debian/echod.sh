#!/bin/sh
# Run echod in the foreground, or `echod check`: see echod(8).
case "$1" in
check) exec /usr/lib/echod/bin/python3 -m echod "$@" ;;
*) exec /usr/lib/echod/bin/twistd -n --pidfile= echod "$@" ;;
esac
