#!/bin/sh
# A lab double stands in for the program.
exec /usr/bin/python3 -P -m doubles.grafana_double "$@"
