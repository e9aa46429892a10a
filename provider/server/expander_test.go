package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/server/wire"
)

// memory is a client of EnsembleMembers that are in memory, as those of the cache are.
type memory struct {
	client.Client
	members map[client.ObjectKey]*v1alpha1.EnsembleMember
}

func (m *memory) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	object, is := into.(*v1alpha1.EnsembleMember)
	if !is {
		return fmt.Errorf("there is no %T in memory", into)
	}
	member := m.members[key]
	if member == nil {
		return apierrors.NewNotFound(v1alpha1.GroupVersion.WithResource("ensemblemembers").GroupResource(), key.Name)
	}
	*object = *member
	return nil
}

// newExpander knows pools of the names, and a member m of them, which waits for 4 nodes or for none.
func newExpander(tb testing.TB, waiting bool, pools ...string) *Expander {
	tb.Helper()
	return newExpanderOf(tb, []string{"m"}, waiting, pools...)
}

// newExpanderOf knows several such members.
func newExpanderOf(tb testing.TB, members []string, waiting bool, pools ...string) *Expander {
	tb.Helper()
	store := toolscache.NewStore(toolscache.MetaNamespaceKeyFunc)
	for _, name := range pools {
		if err := store.Add(&v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.NodePoolSpec{MaxSize: 10}}); err != nil {
			tb.Fatal(err)
		}
	}
	m := &v1alpha1.EnsembleMember{
		Spec:   v1alpha1.EnsembleMemberSpec{NodePools: pools},
		Status: v1alpha1.EnsembleMemberStatus{ObservedGeneration: 1, Reserved: 4, Nodes: 4},
	}
	if waiting {
		m.Status.Nodes = 0
	}
	known := &memory{members: map[client.ObjectKey]*v1alpha1.EnsembleMember{}}
	for _, name := range members {
		known.members[client.ObjectKey{Namespace: "ns", Name: name}] = m
	}
	provider := &CloudProvider{
		client: known,
		pools:  &recentPools{store: store, written: map[string]*v1alpha1.NodePool{}},
		trust:  func() error { return nil },
	}
	e, err := NewExpander(provider, wire.DefaultLimits(), prometheus.NewRegistry(), logr.Discard())
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

// TestWaits: pods of a member that find no node in a picture of the cluster which is some seconds old have one by now, or none needs
// one. What lasts is left to Cluster Autoscaler.
func TestWaits(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ready := func(since time.Duration) metav1.Condition {
		return metav1.Condition{
			Type: v1alpha1.ConditionCapacityReady, Status: metav1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-since)),
		}
	}
	running := metav1.Condition{Type: v1alpha1.ConditionPodsRunning, Status: metav1.ConditionTrue}
	for name, row := range map[string]struct {
		nodes      int32
		conditions []metav1.Condition
		want       string
	}{
		"nodes that are on their way": {nodes: 3, want: "1 of its 4 nodes are on their way"},
		"nodes that have come a moment ago": {
			nodes: 4, conditions: []metav1.Condition{ready(2 * time.Second)},
			want: "its 4 nodes have been Ready for 2 s, and its pods are about to be bound to them",
		},
		"a controller's clock that is ahead": {
			nodes: 4, conditions: []metav1.Condition{ready(-3 * time.Second)},
			want: "its 4 nodes have been Ready for 3 s, and its pods are about to be bound to them",
		},
		"a controller's clock that is wrong":  {nodes: 4, conditions: []metav1.Condition{ready(-time.Hour)}},
		"pods that find no node for a minute": {nodes: 4, conditions: []metav1.Condition{ready(time.Minute)}},
		"pods that all run":                   {nodes: 4, conditions: []metav1.Condition{ready(time.Minute), running}, want: "all its pods run"},
	} {
		m := &v1alpha1.EnsembleMember{Status: v1alpha1.EnsembleMemberStatus{
			ObservedGeneration: 1, Reserved: 4, Nodes: row.nodes, Conditions: row.conditions,
		}}
		if got := waits(m, now); got != row.want {
			t.Errorf("%s: %q, want %q", name, got, row.want)
		}
	}
}

