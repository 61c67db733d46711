#!/bin/sh
# A lab double stands in for the program; upstream's image starts it as "npm start".
exec /usr/bin/python3 -P -m doubles.seerr_double
