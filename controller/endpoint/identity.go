package endpoint

import (
	"context"
	"fmt"
	"net"

	"google.golang.org/grpc/peer"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// indexPodIP finds the pods that have an address.
const indexPodIP = "status.podIP"

// miniClusterKind is the kind of the owner of a member's Job.
const miniClusterKind = "MiniCluster"

// AddIndexes prepares a cache for the server.
func AddIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	addresses := func(object client.Object) []string {
		pod, ok := object.(*corev1.Pod)
		// An address that a pod has left may belong to another; on the host's network it is the host's.
		if !ok || ended(pod) || pod.Spec.HostNetwork || pod.Status.PodIP == "" {
			return nil
		}
		out := []string{pod.Status.PodIP}
		for _, ip := range pod.Status.PodIPs {
			if ip.IP != pod.Status.PodIP {
				out = append(out, ip.IP)
			}
		}
		return out
	}
	if err := indexer.IndexField(ctx, &corev1.Pod{}, indexPodIP, addresses); err != nil {
		return fmt.Errorf("index Pods by %s: %w", indexPodIP, err)
	}
	return nil
}

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// caller is who sent a request.
type caller struct {
	pod *corev1.Pod
	// cluster is the MiniCluster that the pod belongs to.
	cluster types.NamespacedName
}

// identify finds the MiniCluster of a request by the address that it came from. Members send no credentials
// and no namespace; the address of a pod is what the network vouches for. The error says why the request is
// refused.
func (s *Server) identify(ctx context.Context) (*caller, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("the address of the caller is not known")
	}
	host, _, err := net.SplitHostPort(from.Addr.String())
	if err != nil {
		return nil, fmt.Errorf("the caller's address %q is not that of a pod", from.Addr)
	}
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
	}
	var pods corev1.PodList
	if err := s.client.List(ctx, &pods, client.MatchingFields{indexPodIP: host}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("find the pod with address %s: %w", host, err)
	}
	switch len(pods.Items) {
	case 0:
		return nil, fmt.Errorf("the caller's address %s belongs to no running pod with a network of its own", host)
	case 1:
	default:
		return nil, fmt.Errorf("the caller's address %s belongs to %d pods; it does not tell them apart", host, len(pods.Items))
	}
	pod := &pods.Items[0]
	cluster, err := s.clusterOf(ctx, pod)
	if err != nil {
		return nil, err
	}
	return &caller{pod: pod, cluster: cluster}, nil
}

// clusterOf is the MiniCluster of a pod: the owner of the Job that owns the pod.
func (s *Server) clusterOf(ctx context.Context, pod *corev1.Pod) (types.NamespacedName, error) {
	none := func() (types.NamespacedName, error) {
		return types.NamespacedName{}, fmt.Errorf("the caller, pod %s/%s, belongs to no MiniCluster", pod.Namespace, pod.Name)
	}
	owner := metav1.GetControllerOf(pod)
	if owner == nil || owner.Kind != "Job" {
		return none()
	}
	var job batchv1.Job
	if err := s.client.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}, &job); err != nil {
		return types.NamespacedName{}, fmt.Errorf("find the Job of pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	cluster := metav1.GetControllerOf(&job)
	if job.UID != owner.UID || cluster == nil || cluster.Kind != miniClusterKind {
		return none()
	}
	return types.NamespacedName{Namespace: pod.Namespace, Name: cluster.Name}, nil
}
