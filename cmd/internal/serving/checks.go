package serving

import (
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"
)

// checks answers whether a server is healthy, and lets nobody watch it: a watch is the only request that is never answered, and whoever has
// some would keep, for nothing, the places of those who ask for something.
type checks struct{ *health.Server }

// Watch implements healthv1.HealthServer. A client that would balance by health takes this answer for healthy, as the protocol has it
// (https://github.com/grpc/grpc/blob/master/doc/health-checking.md).
func (*checks) Watch(*healthv1.HealthCheckRequest, grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	return status.Error(codes.Unimplemented, "health is not watched here; ask with Check, as the kubelet does")
}
