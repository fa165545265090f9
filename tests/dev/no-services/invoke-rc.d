#!/bin/sh
# Stands in for the machine's while dev installs packages: no service is started, stopped or reloaded.
exit 0
