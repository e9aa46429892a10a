package pool

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestTenants: whatever happens to pods, and however late it is told, the counts are those of a count by hand, a pass is asked for where
// one has changed, and of pods that are gone nothing is left.
func TestTenants(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 3))
		tenants, there := NewTenants(), map[string]*corev1.Pod{}
		asked := map[string]bool{}
		ask := func(node string) { asked[node] = true }
		tenants.queue.Store(&ask)
		before := map[string]int{}
		for step := range 100 {
			name := fmt.Sprint("pod-", random.IntN(6))
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name, ResourceVersion: strconv.Itoa(step)}}
			if random.IntN(4) > 0 {
				pod.Spec.NodeName = fmt.Sprint("node-", random.IntN(3))
			}
			switch random.IntN(8) {
			case 0:
				pod.Status.Phase = corev1.PodFailed
			case 1:
				pod.OwnerReferences = []metav1.OwnerReference{{Kind: "DaemonSet", Controller: new(true)}}
			case 2:
				pod.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
			}
			var err error
			switch random.IntN(10) {
			case 0:
				delete(there, name)
				err = tenants.Delete(pod)
			case 1:
				var all []any
				for other, pod := range there {
					if random.IntN(5) == 0 {
						delete(there, other)
						continue
					}
					all = append(all, pod)
				}
				err = tenants.Replace(all, "")
			default:
				there[name] = pod
				err = tenants.Update(pod)
			}
			if err != nil {
				t.Fatal(err)
			}
			want := map[string]int{}
			for _, pod := range there {
				daemon, mirror, ended := len(pod.OwnerReferences) > 0, len(pod.Annotations) > 0, pod.Status.Phase == corev1.PodFailed
				if node := pod.Spec.NodeName; node != "" && !daemon && !mirror && !ended {
					want[node]++
				}
			}
			if diff := cmp.Diff(want, tenants.counts); diff != "" {
				t.Fatalf("seed %d, step %d: counts (-by hand +told):\n%s", seed, step, diff)
			}
			for n := range 3 {
				node := fmt.Sprint("node-", n)
				if want[node] != before[node] && !asked[node] {
					t.Fatalf("seed %d, step %d: no pass was asked for when %s had %d pods and then %d", seed, step, node, before[node], want[node])
				}
			}
			before, asked = want, map[string]bool{}
		}
		if err := tenants.Replace(nil, ""); err != nil || len(tenants.on)+len(tenants.counts) > 0 {
			t.Errorf("seed %d: of pods that are gone %d are remembered: %v", seed, len(tenants.on), err)
		}
	}
	if err := NewTenants().Add(&corev1.Node{}); err == nil {
		t.Error("a node is taken for a pod")
	}
}
