package endpoint

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

// miniClusterKind is the kind of the owner of a member's Job, miniClusterGroup its API group.
const (
	miniClusterKind  = "MiniCluster"
	miniClusterGroup = payloadGroup
)

func addressesOf(pod *corev1.Pod) []string {
	if pod.Status.PodIP == "" {
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

func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// intent is what a caller wants of a member.
type intent struct {
	// verb and subresource are what a caller who is not a member needs to be granted on ensemblemembers.
	verb, subresource string
}

var (
	toResize = intent{verb: "update", subresource: "scale"}
	toRead   = intent{verb: "get"}
)

// caller is who sent a request, and for which MiniCluster it may speak.
type caller struct {
	// by names the caller: a pod, or a ServiceAccount.
	by string
	// cluster is the MiniCluster that the request is about.
	cluster types.NamespacedName
	// uid is that of the MiniCluster, where one of its pods asks. Others know a MiniCluster by its name alone.
	uid types.UID
}

// identify finds out who sent a request and that it may speak for the MiniCluster of that name. Members send no
// credentials and no namespace; the address of a pod is what the network vouches for. Others send a ServiceAccount's
// token. The error says why the request is refused; it is a denied where it is not our fault. A request of a caller that
// is known counts towards the rate of its MiniCluster.
func (s *Server) identify(ctx context.Context, name string, to intent) (*caller, error) {
	if err := checkLength(name); err != nil {
		return nil, err
	}
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil, deny("the address of the caller is not known")
	}
	host, _, err := net.SplitHostPort(from.Addr.String())
	if err != nil {
		return nil, deny("the caller's address %q is not that of a pod", from.Addr)
	}
	if ip := net.ParseIP(host); ip != nil {
		host = ip.String()
	}
	if given := metadata.ValueFromIncomingContext(ctx, "authorization"); len(given) > 0 {
		return s.identifyByToken(ctx, from, host, given, name, to)
	}
	pod, err := s.podAt(host)
	if err != nil {
		if unknown, is := errors.AsType[*denied](err); is && s.trustUnknown {
			return s.believe(ctx, host, name, unknown)
		}
		return nil, err
	}
	cluster, uid, err := s.clusterOf(ctx, pod)
	if err != nil {
		return nil, err
	}
	if name != cluster.Name {
		return nil, deny(
			"pod %s belongs to MiniCluster %q and may speak for that one only, not for %q", pod.Key(), cluster.Name, shortenText(name),
		)
	}
	// Up to here a request has cost nothing but memory. What the API server is asked, a member may make it ask only so often.
	if err := s.limit.allow(cluster); err != nil {
		return nil, err
	}
	if to == toResize {
		if err := s.stillAt(ctx, pod, host); err != nil {
			return nil, err
		}
	}
	return &caller{by: "pod " + pod.Key().String(), cluster: cluster, uid: uid}, nil
}

// checkLength refuses what is too long for the name of a MiniCluster, with or without a namespace, before any of it is kept
// or logged.
func checkLength(name string) error {
	namespace, bare, has := strings.Cut(name, "/")
	if !has {
		namespace, bare = "", name
	}
	switch {
	case len(namespace) > validation.DNS1123LabelMaxLength:
		return deny(
			"the namespace in name has %d characters; that of a namespace has at most %d", len(namespace), validation.DNS1123LabelMaxLength,
		)
	case len(bare) > validation.DNS1123SubdomainMaxLength:
		return deny("name has %d characters; that of a MiniCluster has at most %d", len(bare), validation.DNS1123SubdomainMaxLength)
	}
	return nil
}

// stillAt asks the API server whether a pod still has an address: the cache may be behind, and the address of a pod that
// has ended goes to another one, which may be anybody's.
func (s *Server) stillAt(ctx context.Context, known *pods.Pod, host string) error {
	if err := s.affords(known.Key().Namespace); err != nil {
		return err
	}
	var pod corev1.Pod
	err := s.live.Get(ctx, known.Key(), &pod)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return fmt.Errorf("read Pod %s: %w", known.Key(), err)
	case err != nil, pod.UID != known.UID(), ended(&pod), !slices.Contains(addressesOf(&pod), host):
		return deny("the caller's address %s was that of pod %s, which has it no more", host, known.Key())
	}
	return nil
}

// podAt is the running pod that has an address for itself.
func (s *Server) podAt(host string) (*pods.Pod, error) {
	switch at := s.pods.At(host); len(at) {
	case 0:
		return nil, deny("the caller's address %s belongs to no running pod with a network of its own", host)
	case 1:
		return at[0], nil
	default:
		return nil, deny("the caller's address %s belongs to %d pods; it does not tell them apart", host, len(at))
	}
}

// clusterOf is the MiniCluster, and its uid, of a pod: the owner of the Job that owns the pod. Whoever may create Jobs can
// write any owner into one. The Job of a MiniCluster has its name, which no other Job can have beside it; whether the uid is
// right is known when the EnsembleMember is.
func (s *Server) clusterOf(ctx context.Context, pod *pods.Pod) (types.NamespacedName, types.UID, error) {
	key, owner := pod.Key(), pod.Owner()
	none := deny("the caller, pod %s, belongs to no MiniCluster", key)
	if !owner.IsJob() {
		return types.NamespacedName{}, "", none
	}
	var job batchv1.Job
	switch err := s.client.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: owner.Name}, &job); {
	case apierrors.IsNotFound(err):
		return types.NamespacedName{}, "", none
	case err != nil:
		return types.NamespacedName{}, "", fmt.Errorf("find the Job of pod %s: %w", key, err)
	}
	cluster := metav1.GetControllerOf(&job)
	// Anybody who may create pods can write any owner into one; the Job's uid gives that away.
	if job.UID != owner.UID || cluster == nil || cluster.Kind != miniClusterKind || !strings.HasPrefix(
		cluster.APIVersion, miniClusterGroup+"/",
	) {
		return types.NamespacedName{}, "", none
	}
	if job.Name != cluster.Name {
		return types.NamespacedName{}, "", deny("the caller, pod %s, belongs to no MiniCluster: its Job %q says that it is MiniCluster %q's, "+
			"whose Job has the same name as the MiniCluster",
			key, job.Name, shortenText(cluster.Name))
	}
	return types.NamespacedName{Namespace: key.Namespace, Name: cluster.Name}, cluster.UID, nil
}

// believe takes a caller whom nothing identifies for what it says. It is for demonstrations on one machine.
func (s *Server) believe(ctx context.Context, host, name string, unknown error) (*caller, error) {
	by := "an unidentified caller at " + host
	if namespace, bare, has := strings.Cut(name, "/"); has {
		cluster := types.NamespacedName{Namespace: namespace, Name: bare}
		return &caller{by: by, cluster: cluster}, s.limit.allow(cluster)
	}
	var members v1alpha1.EnsembleMemberList
	if err := s.client.List(ctx, &members, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list EnsembleMembers: %w", err)
	}
	var found []types.NamespacedName
	for i := range members.Items {
		if members.Items[i].Name == name {
			found = append(found, client.ObjectKeyFromObject(&members.Items[i]))
		}
	}
	if len(found) != 1 {
		return nil, deny(
			"%v; there are %d managed MiniClusters called %q, and one is needed (namespace/name tells them apart)", unknown, len(found),
			shortenText(name),
		)
	}
	return &caller{by: by, cluster: found[0]}, s.limit.allow(found[0])
}
