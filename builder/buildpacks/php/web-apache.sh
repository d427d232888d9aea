#!/bin/sh
# Starts Apache with PHP in it for this app. WEB_CONCURRENCY: requests answered at a time.
MOORING_ROOT="$PWD/@ROOT@"
MOORING_APACHE=$(mktemp -d) || exit 1
MOORING_ROOT=${MOORING_ROOT%/}
WEB_CONCURRENCY=${WEB_CONCURRENCY:-8}
export MOORING_ROOT MOORING_APACHE WEB_CONCURRENCY PORT
exec /usr/sbin/apache2 -f "$PWD/.mooring/php/apache.conf" -DFOREGROUND
