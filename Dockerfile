# The sidecar image: the release build, the libraries that it loads, and certificates. There is no shell in it.
#
#   docker build -t retryd .
#
# In one pod with the application (or with --network container:NAME), it listens on the pod's own
# 127.0.0.1:4290. Variables set what the configuration sets: RETRYD_UPSTREAM_URL, RETRYD_RETRY_MAX_ATTEMPTS.
# To reach it from outside, it has to listen elsewhere (RETRYD_LISTEN), and needs client_keys_file or
# `insecure_listen = yes`, and the names that clients use in `allowed_hosts`.
#
# It runs as any user. Large request bodies wait in /var/tmp. With a read-only root file system, mount a
# writable volume there or set spool_dir.

FROM docker.io/library/debian:trixie-slim AS builder
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates gcc libc6-dev cmake ninja-build pkgconf libuv1-dev libmicrohttpd-dev \
        libcurl4-openssl-dev libcjson-dev libinih-dev zlib1g-dev libsystemd-dev libmimalloc-dev \
        libhiredis-dev libxxhash-dev libzstd-dev libssl-dev
WORKDIR /retryd
COPY . .
RUN cmake --preset release -DRETRYD_PROVIDER=OFF && cmake --build --preset release --target retryd manual \
    && DESTDIR=/out cmake --install build/release --strip
# Of each package with such a library, its licence and its entry in dpkg's database, which scanners read.
RUN set -eu; image=/image; \
    mkdir -p $image/usr/bin $image/usr/share/doc/retryd $image/etc/ssl/certs $image/var/lib/dpkg/status.d \
        $image/run $image/proc $image/sys $image/dev; \
    install -d -m 1777 $image/tmp $image/var/tmp; \
    cp /out/usr/bin/retryd $image/usr/bin; \
    cp -R /out/etc/retryd $image/etc; \
    cp LICENSE $image/usr/share/doc/retryd/copyright; \
    cp -L /etc/ssl/certs/ca-certificates.crt $image/etc/ssl/certs; \
    echo 'retryd:x:10001:10001:retryd:/:/usr/sbin/nologin' >$image/etc/passwd; \
    echo 'retryd:x:10001:' >$image/etc/group; \
    for file in $(ldd /out/usr/bin/retryd | grep -o '/[^ ]*') $(gcc -print-file-name=libgcc_s.so.1); do \
        file=$(realpath -s "$file"); \
        mkdir -p "$image$(dirname "$file")"; \
        cp -L "$file" "$image$file"; \
        realpath "$file"; \
    done >files; \
    for file in $(cat files); do \
        dpkg -S "$file" 2>/dev/null || dpkg -S "${file#/usr}"; \
    done | cut -d: -f1 | sort -u >packages; \
    for package in $(cat packages) ca-certificates; do \
        mkdir -p "$image/usr/share/doc/$package"; \
        cp -L "/usr/share/doc/$package/copyright" "$image/usr/share/doc/$package"; \
        dpkg -s "$package" >"$image/var/lib/dpkg/status.d/$package"; \
    done

FROM scratch
COPY --from=builder /image/ /
# A number shows a platform that this user is not root.
USER 10001:10001
EXPOSE 4290 4291
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["/usr/bin/retryd", "-c", "/etc/retryd/retryd.conf", "--health"]
ENTRYPOINT ["/usr/bin/retryd"]
CMD ["-c", "/etc/retryd/retryd.conf"]
