package simulation

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/explain"
)

// TestExplained tells each story again as `kubectl ensemble explain` would: what each member waits for, whenever that changes, with the one
// thing to do. A golden file in testdata/explained has it. At every moment a member that says it is Ready waits for nothing, and one that
// is not Ready waits for something.
func TestExplained(t *testing.T) {
	t.Parallel()
	for i := range tales {
		tale := &tales[i]
		t.Run(tale.name, func(t *testing.T) {
			t.Parallel()
			w := tale.begin()
			told := &explanations{world: w, observed: map[string]*lastSeen{}, below: map[string]time.Time{}}
			w.watch = told.look
			w.run(tale.lasts)
			for _, problem := range told.problems {
				t.Error(problem)
			}
			text := tale.about + "\n\nTimes are minutes and seconds since the beginning.\n\n" + strings.Join(told.lines, "\n") + "\n"
			path := filepath.Join("testdata", "explained", tale.name+".golden")
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(text, "\n")); diff != "" {
				t.Errorf("the explanations differ (-want +got); if they should, run this test with -update:\n%s", diff)
			}
		})
	}
}

// explanations are those of a world as time goes on.
type explanations struct {
	world *world
	// version is that of the last write that was looked at.
	version  int64
	observed map[string]*lastSeen
	// below is since when pools have been below their floors.
	below    map[string]time.Time
	lines    []string
	problems []string
}

// lastSeen is what was seen of a member last.
type lastSeen struct {
	// conditions and wants are those of the last status, so that a later desired size is known to be unseen by the controller.
	conditions []metav1.Condition
	wants      int32
	// waitsFor is what it waited for last.
	waitsFor string
}

// look explains each member again and notes what has changed.
func (x *explanations) look() {
	if x.version == x.world.version {
		return
	}
	x.version = x.world.version
	for _, p := range x.world.pools.live.items {
		if _, is := x.below[p.name]; p.target >= p.floor {
			delete(x.below, p.name)
		} else if !is {
			x.below[p.name] = x.world.now
		}
	}
	for _, m := range x.world.members.live.items {
		s := x.observed[m.name]
		if s == nil {
			s = &lastSeen{}
			x.observed[m.name] = s
		}
		if len(m.conditions) > 0 && (len(s.conditions) == 0 || &m.conditions[0] != &s.conditions[0]) {
			s.conditions, s.wants = m.conditions, m.wants
		}
		e := explain.Member(x.facts(m, s))
		if waits := allTrue(m.conditions) && s.wants == m.wants; waits == (e.WaitsFor != "") {
			x.problems = append(
				x.problems, fmt.Sprintf("%s %s: Ready is %t, and it is said to wait for %q", relative(x.world.now), m.name, waits, e.WaitsFor),
			)
		}
		if cause := e.Cause(); cause != nil && (cause.Reason == "" || strings.HasPrefix(e.Do, "Look at what the message says")) {
			x.problems = append(x.problems, fmt.Sprintf("%s %s: %s has no remedy: %+v", relative(x.world.now), m.name, e.WaitsFor, cause))
		}
		now := string(e.WaitsFor) + " " + e.Reason
		if now == s.waitsFor {
			continue
		}
		s.waitsFor = now
		what := "waits for " + now + ": " + e.Summary
		if e.WaitsFor == "" {
			what = e.Summary
		}
		x.lines = append(x.lines, line(x.world.now, m.name, what))
		if e.WaitsFor != "" {
			x.lines = append(x.lines, strings.Repeat(" ", 21)+"Do: "+e.Do)
		}
	}
}

