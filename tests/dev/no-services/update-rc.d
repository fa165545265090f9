#!/bin/sh
# Replaces the machine's own program while dev installs packages: the services in RETRYD_NOT_ENABLED do not start at boot.
case " $RETRYD_NOT_ENABLED " in
*" $1 "*) [ "$2" != defaults ] || set -- "$1" defaults-disabled ;;
esac
exec /usr/sbin/update-rc.d "$@"
