package reality

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// tenants numbers the tenants of this run.
var tenants atomic.Int32

// tenant is what one test has to itself: a namespace, and pools whose names begin with it. What it leaves behind stays to the end
// of all tests, so that what is ordered late counts too.
type tenant struct {
	*testing.T
	namespace string
	members   []types.NamespacedName
}

// newTenant makes a namespace with labels, in which pods can be created.
func newTenant(t *testing.T, labels ...string) *tenant {
	t.Helper()
	t.Parallel()
	x := &tenant{T: t, namespace: fmt.Sprintf("t%d", tenants.Add(1))}
	x.apply("{apiVersion: v1, kind: Namespace, metadata: {name: %s, labels: {%s}}}", x.namespace, strings.Join(labels, ", "))
	x.serviceAccount()
	t.Cleanup(x.tellRow)
	return x
}

// serviceAccount waits for what pods are refused without, a little after their namespace is there.
func (x *tenant) serviceAccount() {
	x.Helper()
	if err := wait.PollUntilContextTimeout(x.Context(), 50*time.Millisecond, *patience, true, func(ctx context.Context) (bool, error) {
		err := shared.Client.Get(ctx, x.key("default"), &corev1.ServiceAccount{})
		return err == nil, client.IgnoreNotFound(err)
	}); err != nil {
		x.Fatalf("there is no ServiceAccount default in %s: %v", x.namespace, err)
	}
}

// tellRow logs what the test has cost, as a row of a table, where the environment asks for it.
func (x *tenant) tellRow() {
	ours := func(pool string) bool { return strings.HasPrefix(pool, x.namespace+"-") }
	if os.Getenv("REALITY_TABLE") == "" {
		return
	}
	bought := 0
	shared.ledger.mu.Lock()
	for pool, count := range shared.ledger.ordered {
		if ours(pool) {
			bought += count
		}
	}
	shared.ledger.mu.Unlock()
	var words []string
	for _, key := range x.members {
		last := "gone"
		for _, event := range shared.recorder.Events() {
			if member, is := event.Object.(*v1alpha1.EnsembleMember); is && client.ObjectKeyFromObject(member) == key && !event.Deleted {
				ready := condition(member, v1alpha1.ConditionReady)
				last = fmt.Sprintf("%s %s: %s", ready.Status, ready.Reason, ready.Message)
			}
		}
		words = append(words, key.Name+" "+last)
	}
	x.Logf(
		"ROW | %s | %d | %.0f | %s |", x.Name(), bought, idle(shared.recorder.Events(), time.Now(), ours).Seconds(), strings.Join(words, "; "),
	)
}

// apply applies YAML.
func (x *tenant) apply(format string, arguments ...any) {
	x.Helper()
	objects, err := system.Objects(fmt.Appendf(nil, format, arguments...))
	if err != nil {
		x.Fatal(err)
	}
	if err := shared.Apply(x.Context(), objects...); err != nil {
		x.Fatal(err)
	}
}

func (x *tenant) key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: x.namespace, Name: name}
}

// pool says what a NodePool is like; what is not said is that of nodes of 4 cores that boot in a second.
type pool struct {
	maxSize                         int
	timeout, kwok, labels, capacity string
	// more is the rest of the spec.
	more string
}

// pool declares or edits a NodePool, and returns its name.
func (x *tenant) pool(name string, p pool) string {
	x.Helper()
	name = x.namespace + "-" + name
	or := func(value, other string) string {
		if value == "" {
			return other
		}
		return value
	}
	x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  provisionTimeout: %s
  template:
    labels: {%s}
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
    capacity: {cpu: "4", memory: 16Gi, pods: "110"%s}
  machines: {kwok: {%s}}
  %s
`, name, max(p.maxSize, 1), or(p.timeout, "2m"), p.labels, p.capacity, or(p.kwok, "bootDelay: 1s"), p.more)
	return name
}

// cluster says what a MiniCluster is like; what is not said is that of pods that request 3 cores and need nothing else.
type cluster struct {
	resources, annotations, pod string
}

// cluster creates a MiniCluster.
func (x *tenant) cluster(name string, size int, c cluster, pools ...string) types.NamespacedName {
	x.Helper()
	if err := x.create(name, size, c, pools...); err != nil {
		x.Fatal(err)
	}
	return x.key(name)
}

// create is cluster for one that may be refused.
func (x *tenant) create(name string, size int, c cluster, pools ...string) error {
	x.Helper()
	if c.resources == "" {
		c.resources = `requests: {cpu: "3"}`
	}
	objects, err := system.Objects(fmt.Appendf(nil, `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: %s, annotations: {autoscaling.flux-framework.org/node-pools: "%s", %s}}
