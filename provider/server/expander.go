package server

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/expand"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// Expander tells Cluster Autoscaler which of the node groups that it could expand are worth it. An error means that it has
// no opinion, so it has one only while what it knows is current.
type Expander struct {
	expander.UnsafeExpanderServer

	provider *CloudProvider
	log      logr.Logger
	now      func() time.Time
	limits   wire.Limits
	answers  *prometheus.CounterVec
	vetoes   prometheus.Counter
	refused  *prometheus.CounterVec
}

var _ expander.ExpanderServer = (*Expander)(nil)

// NewExpander returns an expander that knows what the provider knows, and answers requests within the limits.
func NewExpander(provider *CloudProvider, limits wire.Limits, registerer prometheus.Registerer, log logr.Logger) (*Expander, error) {
	e := &Expander{provider: provider, limits: limits, log: log, now: time.Now}
	e.answers = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_expander_options_total",
		Help: "Node groups that Cluster Autoscaler could have expanded, by whether they were kept or dropped, and why.",
	}, []string{"answer", "reason"})
	e.vetoes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_expander_vetoes_total",
		Help: "Answers that left Cluster Autoscaler no group to expand.",
	})
	e.refused = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_expander_requests_refused_total",
		Help: "Requests to the expander that were refused for what they are: options, pods, tolerations (more than their flags allow), " +
			"pod-size, name (no pod, or no name, is like that), compressed, malformed.",
	}, []string{"reason"})
	for _, reason := range wire.Reasons() {
		e.refused.WithLabelValues(string(reason))
	}
	for kept, reasons := range expand.Reasons() {
		for _, reason := range reasons {
			e.answers.WithLabelValues(answer(kept), string(reason))
		}
	}
	for _, metric := range []prometheus.Collector{e.answers, e.vetoes, e.refused} {
		if err := registerer.Register(metric); err != nil {
			return nil, fmt.Errorf("register the metrics of the expander: %w", err)
		}
	}
	return e, nil
}

// ServerOptions make a server read requests within the limits.
func (e *Expander) ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.ForceServerCodecV2(wire.NewCodec(e.limits, e.refuse)),
		//nolint:staticcheck // What takes its place is global, and comes after the message was decompressed. It stays throughout gRPC 1.x.
		grpc.RPCDecompressor(wire.Compressed{Refused: e.refuse}),
	}
}

func (e *Expander) refuse(reason wire.Reason) { e.refused.WithLabelValues(string(reason)).Inc() }

func answer(kept bool) string {
	if kept {
		return "kept"
	}
	return "dropped"
}

// BestOptions answers with the options to go on with. The reason of each is its debug text, in one word: who asks shows no certificate, and
// the sentence, which is in the log, names members and their pools.
func (e *Expander) BestOptions(ctx context.Context, request *expander.BestOptionsRequest) (*expander.BestOptionsResponse, error) {
	if err := e.provider.trust(); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	known := &judged{pools: map[string]*expand.Pool{}, members: map[types.NamespacedName]*expand.Member{}}
	options := make([]expand.Option, len(request.GetOptions()))
	reader := newPodReader(&e.limits)
	for i, o := range request.GetOptions() {
		pods, err := reader.read(o)
		if err != nil {
			e.refuse(wire.ReasonOf(err))
			return nil, status.Errorf(codes.InvalidArgument, "options[%d] (nodeGroupId %q): %s", i, o.GetNodeGroupId(), err.Error())
		}
		if o.GetNodeGroupId() == "" {
			return nil, status.Errorf(codes.InvalidArgument, "options[%d]: nodeGroupId is empty; it must be the id of a node group", i)
		}
		if err := e.addPool(known, o.GetNodeGroupId()); err != nil {
			return nil, internal(err)
		}
		split, err := e.split(ctx, known, pods)
		if err != nil {
			return nil, internal(err)
		}
		options[i] = expand.Option{Group: o.GetNodeGroupId(), Nodes: o.GetNodeCount(), Pods: split}
	}
	choices := expand.Choose(options, known.members, known.pools)
	e.tell(choices)
	response := &expander.BestOptionsResponse{}
	for i := range choices {
		if c := &choices[i]; c.Kept {
			response.Options = append(response.Options, &expander.Option{NodeGroupId: c.Group, NodeCount: c.Nodes, Debug: string(c.Reason)})
		}
	}
	if len(choices) > 0 && len(response.GetOptions()) == 0 {
		e.vetoes.Inc()
	}
	return response, nil
}

