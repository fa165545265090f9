#!/bin/sh
# Stands in for the machine's while dev installs packages: those of RETRYD_NOT_ENABLED are not started at boot.
case " $RETRYD_NOT_ENABLED " in
*" $1 "*) [ "$2" != defaults ] || set -- "$1" defaults-disabled ;;
esac
exec /usr/sbin/update-rc.d "$@"
