package clusterapi

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

const (
	namespace = "machines"
	poolName  = "p"
	machine   = "p-0"
)

// bed is a launcher before an API server that is none, and the pool, order and machine that tests are about.
type bed struct {
	launcher *Launcher
	pool     *launch.Pool
	order    *launch.Order
}

func newBed(t *testing.T, funcs *interceptor.Funcs, there ...*unstructured.Unstructured) *bed {
	t.Helper()
	infrastructure := schema.GroupVersion{Group: "infra.example.com", Version: "v1"}
	mapper := meta.NewDefaultRESTMapper([]schema.GroupVersion{machineKind.GroupVersion(), infrastructure})
	for _, kind := range []schema.GroupVersionKind{
		machineKind, clusterKind, infrastructure.WithKind("Thing"), infrastructure.WithKind("ThingTemplate"),
	} {
		mapper.Add(kind, meta.RESTScopeNamespace)
	}
	builder := fake.NewClientBuilder().WithScheme(runtime.NewScheme()).WithRESTMapper(mapper).WithInterceptorFuncs(*funcs)
	for _, object := range there {
		builder.WithObjects(object)
	}
	c := builder.Build()
	pool := &launch.Pool{Cluster: "id", Name: poolName, Machines: v1alpha1.MachinesSpec{ClusterAPI: &v1alpha1.ClusterAPIMachines{
		Namespace: namespace, ClusterName: "c", Bootstrap: v1alpha1.ClusterAPIBootstrap{DataSecretName: "s"},
		InfrastructureTemplateRef: v1alpha1.ClusterAPITemplate{APIGroup: infrastructure.Group, Kind: "ThingTemplate", Name: "t"},
	}}}
	record := &v1alpha1.PoolMachine{ObjectMeta: metav1.ObjectMeta{Name: machine}}
	return &bed{
		launcher: &Launcher{client: c, live: c, mapper: mapper, namespaces: []string{namespace}, host: "https://there"},
		pool:     pool, order: &launch.Order{Token: "token", Machines: []*v1alpha1.PoolMachine{record}},
	}
}

// object is an object where the Machines are.
func object(kind, name string) *unstructured.Unstructured {
	out := &unstructured.Unstructured{}
	out.SetAPIVersion("infra.example.com/v1")
	if kind == "Machine" || kind == "Cluster" {
		out.SetAPIVersion("cluster.x-k8s.io/v1beta2")
	}
	out.SetKind(kind)
	out.SetNamespace(namespace)
	out.SetName(name)
	return out
}

// ours is an object of the machine that tests are about.
func ours(kind string) *unstructured.Unstructured {
	out := object(kind, machine)
	out.SetLabels(map[string]string{v1alpha1.LabelNodePool: poolName, v1alpha1.LabelMachine: machine})
	out.SetAnnotations(map[string]string{annotationCluster: "id", annotationOrder: "token"})
	return out
}

func (b *bed) launch(t *testing.T) (launch.Outcome, error) {
	t.Helper()
	outcomes, err := b.launcher.Launch(t.Context(), b.pool, b.order)
	if err != nil {
		return launch.Outcome{}, err
	}
	return outcomes[0], nil
}

func (b *bed) terminate(t *testing.T, instance *launch.Instance) error {
	t.Helper()
	return b.launcher.Terminate(t.Context(), b.pool, []launch.Instance{*instance})[0]
}

func (b *bed) has(t *testing.T, kind string) bool {
	t.Helper()
	there, err := b.launcher.get(t.Context(), object(kind, "").GroupVersionKind(), namespace, machine)
	if err != nil {
		t.Fatal(err)
	}
	return there != nil
}

// unserved answers as an API server that does not serve a kind.
func unserved(kind string) *interceptor.Funcs {
	return &interceptor.Funcs{Get: func(
		ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, options ...client.GetOption,
	) error {
		if object.GetObjectKind().GroupVersionKind().Kind != kind {
			return c.Get(ctx, key, object, options...)
		}
		return apierrors.NewGenericServerResponse(
			http.StatusNotFound, "get", schema.GroupResource{Resource: "any"}, key.Name, "404 page not found", 0, true,
		)
	}}
}

