# Images of the two processes: `docker build --target provider .`, `--target controller .`, or no target for
# one image with both. They hold static binaries, CA certificates and nothing else, and run as no user of the
# host.

#
# The compiler runs on the machine that builds, for whatever platform is asked for: `docker buildx build --platform linux/amd64,linux/arm64 .`
# A release pins the image that it compiles with: `--build-arg GO_IMAGE=golang@sha256:...`

ARG GO_IMAGE=golang:1.26
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /source
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What the binaries report as their version; .git is not in the build context.
ARG VERSION=dev TARGETOS TARGETARCH
RUN for program in provider controller; do \
      CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" \
        -o /out/$program ./cmd/$program || exit; \
    done

FROM scratch AS base
ARG VERSION=dev REVISION=unknown
LABEL org.opencontainers.image.title=ensemble-autoscaler \
      org.opencontainers.image.description="Nodes for HPC ensembles on Kubernetes, before their pods" \
      org.opencontainers.image.licenses=Apache-2.0 \
      org.opencontainers.image.version=${VERSION} \
      org.opencontainers.image.revision=${REVISION}
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY LICENSE /
USER 65532:65532

FROM base AS provider
COPY --from=build /out/provider /
ENTRYPOINT ["/provider"]

FROM base AS controller
COPY --from=build /out/controller /
ENTRYPOINT ["/controller"]

# The default, because it is the last. It has no entrypoint of its own: run it with the command /provider or
# /controller.
FROM base
COPY --from=build /out/provider /out/controller /
