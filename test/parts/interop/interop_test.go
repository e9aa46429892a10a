package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// patience is how long anything may take on a busy machine.
const patience = 5 * time.Minute

// pool declares the nodes, and miniCluster a MiniCluster on them, by its name.
const (
	pool = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: hpc}
spec:
  maxSize: 10
  template: {capacity: {cpu: "4", memory: 16Gi, pods: "110"}}
  machines: {kwok: {bootDelay: 0s}}
`
	miniCluster = `
---
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: %s, namespace: default, annotations: {autoscaling.flux-framework.org/node-pools: hpc}}
spec:
  size: 2
  minSize: 1
  maxSize: 6
  interactive: true
  containers: [{image: "ubuntu:noble", runFlux: true, resources: {requests: {cpu: "3", memory: 1Gi}}}]
  pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [hpc]}}
`
)

// asking is the MiniCluster whose member asks, other one that it must not ask for.
var (
	asking = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "asking"}
	other  = types.NamespacedName{Namespace: metav1.NamespaceDefault, Name: "other"}
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPythonMember: what a member written in Python asks is answered, and done.
func TestPythonMember(t *testing.T) {
	requirePython(t)
	x := start(t)
	x.atSize(t, asking, 2)
	x.atSize(t, other, 2)
	lead := x.lead(t)
	fromLead := forward(t, net.ParseIP(lead.Status.PodIP), x.EndpointAddress)
	current := generate(t, "../../../proto/ensemble")
	member := startMember(t, current, fromLead, asking.Name)
	// The older client has the name in a field that it calls algorithm.
	older := startMember(t, generate(t, "older"), fromLead, asking.Name)
	stranger := startMember(t, current, forward(t, net.IPv4(127, 0, 0, 1), x.EndpointAddress), asking.Name)

	// Each step goes on from the one before it.
	t.Run("status", func(t *testing.T) {
		for name, program := range map[string]*program{"current": member, "older": older} {
			// The controller may hear of the pods a little later than the test does.
			inprocess.Until(t, func(context.Context) (string, error) {
				a := program.ask(t, `{"do": "status"}`)
				if a.Status != "SUCCESS" {
					return fmt.Sprintf("%s form: the answer is %+v, not SUCCESS", name, a), nil
				}
				return unexpected(t, a.Payload), nil
			})
		}
	})

	t.Run("update", func(t *testing.T) {
		for name, program := range map[string]*program{"current": member, "older": older} {
			a := program.ask(t, `{"do": "update", "payload": {"queue": {"new": 1, "depend": 0, "priority": 0, "sched": 2, "run": 3, `+
				`"cleanup": 0, "inactive": 4}, "waiting": {"4": 2}}}`)
			if a.Status != "SUCCESS" {
				t.Errorf("%s form: the answer is %+v, not SUCCESS", name, a)
			}
		}
	})

	t.Run("grow", func(t *testing.T) {
		r := x.granted(t, member, `{"do": "grow", "by": 2}`, lead)
		if r.From != 2 || r.Wants != 4 || r.Has != 2 || r.State != v1alpha1.ReasonWaitingForCapacity || !strings.Contains(r.Reason, "4") {
			t.Errorf("grow 2 from 2 was answered %+v", r)
		}
		x.atSize(t, asking, 4)
	})

	t.Run("refused", func(t *testing.T) {
		for name, row := range map[string]struct {
			asks    *program
			request string
			status  string
			says    []string
		}{
			"no JSON":              {member, `{"do": "grow", "payload": "grow!"}`, "ERROR", []string{"payload", "JSON"}},
			"an amount in words":   {member, `{"do": "grow", "by": "many"}`, "ERROR", []string{`"grow"`, "many", "whole number"}},
			"an amount of nothing": {member, `{"do": "grow", "by": 0}`, "ERROR", []string{`"grow"`, "0", "from 1"}},
			"a negative growth":    {member, `{"do": "grow", "by": -2}`, "ERROR", []string{`"grow"`, "-2", "from 1"}},
			"no number":            {member, `{"do": "grow", "by": NaN}`, "ERROR", []string{"payload", "JSON"}},
			"a foreign group": {
				member, `{"do": "grow", "payload": "{\"group\": \"example.com\", \"grow\": 1}"}`, "ERROR",
				[]string{`"group"`, "example.com", "flux-framework.org"},
			},
			"a foreign version": {
				member, `{"do": "grow", "payload": "{\"version\": \"v1\", \"grow\": 1}"}`, "ERROR", []string{`"version"`, `"v1"`, "v1alpha2"},
			},
			"an unknown action":      {member, `{"do": "explode", "by": 1}`, "ERROR", []string{"action", "explode", `"grow"`, `"shrink"`}},
			"an unknown kind":        {member, `{"do": "grow", "member": "jobsets"}`, "ERROR", []string{"member", `"jobsets"`, `"minicluster"`}},
			"another member":         {member, `{"do": "shrink", "name": "other"}`, "DENIED", []string{`"asking"`, `"other"`}},
			"another member, older":  {older, `{"do": "shrink", "name": "other"}`, "DENIED", []string{`"asking"`, `"other"`}},
			"another one's status":   {member, `{"do": "status", "name": "other"}`, "DENIED", []string{`"asking"`, `"other"`}},
			"from no pod":            {stranger, `{"do": "grow"}`, "DENIED", []string{"127.0.0.1", "no running pod"}},
			"a status from no pod":   {stranger, `{"do": "status"}`, "DENIED", []string{"127.0.0.1", "no running pod"}},
			"an update from nowhere": {stranger, `{"do": "update", "payload": {}}`, "DENIED", []string{"127.0.0.1", "no running pod"}},
		} {
			t.Run(name, func(t *testing.T) {
				before := x.desires(t)
				a := row.asks.ask(t, row.request)
				if a.Status != row.status {
					t.Errorf("the answer is %+v, not %s", a, row.status)
				}
				for _, text := range row.says {
					if !strings.Contains(a.Reason, text) {
						t.Errorf("the reason does not say %s: %s", text, a.Reason)
					}
				}
				if after := x.desires(t); after != before {
					t.Errorf("the request has changed something:\nbefore %s\nafter  %s", before, after)
				}
			})
		}
	})

	t.Run("amounts", func(t *testing.T) {
		x.amounts(t, lead,
			amount{member, `{"do": "grow", "member": "minicluster"}`, 4, 5, "the desired size is 5"},
			amount{member, `{"do": "grow", "by": "1"}`, 5, 6, "the desired size is 6"},
			amount{member, `{"do": "shrink", "by": -2}`, 6, 4, "the desired size is 4"},
			amount{older, `{"do": "shrink", "by": "2"}`, 4, 2, "the desired size is 2"},
			amount{member, `{"do": "shrink", "by": 7}`, 2, 1, "limited to 1 by spec.minSize"},
		)
		x.amounts(t, lead,
			amount{older, `{"do": "grow", "by": 2.0}`, 1, 3, "the desired size is 3"},
			amount{member, `{"do": "grow", "by": 99}`, 3, 6, "limited to 6 by spec.maxSize"},
		)
	})

	t.Run("at the bounds", func(t *testing.T) {
		x.denied(t, member, `{"do": "grow", "by": 1}`, "6", "spec.maxSize")
		r := x.granted(t, member, `{"do": "shrink", "by": 5}`, lead)
		if r.From != 6 || r.Wants != 1 || r.Has != 6 || r.State != v1alpha1.ReasonResizing {
			t.Errorf("shrink 5 from 6 was answered %+v", r)
		}
		x.denied(t, member, `{"do": "shrink"}`, "1", "spec.minSize")
		x.atSize(t, asking, 1)
		x.atSize(t, other, 2)
	})

	for _, broken := range history.Broken(x.recorder.Events()) {
		t.Error("a promise was broken: " + broken)
	}
}

// scene is everything, running, with a record of what happens.
type scene struct {
	*system.System
	recorder *history.Recorder
}

// start starts everything, and makes the two MiniClusters.
func start(t *testing.T) *scene {
	t.Helper()
	ctx := t.Context()
	s, err := system.Start(ctx, system.Options{
		LogDir: t.ArtifactDir(), Progress: os.Stderr, AutoscalerFlags: []string{"--scan-interval=1s"},
		// More is asked here in a second than a member ever asks.
		ControllerFlags: []string{"--max-member-requests-per-second=0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Error(err)
		}
	})
	// It outlives the test's own context, so that it can be stopped in good order.
	recorder, err := history.Start(context.WithoutCancel(ctx), s.Client, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := recorder.Stop(); err != nil {
			t.Error(err)
		}
	})
	applied, err := system.Objects([]byte(pool + fmt.Sprintf(miniCluster, asking.Name) + fmt.Sprintf(miniCluster, other.Name)))
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Apply(ctx, applied...); err != nil {
		t.Fatal(err)
	}
	return &scene{System: s, recorder: recorder}
}

// until waits for a state. unmet says what is missing, and nothing when nothing is.
func (x *scene) until(t *testing.T, unmet func(*history.State) string) {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(t.Context(), patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	if err := x.recorder.Until(ctx, unmet); err != nil {
		t.Fatal(err)
	}
}

// atSize waits until a MiniCluster has a size, all its pods run, and its member has what it wants.
func (x *scene) atSize(t *testing.T, cluster types.NamespacedName, size int) {
	t.Helper()
	x.until(t, func(s *history.State) string {
		member, pods, running := s.Members[cluster], s.PodsOf(cluster), 0
		for _, pod := range pods {
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if member == nil {
			return fmt.Sprintf("there is no EnsembleMember %s", cluster)
		}
		ready := meta.FindStatusCondition(member.Status.Conditions, v1alpha1.ConditionReady)
		if s.Size(cluster) != int64(size) || running != size || len(pods) != size || ready == nil ||
			ready.Status != metav1.ConditionTrue || ready.ObservedGeneration != member.Generation {
			return fmt.Sprintf(
				"%s has size %d and %d of %d pods Running, not %d; its member says %+v", cluster, s.Size(cluster), running, len(pods), size, ready,
			)
		}
		return ""
	})
}

// lead is the pod that asks.
func (x *scene) lead(t *testing.T) (lead *corev1.Pod) {
	t.Helper()
	x.until(t, func(s *history.State) string {
		if lead = s.Lead(asking); lead == nil {
			return fmt.Sprintf("the lead broker of %s does not run", asking)
		}
		return ""
	})
	return lead
}

// sizes are what both members want and both MiniClusters are to be, and how often that was changed.
func (x *scene) desires(t *testing.T) string {
	t.Helper()
	var out []string
	for _, key := range []types.NamespacedName{asking, other} {
		member, cluster := &v1alpha1.EnsembleMember{}, minicluster.New()
		if err := x.Client.Get(t.Context(), key, member); err != nil {
			t.Fatal(err)
		}
		if err := x.Client.Get(t.Context(), key, cluster); err != nil {
			t.Fatal(err)
		}
		out = append(out, fmt.Sprintf("%s wants %d in generation %d, its MiniCluster has generation %d",
			key.Name, member.Spec.Size, member.Generation, cluster.GetGeneration()))
	}
	return strings.Join(out, "; ")
}

// reply is the payload of the answer to a request that was granted.
type reply struct {
	From, Wants, Has int32
	NodePools        []string
	State, Reason    string
}

// granted asks, and makes sure that the answer is SUCCESS with all that a member is to know, and that the desired size is in
// the member already, in the name of the pod.
func (x *scene) granted(t *testing.T, asks *program, request string, by *corev1.Pod) reply {
	t.Helper()
	a := asks.ask(t, request)
	if a.Status != "SUCCESS" {
		t.Fatalf("%s was answered %+v, not SUCCESS", request, a)
	}
	fields := map[string]json.RawMessage{}
	var r reply
	for _, into := range []any{&fields, &r} {
		if err := json.Unmarshal([]byte(a.Payload), into); err != nil {
			t.Fatalf("the payload is %s: %v", a.Payload, err)
		}
	}
	for _, field := range []string{"from", "wants", "has", "nodePools", "state", "reason"} {
		if fields[field] == nil {
			t.Errorf("the payload has no %s: %s", field, a.Payload)
		}
	}
	if !slices.Equal(r.NodePools, []string{"hpc"}) || r.State == "" {
		t.Errorf("the payload names the pools %q and the state %q: %s", r.NodePools, r.State, a.Payload)
	}
	member := &v1alpha1.EnsembleMember{}
	if err := x.Client.Get(t.Context(), asking, member); err != nil {
		t.Fatal(err)
	}
	if request := member.Spec.Request; member.Spec.Size != r.Wants || request == nil || !strings.HasSuffix(
		request.By, by.Namespace+"/"+by.Name,
	) {
		t.Errorf("after the answer %s the member wants %d, by %+v", a.Payload, member.Spec.Size, request)
	}
	return r
}

// amount is a request that is granted, and the desired sizes before and after it.
type amount struct {
	asks        *program
	request     string
	from, wants int32
	// says is a part of the reason.
	says string
}

// amounts asks for one after the other. Each goes on from the desired size that the one before it has led to, whether that has
// come true or not; the last one is to.
func (x *scene) amounts(t *testing.T, by *corev1.Pod, rows ...amount) {
	t.Helper()
	for _, row := range rows {
		r := x.granted(t, row.asks, row.request, by)
		if r.From != row.from || r.Wants != row.wants || !strings.Contains(r.Reason, row.says) {
			t.Errorf("%s was answered %+v, not from %d to %d with %q", row.request, r, row.from, row.wants, row.says)
		}
	}
	x.atSize(t, asking, int(rows[len(rows)-1].wants))
}

// denied asks, and makes sure that the answer is DENIED with a reason that says all of this, and that nothing is
// asked for that was not.
func (x *scene) denied(t *testing.T, asks *program, request string, says ...string) {
	t.Helper()
	before := &v1alpha1.EnsembleMember{}
	if err := x.Client.Get(t.Context(), asking, before); err != nil {
		t.Fatal(err)
	}
	a := asks.ask(t, request)
	after := &v1alpha1.EnsembleMember{}
	if err := x.Client.Get(t.Context(), asking, after); err != nil {
		t.Fatal(err)
	}
	if a.Status != "DENIED" {
		t.Errorf("%s was answered %+v, not DENIED", request, a)
	}
	for _, text := range says {
		if !strings.Contains(a.Reason, text) {
			t.Errorf("the reason does not say %s: %s", text, a.Reason)
		}
	}
	if after.Spec.Size != before.Spec.Size || after.Generation != before.Generation {
		t.Errorf("%s was denied, and the desired size went from %d to %d", request, before.Spec.Size, after.Spec.Size)
	}
}

// unexpected reads the payload of a status as its users do, and says what is not as it is with two pods that run.
func unexpected(t *testing.T, payload string) string {
	t.Helper()
	var status struct {
		Nodes, Queue map[string]int64
		Resize       struct {
			Wants, Has, Reserved int32
			NodePools            []string
			State                string
		}
	}
	if err := json.Unmarshal([]byte(payload), &status); err != nil {
		t.Fatalf("the status is %s: %v", payload, err)
	}
	for field, want := range map[string]int64{"node_up_count": 2, "node_free_count": 0, "node_cores_up": 8, "node_cores_free": 0} {
		if got, has := status.Nodes[field]; !has || got != want {
			return fmt.Sprintf("nodes.%s is not %d: %s", field, want, payload)
		}
	}
	for _, field := range []string{"new", "depend", "priority", "sched", "run", "cleanup", "inactive"} {
		if _, has := status.Queue[field]; !has {
			return fmt.Sprintf("queue has no %s: %s", field, payload)
		}
	}
	if r := status.Resize; r.Wants != 2 || r.Has != 2 || r.Reserved != 2 || !slices.Equal(r.NodePools, []string{"hpc"}) ||
		r.State != v1alpha1.ConditionReady {
		return "the resize state is not that of a settled member of 2: " + payload
	}
	return ""
}