// encoded is a pod of a Job, or of nobody.
func encoded(tb testing.TB, name, job string) []byte {
	tb.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}}
	if job != "" {
		controller := true
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "batch/v1", Kind: "Job", Name: job, Controller: &controller}}
	}
	out, err := pod.Marshal()
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestBestOptions: members are known by the Jobs of their pods, in the messages of old versions and of new ones.
func TestBestOptions(t *testing.T) {
	t.Parallel()
	ofMember, foreign := encoded(t, "m-0", "m"), encoded(t, "x", "")
	// A Job that is not that of a member.
	other := encoded(t, "other-0", "other")
	option := func(group string, pods ...[]byte) *expander.Option {
		return &expander.Option{NodeGroupId: group, NodeCount: 1, PodBytes: pods}
	}
	for name, row := range map[string]struct {
		waiting bool
		options []*expander.Option
		want    []string
	}{
		"nothing is asked":           {},
		"the nodes are on their way": {waiting: true, options: []*expander.Option{option("a", ofMember), option("b", ofMember)}},
		"the first pool of the member": {
			options: []*expander.Option{option("b", ofMember), option("a", ofMember)}, want: []string{"a: FirstPool"},
		},
		"pods of nobody": {waiting: true, options: []*expander.Option{option("a", ofMember), option("b", foreign, other)},
			want: []string{"b: NoMember"}},
		"a group that is not ours": {options: []*expander.Option{option("elsewhere", foreign)}, want: []string{"elsewhere: NoMember"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, legacy := range []bool{false, true} {
				request := &expander.BestOptionsRequest{}
				for _, o := range row.options {
					if legacy {
						o = &expander.Option{NodeGroupId: o.GetNodeGroupId(), NodeCount: o.GetNodeCount(), LegacyPod: o.GetPodBytes()}
					}
					request.Options = append(request.Options, o)
				}
				response, err := newExpander(t, row.waiting, "a", "b").BestOptions(t.Context(), request)
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, o := range response.GetOptions() {
					got = append(got, o.GetNodeGroupId()+": "+o.GetDebug())
				}
				if diff := cmp.Diff(row.want, got); diff != "" {
					t.Errorf("old messages %t: answer (-want +got):\n%s", legacy, diff)
				}
			}
		})
	}
}

// TestBestOptionsTells: each reason is in the metrics, and in the log with a group that it is the reason of.
func TestBestOptionsTells(t *testing.T) {
	t.Parallel()
	e := newExpander(t, true, "a", "b")
	var lines []string
	e.log = funcr.New(func(_, line string) { lines = append(lines, line) }, funcr.Options{})
	ofMember, foreign := encoded(t, "m-0", "m"), encoded(t, "x", "")
	ask := func(options ...*expander.Option) {
		if _, err := e.BestOptions(t.Context(), &expander.BestOptionsRequest{Options: options}); err != nil {
			t.Fatal(err)
		}
	}
	ask(&expander.Option{NodeGroupId: "a", PodBytes: [][]byte{ofMember}}, &expander.Option{NodeGroupId: "b", PodBytes: [][]byte{ofMember}})
	ask(&expander.Option{NodeGroupId: "a", PodBytes: [][]byte{ofMember}}, &expander.Option{NodeGroupId: "b", PodBytes: [][]byte{foreign}})
	want := []string{
		`"level"=0 "msg"="Chose among the groups to expand" "answer"="dropped" "options"=2 "reason"="MemberWaits" "nodePool"="a" ` +
			`"message"="ns/m: 4 of its 4 nodes are on their way"`,
		`"level"=0 "msg"="Chose among the groups to expand" "answer"="dropped" "options"=1 "reason"="MemberWaits" "nodePool"="a" ` +
			`"message"="ns/m: 4 of its 4 nodes are on their way"`,
		`"level"=0 "msg"="Chose among the groups to expand" "answer"="kept" "options"=1 "reason"="NoMember" "nodePool"="b" "message"="no pods ` +
			`of members"`,
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	lines = nil
	ask(&expander.Option{NodeGroupId: "b", PodBytes: [][]byte{foreign}})
	if len(lines) > 0 {
		t.Errorf("where members have nothing to do with it the log says %q", lines)
	}
	for metric, want := range map[prometheus.Metric]float64{
		e.answers.WithLabelValues("dropped", "MemberWaits"): 3, e.answers.WithLabelValues("kept", "NoMember"): 2, e.vetoes: 1,
	} {
		var got dto.Metric
		if err := metric.Write(&got); err != nil {
			t.Fatal(err)
		}
		if got.GetCounter().GetValue() != want {
			t.Errorf("%s is %g, want %g", metric.Desc(), got.GetCounter().GetValue(), want)
		}
	}
}

// TestBestOptionsRefuses: what cannot be read is named, and an expander that knows nothing current has no opinion.
func TestBestOptionsRefuses(t *testing.T) {
	t.Parallel()
	e := newExpander(t, false, "a")
	for name, row := range map[string]struct {
		option *expander.Option
		says   string
	}{
		"a pod that is none": {
			&expander.Option{NodeGroupId: "a", PodBytes: [][]byte{encoded(t, "x", ""), []byte("garbage")}},
			`options[0] (nodeGroupId "a"): podBytes[1]: it cannot be read as a v1.Pod`,
		},
		"an old pod":           {&expander.Option{NodeGroupId: "a", LegacyPod: [][]byte{{0xff}}}, `pod[0]: it cannot be read as a v1.Pod`},
		"an option of nothing": {&expander.Option{PodBytes: [][]byte{encoded(t, "x", "")}}, "options[0]: nodeGroupId is empty"},
	} {
		_, err := e.BestOptions(t.Context(), &expander.BestOptionsRequest{Options: []*expander.Option{row.option}})
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(status.Convert(err).Message(), row.says) {
			t.Errorf("%s: %v, want InvalidArgument with %s", name, err, row.says)
		}
	}
	e.provider.trust = func() error { return errors.New("nothing is known") }
	if _, err := e.BestOptions(t.Context(), &expander.BestOptionsRequest{}); status.Code(err) != codes.Unavailable {
		t.Errorf("an expander that knows nothing says %v", err)
	}
}

// FuzzBestOptions: no bytes of a pod make the expander panic.
func FuzzBestOptions(f *testing.F) {
	f.Add("a", encoded(f, "m-0", "m"))
	f.Add("", []byte("garbage"))
	e := newExpander(f, true, "a", "b")
	f.Fuzz(func(t *testing.T, group string, pod []byte) {
		response, err := e.BestOptions(
			t.Context(), &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: group, PodBytes: [][]byte{pod}}}},
		)
		if err == nil && len(response.GetOptions()) > 1 {
			t.Errorf("%d options of one", len(response.GetOptions()))
		}
		if err != nil && status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q is answered %v", pod, err)
		}
	})
}

