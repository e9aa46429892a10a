package apitest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
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
	content, err := os.ReadFile(filepath.Join("../../examples", name))
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
	for _, name := range []string{
		"nodepools.yaml", "nodepool-strange-cloud.yaml", "minicluster.yaml", "ensemble-hello-world.yaml", "ensemble-grow-shrink.yaml",
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