// tell tells of the choices in the log and the metrics: of each in the metrics and, with -v, in the log, and of the first one for
// each reason in the log in any case. There is nothing to tell where all is left to Cluster Autoscaler.
func (e *Expander) tell(choices []expand.Choice) {
	count := map[expand.Reason]int{}
	verbose := e.log.V(1)
	for i := range choices {
		c := &choices[i]
		count[c.Reason]++
		if !verbose.Enabled() {
			continue
		}
		verbose.Info("Chose", "nodePool", c.Group, "nodes", c.Nodes, "answer", answer(c.Kept), "reason", c.Reason, "message", c.Message)
	}
	for i := range choices {
		c := &choices[i]
		options := count[c.Reason]
		if options == 0 {
			continue
		}
		count[c.Reason] = 0
		e.answers.WithLabelValues(answer(c.Kept), string(c.Reason)).Add(float64(options))
		if options < len(choices) || c.Reason != expand.ReasonNoMember {
			e.log.Info(
				"Chose among the groups to expand", "answer", answer(c.Kept), "options", options, "reason", c.Reason, "nodePool", c.Group, "message",
				c.Message,
			)
		}
	}
}

// judged is what is known of the pools and members of a request.
type judged struct {
	pools   map[string]*expand.Pool
	members map[types.NamespacedName]*expand.Member
	// object is what the last member was read into. There may be as many Jobs without a member as there are pods.
	object v1alpha1.EnsembleMember
}

// addPool adds what is known of a group. One that is not ours is not known.
func (e *Expander) addPool(known *judged, name string) error {
	p, err := e.provider.pools.get(name)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return err
	}
	out := &expand.Pool{
		Paused: p.Spec.Paused || p.DeletionTimestamp != nil, Full: p.Spec.Replicas >= p.Spec.MaxSize,
		Taints: p.Spec.Template.Taints, Labels: p.Spec.Template.Labels,
	}
	if p.Spec.PricePerHour != nil {
		price := p.Spec.PricePerHour.AsApproximateFloat64()
		out.PricePerHour = &price
	}
	known.pools[name] = out
	return nil
}

// split tells the pods of members from the others, once for each list of pods.
func (e *Expander) split(ctx context.Context, known *judged, pods *pendingPods) (*expand.Pods, error) {
	if pods.split != nil {
		return pods.split, nil
	}
	out := &expand.Pods{Members: map[types.NamespacedName]int{}}
	others := map[string]int{}
	for k, count := range pods.alike {
		m, err := e.member(ctx, known, k.job)
		if err != nil {
			return nil, err
		}
		if m != nil {
			out.Members[k.job] += count
			continue
		}
		at, is := others[k.tolerates]
		if !is {
			at = len(out.Others)
			others[k.tolerates] = at
			out.Others = append(out.Others, expand.Others{Tolerations: k.tolerations})
		}
		out.Others[at].Pods += count
	}
	pods.split = out
	return out, nil
}

// member is the one that a Job is that of, nil for none.
func (e *Expander) member(ctx context.Context, known *judged, job types.NamespacedName) (*expand.Member, error) {
	if m, is := known.members[job]; is || job.Name == "" {
		return m, nil
	}
	err := e.provider.client.Get(ctx, job, &known.object, client.UnsafeDisableDeepCopy)
	if client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("read EnsembleMember %s: %w", job, err)
	}
	var m *expand.Member
	if err == nil {
		m = memberOf(&known.object, e.now())
	}
	known.members[job] = m
	return m, nil
}

func memberOf(m *v1alpha1.EnsembleMember, now time.Time) *expand.Member {
	out := &expand.Member{NodePools: m.Spec.NodePools, Waits: waits(m, now)}
	if domain, is := strings.CutPrefix(m.Status.TopologyDomain, m.Spec.TopologyKey+"="); is && m.Spec.TopologyKey != "" {
		out.TopologyKey, out.Domain = m.Spec.TopologyKey, domain
	}
	if m.Status.Growth != nil {
		for i := range m.Status.Growth.Failures {
			out.Failed = append(out.Failed, m.Status.Growth.Failures[i].NodePool)
		}
	}
	return out
}

// oldestPicture is how old the cluster may be that Cluster Autoscaler decides on. It lists pods and nodes once, at the start of a
// loop, and a loop takes seconds, with many thousand nodes tens of them. Pods that found no node then may have one by now.
const oldestPicture = 30 * time.Second

// waits says which nodes a member waits for, empty for none. A member whose nodes have just become Ready has pods that find no node
// in an older picture of the cluster, and one whose pods all run has none that needs a node. What is true for longer is left to
// Cluster Autoscaler. The times of conditions are those of the controller's clock: one that is far ahead keeps nobody waiting.
func waits(m *v1alpha1.EnsembleMember, now time.Time) string {
	if m.Status.ObservedGeneration == 0 {
		return "its nodes are about to be reserved"
	}
	if c := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionCapacityReserved); c != nil && c.Status != metav1.ConditionTrue {
		return c.Reason + ": " + c.Message
	}
	if m.Status.Nodes < m.Status.Reserved {
		return fmt.Sprintf("%d of its %d nodes are on their way", m.Status.Reserved-m.Status.Nodes, m.Status.Reserved)
	}
	if meta.IsStatusConditionTrue(m.Status.Conditions, v1alpha1.ConditionPodsRunning) {
		return "all its pods run"
	}
	if c := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionCapacityReady); c != nil && c.Status == metav1.ConditionTrue {
		if age := now.Sub(c.LastTransitionTime.Time).Abs(); age < oldestPicture {
			return fmt.Sprintf(
				"its %d nodes have been Ready for %d s, and its pods are about to be bound to them", m.Status.Nodes, int(age.Seconds()),
			)
		}
	}
	return ""
}

