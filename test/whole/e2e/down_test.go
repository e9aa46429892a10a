package e2e

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// downFor is how long the controller is down in TestControllerDown. The bounds of Cluster Autoscaler and of the provider that
// could matter are longer than the default: run it with -e2e.down=5m now and then.
var downFor = flag.Duration("e2e.down", 5*time.Second, "how long the controller is down")

// TestControllerDown: while the controller is down, pods and MiniClusters that have nothing to do with it go on as without us, and
// so do its members' nodes and pods; what needs it waits, and goes on when it is back.
// It is not parallel: everything else here needs the controller.
func TestControllerDown(t *testing.T) {
	x := newTenant(t)
	pool := x.pool("hpc", 10, "500ms")
	cluster := x.miniCluster("m", 2, pool)
	x.atSize(cluster, 2)
	held, machines := x.held(cluster), x.machines(pool)

	planned := x.plan(cluster, "size", 4)
	down := time.Now()
	if err := shared.Controller.Kill(); err != nil {
		t.Fatal(err)
	}
	back := func() {
		if !shared.Controller.Running() {
			if err := shared.RestartController(t.Context()); err != nil {
				t.Error(err)
			}
		}
	}
	defer back()

	// Nobody waits for the controller who has not asked for it.
	x.apply(`{apiVersion: v1, kind: Pod, metadata: {name: stranger, namespace: %s}, spec: {tolerations: [{operator: Exists}],
		containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}], nodeSelector: {autoscaling.flux-framework.org/node-pool: %s}}}`,
		x.namespace, pool)
	plain := x.plainMiniCluster("plain", 1, pool)
	x.lead(plain)
	x.until(func(s *history.State) string {
		pod := s.Pods[x.key("stranger")]
		return unless(pod != nil && pod.Status.Phase == corev1.PodRunning, "the pod of nobody does not run")
	})

	// A MiniCluster that is to be managed is refused: its pods could only wait. New pods of one that is managed wait.
	objects, err := system.Objects([]byte(x.miniClusterText("late", 1, "{}", pool)))
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.Client.Create(t.Context(), objects[0]); err == nil || !strings.Contains(
		err.Error(), "miniclusters.autoscaling.flux-framework.org",
	) {
		t.Errorf("while the webhook is down a managed MiniCluster is answered %v", err)
	}
	x.edit(cluster, 4)
	x.killPod(cluster, 1)
	waits := func(s *history.State) string {
		gated := x.gatedPods(s, cluster)
		return unless(len(gated) == 3, "%d of 3 pods wait: %v", len(gated), gated)
	}
	x.until(waits)
	x.stays(*downFor-time.Since(down), func(s *history.State) string {
		if lead := s.Lead(cluster); lead == nil {
			return "the lead broker does not run"
		}
		for _, name := range held {
			if s.Nodes[name] == nil {
				return fmt.Sprintf("node %s, which the member holds, is gone", name)
			}
		}
		return waits(s)
	})

	back()
	x.atSize(cluster, 4)
	x.asPlanned(cluster, planned)
	x.onHeldNodes(cluster)
	now := x.held(cluster)
	for _, name := range held {
		if !slices.Contains(now, name) {
			t.Errorf("the member held %v before and %v after", held, now)
		}
	}
	for name, uid := range x.machines(pool) {
		if was, is := machines[name]; is && was != uid {
			t.Errorf("machine %s is another one", name)
		}
	}
	x.deletePod("stranger")
	for _, key := range []types.NamespacedName{cluster, plain} {
		x.remove(key)
		x.gone(key)
	}
	x.removePool(pool)
	x.poolGone(pool)
}

// stays checks for a while that nothing becomes missing.
func (x *tenant) stays(span time.Duration, missing func(*history.State) string) {
	x.Helper()
	ctx, cancel := context.WithTimeout(x.Context(), max(span, time.Second))
	defer cancel()
	_ = wait.PollUntilContextCancel(ctx, 200*time.Millisecond, true, func(context.Context) (bool, error) { // It ends with the time.
		x.look(func(s *history.State) {
			if now := missing(s); now != "" {
				x.Error(now)
			}
		})
		return x.Failed(), nil
	})
}