// facts are what a user could read of the world about a member.
func (x *explanations) facts(m *memberObject, s *lastSeen) *explain.Facts {
	w := x.world
	f := &explain.Facts{Now: w.now, Member: apiMember(m)}
	if s.wants != m.wants {
		f.Member.Generation = 2
	}
	for _, other := range w.members.live.items {
		f.Members = append(f.Members, *apiMember(other))
	}
	names := m.pools
	if explained := f.Member; slices.ContainsFunc(explained.Status.Conditions, func(c metav1.Condition) bool {
		return c.Type == v1alpha1.ConditionCapacityReserved && c.Status == metav1.ConditionTrue
	}) {
		names = nil
		for i := range m.reservations {
			names = append(names, m.reservations[i].NodePool)
		}
	}
	for _, name := range names {
		if p := w.pools.get(name); p != nil {
			f.Pools = append(f.Pools, w.apiPool(p, x.below[p.name]))
		}
	}
	for _, machine := range w.machines.live.items {
		if converted := w.apiMachine(machine); slices.Contains(names, machine.pool) && !explain.MachineReady(&converted) {
			f.Machines = append(f.Machines, converted)
		}
	}
	for _, n := range w.nodes.live.items {
		if slices.Contains(names, n.pool) {
			f.Nodes = append(f.Nodes, apiNode(n))
		}
	}
	for _, p := range w.pods.live.items {
		if p.member == m.name {
			f.Pods = append(f.Pods, apiPod(p))
		}
	}
	f.Autoscaler = w.autoscaler.status()
	return f
}

// apiMember is a member as the API server has it.
func apiMember(m *memberObject) *v1alpha1.EnsembleMember {
	return &v1alpha1.EnsembleMember{
		ObjectMeta: metav1.ObjectMeta{Name: m.name, Generation: 1},
		Spec:       v1alpha1.EnsembleMemberSpec{Size: m.wants, MinSize: m.minSize, MaxSize: m.maxSize, NodePools: m.pools},
		Status: v1alpha1.EnsembleMemberStatus{
			ObservedGeneration: 1, Size: m.size, Running: m.running, Reserved: m.reserved(), Reservations: m.reservations, Growth: m.growth,
			Findings: m.findings, Conditions: m.conditions,
		},
	}
}

// apiPool is a pool as the API server has it, with the conditions that its provider would have written: it has been below its
// floor since a time.
func (w *world) apiPool(p *poolObject, below time.Time) v1alpha1.NodePool {
	changed := metav1.NewMicroTime(p.floorChangedAt)
	out := v1alpha1.NodePool{
		ObjectMeta: metav1.ObjectMeta{Name: p.name},
		Spec: v1alpha1.NodePoolSpec{
			MinSize: p.minSize, MaxSize: p.maxSize, Replicas: p.target, ProvisionTimeout: metav1.Duration{Duration: p.provisionTimeout},
			Autoscaler: v1alpha1.AutoscalerClusterAutoscaler, Paused: p.paused,
		},
		Status: v1alpha1.NodePoolStatus{Floor: p.floor, FloorChangedAt: &changed},
	}
	for _, m := range w.members.live.items {
		for i := range m.reservations {
			if m.reservations[i].NodePool == p.name {
				out.Status.Reserved += m.reservations[i].Nodes
			}
		}
	}
	for _, m := range w.machines.live.items {
		if m.pool == p.name {
			out.Status.Replicas++
		}
	}
	for _, n := range w.nodes.live.items {
		if n.pool == p.name && n.ready {
			out.Status.Ready++
		}
	}
	if p.lastFailure != nil {
		out.Status.LastFailure = &v1alpha1.MachineFailure{
			Machine: p.lastFailed, Time: metav1.NewMicroTime(p.lastFailure.At), Class: p.lastFailure.Class, Code: p.lastFailure.Code,
			Message: p.lastFailure.Message,
		}
	}
	met := metav1.Condition{Type: v1alpha1.ConditionFloorMet, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonFloorMet,
		Message: fmt.Sprintf("the target size %d is at or above the floor %d", p.target, p.floor)}
	if p.target < p.floor {
		met.Status, met.Reason = metav1.ConditionFalse, v1alpha1.ReasonFloorNotMet
		met.Message = fmt.Sprintf("the target size %d is below the floor %d", p.target, p.floor)
	}
	v1alpha1.SetConditions(&out.Status.Conditions, 0, metav1.NewTime(below), "at rest", met)
	return out
}

