package main

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/history"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/growth"
)

// auditPolicy makes the API server record all writes but those that do not depend on growths: of leases, and of what a loop has done.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  resources: [{group: coordination.k8s.io, resources: [leases]}]
# Cluster Autoscaler tells of each of its loops there.
- level: None
  resources: [{group: "", resources: [configmaps], resourceNames: [cluster-autoscaler-status]}]
- level: Metadata
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

const (
	// patience bounds each step, besides the boot of its machines.
	patience = 10 * time.Minute
	// calm is how long nothing is written when what came before is over.
	calm = 3 * time.Second
)

const poolObject = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %s}
spec:
  maxSize: %d
  template:
    capacity: {cpu: "4", memory: 16Gi, pods: "110"}
  machines: {kwok: {bootDelay: %s}}
`

const clusterObject = `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata:
  name: %[1]s
  namespace: default
  annotations: {%[4]s}
spec:
  size: %[2]d
  minSize: 1
  maxSize: %[3]d
  interactive: true
  containers:
  - image: ubuntu:noble
    runFlux: true
    resources: {requests: {cpu: "3", memory: 1Gi}}
`

// bench is what stays the same.
type bench struct {
	*options
	*growth.Bench
	// pools is how many there have been: each MiniCluster has a pool of its own, so that nothing is left of the one before.
	pools int
}

// course is all rounds of one way to one size.
type course struct {
	way    way
	size   int
	rounds []*round
}

// measure lets MiniClusters come to each size in each way, round by round.
func (b *bench) measure(ctx context.Context) ([]*course, error) {
	var courses []*course
	of := map[way]map[int]*course{}
	for _, size := range b.sizes {
		for _, w := range b.ways {
			c := &course{way: w, size: size}
			courses = append(courses, c)
			if of[w] == nil {
				of[w] = map[int]*course{}
			}
			of[w][size] = c
		}
	}
	wanted := func(w way) bool { return of[w] != nil }
	for n := range b.rounds {
		for _, size := range b.sizes {
			if wanted(grown) {
				r, err := b.grow(ctx, size)
				if err != nil {
					return nil, fmt.Errorf("grow to %d: %w", size, err)
				}
				of[grown][size].add(r)
				b.Say("round %d: grown to %d in %s", n+1, size, r.whole())
			}
			if !wanted(patched) && !wanted(made) {
				continue
			}
			first, second, err := b.unmanaged(ctx, size)
			if err != nil {
				return nil, fmt.Errorf("patch to %d: %w", size, err)
			}
			b.Say("round %d: patched to %d in %s, and made in %s", n+1, size, first.whole(), second.whole())
			if wanted(patched) {
				of[patched][size].add(first)
			}
			if wanted(made) {
				of[made][size].add(second)
			}
		}
	}
	return courses, nil
}

func (c *course) add(r *round) { c.rounds = append(c.rounds, r) }

// scene is a MiniCluster and its pool.
type scene struct {
	pool    string
	cluster types.NamespacedName
	size    int
}

// begin makes a pool.
func (b *bench) begin(ctx context.Context, size int) (*scene, error) {
	b.pools++
	s := &scene{pool: fmt.Sprintf("pool-%d", b.pools), size: size}
	s.cluster = types.NamespacedName{Namespace: corev1.NamespaceDefault, Name: fmt.Sprintf("growth-%d", b.pools)}
	return s, b.apply(ctx, fmt.Sprintf(poolObject, s.pool, size, b.bootDelay))
}

// end takes everything away.
func (b *bench) end(ctx context.Context, s *scene) error {
	if err := b.remove(ctx, s); err != nil {
		return err
	}
	pool := &v1alpha1.NodePool{}
	pool.Name = s.pool
	if err := b.System.Client.Delete(ctx, pool); err != nil {
		return fmt.Errorf("delete NodePool %s: %w", s.pool, err)
	}
	if err := b.until(ctx, func(state *history.State) string {
		if state.Pools[s.pool] != nil || len(state.NodesOf(s.pool)) > 0 {
			return fmt.Sprintf("%d nodes of %s are there", len(state.NodesOf(s.pool)), s.pool)
		}
		return ""
	}); err != nil {
		return err
	}
	return b.calm(ctx)
}

func (b *bench) remove(ctx context.Context, s *scene) error {
	object := minicluster.New()
	object.SetNamespace(s.cluster.Namespace)
	object.SetName(s.cluster.Name)
	if err := b.System.Client.Delete(ctx, object); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete MiniCluster %s: %w", s.cluster, err)
	}
	return b.until(ctx, func(state *history.State) string {
		if pods := len(state.PodsOf(s.cluster)); pods > 0 || state.Members[s.cluster] != nil {
			return fmt.Sprintf("%d pods of %s are there", pods, s.cluster)
		}
		return ""
	})
}

func (b *bench) apply(ctx context.Context, text string) error {
	objects, err := system.Objects([]byte(text))
	if err != nil {
		return err
	}
	return b.System.Apply(ctx, objects...)
}

func (b *bench) until(ctx context.Context, unmet func(*history.State) string) error {
	within := patience + b.bootDelay
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("not within %s", within))
	defer cancel()
	return b.Recorder.Until(ctx, unmet)
}

// running waits until a MiniCluster runs.
func (b *bench) running(ctx context.Context, s *scene, size int) error {
	return b.until(ctx, func(state *history.State) string {
		running := 0
		for _, pod := range state.PodsOf(s.cluster) {
			if pod.Status.Phase == corev1.PodRunning {
				running++
			}
		}
		if running != size {
			return fmt.Sprintf("%d of %d pods run", running, size)
		}
		if member := state.Members[s.cluster]; member != nil && int(member.Status.Running) != size {
			return fmt.Sprintf("the member says that %d of %d pods run", member.Status.Running, size)
		}
		return ""
	})
}

// calm waits until nothing is written any more.
func (b *bench) calm(ctx context.Context) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		if _, err := b.Audit.Next(); err != nil {
			return err
		}
		select {
		case <-time.After(calm):
		case <-ctx.Done():
			return ctx.Err()
		}
		records, err := b.Audit.Next()
		if err != nil {
			return err
		}
		if len(records) == 0 {
			return nil
		}
	}
	return fmt.Errorf("the programs do not come to rest within %s", patience)
}

// grow lets a MiniCluster grow by a request.
func (b *bench) grow(ctx context.Context, size int) (*round, error) {
	s, err := b.begin(ctx, size)
	if err != nil {
		return nil, err
	}
	managed := v1alpha1.AnnotationNodePools + ": " + s.pool + ", " + v1alpha1.AnnotationGrowthPolicy + ": AllOrNothing"
	if err := b.apply(ctx, fmt.Sprintf(clusterObject, s.cluster.Name, 1, size, managed)); err != nil {
		return nil, err
	}
	r, err := b.follow(ctx, s, 1, func() error { return b.Ask(ctx, s.cluster, "grow", size-1) })
	if err != nil {
		return nil, err
	}
	return r, b.end(ctx, s)
}

// unmanaged lets a MiniCluster that nobody manages grow by a patch, and makes another one on its nodes when it is gone.
func (b *bench) unmanaged(ctx context.Context, size int) (first, second *round, err error) {
	s, err := b.begin(ctx, size)
	if err != nil {
		return nil, nil, err
	}
	if err := b.apply(ctx, fmt.Sprintf(clusterObject, s.cluster.Name, 1, size, "")); err != nil {
		return nil, nil, err
	}
	if first, err = b.follow(ctx, s, 1, func() error {
		object := minicluster.New()
		object.SetNamespace(s.cluster.Namespace)
		object.SetName(s.cluster.Name)
		return b.System.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, fmt.Appendf(nil, `{"spec":{"size":%d}}`, size)))
	}); err != nil {
		return nil, nil, err
	}
	if err := b.remove(ctx, s); err != nil {
		return nil, nil, err
	}
	// Under another name: what the MiniCluster before has left behind is none of it.
	s.cluster.Name += "-made"
	if second, err = b.follow(ctx, s, 0, func() error {
		return b.apply(ctx, fmt.Sprintf(clusterObject, s.cluster.Name, size, size, ""))
	}); err != nil {
		return nil, nil, err
	}
	return first, second, b.end(ctx, s)
}

// follow waits until a MiniCluster runs with its first size and all is at rest, asks, and follows the MiniCluster until all pods run.
func (b *bench) follow(ctx context.Context, s *scene, from int, ask func() error) (*round, error) {
	if from > 0 {
		if err := b.running(ctx, s, from); err != nil {
			return nil, err
		}
	}
	if err := b.calm(ctx); err != nil {
		return nil, err
	}
	asked := time.Now()
	if err := ask(); err != nil {
		return nil, err
	}
	if err := b.running(ctx, s, s.size); err != nil {
		return nil, err
	}
	// The log is written a little later than what it tells of.
	select {
	case <-time.After(calm):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	records, err := b.Audit.Next()
	if err != nil {
		return nil, err
	}
	return newRound(s, asked, b.Recorder.Events(), records), nil
}
