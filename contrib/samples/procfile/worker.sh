#!/bin/sh
# A worker without a port: says once in a while that it is alive, and stops when told to.
trap 'echo "stopping"; exit 0' TERM
count=0
while :; do
    count=$((count + 1))
    echo "${GREETING:-working}, round $count"
    sleep "${PAUSE:-5}" &
    wait $!
done
