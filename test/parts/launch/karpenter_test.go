package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/karpenter"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/launchtest"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
	realkarpenter "github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/karpenter"
)

// TestKarpenter runs the suite on the real Karpenter.
func TestKarpenter(t *testing.T) {
	t.Parallel()
	c := startKarpenter(t)
	launchtest.Run(t, c.subject())
	c.lateNode(t)
	c.adopted(t)
}

// karpenterCloud is Karpenter, and its launcher in this process.
type karpenterCloud struct {
	launcher *karpenter.Launcher
	// client is the administrator's, and knows NodeClaims.
	client client.Client
	// failing has, by the name of a pool, how the next creation of one of its claims fails.
	failing sync.Map
}

func startKarpenter(t *testing.T) *karpenterCloud {
	t.Helper()
	binary, err := realkarpenter.Build(t.Context(), os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := realkarpenter.Install(t.Context(), cluster.Plane); err != nil {
		t.Fatal(err)
	}
	if _, err := realkarpenter.Run(t.Context(), cluster.Plane, binary); err != nil {
		t.Fatal(err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme), karpenter.AddToScheme(scheme)); err != nil {
		t.Fatal(err)
	}
	c := &karpenterCloud{}
	kind, kept, err := karpenter.Cached()
	if err != nil {
		t.Fatal(err)
	}
	mgr, err := ctrl.NewManager(cluster.Config, manager.Options{
		Scheme: scheme, Logger: logr.Discard(), Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: new(true)},
		Cache:      cache.Options{ByObject: map[client.Object]cache.ByObject{kind: kept}},
		NewClient: func(config *rest.Config, options client.Options) (client.Client, error) {
			inner, err := client.NewWithWatch(config, client.Options{Scheme: options.Scheme, HTTPClient: options.HTTPClient})
			c.client = inner
			if err != nil {
				return nil, err
			}
			return interceptor.NewClient(inner, failingCreate(&c.failing)), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.launcher, err = karpenter.New(t.Context(), mgr); err != nil {
		t.Fatal(err)
	}
	if err := (&karpenter.Orphans{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Cluster: clusterID}).SetupWithManager(mgr); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- mgr.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the manager ended with %v", err)
		}
	})
	if !mgr.GetCache().WaitForCacheSync(ctx) {
		t.Fatal("the caches were not filled")
	}
	return c
}

func (c *karpenterCloud) subject() *launchtest.Subject {
	return &launchtest.Subject{
		Launcher: c.launcher, Nodes: cluster.Client, Template: karpenterTemplate(), Patience: 4 * time.Minute, Lag: 2 * time.Second,
		Poll: 50 * time.Millisecond,
		Incomplete: func(node *corev1.Node) string {
			if slices.ContainsFunc(node.Spec.Taints, func(t corev1.Taint) bool { return t.Key == "karpenter.sh/unregistered" }) {
				return "Karpenter does not know the node yet"
			}
			return ""
		},
		Pool: c.pool,
		SetStock: func(_ *testing.T, pool *launch.Pool, machines int32) {
			pool.Machines.Karpenter.NodeClassRef.Name = realkarpenter.ClassFast
			if machines == 0 {
				pool.Machines.Karpenter.NodeClassRef.Name = realkarpenter.ClassMissing
			}
		},
		MakeForeign: c.makeForeign,
		MakeOrphan:  c.makeOrphan,
		KillNode: func(t *testing.T, node *corev1.Node) {
			t.Helper()
			if err := cluster.Client.Delete(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		},
		FailNextCall: func(_ *testing.T, pool *launch.Pool, when launchtest.Moment) { c.failing.Store(pool.Name, when) },
		Cannot: map[string]string{
			"stockout of a part": "the kwok provider of Karpenter has all machines or none",
			"throttling":         "Karpenter itself is throttled by its cloud, and takes every NodeClaim",
		},
	}
}

func karpenterTemplate() v1alpha1.NodeTemplate {
	return v1alpha1.NodeTemplate{
		Labels: map[string]string{"example.com/kind": "fast", corev1.LabelInstanceTypeStable: realkarpenter.InstanceType},
		Taints: []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("8Gi"),
			corev1.ResourcePods: resource.MustParse("64"),
		},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3900m"), corev1.ResourceMemory: resource.MustParse("8182Mi")},
	}
}

