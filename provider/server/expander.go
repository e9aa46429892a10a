package server

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/expand"
)

// Expander tells Cluster Autoscaler which of the node groups that it could expand are worth it. An error means that it has
// no opinion, so it has one only while what it knows is current.
type Expander struct {
	expander.UnsafeExpanderServer

	provider *CloudProvider
	log      logr.Logger
	answers  *prometheus.CounterVec
}

var _ expander.ExpanderServer = (*Expander)(nil)

// NewExpander returns an expander that knows what the provider knows.
func NewExpander(provider *CloudProvider, registerer prometheus.Registerer, log logr.Logger) (*Expander, error) {
	e := &Expander{provider: provider, log: log, answers: prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "ensemble_autoscaler_expander_options_total", Help: "Node groups that Cluster Autoscaler could have expanded, by whether they were kept or dropped, and answers that left none (veto).",
	}, []string{"answer"})}
	for _, answer := range []string{kept, dropped, veto} {
		e.answers.WithLabelValues(answer)
	}
	if err := registerer.Register(e.answers); err != nil {
		return nil, fmt.Errorf("register the metrics of the expander: %w", err)
	}
	return e, nil
}

const (
	kept    = "kept"
	dropped = "dropped"
	veto    = "veto"
)

// BestOptions answers with the options to go on with. The reason of each is its debug text.
func (e *Expander) BestOptions(ctx context.Context, request *expander.BestOptionsRequest) (*expander.BestOptionsResponse, error) {
	if err := e.provider.trust(); err != nil {
		return nil, status.Error(codes.Unavailable, err.Error())
	}
	known := &judged{pools: map[string]*expand.Pool{}, members: map[types.NamespacedName]*expand.Member{}}
	options := make([]expand.Option, len(request.GetOptions()))
	reader := podReader{known: map[string]pendingPod{}}
	for i, o := range request.GetOptions() {
		pods, err := reader.read(o)
		if err != nil {
			return nil, status.Errorf(codes.InvalidArgument, "options[%d] (nodeGroupId %q): %s", i, o.GetNodeGroupId(), err.Error())
		}
		if o.GetNodeGroupId() == "" {
			return nil, status.Errorf(codes.InvalidArgument, "options[%d]: nodeGroupId is empty; it must be the id of a node group", i)
		}
		if err := e.addPool(known, o.GetNodeGroupId()); err != nil {
			return nil, internal(err)
		}
		if err := e.addMembers(ctx, known, pods); err != nil {
			return nil, internal(err)
		}
		options[i] = expand.Option{Group: o.GetNodeGroupId(), Nodes: o.GetNodeCount(), Pods: pods.ofMembers(known)}
	}
	choices := expand.Choose(options, known.members, known.pools)
	response := &expander.BestOptionsResponse{}
	var reason string
	for i := range choices {
		c := &choices[i]
		if !c.Kept {
			reason = c.Reason
			e.log.V(1).Info("Dropped an option", "nodePool", c.Group, "nodes", c.Nodes, "reason", c.Reason)
			continue
		}
		response.Options = append(response.Options, &expander.Option{NodeGroupId: c.Group, NodeCount: c.Nodes, Debug: c.Reason})
	}
	e.answers.WithLabelValues(kept).Add(float64(len(response.GetOptions())))
	e.answers.WithLabelValues(dropped).Add(float64(len(choices) - len(response.GetOptions())))
	switch {
	case len(choices) > 0 && len(response.GetOptions()) == 0:
		e.answers.WithLabelValues(veto).Inc()
		e.log.Info("Nothing is to be expanded", "options", len(choices), "reason", reason)
	case len(response.GetOptions()) < len(choices):
		first := response.GetOptions()[0]
		e.log.Info("Chose among the groups to expand", "options", len(choices), "kept", len(response.GetOptions()), "nodePool", first.GetNodeGroupId(), "reason", first.GetDebug())
	}
	return response, nil
}

// judged is what is known of the pools and members of a request.
type judged struct {
	pools   map[string]*expand.Pool
	members map[types.NamespacedName]*expand.Member
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
		Paused: p.Spec.Paused || p.DeletionTimestamp != nil, Full: p.Spec.Replicas >= p.Spec.MaxSize, Taints: p.Spec.Template.Taints,
	}
	if p.Spec.PricePerHour != nil {
		price := p.Spec.PricePerHour.AsApproximateFloat64()
		out.PricePerHour = &price
	}
	known.pools[name] = out
	return nil
}

// addMembers adds what is known of the members that pods could belong to.
func (e *Expander) addMembers(ctx context.Context, known *judged, pods *pendingPods) error {
	for key := range pods.jobs {
		if _, is := known.members[key]; is {
			continue
		}
		m := &v1alpha1.EnsembleMember{}
		err := e.provider.client.Get(ctx, key, m, client.UnsafeDisableDeepCopy)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read EnsembleMember %s: %w", key, err)
		}
		known.members[key] = nil
		if err == nil {
			known.members[key] = memberOf(m)
		}
	}
	return nil
}

