package kwok

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	clocktesting "k8s.io/utils/clock/testing"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// world is a launcher and the cloud behind it, whose time is set by hand.
type world struct {
	*Launcher
	writes *writes
	boot   *Boot
	clock  *clocktesting.FakePassiveClock
	pool   *launch.Pool
}

func newWorld(t *testing.T, change ...func(*v1alpha1.KwokMachines)) *world {
	t.Helper()
	l, w := newLauncher(t, -1)
	now := clocktesting.NewFakePassiveClock(time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC))
	l.clock = now
	boot := &Boot{Client: l.client, Live: l.live, Events: events.NewFakeRecorder(100), Clock: now}
	return &world{Launcher: l, writes: w, boot: boot, clock: now, pool: poolOf(-1, change...)}
}

// launch launches hpc-0.
func (w *world) launch(t *testing.T) {
	t.Helper()
	if outcomes, err := w.Launch(t.Context(), w.pool, orderOf(w.pool, "t", "hpc-0")); err != nil || kinds(outcomes) != "Accepted" {
		t.Fatalf("the outcome is %+v, %v", outcomes, err)
	}
}

// reconcile lets the cloud look at an instance, and says when it wants to look again.
func (w *world) reconcile(t *testing.T) time.Duration {
	t.Helper()
	result, err := w.boot.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: InstanceName(w.pool, "hpc-0")}})
	if err != nil {
		t.Fatal(err)
	}
	return result.RequeueAfter
}

func (w *world) pass(d time.Duration) { w.clock.SetTime(w.clock.Now().Add(d)) }

func (w *world) instance(t *testing.T) *v1alpha1.KwokInstance {
	t.Helper()
	var out v1alpha1.KwokInstance
	err := w.live.Get(t.Context(), client.ObjectKey{Name: InstanceName(w.pool, "hpc-0")}, &out)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	return &out
}

func (w *world) nodes(t *testing.T) []corev1.Node {
	t.Helper()
	var list corev1.NodeList
	if err := w.live.List(t.Context(), &list); err != nil {
		t.Fatal(err)
	}
	return list.Items
}

// terminate tells hpc-0 to end. That it is gone is said when it is, and not before.
func (w *world) terminate(t *testing.T) {
	t.Helper()
	err := w.Terminate(t.Context(), w.pool, []launch.Instance{{Machine: "hpc-0"}})[0]
	if err != nil && !errors.Is(err, launch.ErrGone) {
		t.Fatal(err)
	}
	if gone := w.instance(t) == nil; gone != (err != nil) {
		t.Errorf("it is gone: %t, and the answer is %v", gone, err)
	}
}

// TestBoot: a machine registers when it has booted, and goes with its node in two writes.
func TestBoot(t *testing.T) {
	t.Parallel()
	w := newWorld(t, func(k *v1alpha1.KwokMachines) { k.BootDelay.Duration = time.Minute })
	w.launch(t)
	if left := w.reconcile(t); left != time.Minute || len(w.nodes(t)) != 0 {
		t.Errorf("it boots for another %s, and has the nodes %v", left, w.nodes(t))
	}
	w.pass(time.Minute)
	w.reconcile(t)
	if nodes := w.nodes(t); len(nodes) != 1 || nodes[0].Name != "hpc-0" || nodes[0].Spec.ProviderID != "kwok://hpc/hpc-0" {
		t.Fatalf("the nodes are %v", nodes)
	}
	if told := seen(w.instance(t)); told.NodeName != "hpc-0" || told.Failure != nil || told.Going {
		t.Errorf("it is %+v", told)
	}
	w.writes.seen = nil
	w.terminate(t)
	if want := []string{"delete *v1.Node hpc-0", "delete *v1alpha1.KwokInstance hpc-0"}; !slices.Equal(w.writes.seen, want) {
		t.Errorf("the writes of its end are %v", w.writes.seen)
	}
}

// TestRegistration: nodes register as the role says.
func TestRegistration(t *testing.T) {
	t.Parallel()
	for _, how := range []v1alpha1.KwokRegistration{"", v1alpha1.KwokRegistrationTainted, v1alpha1.KwokRegistrationBare} {
		pool := poolOf(-1, func(k *v1alpha1.KwokMachines) { k.Registration = how })
		l, _ := newLauncher(t, -1)
		order := orderOf(pool, "t", "hpc-0")
		order.Machines[0].Spec.Purpose = v1alpha1.PurposeReservation
		order.Machines[0].Spec.Template.Labels = map[string]string{"a": "b"}
		instance, _ := l.instanceOf(pool, order, order.Machines[0])
		node := nodeOf(instance)
		want := how != v1alpha1.KwokRegistrationBare
		tainted := slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == v1alpha1.TaintRegistration })
		if tainted != want || l.Traits(pool).Tainted != want || (node.Labels[v1alpha1.LabelNodePool] == "hpc") != want ||
			(node.Annotations[v1alpha1.AnnotationReserved] == "true") != want || node.Labels["a"] != "b" {
			t.Errorf("with the registration %q the node is %+v with the taints %v", how, node.ObjectMeta, node.Spec.Taints)
		}
	}
}

// TestNoNodeForWhatIsGone: an instance that was deleted, or told to end, while the cache still lets it boot gets no node, and a
// node that it got by a hair's breadth goes.
func TestNoNodeForWhatIsGone(t *testing.T) {
	t.Parallel()
	for _, delay := range []time.Duration{0, time.Minute} {
		w := newWorld(t, func(k *v1alpha1.KwokMachines) {
			k.TerminationDelay, k.NodeNames = &metav1.Duration{Duration: delay}, v1alpha1.KwokNodeNamesOwn
		})
		w.launch(t)
		stale := w.instance(t)
		w.terminate(t)
		if err := w.boot.createNode(t.Context(), stale); err != nil || len(w.nodes(t)) != 0 {
			t.Errorf("it has the nodes %v, %v", w.nodes(t), err)
		}
		// The node that it created just before.
		node := nodeOf(stale)
		if err := errors.Join(ctrl.SetControllerReference(stale, node, w.client.Scheme()), w.client.Create(t.Context(), node)); err != nil {
			t.Fatal(err)
		}
		w.pass(delay)
		w.reconcile(t)
		if w.instance(t) != nil || len(w.nodes(t)) != 0 {
			t.Errorf("after %s there are %v and the nodes %v", delay, w.instance(t), w.nodes(t))
		}
	}
}

// TestSomebodysNode: a node of the same name that is not the instance's own is left alone.
func TestSomebodysNode(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.launch(t)
	if err := w.client.Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "hpc-0"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.boot.Reconcile(t.Context(), ctrl.Request{NamespacedName: client.ObjectKey{Name: "hpc-0"}}); err == nil {
		t.Error("it registers a node that is another's")
	}
	w.terminate(t)
	w.reconcile(t)
	if w.instance(t) != nil || len(w.nodes(t)) != 1 {
		t.Errorf("there are %v and the nodes %v", w.instance(t), w.nodes(t))
	}
}

// TestNodeKilled: an instance whose node somebody has deleted stays, and gets no other node.
func TestNodeKilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.launch(t)
	w.reconcile(t)
	if err := w.client.Delete(t.Context(), &w.nodes(t)[0]); err != nil {
		t.Fatal(err)
	}
	w.reconcile(t)
	if told := seen(w.instance(t)); told.Failure != nil || told.NodeName != "hpc-0" || len(w.nodes(t)) != 0 {
		t.Errorf("it is %+v with the nodes %v", told, w.nodes(t))
	}
	w.terminate(t)
	if w.instance(t) != nil {
		t.Error("it does not end")
	}
}
