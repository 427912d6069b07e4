# The bridge as one static binary on an image without shell or package manager.
# Build arguments: VERSION names the release in "acsbridge version" and REVISION its
# commit, in the labels. It needs BuildKit, which is the default since Docker 23 (before:
# DOCKER_BUILDKIT=1).

FROM --platform=$BUILDPLATFORM golang:1.26.8-bookworm AS build
WORKDIR /src

# Modules first: they change less often than the code.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download

COPY . .
ARG TARGETOS
ARG TARGETARCH
ARG VERSION
# .git is not in the build context, so the version comes from VERSION alone.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -mod=readonly -trimpath -buildvcs=false \
    -ldflags="-s -w -X main.version=$VERSION" -o /out/acsbridge ./cmd/acsbridge \
 && mkdir -p -m 0700 /out/volume/data

# Distroless names no patch releases; pin its digest where builds must repeat
# to the byte. It brings the CA certificates that the key server needs.
FROM gcr.io/distroless/static-debian12:nonroot
COPY --from=build /out/acsbridge /acsbridge
# A fresh volume takes owner and mode from this directory. Without it the
# volume belongs to root, and the journal cannot be opened. COPY keeps the mode of
# what is in the directory that it copies, not of the directory.
COPY --from=build --chown=65532:65532 /out/volume/ /

ARG VERSION
ARG REVISION
LABEL org.opencontainers.image.title=acsbridge \
      org.opencontainers.image.description="From Azure Communication Services callbacks to NATS JetStream" \
      org.opencontainers.image.source=https://github.com/acsbridge/acsbridge \
      org.opencontainers.image.documentation=https://github.com/acsbridge/acsbridge/blob/main/docs/deployment.md \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=$VERSION \
      org.opencontainers.image.revision=$REVISION \
      org.opencontainers.image.base.name=gcr.io/distroless/static-debian12:nonroot

# All interfaces of the container; the admin listener stays on its loopback,
# where "acsbridge health" asks it.
ENV ACSBRIDGE_LISTEN=0.0.0.0:8080
ENV ACSBRIDGE_DATA_DIR=/data
VOLUME /data
EXPOSE 8080
USER 65532:65532
ENTRYPOINT ["/acsbridge"]
CMD ["serve"]
