# The service as a small image: one static binary on nothing.
#
#   docker build -t ghcr.io/acemux/acemux .                      builds the binary in a container first
#   docker build -t ghcr.io/acemux/acemux --target prebuilt .    takes dist/acemux, built before (scripts/image does)

FROM scratch AS prebuilt
COPY dist/acemux /acemux
ENV DB_PATH=/data/acemux.db
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/acemux", "healthcheck"]
ENTRYPOINT ["/acemux"]
CMD ["serve"]

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
RUN RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --locked --target "$(uname -m)-unknown-linux-gnu" \
    && cp "target/$(uname -m)-unknown-linux-gnu/release/acemux" /acemux

FROM scratch
COPY --from=build /acemux /acemux
ENV DB_PATH=/data/acemux.db
EXPOSE 8000
VOLUME /data
HEALTHCHECK --interval=10s --timeout=5s --start-period=5s --retries=3 CMD ["/acemux", "healthcheck"]
ENTRYPOINT ["/acemux"]
CMD ["serve"]
