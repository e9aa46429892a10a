// Package endpoint is what ensemble members speak to: the EnsembleOperator gRPC service, wire-compatible
// with ensemble-python and ensemble-operator. A request to grow or shrink becomes the desired size of the member,
// in its EnsembleMember, before the reply is sent; package resize makes it come true.
package endpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// requestTimeout bounds a request. Members set no deadline.
const requestTimeout = 10 * time.Second

// conflictBackoff is how a request is repeated that lost against another writer: twelve times within two seconds. The
// controller writes the same object whenever the member's state changes.
var conflictBackoff = wait.Backoff{Duration: 10 * time.Millisecond, Factor: 1.5, Jitter: 0.2, Steps: 12}

// Options are what a Server works with.
type Options struct {
	// Kinds are those of workloads whose pods may ask.
	Kinds member.Kinds
	// Client reads from caches and writes to the API server; Live reads from the API server.
	Client client.Client
	Live   client.Reader
	// Pods are those of the cluster.
	Pods   *pods.Store
	Events events.EventRecorder
	Log    logr.Logger
	Clock  clock.PassiveClock
	// Metrics are what NewMetrics has registered.
	Metrics *Metrics
	// Rate is how often one member may ask.
	Rate Rate
	// RefusedTokens is how often requests with a token may be refused to one address. Up to then the API server is asked
	// about each, and about those that it accepts always.
	RefusedTokens Rate
	// Reads bounds what the API server is asked because of members; nil for no bound.
	Reads *budget.Budget
	// Reviews bounds how often the API server is asked about tokens, for each address and in all; nil for no bound. Each is two questions.
	Reviews *budget.Budget
	// Sizes bounds how often members ask for another size, which is a write; nil for no bound.
	Sizes *budget.Budget
	// Writes bounds how often what members tell of their queues is written; nil for no bound.
	Writes *budget.Budget
	// Audience is the one that tokens have to be for.
	Audience string
	// TrustUnknown believes callers whom nothing identifies, and takes tokens without TLS.
	TrustUnknown bool
}

// Server answers ensemble members. Embedding the Unsafe server makes a missing method fail to compile.
type Server struct {
	ensemble.UnsafeEnsembleOperatorServer

	kinds                 member.Kinds
	client                client.Client
	live                  client.Reader
	pods                  *pods.Store
	events                events.EventRecorder
	log                   logr.Logger
	clock                 clock.PassiveClock
	metrics               *Metrics
	limit                 *limiter
	attempts              attempts
	reads, reviews, sizes *budget.Budget
	queues                *queues
	audience              string
	trustUnknown          bool
}

var _ ensemble.EnsembleOperatorServer = (*Server)(nil)

// New returns a server.
func New(o Options) *Server {
	return &Server{
		kinds: o.Kinds, client: o.Client, live: o.Live, pods: o.Pods, events: o.Events, log: o.Log, clock: o.Clock, metrics: o.Metrics,
		limit: newLimiter(o.Rate), attempts: attempts{newLimiter(o.RefusedTokens)}, reads: o.Reads, reviews: o.Reviews, sizes: o.Sizes,
		queues: newQueues(
			o.Client, o.Clock, o.Writes, o.Log,
		),
		audience: o.Audience, trustUnknown: o.TrustUnknown,
	}
}

// Register adds the service to a gRPC server.
func (s *Server) Register(r grpc.ServiceRegistrar) { ensemble.RegisterEnsembleOperatorServer(r, s) }

// Kinds are the kinds that the server reads from caches and nothing else does.
func Kinds() []client.Object { return []client.Object{&v1alpha1.MemberQueue{}} }

// Run writes what members have told of their queues and was put off, until the context ends.
func (s *Server) Run(ctx context.Context) error { return s.queues.Run(ctx) }