// TestGone: that a machine is not there means that it is gone where its Cluster is, and nowhere else.
func TestGone(t *testing.T) {
	asked := &launch.Instance{Machine: machine}
	if err := newBed(t, &interceptor.Funcs{}, object("Cluster", "c")).terminate(t, asked); !errors.Is(err, launch.ErrGone) {
		t.Errorf("with its Cluster: %v", err)
	}
	err := newBed(t, &interceptor.Funcs{}).terminate(t, asked)
	if err == nil || errors.Is(err, launch.ErrGone) || !strings.Contains(err.Error(), "no Cluster machines/c") {
		t.Errorf("without it: %v", err)
	}
	for _, kind := range []string{"Machine", "Thing"} {
		if err := newBed(t, unserved(kind), object("Cluster", "c")).terminate(t, asked); err == nil || errors.Is(err, launch.ErrGone) {
			t.Errorf("where no %s is served: %v", kind, err)
		}
	}
}

// TestTemplateNotFound: an order is refused for a template that is not there where its Cluster is, and waits everywhere else.
func TestTemplateNotFound(t *testing.T) {
	outcome, err := newBed(t, &interceptor.Funcs{}, object("Cluster", "c")).launch(t)
	if err != nil || outcome.Kind != launch.Invalid || outcome.Code != codeNotFound {
		t.Errorf("with its Cluster: %+v, %v", outcome, err)
	}
	if outcome, err := newBed(t, &interceptor.Funcs{}).launch(t); err == nil || !strings.Contains(err.Error(), "no Cluster machines/c") {
		t.Errorf("without it: %+v, %v", outcome, err)
	}
	b := newBed(t, &interceptor.Funcs{})
	b.pool.Machines.ClusterAPI.InfrastructureTemplateRef.Kind = "OtherTemplate"
	if outcome, err := b.launch(t); err == nil {
		t.Errorf("without it, and without the kind: %+v", outcome)
	}
	if outcome, err := newBed(t, unserved("ThingTemplate"), object("Cluster", "c")).launch(t); err == nil {
		t.Errorf("where no template is served: %+v", outcome)
	}
}

// TestUnnamed: a Machine that has got an instance or a node since its caller looked is not ended: the caller has to look for pods again.
func TestUnnamed(t *testing.T) {
	const id, node = "tiny://1", "n"
	for name, row := range map[string]struct {
		id, node string
		asked    launch.Instance
		ends     bool
	}{
		"nothing has come":                  {"", "", launch.Instance{Machine: machine}, true},
		"an instance has come":              {id, "", launch.Instance{Machine: machine}, false},
		"the instance is known":             {id, "", launch.Instance{Key: machine, Machine: machine, ProviderID: id}, true},
		"it has another instance":           {id, "", launch.Instance{Machine: machine, ProviderID: "tiny://2"}, false},
		"a node has come":                   {id, node, launch.Instance{Key: machine, Machine: machine, ProviderID: id}, false},
		"the node is known":                 {id, node, launch.Instance{Key: machine, Machine: machine, ProviderID: id, NodeName: node}, true},
		"it was looked for its node by id":  {id, node, launch.Instance{Machine: machine, ProviderID: id}, true},
		"a node has come without an id":     {"", node, launch.Instance{Machine: machine}, false},
		"the node is another than was seen": {id, node, launch.Instance{Key: machine, Machine: machine, ProviderID: id, NodeName: "m"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			it := ours("Machine")
			it.Object["spec"] = map[string]any{"providerID": row.id}
			it.Object["status"] = map[string]any{"nodeRef": map[string]any{"name": row.node}}
			b := newBed(t, &interceptor.Funcs{}, it, object("Cluster", "c"))
			if err := b.terminate(t, &row.asked); (err == nil) != row.ends || b.has(t, "Machine") == row.ends {
				t.Errorf("its end: %v, and it is there: %t", err, b.has(t, "Machine"))
			}
		})
	}
}