// podKind is what matters of a pod. Of pods that are alike there is one.
type podKind struct {
	// job is that of the pod, which is also what its member is called: the Flux Operator gives the Job of a MiniCluster the
	// name of the MiniCluster. It has no name where there is no Job.
	job         types.NamespacedName
	tolerations []corev1.Toleration
	// tolerates is the same text for pods that tolerate the same.
	tolerates string
}

// pendingPods are the pods of an option.
type pendingPods struct {
	number int
	// alike counts the pods of each kind.
	alike map[*podKind]int
	// split tells those of members from the others, nil until that is known.
	split *expand.Pods
}

// podReader reads the pods of options. A pod that several options have is decoded once, and a slice of pods that they share,
// as those from wire.NewCodec do, is gone through once.
type podReader struct {
	limits *wire.Limits
	// lists has what was read by the first of the pods.
	lists map[*[]byte]*pendingPods
	// pods has what was read by the encoding, kinds one for each kind.
	pods  map[string]*podKind
	kinds map[podKindKey]*podKind
	// tolerations are those of pods by what they tolerate, and tolerated is how many there are in all.
	tolerations map[string][]corev1.Toleration
	tolerated   int
}

type podKindKey struct {
	job       types.NamespacedName
	tolerates string
}

func newPodReader(limits *wire.Limits) *podReader {
	return &podReader{
		limits: limits, lists: map[*[]byte]*pendingPods{}, pods: map[string]*podKind{}, kinds: map[podKindKey]*podKind{},
		tolerations: map[string][]corev1.Toleration{},
	}
}

func (r *podReader) read(o *expander.Option) (*pendingPods, error) {
	list, name := o.GetPodBytes(), "podBytes"
	if len(list) == 0 {
		list, name = o.GetLegacyPod(), "pod"
	}
	if len(list) == 0 {
		return &pendingPods{}, nil
	}
	if known := r.lists[&list[0]]; known != nil && known.number == len(list) {
		return known, nil
	}
	pods := &pendingPods{number: len(list), alike: map[*podKind]int{}}
	for i, encoded := range list {
		k := r.pods[string(encoded)]
		if k == nil {
			var err error
			if k, err = r.decode(encoded); err != nil {
				return nil, fmt.Errorf("%s[%d]: it cannot be read as a v1.Pod: %w", name, i, err)
			}
			r.pods[string(encoded)] = k
		}
		pods.alike[k]++
	}
	r.lists[&list[0]] = pods
	return pods, nil
}

func (r *podReader) decode(encoded []byte) (*podKind, error) {
	if len(r.pods) == r.limits.Pods {
		return nil, wire.Refuse(wire.ReasonPods, "there are more than %d different pods (--max-expander-pods)", r.limits.Pods)
	}
	pod, err := wire.ReadPod(encoded, r.limits.Tolerations)
	if err != nil {
		return nil, err //nolint:wrapcheck // Who calls says of which pod.
	}
	var key podKindKey
	if pod.Job != "" {
		key.job = types.NamespacedName{Namespace: pod.Namespace, Name: pod.Job}
	}
	key.tolerates = tolerates(pod.Tolerations)
	if k := r.kinds[key]; k != nil {
		return k, nil
	}
	tolerations, is := r.tolerations[key.tolerates]
	if !is {
		tolerations = pod.Tolerations
		r.tolerations[key.tolerates] = tolerations
		if r.tolerated += len(tolerations); r.tolerated > r.limits.Pods {
			return nil, wire.Refuse(wire.ReasonTolerations, "there are more than %d different tolerations (--max-expander-pods)", r.limits.Pods)
		}
	}
	k := &podKind{job: key.job, tolerations: tolerations, tolerates: key.tolerates}
	r.kinds[key] = k
	return k, nil
}

// tolerates tells tolerations in a text. How long a pod tolerates something does not matter here.
func tolerates(tolerations []corev1.Toleration) string {
	var text []byte
	for i := range tolerations {
		t := &tolerations[i]
		for _, part := range [...]string{t.Key, string(t.Operator), t.Value, string(t.Effect)} {
			text = append(strconv.AppendQuote(text, part), ' ')
		}
		text = append(text, ',')
	}
	return string(text)
}