// Reply is the payload of the reply to an action.
type Reply struct {
	// Group is the group of pods that the numbers are about, of a member with several.
	Group string `json:"group,omitempty"`
	// From is the desired size before the request, Wants the one after it, Has the size of the workload.
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
type denied struct {
	reason string
	// repeated says that the same was refused, and told of, a moment ago: whoever floods does not fill the log too.
	repeated bool
}

func (d *denied) Error() string { return d.reason }

func deny(format string, args ...any) error { return &denied{reason: fmt.Sprintf(format, args...)} }

// repeated is an error that tells of a request before, which this one is taken to repeat.
type repeated struct {
	reply *Reply
	// status is EXISTS where it is like one that is under way, and SUCCESS where it is that one, asked for again for want of a reply.
	status ensemble.Response_ResultType
}

func (c *repeated) Error() string { return c.reply.Reason }

// RequestAction grows or shrinks the workload of the pod that the request comes from.
func (s *Server) RequestAction(ctx context.Context, request *ensemble.ActionRequest) (*ensemble.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	action := request.GetAction()
	m, err := s.member(ctx, request.GetMember(), request.GetName(), toResize)
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	change, err := parseChange(s.kinds, v1alpha1.GroupsOf(m.object), action, request.GetPayload())
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	reply, err := s.resize(ctx, m, change)
	if before, is := errors.AsType[*repeated](err); is {
		s.log.Info(
			"Repeated", "namespace", m.key.Namespace, "member", m.key.Name, "action", action, "amount", change.amount, "id", change.id, "by", m.by,
			"reason", before.reply.Reason,
		)
		s.metrics.answered(action, before.status)
		return respond(before.status, before.reply), nil
	}
	if err != nil {
		return s.refuse(action, m, err), nil
	}
	s.log.Info("Accepted", "namespace", m.key.Namespace, "member", m.key.Name, "action", action,
		"amount", change.amount, "group", change.group, "id", change.id, "from", reply.From, "wants", reply.Wants, "by", m.by)
	s.events.Eventf(
		m.workload(), m.object, corev1.EventTypeNormal, v1alpha1.ReasonRequested, action, "%s",
		noteOf("%s by %s: %s", action, m.by, reply.Reason),
	)
	s.metrics.answered(action, ensemble.Response_SUCCESS)
	return respond(ensemble.Response_SUCCESS, reply), nil
}

// spoken is the EnsembleMember that a request may speak for.
type spoken struct {
	// key is that of the EnsembleMember, name that of its workload in words.
	key    client.ObjectKey
	kind   member.Kind
	name   string
	object *v1alpha1.EnsembleMember
	// by names who asks.
	by string
	// uid is that of the workload whose pod asks, empty where it is no pod of one.
	uid types.UID
}

// workload is that of the member, which events are about: its user looks at that.
func (m *spoken) workload() client.Object {
	return member.Reference(m.kind, client.ObjectKey{Namespace: m.key.Namespace, Name: m.name}, ownerOf(m.object))
}

// words name the workload.
func (m *spoken) words() string { return m.kind.Words().Kind + " " + m.key.Namespace + "/" + m.name }

// ownerOf is the uid of the workload that an EnsembleMember is of, or of the EnsembleMember that a MemberQueue is of.
func ownerOf(object metav1.Object) types.UID {
	if owner := metav1.GetControllerOf(object); owner != nil {
		return owner.UID
	}
	return ""
}

// mayUse denies the EnsembleMember of another workload than that of the pod which asks. When a workload is deleted and
// recreated, the old member awaits the garbage collector for a while, and what is written into it is lost; and a Job may name
// an owner that is none.
func (m *spoken) mayUse(object *v1alpha1.EnsembleMember) error {
	if m.uid == "" || m.uid == ownerOf(object) {
		return nil
	}
	return deny("the caller, %s, belongs to %s with the uid %s, and the EnsembleMember there is of another one of that name; "+
		"one of the two was deleted: ask again when what it has left is gone",
		m.by, m.words(), shortenText(string(m.uid)))
}

// member finds the EnsembleMember that the caller means and makes sure that it may speak for it.
func (s *Server) member(ctx context.Context, word, name string, to intent) (*spoken, error) {
	kind := s.kinds.Called(word)
	caller, err := s.identify(ctx, kind, name, to)
	if err != nil {
		return nil, err
	}
	if kind == nil {
		return nil, fmt.Errorf("member is %q; it has to be %s", shortenText(word), s.callers())
	}
	m := &spoken{
		key: caller.member(), kind: caller.kind, name: caller.workload.Name, object: &v1alpha1.EnsembleMember{}, by: caller.by, uid: caller.uid,
	}
	err = s.client.Get(ctx, m.key, m.object)
	if err == nil && to == toResize && m.mayUse(m.object) != nil {
		// The cache may be behind. What is only read is not worth a question to the API server.
		m.object, err = s.readMember(ctx, m.key)
	}
	switch {
	case apierrors.IsNotFound(err):
		return nil, deny("%s is not managed; give it the annotation %s with the names of its NodePools", m.words(), v1alpha1.AnnotationNodePools)
	case err != nil:
		return nil, fmt.Errorf("read EnsembleMember %s: %w", m.key, err)
	}
	if err := s.isOf(m); err != nil {
		return nil, err
	}
	if err := m.mayUse(m.object); err != nil {
		return nil, err
	}
	return m, nil
}

// isOf denies the EnsembleMember of a workload of another kind, whose name begins as no name of this kind may: who has a token says a kind
// and a name, and what is said of the one would be said of the other.
func (s *Server) isOf(m *spoken) error {
	switch of := s.kinds.Of(m.object); of {
	case m.kind:
		return nil
	case nil:
		return deny("%s is not managed: EnsembleMember %s is of a kind that is not switched on", m.words(), m.key)
	default:
		return deny("%s is not managed: EnsembleMember %s is that of %s %s; say member %q and name %q", m.words(), m.key, of.Words().Kind,
			member.TargetName(m.object), of.Words().Callers[0], member.TargetName(m.object))
	}
}

// callers are the names by which callers may call the kinds, in words.
func (s *Server) callers() string {
	words := make([]string, len(s.kinds))
	for i, kind := range s.kinds {
		words[i] = strconv.Quote(kind.Words().Callers[0])
	}
	return strings.Join(words, " or ")
}

// readMember reads an EnsembleMember of the API server.
func (s *Server) readMember(ctx context.Context, key client.ObjectKey) (*v1alpha1.EnsembleMember, error) {
	object := &v1alpha1.EnsembleMember{}
	if err := s.affords(key.Namespace); err != nil {
		return object, err
	}
	return object, s.live.Get(ctx, key, object)
}

// affords denies a question to the API server of which the callers of a namespace have caused too many.
func (s *Server) affords(namespace string) error { return s.take(s.reads, namespace) }

// take denies what a budget does not allow now and will in a moment.
func (s *Server) take(from *budget.Budget, namespace string) error {
	if err := from.Take(namespace, s.clock.Now()); err != nil {
		// It is counted, and a flood of it is not to fill the log.
		return &denied{reason: err.Error(), repeated: true}
	}
	return nil
}

// resize writes the desired size. A request for more than the bounds allow is granted up to the bound and told so;
// one at the bound already is denied.
func (s *Server) resize(ctx context.Context, m *spoken, c *change) (*Reply, error) {
	if err := s.take(s.sizes, m.key.Namespace); err != nil {
		return nil, err
	}
	// What the cache has is tried first: a write that goes through was based on the newest version. A refusal has to be.
	reply, err := s.write(ctx, m, m.object.DeepCopy(), c)
	_, refused := errors.AsType[*denied](err)
	_, again := errors.AsType[*repeated](err)
	if !refused && !again && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		// A write whose outcome is not known must not be made again: the member would get twice what it asked for.
		return reply, err
	}
	err = retry.RetryOnConflict(conflictBackoff, func() error {
		object, err := s.readMember(ctx, m.key)
		if err != nil {
			return err
		}
		if err := m.mayUse(object); err != nil {
			return err
		}
		reply, err = s.write(ctx, m, object, c)
		return err
	})
	switch {
	case apierrors.IsNotFound(err):
		return nil, deny("%s is not managed any more", m.words())
	case err != nil:
		return nil, err
	}
	return reply, nil
}

