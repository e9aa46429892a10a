package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/whatif"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/ensemble"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
)

// TestBadRequests: each is refused with its reason, and nothing changes.
//
//nolint:tparallel // Each row compares what was before it with what is after it.
func TestBadRequests(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", 10, "0s")
	cluster, other := x.miniCluster("m", 1, pool), x.miniCluster("other", 1, pool)
	x.atSize(cluster, 1)
	x.atSize(other, 1)
	x.apply(`{apiVersion: v1, kind: Pod, metadata: {name: stranger, namespace: %s}, spec: {tolerations: [{operator: Exists}],
		containers: [{name: c, image: i}], nodeSelector: {autoscaling.flux-framework.org/node-pool: %s}}}`, x.namespace, pool)
	var stranger string
	x.until(func(s *history.State) string {
		if pod := s.Pods[x.key("stranger")]; pod != nil {
			stranger = pod.Status.PodIP
		}
		if stranger == "" {
			return "the stranger has no address"
		}
		return ""
	})
	lead := x.lead(cluster).Status.PodIP

	const errorStatus, denied = ensemble.Response_ERROR, ensemble.Response_DENIED
	for name, row := range map[string]struct {
		from    string
		request *ensemble.ActionRequest
		status  ensemble.Response_ResultType
		says    []string
	}{
		"from no pod": {
			nobody, &ensemble.ActionRequest{Member: "miniclusters", Name: "m", Action: "grow"}, denied, []string{"127.0.0.1", "no running pod"},
		},
		"from a pod of nothing": {
			stranger, &ensemble.ActionRequest{Member: "miniclusters", Name: "m", Action: "grow"}, denied,
			[]string{"stranger", "belongs to no MiniCluster"},
		},
		"for another member": {
			lead, &ensemble.ActionRequest{Member: "miniclusters", Name: "other", Action: "grow"}, denied, []string{`"m"`, `"other"`},
		},
		"of an unknown kind": {
			lead, &ensemble.ActionRequest{Member: "jobsets", Name: "m", Action: "grow"}, errorStatus, []string{`"jobsets"`, `"minicluster"`},
		},
		"of an unknown action": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "explode"}, errorStatus, []string{`"explode"`, `"grow"`},
		},
		"to grow by nothing": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "grow", Payload: `{"grow": 0}`}, errorStatus,
			[]string{`"grow"`, "0"},
		},
		"to grow by less": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "grow", Payload: `{"grow": -1}`}, errorStatus,
			[]string{`"grow"`, "-1"},
		},
		"to grow by half": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "grow", Payload: `{"grow": 1.5}`}, errorStatus,
			[]string{`"grow"`, "1.5"},
		},
		"to grow without end": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "grow", Payload: `{"grow": 99999999999}`}, errorStatus,
			[]string{`"grow"`, "99999999999"},
		},
		"in no JSON": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "grow", Payload: `grow!`}, errorStatus,
			[]string{"payload", "JSON"},
		},
		"for a foreign group": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "grow", Payload: `{"group":"example.com","grow":1}`},
			errorStatus, []string{`"group"`, "example.com", "flux-framework.org"},
		},
		"to shrink at the minimum": {
			lead, &ensemble.ActionRequest{Member: "minicluster", Name: "m", Action: "shrink", Payload: `{"shrink": 1}`}, denied,
			[]string{"spec.minSize"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			before := x.versions()
			r := x.send(row.from, row.request)
			if r.Status != row.status {
				t.Errorf("the answer is %s (%s), not %s", r.Status, r.Reason, row.status)
			}
			for _, text := range row.says {
				if !strings.Contains(r.Reason, text) {
					t.Errorf("the reason does not say %s: %s", text, r.Reason)
				}
			}
			if after := x.versions(); after != before {
				t.Errorf("the request has changed something:\nbefore %s\nafter  %s", before, after)
			}
		})
	}

	t.Run("cut at the maximum and told so", func(t *testing.T) {
		if a := x.plan(cluster, "grow", 20); a.Asked != 10 || a.Limited != "limited to 10 by spec.maxSize" || a.Outcome != whatif.Refused {
			t.Errorf("grow 20 from 1, of at most 10, is planned as %+v", a)
		}
		r := x.ask(cluster, "grow", 20)
		if r.Status != ensemble.Response_SUCCESS || r.Wants != 10 || !strings.HasPrefix(r.Reason, "limited to 10 by spec.maxSize") {
			t.Errorf("grow 20 from 1, of at most 10, was answered %+v", r)
		}
		if r := x.ask(cluster, "grow", 1); r.Status != denied || !strings.Contains(r.Reason, "spec.maxSize") {
			t.Errorf("grow 1 at the maximum was answered %+v", r)
		}
	})
	x.deletePod("stranger")
	// The pool keeps its taint: Cluster Autoscaler would order a node of it for a pod of another test.
	t.Run("pods that no node of the pool is large enough for", func(t *testing.T) {
		x.apply(`
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: 10
  template:
    capacity: {cpu: "2", memory: 16Gi, pods: "110"}
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
  machines: {kwok: {bootDelay: 0s}}
`, pool)
		want := "a pod requests 3 of cpu and an empty node of " + pool + " offers 2: no node of the member's NodePools is large enough"
		var last reply
		// What the controller has not seen of the pool it does not refuse.
		if err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(context.Context) (bool, error) {
			last = x.ask(other, "grow", 1)
			return last.Status == denied && strings.Contains(last.Reason, want), nil
		}); err != nil {
			t.Errorf("%v: grow 1 was answered %+v, not with %q", err, last, want)
		}
	})
	x.end(pool)
}

