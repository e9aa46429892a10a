// Package endpoint is what ensemble members speak to: the EnsembleOperator gRPC service, wire-compatible
// with ensemble-python and ensemble-operator. A request to grow or shrink becomes the wish of the member,
// in its EnsembleMember, before the reply is sent; package resize makes it come true.
package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// requestTimeout bounds a request. Members set no deadline.
const requestTimeout = 10 * time.Second

// Options are what a Server works with.
type Options struct {
	// Client reads from caches, with the indexes of AddIndexes, and writes to the API server; Live reads
	// from the API server.
	Client client.Client
	Live   client.Reader
	Events events.EventRecorder
	Log    logr.Logger
	Clock  clock.PassiveClock
}

// Server answers ensemble members. Embedding the Unsafe server makes a missing method fail to compile.
type Server struct {
	ensemble.UnsafeEnsembleOperatorServer

	client client.Client
	live   client.Reader
	events events.EventRecorder
	log    logr.Logger
	clock  clock.PassiveClock
}

var _ ensemble.EnsembleOperatorServer = (*Server)(nil)

// New returns a server.
func New(o Options) *Server {
	return &Server{client: o.Client, live: o.Live, events: o.Events, log: o.Log, clock: o.Clock}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { ensemble.RegisterEnsembleOperatorServer(r, s) }

// Reply is the payload of the reply to an action.
type Reply struct {
	// From is the wish before the request, Wants the one after it, Has the size of the MiniCluster.
	From  int32 `json:"from"`
	Wants int32 `json:"wants"`
	Has   int32 `json:"has"`
	// NodePools are the pools that nodes come from, in order of preference.
	NodePools []string `json:"nodePools"`
	// State is the reason of the member's Ready condition: what it waits for.
	State string `json:"state"`
	// Reason says what became of the request.
	Reason string `json:"reason"`
}

// refusal is the payload of a reply that refuses.
type refusal struct {
	Reason string `json:"reason"`
}

// denied is an error that refuses a request which was understood.
type denied struct{ reason string }

func (d *denied) Error() string { return d.reason }

func deny(format string, args ...any) error { return &denied{fmt.Sprintf(format, args...)} }

// RequestAction grows or shrinks the MiniCluster of the pod that the request comes from.
func (s *Server) RequestAction(ctx context.Context, request *ensemble.ActionRequest) (*ensemble.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	member, err := s.member(ctx, request.GetMember(), request.GetName())
	if err != nil {
		return s.refuse(request.GetAction(), member, err), nil
	}
	amount, err := parseAmount(request.GetAction(), request.GetPayload())
	if err != nil {
		return s.refuse(request.GetAction(), member, err), nil
	}
	reply, err := s.resize(ctx, member, request.GetAction(), amount)
	if err != nil {
		return s.refuse(request.GetAction(), member, err), nil
	}
	s.log.Info("Accepted", "namespace", member.key.Namespace, "member", member.key.Name, "action", request.GetAction(),
		"amount", amount, "from", reply.From, "wants", reply.Wants, "pod", member.by)
	s.events.Eventf(member.object, nil, corev1.EventTypeNormal, "Requested", request.GetAction(), "%s by pod %s: %s", request.GetAction(), member.by, reply.Reason)
	return respond(ensemble.Response_SUCCESS, reply), nil
}

// member is the EnsembleMember that a request may speak for.
type member struct {
	key    client.ObjectKey
	object *v1alpha1.EnsembleMember
	// by is the pod that asks.
	by string
}

// member finds the EnsembleMember of the caller and makes sure that the request means that one.
func (s *Server) member(ctx context.Context, kind, name string) (*member, error) {
	caller, err := s.identify(ctx)
	if err != nil {
		return nil, deny("%v", err)
	}
	if kind != "miniclusters" && kind != "minicluster" {
		return nil, fmt.Errorf("member is %q; it has to be %q", kind, "minicluster")
	}
	if name != caller.cluster.Name {
		return nil, deny("pod %s/%s belongs to MiniCluster %q and may speak for that one only, not for %q",
			caller.pod.Namespace, caller.pod.Name, caller.cluster.Name, name)
	}
	object := &v1alpha1.EnsembleMember{}
	err = s.client.Get(ctx, caller.cluster, object)
	switch {
	case apierrors.IsNotFound(err):
		return nil, deny("MiniCluster %s is not managed; give it the annotation %s with the names of its NodePools",
			caller.cluster, v1alpha1.AnnotationNodePools)
	case err != nil:
		return nil, fmt.Errorf("read EnsembleMember %s: %w", caller.cluster, err)
	}
	return &member{key: caller.cluster, object: object, by: caller.pod.Namespace + "/" + caller.pod.Name}, nil
}

// resize writes the wish. A request for more than the bounds allow is granted up to the bound and told so;
// one at the bound already is denied.
func (s *Server) resize(ctx context.Context, m *member, action string, amount int32) (*Reply, error) {
	var reply *Reply
	err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		object := &v1alpha1.EnsembleMember{}
		if err := s.live.Get(ctx, m.key, object); err != nil {
			return err
		}
		size, reason, err := target(object, action, amount)
		if err != nil {
			return err
		}
		reply = &Reply{
			From: object.Spec.Size, Wants: size, Has: object.Status.Size, NodePools: object.Spec.NodePools, Reason: reason,
			State: v1alpha1.ReasonWaitingForCapacity,
		}
		if size < reply.Has {
			reply.State = v1alpha1.ReasonResizing
		}
		object.Spec.Request = &v1alpha1.Request{
			Action: map[string]v1alpha1.RequestAction{actionGrow: v1alpha1.RequestGrow, actionShrink: v1alpha1.RequestShrink}[action],
			Amount: amount, Size: size, By: "pod " + m.by, At: metav1.NewMicroTime(s.clock.Now()),
		}
		object.Spec.Size = size
		return s.client.Update(ctx, object)
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil, deny("MiniCluster %s is not managed any more", m.key)
	case err != nil:
		return nil, err
	}
	return reply, nil
}

