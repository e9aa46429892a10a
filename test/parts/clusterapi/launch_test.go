package clusterapi

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/cluster"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/clusterapi"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch/launchtest"
)

// clusterID stands for the UID of the namespace kube-system.
const clusterID = "3f1c7f6e-0000-4000-8000-000000000001"

var errInjected = errors.New("the call failed")

// cloud is a launcher in this process.
type cloud struct {
	launcher *clusterapi.Launcher
	// failing has, by the name of a pool, how the next creation of one of its objects fails.
	failing sync.Map
	// creations counts the creations, and cut is which of them fails, zero for none.
	creations, cut atomic.Int64
}

func startCloud(t *testing.T) *cloud {
	t.Helper()
	c := &cloud{}
	config := shared.Plane.AdminConfig()
	config.QPS = -1
	machines, err := clusterapi.NewCluster(config, []string{Machines}, func(o *cluster.Options) {
		o.NewClient = func(config *rest.Config, options client.Options) (client.Client, error) {
			inner, err := client.NewWithWatch(config, options)
			if err != nil {
				return nil, err
			}
			return interceptor.NewClient(inner, interceptor.Funcs{Create: c.create}), nil
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	c.launcher = clusterapi.New(machines, []string{Machines})
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	go func() { ended <- machines.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the cluster ended with %v", err)
		}
	})
	return c
}

// end ends a machine as its caller does that has just looked at the listing.
func (c *cloud) end(t *testing.T, pool *launch.Pool, machine string) (err error) {
	t.Helper()
	looking := &looking{c.launcher}
	// The listing may have yet to show what the API server has.
	_ = wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, 10*time.Second, true, func(ctx context.Context) (bool, error) {
		err = looking.Terminate(ctx, pool, []launch.Instance{{Machine: machine}})[0]
		return err == nil || errors.Is(err, launch.ErrGone), nil
	})
	return err
}

// looking is a launcher that names of a machine that is to end what the listing has of it, as package machine does: a Machine that has
// got a provider id or a node which its caller does not know of is not ended.
type looking struct{ *clusterapi.Launcher }

func (l *looking) Terminate(ctx context.Context, pool *launch.Pool, instances []launch.Instance) []error {
	listed, err := l.List(ctx, pool)
	if err != nil {
		return slices.Repeat([]error{err}, len(instances))
	}
	instances = slices.Clone(instances)
	for i := range instances {
		if at := slices.IndexFunc(listed, func(one launch.Instance) bool { return one.Machine == instances[i].Machine }); at >= 0 {
			instances[i] = listed[at]
		}
	}
	return l.Launcher.Terminate(ctx, pool, instances)
}

func (c *cloud) create(ctx context.Context, inner client.WithWatch, object client.Object, options ...client.CreateOption) error {
	when, fails := c.failing.LoadAndDelete(object.GetLabels()[v1alpha1.LabelNodePool])
	if c.creations.Add(1) == c.cut.Load() {
		when, fails = launchtest.BeforeIt, true
	}
	if fails && when == launchtest.BeforeIt {
		return errInjected
	}
	err := inner.Create(ctx, object, options...)
	if fails {
		return errors.Join(err, errInjected)
	}
	return err
}

func machineTemplate() v1alpha1.NodeTemplate {
	return v1alpha1.NodeTemplate{
		Labels: map[string]string{"example.com/kind": "fast"},
		Taints: []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}},
		Capacity: corev1.ResourceList{
			corev1.ResourceCPU: resource.MustParse("4"), corev1.ResourceMemory: resource.MustParse("16Gi"),
			corev1.ResourcePods: resource.MustParse("110"),
		},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3800m")},
	}
}

// registered is what nodes register with: as the template says.
const registered = `
labels: {example.com/kind: fast}
taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}]
capacity: {cpu: "4", memory: 16Gi, pods: "110"}
allocatable: {cpu: 3800m, memory: 16Gi, pods: "110"}
`

