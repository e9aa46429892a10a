package machine

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/proto/externalgrpc"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/inprocess"
)

const mergePatch = types.MergePatchType

// watchInstances notes all instances that are made of a pool's machines, until the test ends. seen are their names; none may be
// made twice.
func watchInstances(t *testing.T, pool string) (seen func() []string) {
	t.Helper()
	return cluster.Once(t, pool, &v1alpha1.KwokInstanceList{}, client.Object.GetName, t.Errorf)
}

// testIncreasedTwice: what Cluster Autoscaler orders through a replica that has told it an older target is given once.
func testIncreasedTwice(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	const name = "twice"
	other := start(t, -1, inprocess.ProviderOptions{ServesAlone: true})
	newPool(t, name, target(2), func(p *v1alpha1.NodePool) { p.Spec.MaxSize = 30 })
	for _, p := range []*process{w.process, other} {
		inprocess.Until(t, func(ctx context.Context) (string, error) {
			answer, err := p.Server.NodeGroupTargetSize(ctx, &externalgrpc.NodeGroupTargetSizeRequest{Id: name})
			return missing(err == nil && answer.GetTargetSize() == 2, fmt.Sprintf("the target is %v (%v)", answer, err)), nil
		})
	}
	is := func(want int32) {
		t.Helper()
		var p v1alpha1.NodePool
		if err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: name}, &p); err != nil || p.Spec.Replicas != want {
			t.Errorf("the target is %d (%v), want %d", p.Spec.Replicas, err, want)
		}
	}
	increase := func(p *process, delta int32) {
		t.Helper()
		if _, err := p.Server.NodeGroupIncreaseSize(t.Context(), &externalgrpc.NodeGroupIncreaseSizeRequest{Id: name, Delta: delta}); err != nil {
			t.Error(err)
		}
	}
	increase(w.process, 6)
	is(8)
	// It was told 2 here, and wants 8.
	increase(other, 6)
	is(8)
	// It wants one more than it was told, and believes that it has ordered.
	increase(other, 1)
	is(9)
	// Three were released since it was told 9, and it wants two more.
	edit(t, name, func(p *v1alpha1.NodePool) { p.Spec.Replicas = 6 })
	increase(other, 2)
	is(8)
}

var definitions = schema.GroupVersionKind{Group: "apiextensions.k8s.io", Version: "v1", Kind: "CustomResourceDefinition"}

// extendDefinition installs a newer version of the definition of NodePools, which has fields that this version does not know.
func extendDefinition(t *testing.T) {
	t.Helper()
	definition := &unstructured.Unstructured{}
	definition.SetGroupVersionKind(definitions)
	definition.SetName("nodepools." + v1alpha1.GroupVersion.Group)
	const at = `{"op":"add","path":"/spec/versions/0/schema/openAPIV3Schema/properties/%s/properties/future","value":{"type":"string"}}`
	patch := fmt.Sprintf("["+at+","+at+"]", "spec", "status")
	if err := cluster.Client.Patch(t.Context(), definition, client.RawPatch(types.JSONPatchType, []byte(patch))); err != nil {
		t.Fatal(err)
	}
}

const unknown = "unknown-fields"

// testUnknownFields: what a newer version has written of a NodePool stays, whoever writes it.
func testUnknownFields(t *testing.T, w *world) { //nolint:thelper // It is a test of TestTogether.
	pool := &unstructured.Unstructured{}
	pool.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("NodePool"))
	pool.SetName(unknown)
	newPool(t, unknown, func(p *v1alpha1.NodePool) { p.Spec.Paused = true })
	var fields []string
	fetch := func(ctx context.Context) error {
		if err := cluster.Client.Get(ctx, client.ObjectKey{Name: unknown}, pool); err != nil {
			return err
		}
		fields = nil
		for _, part := range []string{"spec", "status"} {
			value, _, err := unstructured.NestedString(pool.Object, part, "future")
			if err != nil {
				return err
			}
			fields = append(fields, value)
		}
		return nil
	}
	both := []string{"kept", "kept"}
	inprocess.Until(t, func(ctx context.Context) (string, error) {
		// The definition may not be served yet.
		patch := func(part string) client.Patch {
			return client.RawPatch(mergePatch, []byte(`{"`+part+`":{"future":"kept"}}`))
		}
		if err := cluster.Client.Patch(ctx, pool.DeepCopy(), patch("spec")); err != nil {
			return "", err
		}
		// The provider writes the status first: it has more fields that must be there.
		if refused := text(cluster.Client.Status().Patch(ctx, pool.DeepCopy(), patch("status"))); refused != "" {
			return refused, nil
		}
		err := fetch(ctx)
		return missing(slices.Equal(fields, both), fmt.Sprintf("the fields are %q", fields)), err
	})
	edit(t, unknown, func(p *v1alpha1.NodePool) { p.Spec.Paused = false })
	w.increase(t, unknown, 2)
	hasNodes(t, unknown, 2)
	if err := w.deleteNodes(t.Context(), unknown, idOf(unknown, 0)); err != nil {
		t.Fatal(err)
	}
	s := hasNodes(t, unknown, 1)
	if err := fetch(t.Context()); err != nil || !slices.Equal(fields, both) {
		t.Errorf("after it grew to 2 and shrank to %d its fields are %q (%v)", s.pool.Status.Ready, fields, err)
	}
}
