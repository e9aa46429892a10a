package launchtest

import (
	"context"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// foreign: an instance that has the name of a machine, and that somebody else has made, is neither adopted nor deleted.
func foreign(t *testing.T, s *Subject) {
	t.Helper()
	pool := s.Pool(t, "foreign", Slow)
	order := s.order(t, pool, 0, 2)
	taken := order.Machines[1].Name
	there := s.MakeForeign(t, pool, taken)
	for i, outcome := range s.launch(t, pool, order) {
		name := order.Machines[i].Name
		// Where all are asked for or none, none is made.
		want := launch.Accepted
		if name == taken || order.Atomic {
			want = launch.Invalid
		}
		if outcome.Kind != want || (want == launch.Invalid && (outcome.Code == "" || outcome.Message == "")) {
			t.Errorf("%s is taken, and the outcome of %s is %+v", taken, name, outcome)
		}
	}
	if found := s.upToDate(t, pool); len(of(found, taken)) != 0 {
		t.Errorf("the foreign instance is listed: %+v", found)
	}
	s.clear(t, pool, order)
	if ok, err := there(t.Context()); err != nil || !ok {
		t.Errorf("the foreign instance is there: %t, %v", ok, err)
	}
}

// orphan: an instance that nobody has written down is listed without a machine, and goes like any other.
func orphan(t *testing.T, s *Subject, withNode bool) {
	t.Helper()
	name := "orphan"
	if withNode {
		name = "orphan-node"
	}
	pool := s.Pool(t, name, Fast)
	key := s.MakeOrphan(t, pool, withNode)
	isIt := func(i launch.Instance) bool { return i.Key == key }
	var instance launch.Instance
	var node *corev1.Node
	s.listed(t, pool, "the orphan "+key, func(instances []launch.Instance) string {
		at := slices.IndexFunc(instances, isIt)
		if at < 0 {
			return "it is not listed"
		}
		if instance = instances[at]; !withNode {
			return ""
		}
		if instance.NodeName == "" || instance.ProviderID == "" {
			return "it has no node"
		}
		if node = s.node(t, instance.ProviderID); node == nil || node.Name != instance.NodeName {
			return "its node is not there"
		}
		return ""
	})
	if instance.Machine != "" {
		t.Errorf("the orphan is %+v", instance)
	}
	from := s.found(t, pool, "the orphan "+key, isIt)
	if withNode {
		// As a machine that was found: its record is called otherwise, and after a start nothing has been listed yet.
		instance = launch.Instance{Machine: pool.Name + "-7", ProviderID: instance.ProviderID}
	}
	s.terminate(t, from, instance)
	s.gone(t, pool, "the orphan "+key, isIt)
	if withNode {
		s.nodeGone(t, node)
	}
}

// found is the pool of an instance as a launcher finds it that can tell of which pools there are instances, and the pool itself of another.
func (s *Subject) found(t *testing.T, pool *launch.Pool, which string, is func(launch.Instance) bool) *launch.Pool {
	t.Helper()
	finder, can := s.Launcher.(launch.Finder)
	if !can {
		return pool
	}
	var out *launch.Pool
	s.until(t, func(ctx context.Context) (string, error) {
		pools, err := finder.Pools(ctx, pool.Cluster)
		if err != nil {
			return err.Error(), ctx.Err()
		}
		at := slices.IndexFunc(pools, func(p launch.Pool) bool { return p.Name == pool.Name })
		if at < 0 {
			return "the pool is not found by " + which, nil
		}
		out = &pools[at]
		instances, missing, err := s.list(ctx, out)
		if err == nil && missing == "" && !slices.ContainsFunc(instances, is) {
			missing = which + " is not listed by what is found of its pool"
		}
		return missing, err
	})
	if pools, err := finder.Pools(t.Context(), "another cluster"); err != nil || len(pools) > 0 {
		t.Errorf("of another cluster are found %v, %v", pools, err)
	}
	return out
}