func poolOf(t *testing.T, name string, of Template) *launch.Pool {
	t.Helper()
	of.Node = registered
	if err := shared.capi.Apply(t.Context(), name, &of); err != nil {
		t.Fatal(err)
	}
	return &launch.Pool{Cluster: clusterID, Name: name, Machines: v1alpha1.MachinesSpec{ClusterAPI: machinesOf(name)}}
}

// machinesOf are machines of a TinyMachineTemplate.
func machinesOf(template string) *v1alpha1.ClusterAPIMachines {
	return &v1alpha1.ClusterAPIMachines{
		Namespace: Machines, ClusterName: ClusterName,
		InfrastructureTemplateRef: v1alpha1.ClusterAPITemplate{APIGroup: "tiny.example.com", Kind: "TinyMachineTemplate", Name: template},
		Bootstrap: v1alpha1.ClusterAPIBootstrap{
			TemplateRef: &v1alpha1.ClusterAPITemplate{APIGroup: "tiny.example.com", Kind: "TinyConfigTemplate", Name: ConfigTemplate},
		},
	}
}

// TestLauncher runs the suite of launchers with the real core controllers.
func TestLauncher(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	launchtest.Run(t, &launchtest.Subject{
		Launcher: &looking{c.launcher}, Nodes: shared.Client, Template: machineTemplate(), Patience: 3 * time.Minute, Lag: 2 * time.Second,
		Pool: func(t *testing.T, name string, role launchtest.Role) *launch.Pool {
			t.Helper()
			of := Template{}
			if role == launchtest.Slow {
				of.BootDelay = "never"
			}
			return poolOf(t, "launch-"+name, of)
		},
		SetStock: func(t *testing.T, pool *launch.Pool, machines int32) {
			t.Helper()
			poolOf(t, pool.Name, Template{Stock: new(int64(machines))})
		},
		MakeForeign: makeForeign, MakeOrphan: makeOrphan,
		KillNode: func(t *testing.T, node *corev1.Node) {
			t.Helper()
			if err := shared.Client.Delete(t.Context(), node); err != nil {
				t.Fatal(err)
			}
		},
		FailNextCall: func(_ *testing.T, pool *launch.Pool, when launchtest.Moment) { c.failing.Store(pool.Name, when) },
		Cannot: map[string]string{
			"stockout of a part": "which of several Machines finds the last instances is the infrastructure provider's choice",
			"throttling":         "an API server that throttles is asked again by its client, for longer than a test takes",
			"spot notice":        "Cluster API has no notice of what is taken back",
			"crash":              "that an instance is no more is told by a condition alone, and its Node stays until the Machine is deleted",
		},
	})
}

func makeForeign(t *testing.T, pool *launch.Pool, machine string) func(context.Context) (bool, error) {
	t.Helper()
	object, err := parse(fmt.Sprintf(`
apiVersion: cluster.x-k8s.io/v1beta2
kind: Machine
metadata: {name: %s, namespace: %s}
spec:
  clusterName: %s
  bootstrap: {dataSecretName: any}
  infrastructureRef: {apiGroup: tiny.example.com, kind: TinyMachine, name: of-somebody-else}
`, machine, Machines, ClusterName))
	if err != nil {
		t.Fatal(err)
	}
	create(t, object)
	_ = pool
	return func(ctx context.Context) (bool, error) {
		err := shared.capi.Client.Get(ctx, client.ObjectKeyFromObject(object), object)
		return err == nil, client.IgnoreNotFound(err)
	}
}