// target is the size that a request leads to, and how it came to it in words.
func target(object *v1alpha1.EnsembleMember, action string, amount int32) (size int32, reason string, err error) {
	spec := &object.Spec
	wanted, bound := int64(spec.Size)+int64(amount), spec.MaxSize
	if action == actionShrink {
		wanted, bound = int64(spec.Size)-int64(amount), spec.MinSize
	}
	switch {
	case spec.Size == bound && action == actionGrow:
		return 0, "", deny("the wish is %d already, which is spec.maxSize of the MiniCluster; that is fixed when it is created, and without it a MiniCluster cannot grow", spec.Size)
	case spec.Size == bound:
		return 0, "", deny("the wish is %d already, which is spec.minSize of the MiniCluster", spec.Size)
	case action == actionGrow && wanted > int64(bound):
		return bound, fmt.Sprintf("the wish is %d: %s by %d was asked for, and spec.maxSize of the MiniCluster is %d", bound, action, amount, bound), nil
	case action == actionShrink && wanted < int64(bound):
		return bound, fmt.Sprintf("the wish is %d: %s by %d was asked for, and spec.minSize of the MiniCluster is %d", bound, action, amount, bound), nil
	}
	return int32(wanted), fmt.Sprintf("the wish is %d", wanted), nil //nolint:gosec // Within the bounds, which are int32.
}

// RequestUpdate takes the state of a member's queue. It is not used yet, and the reply says so.
func (s *Server) RequestUpdate(ctx context.Context, request *ensemble.UpdateRequest) (*ensemble.Response, error) {
	if _, err := s.identify(ctx); err != nil {
		return s.refuse("update", nil, deny("%v", err)), nil
	}
	return respond(ensemble.Response_SUCCESS, refusal{Reason: "the update was received; sizes are decided by grow and shrink requests alone"}), nil
}

// refuse logs a refusal, makes an event of it where there is a member, and puts it into a reply. What was
// understood and is not allowed is DENIED; what is malformed, or broken on our side, is an ERROR.
func (s *Server) refuse(action string, m *member, err error) *ensemble.Response {
	status := ensemble.Response_ERROR
	if _, is := errors.AsType[*denied](err); is {
		status = ensemble.Response_DENIED
	}
	s.log.Info("Refused", "action", action, "status", status.String(), "reason", err.Error())
	if m != nil && m.object != nil {
		s.events.Eventf(m.object, nil, corev1.EventTypeWarning, "RequestRefused", "RequestAction", "%s by pod %s: %s", status, m.by, err.Error())
	}
	return respond(status, refusal{Reason: err.Error()})
}

func respond(status ensemble.Response_ResultType, payload any) *ensemble.Response {
	encoded, err := json.Marshal(payload)
	if err != nil {
		return &ensemble.Response{Status: ensemble.Response_ERROR, Payload: `{"reason": "the reply could not be encoded"}`}
	}
	return &ensemble.Response{Status: status, Payload: string(encoded)}
}

// state is the reason and the message of the Ready condition.
func state(object *v1alpha1.EnsembleMember) (reason, message string) {
	if c := meta.FindStatusCondition(object.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		return c.Reason, c.Message
	}
	return "Unknown", "the controller has not looked at the member yet"
}
