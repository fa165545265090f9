# The sidecar image: the release build, and only the libraries that it needs.
#
#   docker build -t retryd .
#
# In one pod with the application (or with --network container:NAME), it listens on the pod's own
# 127.0.0.1:4290. To reach it from outside, mount a /etc/retryd/retryd.conf that listens elsewhere, has
# `client_keys_file` (or `insecure_listen = yes`, and then whoever reaches it spends your key), and
# lists the names that clients use in `allowed_hosts`.
#
# Large request bodies wait in /var/tmp. With a read-only root file system, mount a writable volume
# there or set spool_dir.

FROM docker.io/library/debian:bookworm-slim AS builder
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        gcc libc6-dev cmake ninja-build pkgconf libuv1-dev libmicrohttpd-dev \
        libcurl4-openssl-dev libcjson-dev libinih-dev zlib1g-dev libsystemd-dev libmimalloc-dev \
        libhiredis-dev libxxhash-dev libzstd-dev
WORKDIR /retryd
COPY . .
RUN cmake --preset release -DRETRYD_PROVIDER=OFF && cmake --build --preset release --target retryd \
    && DESTDIR=/out cmake --install build/release --strip \
    && rm -rf /out/usr/lib/systemd

FROM docker.io/library/debian:bookworm-slim
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates libuv1 libmicrohttpd12 libcurl4 libcjson1 libinih1 zlib1g libsystemd0 \
        libmimalloc2.0 libhiredis0.14 libxxhash0 libzstd1 \
    && rm -rf /var/lib/apt/lists/*
COPY --from=builder /out/ /
# A number shows a platform that this user is not root.
USER 10001:10001
EXPOSE 4290 4291
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s \
    CMD ["/usr/bin/retryd", "-c", "/etc/retryd/retryd.conf", "--health"]
ENTRYPOINT ["/usr/bin/retryd"]
CMD ["-c", "/etc/retryd/retryd.conf"]