func makeOrphan(t *testing.T, pool *launch.Pool, withNode bool) (key string) {
	t.Helper()
	delay := "never"
	if withNode {
		delay = "0s"
	}
	key = "orphan-of-" + pool.Name
	for _, text := range []string{`
apiVersion: tiny.example.com/v1
kind: TinyMachine
spec: {bootDelay: ` + delay + `}
`, `
apiVersion: cluster.x-k8s.io/v1beta2
kind: Machine
spec:
  clusterName: ` + ClusterName + `
  bootstrap: {dataSecretName: any}
  infrastructureRef: {apiGroup: tiny.example.com, kind: TinyMachine, name: ` + key + `}
`} {
		object, err := parse(text)
		if err != nil {
			t.Fatal(err)
		}
		object.SetName(key)
		object.SetNamespace(Machines)
		object.SetLabels(map[string]string{v1alpha1.LabelNodePool: pool.Name})
		object.SetAnnotations(map[string]string{v1alpha1.Group + "/cluster": pool.Cluster})
		create(t, object)
	}
	return key
}

// create makes an object, and removes it when the test ends.
func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := shared.capi.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := shared.capi.Client.Delete(context.WithoutCancel(t.Context()), object); err != nil && !apierrors.IsNotFound(err) {
			t.Error(err)
		}
	})
}

// TestCutShort: a launch that is cut short before any of its writes is completed when it is repeated, and removed when the machine is
// ended instead.
func TestCutShort(t *testing.T) {
	c := startCloud(t)
	for cut := int64(1); cut <= 3; cut++ {
		for _, then := range []string{"repeated", "ended"} {
			t.Run(fmt.Sprintf("before write %d and %s", cut, then), func(t *testing.T) {
				x := newTenant(t)
				pool := poolOf(t, fmt.Sprintf("cut-%d-%s", cut, then), Template{BootDelay: "never"})
				machine := &v1alpha1.PoolMachine{
					ObjectMeta: metav1.ObjectMeta{Name: pool.Name + "-0"},
					Spec:       v1alpha1.PoolMachineSpec{NodePool: pool.Name, Template: machineTemplate(), Machines: pool.Machines},
				}
				order := &launch.Order{Token: "token", Machines: []*v1alpha1.PoolMachine{machine}}
				c.cut.Store(c.creations.Load() + cut)
				if outcomes, err := c.launcher.Launch(t.Context(), pool, order); err == nil {
					t.Fatalf("a launch that was cut short says %+v", outcomes)
				}
				kinds := []string{"TinyMachine", "TinyConfig", "Machine"}
				for i, kind := range kinds {
					if made := len(x.of(kind, pool.Name)); made != 0 && int64(i) >= cut-1 {
						t.Fatalf("before write %d there is a %s", cut, kind)
					}
				}
				want := 0
				if then == "repeated" {
					want = 1
					if outcomes, err := c.launcher.Launch(t.Context(), pool, order); err != nil || outcomes[0].Kind != launch.Accepted {
						t.Fatalf("the launch is repeated: %+v, %v", outcomes, err)
					}
				} else if err := c.end(t, pool, machine.Name); !errors.Is(err, launch.ErrGone) {
					t.Errorf("the machine is ended: %v", err)
				}
				for _, kind := range kinds {
					if names := slices.Collect(maps.Keys(x.of(kind, pool.Name))); len(names) != want {
						t.Errorf("there are the %ss %v, not %d", kind, names, want)
					}
				}
			})
		}
	}
}

