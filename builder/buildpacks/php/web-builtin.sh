#!/bin/sh
# Starts PHP's own web server, with several processes.
export PHP_CLI_SERVER_WORKERS="${WEB_CONCURRENCY:-4}"
root="$PWD/@ROOT@"
exec php -S "0.0.0.0:$PORT" -t "${root%/}"
