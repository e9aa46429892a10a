package resize

import (
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// asked is a queue that remembers how soon passes are asked for.
type asked struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	after []time.Duration
}

func (a *asked) Add(reconcile.Request) { a.after = append(a.after, 0) }

func (a *asked) AddAfter(_ reconcile.Request, after time.Duration) { a.after = append(a.after, after) }

// TestFollow: a pod of a member and one behind the gate lead to a pass at once, somebody else's pod on a node of a pool to one that
// leaves room between passes, and all others to none.
func TestFollow(t *testing.T) {
	t.Parallel()
	l := cluster(2, 1, 10)
	foreign := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "foreign", UID: "foreign", ResourceVersion: "1"}}
	l.nodes = append(l.nodes, foreign)
	o := l.observer()
	queue := &asked{}
	if err := o.ledger.follow().Start(t.Context(), queue); err != nil {
		t.Fatal(err)
	}
	if _, err := o.observe(t.Context()); err != nil {
		t.Fatal(err)
	}
	o.ledger.took.Store(int64(3 * time.Second / foreignTimes))
	on := func(node string) *corev1.Pod {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "pod-on-" + node, UID: "u"}}
		pod.Spec.NodeName = node
		return pod
	}
	gated := on("")
	gated.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
	for n, row := range []struct {
		name string
		pod  *corev1.Pod
		want []time.Duration
	}{
		{"of a member", &l.pods[0], []time.Duration{0}},
		{"behind the gate", gated, []time.Duration{0}},
		{"of somebody else, on a node of a pool", on("node-1"), []time.Duration{3 * time.Second}},
		{"of somebody else, on another node", on("foreign"), nil},
		{"of somebody else, on no node", on("none"), nil},
	} {
		queue.after = nil
		row.pod.ResourceVersion = strconv.Itoa(100 + n)
		tell(t, o.ledger.store, row.pod)
		if len(queue.after) != len(row.want) || (len(row.want) > 0 && queue.after[0] != row.want[0]) {
			t.Errorf("a pod %s: passes are asked for after %v, not %v", row.name, queue.after, row.want)
		}
	}
}
