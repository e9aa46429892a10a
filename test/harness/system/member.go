package system

import (
	"context"
	"errors"
	"fmt"
	"net"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// Ask speaks to the ensemble endpoint as the program in a pod does: without credentials, from the address of
// the pod. Pods of the embedded control plane have addresses of the loopback network.
func (s *System) Ask(
	ctx context.Context, pod *corev1.Pod, question func(context.Context, ensemble.EnsembleOperatorClient) (*ensemble.Response, error),
) (response *ensemble.Response, err error) {
	ip := net.ParseIP(pod.Status.PodIP)
	if ip == nil {
		return nil, fmt.Errorf("pod %s/%s has no address yet", pod.Namespace, pod.Name)
	}
	return s.AskFrom(ctx, ip, question)
}

// AskFrom is Ask from any address of the loopback network.
func (s *System) AskFrom(
	ctx context.Context, ip net.IP, question func(context.Context, ensemble.EnsembleOperatorClient) (*ensemble.Response, error),
) (response *ensemble.Response, err error) {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: ip}}
	connection, err := grpc.NewClient("passthrough:///"+s.EndpointAddress,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			return dialer.DialContext(ctx, "tcp", address)
		}))
	if err != nil {
		return nil, fmt.Errorf("connect to the ensemble endpoint: %w", err)
	}
	defer func() { err = errors.Join(err, connection.Close()) }()
	return question(ctx, ensemble.NewEnsembleOperatorClient(connection))
}

// Action asks for an action as ensemble-python's client does.
func (s *System) Action(ctx context.Context, pod *corev1.Pod, name, action string, amount int) (*ensemble.Response, error) {
	return s.Ask(ctx, pod, func(ctx context.Context, c ensemble.EnsembleOperatorClient) (*ensemble.Response, error) {
		return c.RequestAction(ctx, &ensemble.ActionRequest{
			Member: "miniclusters", Name: name, Action: action,
			Payload: fmt.Sprintf(`{"version":"v1alpha2","group":"flux-framework.org","%s":%d}`, action, amount),
		})
	})
}