// versions are the resource versions of the tenant's members and MiniClusters.
func (x *tenant) versions() string {
	x.Helper()
	var out string
	x.look(func(s *history.State) {
		out = ""
		for _, name := range []string{"m", "other"} {
			out += fmt.Sprintf("%s: %s, %s; ", name, s.Members[x.key(name)].ResourceVersion, s.MiniClusters[x.key(name)].GetResourceVersion())
		}
	})
	return out
}

// TestBadObjects: what a MiniCluster asks for in vain is refused when it is created, with the reason, and nothing is
// reserved. What becomes impossible later is said where its user looks.
func TestBadObjects(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		pool func(*tenant) string
		says string
	}{
		"a pool that cannot be a name": {func(*tenant) string { return "Not A Pool" }, `"Not A Pool" cannot be the name of a NodePool`},
		"a pool that does not exist":   {func(*tenant) string { return "nowhere" }, `there is no NodePool "nowhere"`},
		"a pool that is too small": {
			func(x *tenant) string { return x.pool("small", 2, "0s") }, "spec.size: Invalid value: 3: must be at most what its NodePools hold, 2",
		},
		"a pool of nodes that are too small": {func(x *tenant) string {
			x.apply(tinyPool, x.namespace)
			return x.namespace + "-tiny"
		}, "spec.containers: Invalid value: a pod requests 3 of cpu and an empty node"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTenant(t)
			pool := row.pool(x)
			if err := x.submit(x.miniClusterText("m", 3, "{}", pool)); err == nil || !strings.Contains(err.Error(), row.says) {
				t.Errorf("the answer is %v, not %q", err, row.says)
			}
			x.look(func(s *history.State) {
				if s.MiniClusters[x.key("m")] != nil || s.Members[x.key("m")] != nil {
					t.Error("what was refused is there")
				}
			})
		})
	}
	t.Run("a pool that gets too small", func(t *testing.T) {
		t.Parallel()
		x := newTenant(t)
		// Nothing is granted while the pool is paused.
		pool := x.poolOf("hpc", 10, true, "{bootDelay: 0s}")
		cluster := x.miniCluster("m", 3, pool)
		x.poolOf("hpc", 2, false, "{bootDelay: 0s}")
		x.until(func(s *history.State) string {
			member := s.Members[cluster]
			if member == nil {
				return "there is no member"
			}
			if c := condition(
				member, v1alpha1.ConditionReady,
			); c.status != "False" || c.reason != v1alpha1.ReasonPoolTooSmall || !strings.Contains(c.message, "maxSize 2") {
				return fmt.Sprintf("Ready is %+v, not %s with maxSize 2", c, v1alpha1.ReasonPoolTooSmall)
			}
			if member.Status.Reserved != 0 {
				return fmt.Sprintf("%d nodes are reserved", member.Status.Reserved)
			}
			return ""
		})
		x.refusedAsPlanned(cluster, v1alpha1.ReasonPoolTooSmall, pool, x.plan(cluster, "size", 4))
		x.remove(cluster)
		x.gone(cluster)
	})
}

