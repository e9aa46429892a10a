package ensemble

import (
	"maps"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/ensemble/v1alpha1"
	autoscaling "github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// FuzzAppliedSpec: whatever somebody writes into the annotation with what was applied, no MiniCluster of an Ensemble keeps it from
// being reconciled.
func FuzzAppliedSpec(f *testing.F) {
	for _, text := range []string{"null", "", "{}", `{"minicluster.spec.size":null}`, `{"ensemble":"00"}`, "[]", "{", `"null"`} {
		f.Add(text)
	}
	is := &v1alpha1.Member{Ensemble: text}
	if err := yaml.Unmarshal([]byte(`{spec: `+small+`}`), &is.MiniCluster); err != nil {
		f.Fatal(err)
	}
	encoded, err := digests(is)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(encoded)
	f.Fuzz(func(t *testing.T, text string) {
		cluster := minicluster.New()
		cluster.SetAnnotations(map[string]string{v1alpha1.AnnotationAppliedSpec: text})
		paths := outdated(cluster, is)
		if !slices.IsSorted(paths) {
			t.Errorf("%q: the paths are %q", text, paths)
		}
		if text == encoded && len(paths) > 0 {
			t.Errorf("what is as it was applied is %q", paths)
		}
		if text == "null" && !slices.Contains(paths, "minicluster.spec.size") {
			t.Errorf("of what nothing is known any more %q has changed", paths)
		}
	})
}

// FuzzNoAnnotations: a MiniCluster of an Ensemble may have any annotations or none, and the Ensemble can be updated all the same.
func FuzzNoAnnotations(f *testing.F) {
	f.Add("", "", 0)
	f.Add(autoscaling.AnnotationNodePools, "b", 1)
	f.Add(autoscaling.AnnotationGrowthPolicy, "Greedy", 1)
	f.Add(autoscaling.AnnotationNodePools, "", 2)
	f.Fuzz(func(t *testing.T, key, value string, kind int) {
		before := parse(t, written(t, wide, ", nodePools: [b]"))
		made, err := build(before, 0, &Settings{Endpoint: "h:1"})
		if err != nil {
			t.Fatal(err)
		}
		cluster := made.cluster
		var annotations map[string]string
		switch kind {
		case 1:
			annotations = map[string]string{key: value}
		case 2:
			annotations = maps.Clone(cluster.GetAnnotations())
			annotations[key] = value
		}
		cluster.SetAnnotations(annotations)
		if !metav1.IsControlledBy(cluster, before) {
			t.Fatal("the MiniCluster is not the Ensemble's")
		}
		after := parse(t, written(t, wide, ", nodePools: [b], growthPolicy: Greedy"))
		if _, err := asked(t, cluster).ValidateUpdate(t.Context(), before, after); err != nil {
			t.Errorf("with the annotations %q the update is answered: %v", annotations, err)
		}
	})
}
