# Two stages: the first compiles, the second is a base without a shell. The image contains the binary, glibc and CA
# certificates.
#
#     docker build -t gptproto-gateway .
#     docker run -p 8787:8787 -v gateway-data:/data -e GPTPROTO_API_KEY -e GATEWAY_CLIENT_KEYS gptproto-gateway
#
# To try it without an account: docker run -p 8787:8787 gptproto-gateway serve --sandbox

FROM docker.io/library/rust:1.95-bookworm AS builder
# "dist" is fully optimised; "release" builds in half the time.
ARG PROFILE=dist
WORKDIR /build

# Dependencies first, with a placeholder for the program: this layer is rebuilt only when they change.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
# The manifest names the benches, so their files must exist; they are not built.
COPY benches benches
RUN mkdir src \
    && echo 'fn main() {}' > src/main.rs \
    && touch src/lib.rs \
    && cargo build --profile "$PROFILE" --locked \
    && rm -r src

COPY config config
COPY src src
# Shown by the metric build_info, such as: --build-arg GATEWAY_REVISION=$(git rev-parse --short HEAD)
ARG GATEWAY_REVISION=
# The placeholder may be newer than the sources, and cargo compares times.
RUN touch src/main.rs src/lib.rs \
    && cargo build --profile "$PROFILE" --locked \
    && mkdir -p /empty/data \
    && cp "target/$PROFILE/gptproto-gateway" /gptproto-gateway

FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=builder /gptproto-gateway /usr/local/bin/gptproto-gateway
# A new named volume copies its content and owner from here.
COPY --from=builder --chown=65532:65532 /empty/data /data

# Numeric, so that Kubernetes can verify that the user is not root.
USER 65532:65532
# All other keys have their defaults; config/default.toml explains each.
ENV GATEWAY_SERVER__LISTEN=0.0.0.0:8787 \
    GATEWAY_OPERATOR__LISTEN=0.0.0.0:8788 \
    GATEWAY_STORAGE__DIRECTORY=/data
VOLUME /data
# 8787 is for clients. 8788 (health, metrics, status page) is for the operator: do not publish it.
EXPOSE 8787 8788
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
    CMD ["/usr/local/bin/gptproto-gateway", "healthcheck"]
ENTRYPOINT ["/usr/local/bin/gptproto-gateway"]
CMD ["serve"]