// apiMachine is a machine as the API server has it, with the condition that its provider would have written.
func (w *world) apiMachine(m *machineObject) v1alpha1.PoolMachine {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse}
	node := w.nodes.get(m.nodeName)
	switch {
	case m.failure != nil:
		ready.Reason = v1alpha1.ReasonMachineHasFailed
	case !m.going.IsZero():
		ready.Reason = v1alpha1.ReasonMachineGoing
	case !m.leavingAt.IsZero():
		ready.Reason = v1alpha1.ReasonMachineLeaving
	case m.throttled != "":
		ready.Reason = v1alpha1.ReasonMachineThrottled
	case !m.launched:
		ready.Reason = v1alpha1.ReasonMachineOrdered
	case node == nil:
		ready.Reason = v1alpha1.ReasonMachineBooting
	case !node.ready:
		ready.Reason = v1alpha1.ReasonMachineNotReady
	default:
		ready.Status, ready.Reason, ready.LastTransitionTime = metav1.ConditionTrue, v1alpha1.ConditionReady, metav1.NewTime(node.since)
	}
	out := v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: m.name},
		Spec:       v1alpha1.PoolMachineSpec{NodePool: m.pool, Purpose: m.purpose, Order: m.order, OrderedAt: metav1.NewMicroTime(m.orderedAt)},
		Status:     v1alpha1.PoolMachineStatus{NodeName: m.nodeName, Conditions: []metav1.Condition{ready}},
	}
	if m.failure != nil {
		out.Status.Failure = &v1alpha1.MachineFailure{
			Machine: m.name, Time: metav1.NewMicroTime(m.failure.At), Class: m.failure.Class, Code: m.failure.Code, Message: m.failure.Message,
		}
	}
	return out
}

// apiNode is a node as the API server has it.
func apiNode(n *nodeObject) corev1.Node {
	status := corev1.ConditionFalse
	if n.ready {
		status = corev1.ConditionTrue
	}
	out := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: n.name, Labels: map[string]string{v1alpha1.LabelNodePool: n.pool}},
		Spec:       corev1.NodeSpec{Unschedulable: n.cordoned},
		Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{
			Type: corev1.NodeReady, Status: status, LastTransitionTime: metav1.NewTime(n.since),
		}}},
	}
	taint := func(key string) {
		out.Spec.Taints = append(out.Spec.Taints, corev1.Taint{Key: key, Effect: corev1.TaintEffectNoSchedule})
	}
	if n.foreign != "" {
		taint(n.foreign)
	}
	if n.tainted {
		taint(v1alpha1.TaintToBeDeleted)
	}
	if n.starting {
		taint(v1alpha1.TaintRegistration)
	}
	return out
}

// apiPod is a pod as the API server has it.
func apiPod(p *podObject) corev1.Pod {
	out := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.name}, Spec: corev1.PodSpec{NodeName: p.node}}
	switch {
	case p.gated:
		out.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}}
	case p.succeeded:
		out.Status.Phase = corev1.PodSucceeded
	case p.running:
		out.Status.Phase = corev1.PodRunning
		out.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
	case p.refusal != "":
		out.Status.Conditions = []corev1.PodCondition{{
			Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: p.refusal,
		}}
	}
	return out
}

// status is what Cluster Autoscaler would have told of itself.
func (a *autoscaler) status() *explain.Autoscaler {
	out := &explain.Autoscaler{Time: a.world.now, State: "Running"}
	for _, p := range a.world.pools.live.items {
		group := explain.NodeGroup{
			Name: p.name, Health: "Healthy", Target: int(a.targets[p.name]), MinSize: int(a.least[p.name]), MaxSize: int(a.most[p.name]),
			ScaleUp: "NoActivity",
		}
		if a.scaleUps[p.name] != nil {
			group.ScaleUp = "InProgress"
		}
		if b := a.backoffs[p.name]; b != nil && a.world.now.Before(b.until) {
			group.ScaleUp, group.ScaleUpSince = explain.Backoff, b.failedAt.Truncate(time.Second)
		}
		out.NodeGroups = append(out.NodeGroups, group)
	}
	return out
}
