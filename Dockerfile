# The service as a small image: one static binary on nothing.
#
#   docker build -t ghcr.io/acemux/acemux .                      builds the binary in a container first
#   docker build -t ghcr.io/acemux/acemux --target prebuilt .    takes dist/, made before (scripts/image does)
#
# There is no USER: which user may use Docker's socket differs from host to host (docs/deployment.md). /data is open to
# all, so that a new volume can be written by whichever user the container is given, root without capabilities included.

ARG RUST_IMAGE=rust:1.95-bookworm

FROM scratch AS base
ARG VERSION=dev
ARG REVISION=
LABEL org.opencontainers.image.title="acemux" \
    org.opencontainers.image.description="One URL per AceStream channel, for any number of players" \
    org.opencontainers.image.source="https://github.com/acemux/acemux" \
    org.opencontainers.image.documentation="https://github.com/acemux/acemux/tree/main/docs" \
    org.opencontainers.image.licenses="MIT OR Apache-2.0" \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION"
ENV DB_PATH=/data/acemux.db
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/acemux", "healthcheck"]
ENTRYPOINT ["/acemux"]
CMD ["serve"]

FROM base AS prebuilt
# Builders before BuildKit, docker-compose 1.29's among them, make this stage also on the way to the last one. There is no
# dist/ then: a pattern, beside a file that is always there, may match nothing.
COPY LICENSE-* dis[t] /
VOLUME /data

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The image's own compiler instead of the one that rust-toolchain.toml would fetch.
RUN export RUSTUP_TOOLCHAIN="$RUST_VERSION" RUSTFLAGS='-C target-feature=+crt-static' \
    && target="$(rustc -vV | sed -n 's/^host: //p')" \
    && cargo build --release --locked --target "$target" --package acemux-server \
    && mkdir /dist && cp "target/$target/release/acemux" /dist/ && mkdir -m 0777 /dist/data \
    && cargo metadata --format-version 1 --locked --filter-platform "$target" >/tmp/metadata.json \
    && python3 scripts/inventory.py licences /tmp/metadata.json >/dist/LICENSES.md

FROM base
COPY LICENSE-* /
COPY --from=build /dist/ /
VOLUME /data
