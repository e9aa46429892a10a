package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/peer"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/budget"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/endpoint"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
)

// TestFloodOfQueues: many members of one namespace that tell of their queues without pause cost the API server no more writes than the
// budget has, and none of what they write is in the objects that have the nodes; another namespace is served at once; and in the end what
// each has told last is stored.
func TestFloodOfQueues(t *testing.T) {
	const perSecond, inAll, members = 5, 20, 30
	budgets, err := budget.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	counts, err := endpoint.NewMetrics(prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	mgr := cluster.NewMortal(t, -1, manager.Options{})
	store, kinds := pods.New(), member.Kinds{minicluster.Kind{}}
	if err := pods.Follow(mgr, kinds, store); err != nil {
		t.Fatal(err)
	}
	server := endpoint.New(endpoint.Options{
		Kinds:  kinds,
		Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Pods: store, Events: mgr.GetEventRecorder("flood-test"), Log: logr.Discard(),
		Clock:   clock.RealClock{},
		Metrics: counts, Writes: budget.New("member-writes", budget.Rate{PerNamespace: perSecond, Total: inAll}, budgets),
		Audience: audience, TrustUnknown: true,
	})
	for _, name := range []string{"flood", "calm"} {
		if err := cluster.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}); err != nil {
			t.Fatal(err)
		}
	}
	made := func(namespace string, i int) *v1alpha1.EnsembleMember {
		member := &v1alpha1.EnsembleMember{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("m-%d", i)},
			Spec:       v1alpha1.EnsembleMemberSpec{Size: 1, MinSize: 1, MaxSize: 2, NodePools: []string{"none"}},
		}
		if err := cluster.Client.Create(t.Context(), member); err != nil {
			t.Fatal(err)
		}
		return member
	}
	flood := make([]*v1alpha1.EnsembleMember, members)
	for i := range flood {
		flood[i] = made("flood", i)
	}
	calm := made("calm", 0)
	mgr.Run(t, server.Run, &v1alpha1.EnsembleMember{}, &v1alpha1.MemberQueue{})
	defer mgr.Stop()

	told := func(ctx context.Context, member *v1alpha1.EnsembleMember, sched int) string {
		response, err := server.RequestUpdate(peer.NewContext(ctx, &peer.Peer{Addr: address("203.0.113.1:1")}), &ensemble.UpdateRequest{
			Member: "minicluster", Name: member.Namespace + "/" + member.Name, Payload: fmt.Sprintf(`{"queue": {"sched": %d}}`, sched),
		})
		if err != nil || response.GetStatus() != ensemble.Response_SUCCESS {
			return fmt.Sprintf("%v, %v", response, err)
		}
		return response.GetPayload()
	}
	begin := time.Now()
	end := begin.Add(4 * time.Second)
	last := make([]int, members)
	var all sync.WaitGroup
	for i := range flood {
		all.Go(func() {
			for time.Now().Before(end) {
				last[i]++
				if answer := told(t.Context(), flood[i], last[i]); !strings.Contains(answer, `"stored":["queue"]`) {
					t.Error(answer)
					return
				}
			}
		})
	}
	// In the midst of it another namespace is served at once.
	if answer := told(t.Context(), calm, 1); !strings.Contains(answer, `"reason":"stored; `) {
		t.Errorf("another namespace is answered %s", answer)
	}
	all.Wait()
	// Each write of a MemberQueue is a generation of it at the API server.
	writes := func(ctx context.Context) (sum int64, of map[string]v1alpha1.Queue) {
		var list v1alpha1.MemberQueueList
		if err := cluster.Client.List(ctx, &list, client.InNamespace("flood")); err != nil {
			t.Fatal(err)
		}
		of = map[string]v1alpha1.Queue{}
		for i := range list.Items {
			sum += list.Items[i].Generation
			of[list.Items[i].Name] = list.Items[i].Queue
		}
		return sum, of
	}
	asked := 0
	for _, n := range last {
		asked += n
	}
	got, _ := writes(t.Context())
	// What was put off is written all the while, also while this is read.
	took := time.Since(begin)
	if most := perSecond + int64(took.Seconds()*perSecond) + 1; got > most || got < perSecond {
		t.Errorf("%d updates were written %d times within %s, want at most %d", asked, got, took, most)
	}
	t.Logf("%d updates of %d members within %s: %d writes", asked, members, took, got)
	if err := wait.PollUntilContextTimeout(t.Context(), 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, of := writes(ctx)
		for i, n := range last {
			if of[flood[i].Name].Jobs.Sched != int64(n) {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		t.Errorf("not all of what was told last is stored: %v", err)
	}
	for _, member := range slices.Concat(flood, []*v1alpha1.EnsembleMember{calm}) {
		now := &v1alpha1.EnsembleMember{}
		if err := cluster.Client.Get(
			t.Context(), client.ObjectKeyFromObject(member), now,
		); err != nil || now.ResourceVersion != member.ResourceVersion {
			t.Errorf("%s/%s was written: %v", member.Namespace, member.Name, err)
		}
		if err := cluster.Client.Delete(t.Context(), now); err != nil {
			t.Error(err)
		}
	}
}

// address is one of the network.
type address string

func (address) Network() string  { return "tcp" }
func (a address) String() string { return string(a) }
