package apitest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

const validMiniCluster = `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: demo, namespace: default}
spec:
  size: 2
  maxSize: 10
  containers: [{image: flux, runFlux: true}]
`

// documents reads the objects of an example.
func documents(t *testing.T, name string) []*unstructured.Unstructured {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("../../../examples", name))
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for text := range strings.SplitSeq(string(content), "\n---\n") {
		objects = append(objects, parse(t, text))
	}
	return objects
}

func TestExamplesAreAccepted(t *testing.T) {
	create(t, parse(t, "{apiVersion: v1, kind: Namespace, metadata: {name: machines}}"))
	for _, name := range []string{
		"nodepools.yaml", "nodepool-strange-cloud.yaml", "nodepool-team.yaml", "beside-karpenter/nodepool.yaml", "nodepool-cluster-api.yaml",
		"minicluster.yaml", "ensemble-hello-world.yaml", "ensemble-grow-shrink.yaml",
	} {
		for _, object := range documents(t, name) {
			t.Run(object.GetKind()+" "+object.GetName(), func(t *testing.T) {
				err := server.client.Create(t.Context(), object, client.DryRunAll, client.FieldValidation("Strict"))
				judge(t, err, nil)
			})
		}
	}
}

func TestExampleMiniClusterGoesToAPoolOfTheExample(t *testing.T) {
	pools := map[string]bool{}
	for _, pool := range documents(t, "nodepools.yaml") {
		pools[pool.GetName()] = true
	}
	if !pools["hpc-a"] || !pools["hpc-b"] || len(pools) != 2 {
		t.Errorf("example pools %v, want hpc-a and hpc-b", pools)
	}
	cluster := documents(t, "minicluster.yaml")[0]
	for name := range strings.SplitSeq(cluster.GetAnnotations()[v1alpha1.AnnotationNodePools], ",") {
		if !pools[name] {
			t.Errorf("the MiniCluster names pool %q, which is not in nodepools.yaml", name)
		}
	}
	if _, has, err := unstructured.NestedMap(cluster.Object, "spec", "pod"); has || err != nil {
		t.Errorf("the example says what its pods get by themselves (%v)", err)
	}
}

// TestExamplePoolOfATeam: it is for the namespaces that its comment says, and for pods of members alone.
func TestExamplePoolOfATeam(t *testing.T) {
	var pool v1alpha1.NodePool
	convert(t, documents(t, "nodepool-team.yaml")[0], &pool)
	selector, err := metav1.LabelSelectorAsSelector(pool.Spec.AllowedNamespaces)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		namespace labels.Set
		allowed   bool
	}{
		{labels.Set{"example.com/team": "a"}, true},
		{labels.Set{"example.com/team": "b"}, false},
		{nil, false},
	} {
		if got := selector.Matches(row.namespace); got != row.allowed {
			t.Errorf("a namespace with %v is allowed: %v", row.namespace, got)
		}
	}
	keeps := func(taint corev1.Taint) bool { return taint.Effect == corev1.TaintEffectNoSchedule }
	if !slices.ContainsFunc(pool.Spec.Template.Taints, keeps) {
		t.Errorf("the taints %v keep nobody off the nodes", pool.Spec.Template.Taints)
	}
	content, err := os.ReadFile("../../../examples/nodepool-team.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(content), "kubectl label namespace team-a example.com/team=a\n") {
		t.Error("the comment labels no namespace as the selector wants it")
	}
}
