#!/bin/sh
# Asks for two more nodes, as a member does: run it in a pod of MiniCluster "demo", or name another one.
#
#   examples/grow.sh            # 2 more for demo
#   examples/grow.sh demo 4     # 4 more
#
# It needs grpcurl, and proto/ensemble/ensemble.proto of this repository in the directory beside it.
exec grpcurl -plaintext -import-path "$(dirname "$0")/../proto/ensemble" -proto ensemble.proto \
  -d "{\"member\": \"minicluster\", \"name\": \"${1:-demo}\", \"action\": \"grow\", \"payload\": \"{\\\"grow\\\": ${2:-2}}\"}" \
  "${ENDPOINT:-ensemble-autoscaler.ensemble-autoscaler-system.svc:50051}" convergedcomputing.org.grpc.v1.EnsembleOperator/RequestAction
