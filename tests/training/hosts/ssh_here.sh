#!/bin/sh
# Called as ssh is, with options, a host and a command; runs the command on this machine.
while [ "${1#-}" != "$1" ]; do
  case "$1" in -o | -p) shift 2 ;; *) shift ;; esac
done
shift
exec sh -c "$*"
