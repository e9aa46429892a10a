package server

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/expander"
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

// newExpander knows pools of the names, and a member m of the first of them, which waits for 4 nodes or for none.
func newExpander(tb testing.TB, waiting bool, pools ...string) *Expander {
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
	provider := &CloudProvider{
		client: &memory{members: map[client.ObjectKey]*v1alpha1.EnsembleMember{{Namespace: "ns", Name: "m"}: m}},
		pools:  &recentPools{store: store, written: map[string]*v1alpha1.NodePool{}},
		trust:  func() error { return nil },
	}
	e, err := NewExpander(provider, prometheus.NewRegistry(), logr.Discard())
	if err != nil {
		tb.Fatal(err)
	}
	return e
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
		"nothing is asked":             {},
		"the nodes are on their way":   {waiting: true, options: []*expander.Option{option("a", ofMember), option("b", ofMember)}},
		"the first pool of the member": {options: []*expander.Option{option("b", ofMember), option("a", ofMember)}, want: []string{"a: the first pool for ns/m"}},
		"pods of nobody": {waiting: true, options: []*expander.Option{option("a", ofMember), option("b", foreign, other)},
			want: []string{"b: no pods of members"}},
		"a group that is not ours": {options: []*expander.Option{option("elsewhere", foreign)}, want: []string{"elsewhere: no pods of members"}},
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

// TestBestOptionsRefuses: what cannot be read is named, and an expander that knows nothing current has no opinion.
func TestBestOptionsRefuses(t *testing.T) {
	t.Parallel()
	e := newExpander(t, false, "a")
	for name, row := range map[string]struct {
		option *expander.Option
		says   string
	}{
		"a pod that is none":   {&expander.Option{NodeGroupId: "a", PodBytes: [][]byte{encoded(t, "x", ""), []byte("garbage")}}, `options[0] (nodeGroupId "a"): podBytes[1]: it cannot be read as a v1.Pod`},
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
		response, err := e.BestOptions(t.Context(), &expander.BestOptionsRequest{Options: []*expander.Option{{NodeGroupId: group, PodBytes: [][]byte{pod}}}})
		if err == nil && len(response.GetOptions()) > 1 {
			t.Errorf("%d options of one", len(response.GetOptions()))
		}
		if err != nil && status.Code(err) != codes.InvalidArgument {
			t.Errorf("%q is answered %v", pod, err)
		}
	})
}

// BenchmarkBestOptions measures the answer to a request whose options have all pods each, as it comes off the wire.
func BenchmarkBestOptions(b *testing.B) {
	for _, size := range []struct{ options, pods int }{{10, 100}, {100, 1000}, {1000, 1000}} {
		b.Run(fmt.Sprintf("options=%d/pods=%d", size.options, size.pods), func(b *testing.B) {
			e := newExpander(b, false, "a", "b")
			request := &expander.BestOptionsRequest{}
			for o := range size.options {
				option := &expander.Option{NodeGroupId: fmt.Sprintf("group-%d", o), NodeCount: 10}
				for p := range size.pods {
					option.PodBytes = append(option.PodBytes, encoded(b, fmt.Sprintf("pod-%d", p), []string{"m", ""}[p%2]))
				}
				request.Options = append(request.Options, option)
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := e.BestOptions(b.Context(), request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