// TestTaintsRefused: a Machine is made without its taints where Cluster API takes none, as its webhook says without the feature gate
// MachineTaintPropagation. The webhook is not installed here: a policy says the same.
func TestTaintsRefused(t *testing.T) {
	t.Parallel()
	x, c := newTenant(t), startCloud(t)
	pool := poolOf(t, "taintless", Template{BootDelay: "never"})
	x.apply(`
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: taintless}
spec:
  matchConstraints:
    objectSelector: {matchLabels: {%s: taintless}}
    resourceRules: [{apiGroups: [cluster.x-k8s.io], apiVersions: [v1beta2], operations: [CREATE], resources: [machines]}]
  validations:
  - expression: "!has(object.spec.taints)"
    message: "spec.taints: Forbidden: taints are not allowed to be set when the feature gate MachineTaintPropagation is disabled"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: taintless}
spec: {policyName: taintless, validationActions: [Deny]}
`, v1alpha1.LabelNodePool)
	trial, err := parse(fmt.Sprintf(`
apiVersion: cluster.x-k8s.io/v1beta2
kind: Machine
metadata: {name: trial, namespace: %s, labels: {%s: taintless}}
spec:
  clusterName: %s
  bootstrap: {dataSecretName: any}
  infrastructureRef: {apiGroup: tiny.example.com, kind: TinyMachine, name: any}
  taints: [{key: a, effect: NoSchedule, propagation: Always}]
`, Machines, v1alpha1.LabelNodePool, ClusterName))
	if err != nil {
		t.Fatal(err)
	}
	x.poll("the policy does not work", func(ctx context.Context) (bool, error) {
		err := shared.capi.Client.Create(ctx, trial.DeepCopy(), client.DryRunAll)
		if err != nil && !strings.Contains(err.Error(), "spec.taints: Forbidden") {
			return false, err
		}
		return err != nil, nil
	})
	machine := &v1alpha1.PoolMachine{
		ObjectMeta: metav1.ObjectMeta{Name: pool.Name + "-0"},
		Spec:       v1alpha1.PoolMachineSpec{NodePool: pool.Name, Template: machineTemplate(), Machines: pool.Machines},
	}
	outcomes, err := c.launcher.Launch(t.Context(), pool, &launch.Order{Token: "token", Machines: []*v1alpha1.PoolMachine{machine}})
	if err != nil || outcomes[0].Kind != launch.Accepted {
		t.Fatalf("the outcomes are %+v, %v", outcomes, err)
	}
	if _, has := nested(x.objects("Machine")[machine.Name].Object, "spec", "taints"); has {
		t.Error("the Machine has taints")
	}
	if err := c.end(t, pool, machine.Name); err != nil {
		t.Error(err)
	}
}

func nested(object map[string]any, path ...string) (value any, has bool) {
	value, has, _ = unstructured.NestedFieldNoCopy(object, path...)
	return value, has
}

// TestAdopted: a Machine that was found and not ordered is not called as its record. It is ended by what a listing says of it, and by its
// provider id where a process that has just started has not listed it.
func TestAdopted(t *testing.T) {
	t.Parallel()
	c := startCloud(t)
	for name, by := range map[string]func(*launch.Instance) launch.Instance{
		"as listed": func(i *launch.Instance) launch.Instance {
			return launch.Instance{Key: i.Key, Machine: "a-record-7", ProviderID: i.ProviderID, NodeName: i.NodeName}
		},
		"by provider id": func(i *launch.Instance) launch.Instance {
			return launch.Instance{Machine: "a-record-7", ProviderID: i.ProviderID}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			x := newTenant(t)
			pool := poolOf(t, x.namespace+"-adopted", Template{})
			makeOrphan(t, pool, true)
			var found launch.Instance
			x.poll("the orphan has no node", func(ctx context.Context) (bool, error) {
				instances, err := c.launcher.List(ctx, pool)
				if err != nil || len(instances) != 1 {
					return false, err
				}
				found = instances[0]
				return found.ProviderID != "" && found.NodeName != "", nil
			})
			x.poll("the orphan does not go", func(ctx context.Context) (bool, error) {
				err := c.launcher.Terminate(ctx, pool, []launch.Instance{by(&found)})[0]
				if apierrors.IsConflict(err) {
					return false, nil // It has changed since it was looked at.
				}
				if err != nil && !errors.Is(err, launch.ErrGone) {
					return false, err
				}
				return err != nil, nil
			})
			if left := x.of("Machine", pool.Name); len(left) != 0 {
				t.Errorf("the cloud is said to have no such machine, and there are %v", left)
			}
		})
	}
}