spec:
  size: %d
  minSize: 1
  maxSize: 10
  interactive: true
  containers: [{image: "ubuntu:noble", runFlux: true, resources: {%s}}]
  pod: {%s}
`, name, x.namespace, strings.Join(pools, ","), c.annotations, size, c.resources, c.pod))
	if err != nil {
		x.Fatal(err)
	}
	x.members = append(x.members, x.key(name))
	return shared.Apply(x.Context(), objects...)
}

// atMost says how many machines may ever be ordered for a pool.
func (x *tenant) atMost(pool string, machines int, why string) {
	x.Helper()
	shared.ledger.limit(pool, machines, x.Name()+": "+why)
}

// within checks what was ordered until now.
func (x *tenant) within(pool string, machines int) {
	x.Helper()
	if ordered := shared.ledger.of(pool); ordered > machines {
		x.Errorf("%d machines were ordered for %s until now, and at most %d are of any use\n%s", ordered, pool, machines, x.story())
	}
}

// until waits for a state. unmet says what is missing, and nothing when nothing is.
func (x *tenant) until(unmet func(*history.State) string) {
	x.Helper()
	ctx, cancel := context.WithTimeoutCause(x.Context(), *patience, fmt.Errorf("not within %s", *patience))
	defer cancel()
	if err := shared.recorder.Until(ctx, unmet); err != nil {
		x.Fatalf("%v\n%s", err, x.story())
	}
}

// look reads something off the present state.
func (x *tenant) look(at func(*history.State)) {
	x.Helper()
	x.until(func(s *history.State) string { at(s); return "" })
}

// staysUntil checks that something stays as it is until a point in time. changed says what is no more as it was, and nothing while
// all is.
func (x *tenant) staysUntil(end time.Time, changed func(*history.State) string) {
	x.Helper()
	ctx, cancel := context.WithDeadline(x.Context(), end)
	defer cancel()
	what := ""
	if err := shared.recorder.Until(ctx, func(s *history.State) string {
		if what = changed(s); what != "" {
			return ""
		}
		return "it stays"
	}); err == nil {
		x.Errorf("%s\n%s", what, x.story())
	} else if ctx.Err() == nil || x.Context().Err() != nil {
		x.Fatal(err)
	}
}

// atSize waits until a MiniCluster has a size, runs, and its member says that it is Ready.
func (x *tenant) atSize(cluster types.NamespacedName, size int) {
	x.Helper()
	x.until(func(s *history.State) string { return notAtSize(s, cluster, size) })
}

func notAtSize(s *history.State, cluster types.NamespacedName, size int) string {
	running := 0
	for _, pod := range s.PodsOf(cluster) {
		if pod.Status.Phase == corev1.PodRunning && pod.DeletionTimestamp == nil {
			running++
		}
	}
	member := s.Members[cluster]
	switch {
	case member == nil:
		return fmt.Sprintf("there is no EnsembleMember %s", cluster)
	case s.Size(cluster) != int64(size) || int(member.Status.Size) != size:
		return fmt.Sprintf("%s has size %d, not %d: %s", cluster, s.Size(cluster), size, words(member))
	case running != size:
		return fmt.Sprintf("%d of %d pods of %s run: %s", running, size, cluster, words(member))
	case !saysReady(member) || member.Status.Growth != nil:
		return fmt.Sprintf("%s is not Ready, or still grows: %s", cluster, words(member))
	}
	return ""
}

func condition(member *v1alpha1.EnsembleMember, kind string) metav1.Condition {
	if member != nil {
		if c := meta.FindStatusCondition(member.Status.Conditions, kind); c != nil {
			return *c
		}
	}
	return metav1.Condition{Type: kind, Status: metav1.ConditionUnknown}
}

func words(member *v1alpha1.EnsembleMember) string {
	ready := condition(member, v1alpha1.ConditionReady)
	return fmt.Sprintf("%s %s: %s", ready.Status, ready.Reason, ready.Message)
}

// reasonsOf is what the status of a member says of why it is not Ready, and of the pools that have failed.
func reasonsOf(member *v1alpha1.EnsembleMember) string {
	lines := []string{words(member)}
	if member != nil && member.Status.Growth != nil {
		for i := range member.Status.Growth.Failures {
			lines = append(lines, member.Status.Growth.Failures[i].Message)
		}
	}
	return strings.Join(lines, "; ")
}

// says waits until a member is not Ready, for one of some reasons and with all of some texts in what its status says of that.
func (x *tenant) says(cluster types.NamespacedName, reasons []string, texts ...string) {
	x.Helper()
	x.until(func(s *history.State) string {
		member := s.Members[cluster]
		ready := condition(member, v1alpha1.ConditionReady)
		fits := ready.Status == metav1.ConditionFalse && slices.Contains(reasons, ready.Reason)
		for _, text := range texts {
			fits = fits && strings.Contains(reasonsOf(member), text)
		}
		return unless(fits, "%s says %s; it has to say one of %v with %q", cluster, reasonsOf(member), reasons, texts)
	})
}

func unless(wanted bool, format string, arguments ...any) string {
	if wanted {
		return ""
	}
	return fmt.Sprintf(format, arguments...)
}

// machines waits until a pool has that many machines and nodes, and wants no others.
func (x *tenant) machines(pool string, count int) {
	x.Helper()
	x.until(func(s *history.State) string {
		p, machines := s.Pools[pool], machinesOf(s, pool)
		nodes := s.NodesOf(pool)
		return unless(p != nil && len(machines) == count && len(nodes) == count && int(p.Spec.Replicas) == count,
			"%s has the machines %v and the nodes %v; %d are expected", pool, machines, nodes, count)
	})
}

func machinesOf(s *history.State, pool string) (names []string) {
	for name, machine := range s.Machines {
		if machine.Spec.NodePool == pool {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// heldBy are the nodes held for a member.
func heldBy(s *history.State, cluster types.NamespacedName) (held []string) {
	if member := s.Members[cluster]; member != nil {
		for i := range member.Status.Reservations {
			held = append(held, member.Status.Reservations[i].Held...)
		}
	}
	slices.Sort(held)
	return held
}

// quiet checks that no machine is bought any more: until the growth is tried again and a little longer, where it is.
func (x *tenant) quiet(m types.NamespacedName, pool string, machines int) {
	x.Helper()
	end := time.Now().Add(20 * time.Second)
	x.look(func(s *history.State) {
		if member := s.Members[m]; member.Status.Growth != nil && member.Status.Growth.RetryAfter != nil {
			if again := member.Status.Growth.RetryAfter.Add(10 * time.Second); again.After(end) {
				end = again
			}
		}
	})
	x.staysUntil(end, func(*history.State) string {
		return unless(
			shared.ledger.of(pool) <= machines, "%d machines were ordered for %s, in exchange of nodes that are of no use",
			shared.ledger.of(pool), pool,
		)
	})
}

// patch edits an object as a user does. In tests that is a merge patch.
func (x *tenant) patch(object client.Object, format string, arguments ...any) {
	x.Helper()
	patch := client.RawPatch(types.MergePatchType, fmt.Appendf(nil, format, arguments...))
	if err := system.Write(x.Context(), func(ctx context.Context) error { return shared.Client.Patch(ctx, object, patch) }); err != nil {
		x.Fatal(err)
	}
}

// patchStatus is patch for a status, as the kubelet writes it.
func (x *tenant) patchStatus(object client.Object, format string, arguments ...any) {
	x.Helper()
	patch := client.RawPatch(types.StrategicMergePatchType, fmt.Appendf(nil, format, arguments...))
	if err := shared.Client.Status().Patch(x.Context(), object, patch); err != nil {
		x.Fatal(err)
	}
}

// delete deletes an object as kubectl does.
func (x *tenant) delete(object client.Object) {
	x.Helper()
	if err := shared.Client.Delete(x.Context(), object, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		x.Fatal(err)
	}
}

// scale sets the size that a member wants, as kubectl scale does.
func (x *tenant) scale(cluster types.NamespacedName, size int) {
	x.Helper()
	x.patch(memberObject(cluster), `{"spec":{"size":%d}}`, size)
}

// suspend suspends the Job of a MiniCluster, or resumes it, as Kueue does.
func (x *tenant) suspend(cluster types.NamespacedName, suspended bool) {
	x.Helper()
	x.patch(
		&batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: cluster.Namespace, Name: cluster.Name}}, `{"spec":{"suspend":%t}}`, suspended,
	)
}

// label sets labels of the tenant's namespace; null takes one away.
func (x *tenant) label(labels string) {
	x.Helper()
	x.patch(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: x.namespace}}, `{"metadata":{"labels":{%s}}}`, labels)
}

// remove deletes a MiniCluster.
func (x *tenant) remove(cluster types.NamespacedName) { x.Helper(); x.delete(clusterObject(cluster)) }

func memberObject(key types.NamespacedName) *v1alpha1.EnsembleMember {
	return &v1alpha1.EnsembleMember{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
}

func clusterObject(key types.NamespacedName) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("flux-framework.org/v1alpha2")
	u.SetKind("MiniCluster")
	u.SetNamespace(key.Namespace)
	u.SetName(key.Name)
	return u
}

func poolObject(name string) *v1alpha1.NodePool {
	return &v1alpha1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func nodeObject(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
}

func podObject(pod *corev1.Pod) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name}}
}

// pods waits until a MiniCluster has that many pods, and returns them in the order of their ranks.
func (x *tenant) pods(cluster types.NamespacedName, count int) (pods []*corev1.Pod) {
	x.Helper()
	x.until(func(s *history.State) string {
		pods = s.PodsOf(cluster)
		return unless(len(pods) == count, "%s has %d pods, not %d: %s", cluster, len(pods), count, words(s.Members[cluster]))
	})
	return pods
}

// event waits until an object has an event with a reason and a text.
func (x *tenant) event(object types.NamespacedName, reason, text string) {
	x.Helper()
	var seen []string
	if err := wait.PollUntilContextTimeout(x.Context(), 100*time.Millisecond, *patience, true, func(ctx context.Context) (bool, error) {
		var list eventsv1.EventList
		if err := shared.Client.List(ctx, &list, client.InNamespace(object.Namespace)); err != nil {
			return false, err
		}
		seen = nil
		for i := range list.Items {
			if e := &list.Items[i]; e.Regarding.Name == object.Name {
				if e.Reason == reason && strings.Contains(e.Note, text) {
					return true, nil
				}
				seen = append(seen, e.Reason+": "+e.Note)
			}
		}
		return false, nil
	}); err != nil {
		x.Errorf("%s has no event %s with %q; it has:\n  %s", object, reason, text, strings.Join(seen, "\n  "))
	}
}

// daemonSet puts a pod that requests half a core on each node of a pool.
func (x *tenant) daemonSet(name, pool string) {
	x.Helper()
	x.apply(`
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: %s, namespace: %s}
spec:
  selector: {matchLabels: {daemon: %[1]s}}
  template:
    metadata: {labels: {daemon: %[1]s}}
    spec:
      nodeSelector: {autoscaling.flux-framework.org/node-pool: %[3]s}
      tolerations: [{operator: Exists}]
      containers: [{name: agent, image: agent, resources: {requests: {cpu: 500m}}}]