// write puts what an action leads to into a version of the member.
func (s *Server) write(ctx context.Context, m *spoken, object *v1alpha1.EnsembleMember, c *change) (*Reply, error) {
	group := v1alpha1.GroupOf(object, c.group)
	if group == nil {
		return nil, m.missing(object, c)
	}
	reply := &Reply{
		Group: group.Name, From: group.Size, Wants: group.Size, Has: v1alpha1.RecordOf(object, group.Name).Size, NodePools: object.Spec.NodePools,
	}
	if accepted := object.Spec.Request; accepted != nil && c.id != "" && accepted.ID == c.id {
		reply.State, _ = state(object)
		reply.Reason = fmt.Sprintf("this request was accepted at %s and led to the size %d; the desired size is %d",
			accepted.At.UTC().Format(time.RFC3339), accepted.Size, object.Spec.Size)
		return nil, &repeated{reply, ensemble.Response_SUCCESS}
	}
	if underWay := repeats(object, group, reply.Has, c.action); underWay != "" {
		reply.State, _ = state(object)
		reply.Reason = underWay
		return nil, &repeated{reply, ensemble.Response_EXISTS}
	}
	size, reason, err := target(m.kind.Words(), group, c.action, c.amount)
	if err != nil {
		return nil, err
	}
	if c.action == actionGrow {
		if err := s.fits(ctx, m, object, group.Name); err != nil {
			return nil, err
		}
	}
	reply.Wants, reply.Reason, reply.State = size, reason, v1alpha1.ReasonWaitingForCapacity
	if size < reply.Has {
		reply.State = v1alpha1.ReasonResizing
	}
	before := object.DeepCopy()
	v1alpha1.SetGroupSize(object, reply.Group, size)
	object.Spec.Request = &v1alpha1.Request{
		Action: map[string]v1alpha1.RequestAction{actionGrow: v1alpha1.RequestGrow, actionShrink: v1alpha1.RequestShrink}[c.action],
		Group:  reply.Group, Amount: c.amount, Size: object.Spec.Size, By: m.by, At: metav1.NewMicroTime(s.clock.Now()), ID: c.id,
	}
	return reply, s.client.Patch(ctx, object, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{}))
}