func memberOf(m *v1alpha1.EnsembleMember) *expand.Member {
	out := &expand.Member{NodePools: m.Spec.NodePools, Waits: waits(m)}
	if m.Status.Growth != nil {
		for i := range m.Status.Growth.Failures {
			out.Failed = append(out.Failed, m.Status.Growth.Failures[i].NodePool)
		}
	}
	return out
}

// waits says which nodes a member waits for, empty for none.
func waits(m *v1alpha1.EnsembleMember) string {
	if m.Status.ObservedGeneration == 0 {
		return "its nodes are about to be reserved"
	}
	if c := meta.FindStatusCondition(m.Status.Conditions, v1alpha1.ConditionCapacityReserved); c != nil && c.Status != metav1.ConditionTrue {
		return c.Reason + ": " + c.Message
	}
	if m.Status.Nodes < m.Status.Reserved {
		return fmt.Sprintf("%d of its %d nodes are on their way", m.Status.Reserved-m.Status.Nodes, m.Status.Reserved)
	}
	return ""
}

// pendingPods are the pods of an option, by the Jobs that they belong to.
type pendingPods struct {
	jobs map[types.NamespacedName][]pendingPod
	rest []pendingPod
	// split is what became of them when it was known which Jobs are those of members.
	split *expand.Pods
}

// pendingPod is what matters of a pod.
type pendingPod struct {
	job types.NamespacedName
	// tolerates is the same text for pods that tolerate the same.
	tolerates   string
	tolerations []corev1.Toleration
}

// ofMembers tells the pods of members from the others.
func (p *pendingPods) ofMembers(known *judged) *expand.Pods {
	if p.split != nil {
		return p.split
	}
	p.split = &expand.Pods{Members: map[types.NamespacedName]int{}}
	others := map[string]int{}
	add := func(pods []pendingPod) {
		for i := range pods {
			at, is := others[pods[i].tolerates]
			if !is {
				at = len(p.split.Others)
				others[pods[i].tolerates] = at
				p.split.Others = append(p.split.Others, expand.Others{Tolerations: pods[i].tolerations})
			}
			p.split.Others[at].Pods++
		}
	}
	add(p.rest)
	for job, pods := range p.jobs {
		if known.members[job] != nil {
			p.split.Members[job] = len(pods)
		} else {
			add(pods)
		}
	}
	return p.split
}

// podReader reads the pods of options. Most options have the same pods, which are read once.
type podReader struct {
	known  map[string]pendingPod
	last   [][]byte
	lastOf *pendingPods
}

func (r *podReader) read(o *expander.Option) (*pendingPods, error) {
	list, field := o.GetPodBytes(), "podBytes"
	if len(list) == 0 {
		list, field = o.GetLegacyPod(), "pod"
	}
	if r.lastOf != nil && same(r.last, list) {
		return r.lastOf, nil
	}
	pods := &pendingPods{jobs: map[types.NamespacedName][]pendingPod{}}
	for i, encoded := range list {
		pod, known := r.known[string(encoded)]
		if !known {
			var err error
			if pod, err = readPod(encoded); err != nil {
				return nil, fmt.Errorf("%s[%d]: %w", field, i, err)
			}
			r.known[string(encoded)] = pod
		}
		if pod.job.Name == "" {
			pods.rest = append(pods.rest, pod)
		} else {
			pods.jobs[pod.job] = append(pods.jobs[pod.job], pod)
		}
	}
	r.last, r.lastOf = list, pods
	return pods, nil
}

func same(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// tolerates tells tolerations in a text. How long a pod tolerates something does not matter here.
func tolerates(tolerations []corev1.Toleration) string {
	var text strings.Builder
	for i := range tolerations {
		t := &tolerations[i]
		fmt.Fprintf(&text, "%q %q %q %q,", t.Key, t.Operator, t.Value, t.Effect)
	}
	return text.String()
}

// readPod reads a pod. The Flux Operator gives the Job of a MiniCluster its name, which is that of the EnsembleMember too.
func readPod(encoded []byte) (pendingPod, error) {
	var pod corev1.Pod
	if err := pod.Unmarshal(encoded); err != nil {
		return pendingPod{}, fmt.Errorf("it cannot be read as a v1.Pod: %w", err)
	}
	out := pendingPod{tolerations: pod.Spec.Tolerations, tolerates: tolerates(pod.Spec.Tolerations)}
	if owner := metav1.GetControllerOf(&pod); owner != nil && owner.Kind == "Job" && owner.APIVersion == batchv1.SchemeGroupVersion.String() {
		out.job = types.NamespacedName{Namespace: pod.Namespace, Name: owner.Name}
	}
	return out, nil
}