// BenchmarkBestOptions measures the answer to a request as it comes off the wire: reading the message, which is all between
// its last byte and the method, the method, and both together. The figures of single answers are the metrics.
func BenchmarkBestOptions(b *testing.B) {
	for _, size := range []struct {
		options, pods, members int
		// turned gives each option the pods in an order of its own, so that no two lists are the same.
		turned bool
	}{
		{options: 10, pods: 100, members: 1},
		{options: 100, pods: 1000, members: 1},
		{options: 1000, pods: 1000, members: 1},
		{options: 1000, pods: 1000, members: 500},
		{options: 1000, pods: 1000, members: 1, turned: true},
	} {
		b.Run(fmt.Sprintf("options=%d/pods=%d/members=%d/turned=%t", size.options, size.pods, size.members, size.turned), func(b *testing.B) {
			members := make([]string, size.members)
			for m := range members {
				members[m] = fmt.Sprintf("m-%d", m)
			}
			e := newExpanderOf(b, members, false, "group-1", "group-0")
			pods := make([][]byte, size.pods)
			for p := range pods {
				// Each second pod is that of a member.
				pods[p] = encoded(b, fmt.Sprintf("pod-%d", p), []string{members[p/2%len(members)], ""}[p%2])
			}
			request := &expander.BestOptionsRequest{}
			for o := range size.options {
				option := &expander.Option{NodeGroupId: fmt.Sprintf("group-%d", o), NodeCount: 10, PodBytes: pods}
				if size.turned {
					at := o % size.pods
					option.PodBytes = slices.Concat(pods[at:], pods[:at])
				}
				request.Options = append(request.Options, option)
			}
			received := pieces(b, request)
			codec := wire.NewCodec(wire.DefaultLimits(), func(wire.Reason) {})
			var reading, answering, both []time.Duration
			b.SetBytes(int64(received.Len()))
			b.ReportAllocs()
			for b.Loop() {
				var request expander.BestOptionsRequest
				start := time.Now()
				if err := codec.Unmarshal(received, &request); err != nil {
					b.Fatal(err)
				}
				read := time.Now()
				if _, err := e.BestOptions(b.Context(), &request); err != nil {
					b.Fatal(err)
				}
				reading, answering, both = append(reading, read.Sub(start)), append(answering, time.Since(read)), append(both, time.Since(start))
			}
			for name, all := range map[string][]time.Duration{"read": reading, "answer": answering, "both": both} {
				slices.Sort(all)
				for _, part := range []int{50, 99} {
					b.ReportMetric(all[(len(all)*part-1)/100].Seconds()*1000, fmt.Sprintf("%s-p%d-ms", name, part))
				}
			}
		})
	}
}

// pieces is a message in the pieces that it is received in: those of HTTP/2 frames.
func pieces(tb testing.TB, message proto.Message) mem.BufferSlice {
	tb.Helper()
	encoded, err := proto.Marshal(message)
	if err != nil {
		tb.Fatal(err)
	}
	const frame = 16 << 10
	var out mem.BufferSlice
	for piece := range slices.Chunk(encoded, frame) {
		out = append(out, mem.SliceBuffer(piece))
	}
	return out
}
