# xks-proxy as a small image: one program, glibc for the vendor's PKCS#11 module,
# no shell, no root.
#
#   docker build -t xks-proxy --build-arg VERSION=v1.2.3 .
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
# The version is VERSION, or else the tag or commit of the clone that this is built from. Where
# there is no .git (an archive of the sources), VERSION has to be given. COPY needs a file that
# exists, hence go.mod; what .dockerignore leaves out does not count as a change.
ARG VERSION
COPY go.mod .gi[t] .git/
COPY cmd cmd
COPY configs configs
COPY internal internal
COPY pkg pkg
RUN vcs=true; \
    if git rev-parse --verify --quiet HEAD >/dev/null 2>&1; then \
        git ls-files --deleted -z | git update-index -z --skip-worktree --stdin; \
    elif [ -n "$VERSION" ]; then \
        vcs=false; \
    else \
        echo 'no version: build from a clone, or give --build-arg VERSION=v1.2.3' >&2; exit 1; \
    fi; \
    CGO_ENABLED=1 go build -trimpath -buildvcs=$vcs \
        -ldflags "-X 'xks-proxy/internal/version.stamped=$VERSION'" -o /out/xks-proxy ./cmd/xks-proxy
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
