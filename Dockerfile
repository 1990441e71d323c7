# xks-proxy as a small image: one program, glibc for the vendor's PKCS#11 module,
# no shell, no root.
#
#   docker build -t xks-proxy .
#   docker run --read-only --cap-drop ALL --security-opt no-new-privileges -p 443:8443 \
#       -v "$PWD/etc:/etc/xks-proxy:ro" -v /opt/vendor:/opt/vendor:ro -v xks-state:/var/lib/xks-proxy xks-proxy
#
# In etc/: xks-proxy.yaml with server.listen 0.0.0.0:8443, state_directory
# /var/lib/xks-proxy, modules below /opt/vendor; certificate, key, PINs and secrets,
# readable by user or group 65532 (chown 65532, chmod 600). There is no HEALTHCHECK: load balancers and
# orchestrators ask GET /healthz/ready (health.listen).

FROM golang:1.26-bookworm AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY cmd cmd
COPY configs configs
COPY internal internal
COPY pkg pkg
RUN CGO_ENABLED=1 go build -trimpath -buildvcs=false -o /out/xks-proxy ./cmd/xks-proxy
RUN mkdir -p /out/state

# Debian 12's glibc, libgcc and libstdc++, which modules need; the same release as above.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /out/xks-proxy /usr/local/bin/xks-proxy
COPY --from=build --chown=65532:65532 /out/state /var/lib/xks-proxy
VOLUME /var/lib/xks-proxy
USER 65532:65532
EXPOSE 8443
ENTRYPOINT ["/usr/local/bin/xks-proxy"]
CMD ["serve", "--config", "/etc/xks-proxy/xks-proxy.yaml"]