// pool is a pool whose machines behave as a role says. What its cloud does to them the test does.
func (c *karpenterCloud) pool(t *testing.T, name string, role launchtest.Role) *launch.Pool {
	t.Helper()
	class := realkarpenter.ClassFast
	if role == launchtest.Slow {
		class = realkarpenter.ClassSlow
	}
	pool := &launch.Pool{Cluster: clusterID, Name: "karpenter-" + name, Machines: v1alpha1.MachinesSpec{Karpenter: &v1alpha1.KarpenterMachines{
		NodeClassRef: v1alpha1.KarpenterNodeClass{Group: realkarpenter.Group, Kind: realkarpenter.Kind, Name: class},
		Requirements: []v1alpha1.KarpenterRequirement{
			{Key: corev1.LabelTopologyZone, Operator: "In", Values: []string{realkarpenter.Zone}},
			{Key: "karpenter.sh/capacity-type", Operator: "In", Values: []string{"on-demand"}},
		},
	}}}
	switch role {
	case launchtest.Spot:
		// Interrupted, which Karpenter does by deleting the claim (as its provider for AWS: controllers/interruption).
		c.onceRegistered(t, pool, func(ctx context.Context, claim *karpenter.NodeClaim) error { return c.client.Delete(ctx, claim) })
	case launchtest.Crashing:
		// The instance is gone, and with it what the kwok provider knows it by.
		c.onceRegistered(t, pool, func(ctx context.Context, claim *karpenter.NodeClaim) error {
			node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: claim.Status.NodeName}}
			if err := c.client.Patch(
				ctx, node, client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`)),
			); err != nil {
				return err
			}
			return c.client.Delete(ctx, node)
		})
	case launchtest.Fast, launchtest.Slow, launchtest.Throttled:
	}
	return pool
}

// onceRegistered does something to the first claim of a pool whose node has registered, beside the test.
func (c *karpenterCloud) onceRegistered(t *testing.T, pool *launch.Pool, do func(context.Context, *karpenter.NodeClaim) error) {
	t.Helper()
	ended := make(chan error, 1)
	go func() {
		ended <- waitFor(t.Context(), func(ctx context.Context) (bool, error) {
			var claims karpenter.NodeClaimList
			if err := c.client.List(ctx, &claims, client.MatchingLabels{v1alpha1.LabelNodePool: pool.Name}); err != nil {
				return false, err
			}
			for i := range claims.Items {
				if claims.Items[i].Status.NodeName != "" {
					return true, do(ctx, &claims.Items[i])
				}
			}
			return false, nil
		})
	}()
	t.Cleanup(func() {
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// waitFor asks until something is so, or the context ends.
func waitFor(ctx context.Context, is func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		if done, err := is(ctx); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// claim is one that bears the marks that are given.
func claim(pool *launch.Pool, name, cluster string, labels map[string]string) *karpenter.NodeClaim {
	return &karpenter.NodeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: labels, Annotations: map[string]string{v1alpha1.Group + "/cluster": cluster},
		},
		Spec: karpenter.NodeClaimSpec{
			NodeClassRef: pool.Machines.Karpenter.NodeClassRef, ExpireAfter: "Never",
			Requirements: []v1alpha1.KarpenterRequirement{
				{Key: corev1.LabelInstanceTypeStable, Operator: "In", Values: []string{realkarpenter.InstanceType}},
				{Key: corev1.LabelTopologyZone, Operator: "In", Values: []string{realkarpenter.Zone}},
			},
		},
	}
}

func (c *karpenterCloud) makeForeign(t *testing.T, pool *launch.Pool, machine string) func(context.Context) (bool, error) {
	t.Helper()
	other := claim(pool, machine, "another", map[string]string{v1alpha1.LabelNodePool: pool.Name, v1alpha1.LabelMachine: machine})
	c.create(t, other)
	return func(ctx context.Context) (bool, error) {
		var now karpenter.NodeClaim
		err := c.client.Get(ctx, client.ObjectKeyFromObject(other), &now)
		return err == nil && now.DeletionTimestamp == nil, client.IgnoreNotFound(err)
	}
}

func (c *karpenterCloud) makeOrphan(t *testing.T, pool *launch.Pool, withNode bool) (key string) {
	t.Helper()
	if !withNode {
		pool.Machines.Karpenter.NodeClassRef.Name = realkarpenter.ClassSlow
	}
	orphan := claim(pool, "i-"+pool.Name, pool.Cluster, map[string]string{v1alpha1.LabelNodePool: pool.Name})
	c.create(t, orphan)
	return orphan.Name
}

// create makes a claim, and removes it when the test ends.
func (c *karpenterCloud) create(t *testing.T, claim *karpenter.NodeClaim) {
	t.Helper()
	if err := c.client.Create(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.client.Delete(context.WithoutCancel(t.Context()), claim); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// lateNode: a node that registers when its claim is gone is one that Karpenter does not know, and that the provider deletes. One that has
// no provider id yet is not taken for that.
func (c *karpenterCloud) lateNode(t *testing.T) {
	t.Helper()
	pool := c.pool(t, "late", launchtest.Slow)
	there := claim(
		pool, pool.Name+"-0", clusterID, map[string]string{v1alpha1.LabelNodePool: pool.Name, v1alpha1.LabelMachine: pool.Name + "-0"},
	)
	c.create(t, there)
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		if err := c.client.Get(ctx, client.ObjectKeyFromObject(there), there); err != nil || there.Status.ProviderID == "" {
			return "the NodeClaim has no provider id", err
		}
		return "", nil
	})
	early, late := unregistered(pool, there.Name, ""), unregistered(pool, pool.Name+"-1", "kwok://late")
	for _, node := range []*corev1.Node{early, late} {
		if err := cluster.Client.Create(t.Context(), node); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if err := cluster.Client.Delete(context.WithoutCancel(t.Context()), early); client.IgnoreNotFound(err) != nil {
			t.Error(err)
		}
	})
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		err := cluster.Client.Get(ctx, client.ObjectKeyFromObject(late), &corev1.Node{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return fmt.Sprintf("the node is there: %v", err), nil
	})
	// They are looked at in their order.
	if err := cluster.Client.Get(t.Context(), client.ObjectKeyFromObject(early), early); err != nil || early.DeletionTimestamp != nil {
		t.Errorf("a node that has no provider id yet is deleted: %v", err)
	}
}

// unregistered is a node that Karpenter does not know yet.
func unregistered(pool *launch.Pool, machine, providerID string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: machine, Labels: map[string]string{v1alpha1.LabelMachine: machine, v1alpha1.LabelNodePool: pool.Name},
		},
		Spec: corev1.NodeSpec{
			ProviderID: providerID, Taints: []corev1.Taint{{Key: "karpenter.sh/unregistered", Effect: corev1.TaintEffectNoExecute}},
		},
	}
}

// adopted: a claim that was found and not ordered is not called as its record. It is ended by its provider id where a process that has just
// started has not listed it.
func (c *karpenterCloud) adopted(t *testing.T) {
	t.Helper()
	pool := c.pool(t, "adopted", launchtest.Fast)
	key := c.makeOrphan(t, pool, true)
	found := &karpenter.NodeClaim{}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		err := c.client.Get(ctx, client.ObjectKey{Name: key}, found)
		if err != nil || found.Status.ProviderID == "" {
			return "the NodeClaim has no provider id", err
		}
		return "", nil
	})
	instance := launch.Instance{Machine: "a-record-7", ProviderID: found.Status.ProviderID}
	if err := c.launcher.Terminate(t.Context(), pool, []launch.Instance{instance})[0]; err != nil && !errors.Is(err, launch.ErrGone) {
		t.Fatal(err)
	}
	err := c.client.Get(t.Context(), client.ObjectKey{Name: key}, found)
	if !apierrors.IsNotFound(err) && (err != nil || found.DeletionTimestamp == nil) {
		t.Errorf("the NodeClaim was not told to go: %v", err)
	}
}