// missing refuses a request that names no group of pods, or none that there is. Of a member with one group there is nothing to name.
func (m *spoken) missing(object *v1alpha1.EnsembleMember, c *change) error {
	groups := v1alpha1.GroupsOf(object)
	switch {
	case c.group == "":
		return deny(
			"%s has several groups of pods, %s, and the payload does not name one; it has to, as in {%q: 1, %q: %q}", m.words(), namesOf(groups),
			c.action, fieldGroup, groups[len(groups)-1].Name,
		)
	case len(groups) == 1:
		return deny("%s has one group of pods by now, and the payload names %q; ask again without a name", m.words(), c.group)
	default:
		return deny("%s has no group of pods %q any more; there are %s", m.words(), c.group, namesOf(groups))
	}
}

// repeats says in words that a request of the same kind is under way for a group and that this one counts as its repetition; it is
// empty where it does not. has is the size that the group has.
func repeats(object *v1alpha1.EnsembleMember, group *v1alpha1.MemberGroup, has int32, action string) string {
	wants := group.Size
	if object.Spec.RequestPolicy != v1alpha1.RequestCoalesce || has == 0 || (action == actionGrow && wants <= has) ||
		(action == actionShrink && wants >= has) {
		return ""
	}
	return fmt.Sprintf("a %s to %d is under way, and the size is %d: requests meanwhile change nothing (annotation %s is %s)",
		action, wants, has, v1alpha1.AnnotationRequestPolicy, v1alpha1.RequestCoalesce)
}