// tinyPool is a NodePool of a tenant whose nodes have two cores.
const tinyPool = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s-tiny}
spec:
  maxSize: 10
  template:
    capacity: {cpu: "2", memory: 16Gi, pods: "110"}
    taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
  machines: {kwok: {bootDelay: 0s}}
`

// TestCloudProviderRefuses: who is not Cluster Autoscaler gets no answer, and a wrong request of Cluster
// Autoscaler gets a code and a reason, and changes nothing.
//
//nolint:tparallel // Each row uses the pool that the next one does.
func TestCloudProviderRefuses(t *testing.T) {
	t.Parallel()
	x := newTenant(t)
	pool := x.pool("hpc", 3, "0s")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	held := x.held(cluster)

	trusting, err := shared.TLS()
	if err != nil {
		t.Fatal(err)
	}
	for name, transport := range map[string]credentials.TransportCredentials{
		"without TLS":           insecure.NewCredentials(),
		"without a certificate": credentials.NewTLS(trusting),
	} {
		shared.serving.RLock()
		err := shared.AskProvider(t.Context(), transport, func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.Refresh(ctx, &externalgrpc.RefreshRequest{})
			return err
		})
		shared.serving.RUnlock()
		if status.Code(err) != codes.Unavailable {
			t.Errorf("%s: the answer is %v, not a refused connection", name, err)
		}
	}

	providerID := ""
	x.look(func(s *history.State) { providerID = s.Nodes[held[0]].Spec.ProviderID })
	node := &externalgrpc.ExternalGrpcNode{Name: held[0], ProviderID: providerID}
	for name, row := range map[string]struct {
		ask  func(context.Context, externalgrpc.CloudProviderClient) error
		code codes.Code
		says string
	}{
		"a pool that does not exist": {func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: "nowhere", Delta: 1})
			return err
		}, codes.NotFound, "nowhere"},
		"more than the maximum": {func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: pool, Delta: 2})
			return err
		}, codes.OutOfRange, "above its maxSize 3"},
		"an increase by nothing": {func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.NodeGroupIncreaseSize(ctx, &externalgrpc.NodeGroupIncreaseSizeRequest{Id: pool})
			return err
		}, codes.InvalidArgument, "above 0"},
		"a decrease upwards": {func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.NodeGroupDecreaseTargetSize(ctx, &externalgrpc.NodeGroupDecreaseTargetSizeRequest{Id: pool, Delta: 1})
			return err
		}, codes.InvalidArgument, "below 0"},
		"deletion of a member's node": {func(ctx context.Context, c externalgrpc.CloudProviderClient) error {
			_, err := c.NodeGroupDeleteNodes(ctx, &externalgrpc.NodeGroupDeleteNodesRequest{Id: pool, Nodes: []*externalgrpc.ExternalGrpcNode{node}})
			return err
		}, codes.FailedPrecondition, cluster.String()},
	} {
		t.Run(name, func(t *testing.T) {
			shared.serving.RLock()
			err := shared.AsAutoscaler(t.Context(), row.ask)
			shared.serving.RUnlock()
			if status.Code(err) != row.code || !strings.Contains(err.Error(), row.says) {
				t.Errorf("the answer is %v, not %s with %q", err, row.code, row.says)
			}
			x.look(func(s *history.State) {
				if p := s.Pools[pool]; p.Spec.Replicas != 2 || len(p.Spec.MachinesToDelete) > 0 {
					t.Errorf("the pool has target %d and %v to delete", p.Spec.Replicas, p.Spec.MachinesToDelete)
				}
			})
		})
	}
	x.end(pool)
}
