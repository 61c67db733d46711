#!/bin/sh
# A lab double stands in for the program whose name this bears.
exec /usr/bin/python3 -P -m doubles.servarr_double "${0##*/}" "$@"