`, name, x.namespace, pool)
}

// story is what is there of the tenant, and what its events say of how that came.
func (x *tenant) story() string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(x.Context()), time.Minute)
	defer cancel()
	var b strings.Builder
	if err := shared.recorder.Until(ctx, func(s *history.State) string { x.tell(&b, s); return "" }); err != nil {
		fmt.Fprintf(&b, "what is there is not known: %v\n", err)
	}
	var lines []string
	for _, namespace := range []string{metav1.NamespaceDefault, x.namespace} {
		var list eventsv1.EventList
		if err := shared.Client.List(ctx, &list, client.InNamespace(namespace)); err != nil {
			fmt.Fprintf(&b, "list events: %v\n", err)
		}
		for i := range list.Items {
			e := &list.Items[i]
			if e.Regarding.Kind != "Pod" && (e.Namespace == x.namespace || strings.HasPrefix(e.Regarding.Name, x.namespace+"-")) {
				at := e.EventTime.Time
				if at.IsZero() {
					at = e.DeprecatedLastTimestamp.Time
				}
				lines = append(
					lines, fmt.Sprintf("  %s %s %s %s: %s", at.UTC().Format("15:04:05.000"), e.Regarding.Kind, e.Regarding.Name, e.Reason, e.Note),
				)
			}
		}
	}
	slices.Sort(lines)
	b.WriteString("what its events say:\n" + strings.Join(lines[max(0, len(lines)-60):], "\n"))
	return b.String()
}

// tell writes what is there.
func (x *tenant) tell(b *strings.Builder, s *history.State) {
	fmt.Fprintf(b, "what is there of %s at %s:\n", x.namespace, time.Now().UTC().Format("15:04:05.000"))
	for _, name := range slices.Sorted(maps.Keys(s.Pools)) {
		if !strings.HasPrefix(name, x.namespace+"-") {
			continue
		}
		p := s.Pools[name]
		fmt.Fprintf(b, "  NodePool %s: target %d, floor %d, reserved %d, %d machines ever ordered\n", name, p.Spec.Replicas, p.Status.Floor,
			p.Status.Reserved,
			shared.ledger.of(name))
		for _, c := range p.Status.Conditions {
			if c.Type == v1alpha1.ConditionReady {
				fmt.Fprintf(b, "    %s %s: %s\n", c.Status, c.Reason, c.Message)
			}
		}
		for _, node := range s.NodesOf(name) {
			n, cpu := s.Nodes[node], s.Nodes[node].Status.Allocatable[corev1.ResourceCPU]
			fmt.Fprintf(
				b, "  Node %s: Ready %t, cpu %s, %d taints, %d pods\n", node, history.Ready(n), cpu.String(), len(n.Spec.Taints),
				len(s.PodsOn(node)),
			)
		}
	}
	for key, m := range s.Members {
		if key.Namespace != x.namespace {
			continue
		}
		fmt.Fprintf(b, "  EnsembleMember %s: wants %d, size %d, %d reserved, %d running, findings %+v, lacking %+v, growth %+v\n", key.Name,
			m.Spec.Size, s.Size(key),
			m.Status.Reserved, m.Status.Running, m.Status.Findings, m.Status.PodsLacking, m.Status.Growth)
		for _, c := range m.Status.Conditions {
			fmt.Fprintf(b, "    %s %s %s: %s\n", c.Type, c.Status, c.Reason, c.Message)
		}
		for _, pod := range s.PodsOf(key) {
			fmt.Fprintf(b, "    Pod %s: %s on %q, gated %t\n", pod.Name, pod.Status.Phase, pod.Spec.NodeName, history.Gated(pod))
		}
	}
}

func daemonSetObject(key types.NamespacedName) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: key.Namespace, Name: key.Name}}
}

// trialPod is a pod that requests nothing.
func (x *tenant) trialPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: x.namespace, Name: "trial"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}},
	}
}

// poll asks over and over again for what no watch tells of.
func (x *tenant) poll(what string, done func() (bool, error)) {
	x.Helper()
	if err := wait.PollUntilContextTimeout(
		x.Context(), 50*time.Millisecond, *patience, true, func(context.Context) (bool, error) { return done() },
	); err != nil {
		x.Fatalf("%s: %v\n%s", what, err, x.story())
	}
}
