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
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/validation"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
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

// caller is who sent a request, and for which workload it may speak.
type caller struct {
	// by names the caller: a pod, or a ServiceAccount.
	by string
	// workload is the one that the request is about, of a kind.
	kind     member.Kind
	workload types.NamespacedName
	// uid is that of the workload, where one of its pods asks. Others know a workload by its name alone.
	uid types.UID
}

// member is the key of the EnsembleMember of the workload.
func (c *caller) member() types.NamespacedName {
	return types.NamespacedName{Namespace: c.workload.Namespace, Name: member.Name(c.kind, c.workload.Name)}
}

// identify finds out who sent a request and that it may speak for the workload of that name. Members send no
// credentials and no namespace; the address of a pod is what the network vouches for. Others send a ServiceAccount's
// token. The error says why the request is refused; it is a denied where it is not our fault. A request of a caller that
// is known counts towards the rate of its workload. kind is what the caller calls it, nil for none of the kinds: a pod
// is known to be of one all the same.
func (s *Server) identify(ctx context.Context, kind member.Kind, name string, to intent) (*caller, error) {
	if err := checkLength(s.orFirst(kind), name); err != nil {
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
		return s.identifyByToken(ctx, from, host, given, s.orFirst(kind), name, to)
	}
	pod, err := s.podAt(host)
	if err != nil {
		if unknown, is := errors.AsType[*denied](err); is && s.trustUnknown {
			return s.believe(ctx, s.orFirst(kind), host, name, unknown)
		}
		return nil, err
	}
	known, err := s.workloadOf(ctx, pod)
	if err != nil {
		return nil, err
	}
	if name != known.workload.Name {
		return nil, deny(
			"pod %s belongs to %s %q and may speak for that one only, not for %q", pod.Key(), known.kind.Words().Kind, known.workload.Name,
			shortenText(name),
		)
	}
	// Up to here a request has cost nothing but memory. What the API server is asked, a member may make it ask only so often.
	if err := s.allow(known); err != nil {
		return nil, err
	}
	if to == toResize {
		if err := s.stillAt(ctx, pod, host); err != nil {
			return nil, err
		}
	}
	return known, nil
}

// orFirst is a kind, and where there is none the first one: who is refused in a moment for want of a kind is known, and counted, before.
func (s *Server) orFirst(kind member.Kind) member.Kind {
	if kind == nil {
		return s.kinds[0]
	}
	return kind
}

// allow takes one request of a caller into account.
func (s *Server) allow(c *caller) error {
	return s.limit.allow(c.member(), c.kind.Words().Kind+" "+c.workload.String())
}

// checkLength refuses what is too long for the name of a workload, with or without a namespace, before any of it is kept
// or logged.
func checkLength(kind member.Kind, name string) error {
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
		return deny(
			"name has %d characters; that of a %s has at most %d", len(bare), kind.Words().Kind, validation.DNS1123SubdomainMaxLength,
		)
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

// workloadOf is the workload of a pod, for which the pod may speak: the one that the Job is of that owns the pod. Whoever may create Jobs
// can write any owner into one. The Job of a workload has a name that follows from the workload's, which no other Job can have beside it;
// whether the uid is right is known when the EnsembleMember is.
func (s *Server) workloadOf(ctx context.Context, pod *pods.Pod) (*caller, error) {
	key, owner := pod.Key(), pod.Owner()
	none := deny("the caller, pod %s, belongs to no %s", key, s.called())
	if !owner.IsJob() {
		return nil, none
	}
	var job batchv1.Job
	switch err := s.client.Get(ctx, types.NamespacedName{Namespace: key.Namespace, Name: owner.Name}, &job); {
	case apierrors.IsNotFound(err):
		return nil, none
	case err != nil:
		return nil, fmt.Errorf("find the Job of pod %s: %w", key, err)
	}
	kind, workload := s.kinds.Owner(&job)
	// Anybody who may create pods can write any owner into one; the Job's uid gives that away.
	if job.UID != owner.UID || workload == nil {
		return nil, none
	}
	if called := kind.Words().Kind; job.Name != workload.Job {
		return nil, deny("the caller, pod %s, belongs to no %s: its Job %q says that it is %s %q's, whose Job has the same name as the %s",
			key, called, job.Name, called, shortenText(workload.Name), called)
	}
	known := &caller{
		by: "pod " + key.String(), kind: kind, workload: types.NamespacedName{Namespace: key.Namespace, Name: workload.Name}, uid: workload.UID,
	}
	if workload.Group == "" {
		return known, nil
	}
	// Of a kind whose objects have several Jobs, the object says how many.
	switch read, err := s.readWorkload(ctx, kind, known.workload); {
	case err != nil:
		return nil, err
	case !read.HasJob(workload):
		return nil, deny("the caller, pod %s, belongs to no %s: its Job %q says that it is %s %q's, which has no such Job",
			key, kind.Words().Kind, job.Name, kind.Words().Kind, shortenText(workload.Name))
	}
	return known, nil
}

// readWorkload reads a workload of a kind from the cache. The error says why that cannot be; it is a denied where there is none, or nothing
// is to be read of it.
func (s *Server) readWorkload(ctx context.Context, kind member.Kind, key types.NamespacedName) (*member.Workload, error) {
	object, words := kind.New(), kind.Words()
	switch err := s.client.Get(ctx, key, object, client.UnsafeDisableDeepCopy); {
	case apierrors.IsNotFound(err):
		return nil, deny("there is no %s %s", words.Kind, key)
	case err != nil:
		return nil, fmt.Errorf("read %s %s: %w", words.Kind, key, err)
	}
	// What is wrong with its annotations is told elsewhere, and keeps nobody from speaking for it.
	read, err := kind.Parse(object)
	if read == nil {
		return nil, deny("%s %s cannot be read: %v", words.Kind, key, err)
	}
	return read, nil
}

// called are the kinds in words.
func (s *Server) called() string {
	words := make([]string, len(s.kinds))
	for i, kind := range s.kinds {
		words[i] = kind.Words().Kind
	}
	return strings.Join(words, " or ")
}

// believe takes a caller whom nothing identifies for what it says. It is for demonstrations on one machine.
func (s *Server) believe(ctx context.Context, kind member.Kind, host, name string, unknown error) (*caller, error) {
	by := "an unidentified caller at " + host
	if namespace, bare, has := strings.Cut(name, "/"); has {
		known := &caller{by: by, kind: kind, workload: types.NamespacedName{Namespace: namespace, Name: bare}}
		return known, s.allow(known)
	}
	var members v1alpha1.EnsembleMemberList
	if err := s.client.List(ctx, &members, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list EnsembleMembers: %w", err)
	}
	var found []types.NamespacedName
	for i := range members.Items {
		if members.Items[i].Name == member.Name(kind, name) {
			found = append(found, client.ObjectKeyFromObject(&members.Items[i]))
		}
	}
	if len(found) != 1 {
		return nil, deny(
			"%v; there are %d managed %s called %q, and one is needed (namespace/name tells them apart)", unknown, len(found),
			kind.Words().Kinds, shortenText(name),
		)
	}
	workload := types.NamespacedName{Namespace: found[0].Namespace, Name: name}
	known := &caller{by: by, kind: kind, workload: workload}
	return known, s.allow(known)
}
