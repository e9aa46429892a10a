# Images of the two processes: `docker build --target provider .`, `--target controller .`, or no target for
# one image with both. They hold static binaries, CA certificates and nothing else, and run as no user of the
# host.

FROM golang:1.26 AS build
WORKDIR /source
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# What the binaries report as their version; .git is not in the build context.
ARG VERSION=dev
RUN for program in provider controller; do \
      CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=${VERSION}" \
        -o /out/$program ./cmd/$program || exit; \
    done

FROM scratch AS base
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