// target is the size of a group that a request leads to, and how it came to it in words. Pods that come and go together come with more than
// was asked for rather than with less, and leave with less rather than with more.
func target(words *member.Words, group *v1alpha1.MemberGroup, action string, amount int32) (size int32, reason string, err error) {
	of := "the " + words.Kind
	if group.Name != "" {
		of = "group " + group.Name + " of " + of
	}
	unit := int64(max(group.Unit, 1))
	units := (int64(amount) + unit - 1) / unit
	wanted, bound := int64(group.Size)+units*unit, group.MaxSize
	if action == actionShrink {
		units = int64(amount) / unit
		wanted, bound = int64(group.Size)-units*unit, group.MinSize
	}
	switch {
	case group.Size == bound && action == actionGrow:
		return 0, "", deny(
			"the desired size is %d already, which is %s of %s%s", group.Size, words.MaxSize, of, words.MaxFixed,
		)
	case group.Size == bound:
		return 0, "", deny("the desired size is %d already, which is %s of %s", group.Size, words.MinSize, of)
	case units == 0:
		return 0, "", deny("%s by %d was asked for; the pods of %s leave by %d, so that the size stays %d", action, amount, of, unit, group.Size)
	case action == actionGrow && wanted > int64(bound):
		return bound, fmt.Sprintf(
			"limited to %d by %s: %s by %d was asked for; the desired size is %d", bound, words.MaxSize, action, amount, bound,
		), nil
	case action == actionShrink && wanted < int64(bound):
		return bound, fmt.Sprintf(
			"limited to %d by %s: %s by %d was asked for; the desired size is %d", bound, words.MinSize, action, amount, bound,
		), nil
	case units*unit != int64(amount):
		return int32(wanted), fmt.Sprintf( //nolint:gosec // Within the bounds, which are int32.
			"the desired size is %d: %s by %d was asked for, and pods come and go by %d", wanted, action, amount, unit,
		), nil
	}
	return int32(wanted), fmt.Sprintf("the desired size is %d", wanted), nil //nolint:gosec // Within the bounds, which are int32.
}

// refuse logs a refusal, makes an event of it where there is a member, and puts it into a reply. What was
// understood and is not allowed is DENIED; what is malformed, or broken on our side, is an ERROR.
func (s *Server) refuse(action string, m *spoken, err error) *ensemble.Response {
	status := ensemble.Response_ERROR
	refused, is := errors.AsType[*denied](err)
	if is {
		status = ensemble.Response_DENIED
	}
	s.metrics.answered(action, status)
	if is && refused.repeated {
		return respond(status, refusal{Reason: err.Error()})
	}
	s.log.Info("Refused", "action", shortenText(action), "status", status.String(), "reason", err.Error())
	if m != nil && m.object != nil {
		s.events.Eventf(
			m.workload(), m.object, corev1.EventTypeWarning, "RequestRefused", "RequestAction", "%s",
			noteOf("%s by %s: %s", status, m.by, err.Error()),
		)
	}
	return respond(status, refusal{Reason: err.Error()})
}

// longestNote is the greatest length of an event's note, in bytes, that the API server takes. It would refuse the event.
const longestNote = 1024

// noteOf is what an event says, of which the reply and the log have all.
func noteOf(format string, args ...any) string {
	const ellipsis = "…"
	note := fmt.Sprintf(format, args...)
	if len(note) <= longestNote {
		return note
	}
	return strings.ToValidUTF8(note[:longestNote-len(ellipsis)], "") + ellipsis
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
