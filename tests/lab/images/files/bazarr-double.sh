#!/bin/sh
# A lab double stands in for the program, which is this interpreter's first argument.
shift
exec /usr/bin/python3 -P -m doubles.bazarr_double "$@"