// TestChangedWhileEnded: a Machine that changes between the look at it and its deletion is looked at again.
func TestChangedWhileEnded(t *testing.T) {
	b := newBed(t, &interceptor.Funcs{Delete: func(
		ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption,
	) error {
		now := ours("Machine")
		if err := c.Get(ctx, client.ObjectKeyFromObject(object), now); err != nil {
			return err
		}
		now.Object["spec"] = map[string]any{"providerID": "tiny://1"}
		return errors.Join(c.Update(ctx, now), c.Delete(ctx, object, options...))
	}}, ours("Machine"))
	if err := b.terminate(t, &launch.Instance{Machine: machine}); !apierrors.IsConflict(err) || !b.has(t, "Machine") {
		t.Errorf("its end: %v", err)
	}
}

// TestNameTakenAfterAKill: the clones of a machine whose name is taken go, also where the process was killed in between, or a deletion
// failed: no record is told to end for them.
func TestNameTakenAfterAKill(t *testing.T) {
	fails := true
	b := newBed(t, &interceptor.Funcs{Delete: func(
		ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption,
	) error {
		if fails {
			return errors.New("the call failed")
		}
		return c.Delete(ctx, object, options...)
	}}, object("Cluster", "c"), object("Machine", machine), ours("Thing"))
	if outcome, err := b.launch(t); err == nil {
		t.Errorf("a clone is left, and the outcome is %+v", outcome)
	}
	fails = false
	if outcome, err := b.launch(t); err != nil || outcome.Code != launch.CodeNameTaken || b.has(t, "Thing") || !b.has(t, "Machine") {
		t.Errorf("%+v, %v; there is a clone: %t", outcome, err, b.has(t, "Thing"))
	}
	owned := ours("Thing")
	owned.SetOwnerReferences([]metav1.OwnerReference{{Kind: "Machine", Name: machine, Controller: new(true)}})
	b = newBed(t, &interceptor.Funcs{}, object("Machine", machine), owned)
	if outcome, err := b.launch(t); err != nil || outcome.Code != launch.CodeNameTaken || !b.has(t, "Thing") {
		t.Errorf("%+v, %v; the clone that a Machine has taken is there: %t", outcome, err, b.has(t, "Thing"))
	}
}

// TestRefusedFields: what cannot be made as a pool asks for it names the field.
func TestRefusedFields(t *testing.T) {
	const zone = "topology.kubernetes.io/zone"
	for name, row := range map[string]struct {
		labels                map[string]string
		failureDomain, domain string
		code, says            string
	}{
		"a set's": {
			labels: map[string]string{"cluster.x-k8s.io/set-name": "x"}, code: codeLabel, says: "spec.template.labels[cluster.x-k8s.io/set-name]",
		},
		"a deployment's": {labels: map[string]string{"cluster.x-k8s.io/deployment-name": "x"}, code: codeLabel, says: "deployment-name]"},
		"a cluster's":    {labels: map[string]string{"cluster.x-k8s.io/cluster-name": "c"}, code: codeLabel, says: "cluster-name]"},
		"the control's":  {labels: map[string]string{"cluster.x-k8s.io/control-plane": ""}, code: codeLabel, says: "control-plane]"},
		"another zone": {
			labels: map[string]string{zone: "b"}, domain: zone + "=a", code: codeDomain, says: "spec.template.labels[" + zone + "] is b",
		},
		"another failure domain": {
			failureDomain: "az2", domain: zone + "=a", code: codeDomain, says: "spec.machines.clusterAPI.failureDomain is az2",
		},
		"a rack": {domain: "example.com/rack=r", code: codeDomain, says: "set it to r"},
		"none":   {labels: map[string]string{zone: "a", "cluster.x-k8s.io/any": ""}, failureDomain: "az1", domain: zone + "=a"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, &interceptor.Funcs{}, object("Cluster", "c"), object("ThingTemplate", "t"))
			b.order.Domain, b.pool.Machines.ClusterAPI.FailureDomain = row.domain, row.failureDomain
			b.order.Machines[0].Spec.Template.Labels = row.labels
			outcome, err := b.launch(t)
			if err != nil || outcome.Code != row.code || !strings.Contains(outcome.Message, row.says) {
				t.Errorf("%+v, %v", outcome, err)
			}
			if row.code != "" && (outcome.Kind != launch.Invalid || b.has(t, "Thing") || b.has(t, "Machine")) {
				t.Errorf("something was made, and the outcome is %+v", outcome)
			}
		})
	}
}
