package minicluster

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// FuzzStrip: what is kept of a MiniCluster reads as the whole does, whatever its fields hold, and what is no use to anybody goes.
func FuzzStrip(f *testing.F) {
	for _, object := range []string{
		`{"metadata": {"name": "m", "labels": {"a": "b"}, "annotations": {"x": "y", "autoscaling.flux-framework.org/node-pools": "hpc"}},
		  "spec": {"size": 3, "maxSize": 9, "interactive": true, "containers": [{"image": "i", "command": "c", "resources": {"limits": {"cpu": "3"}}}],
		  "flux": {"container": {"image": "f"}, "scheduler": {"queuePolicy": "fcfs"}}, "pod": {"labels": {"a": "b"}, "nodeSelector": {"c": "d"}}},
		  "status": {"maximumSize": 9, "selector": "s"}}`,
		`{"spec": {"size": "three"}}`, `{"spec": {"containers": {"a": 1}, "pod": []}}`,
		`{"spec": {"containers": [1, null, {"resources": 3}], "flux": 4}}`,
		`{"spec": null, "status": {"maximumSize": -1}}`, `{"spec": 1}`, `{"status": []}`,
		`{"metadata": {"ownerReferences": [{"kind": "Ensemble", "name": "e", "controller": true}]}, "spec": {"size": 2, "containers": [{"image": "i"}]}}`,
	} {
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, text string) {
		read := func() *unstructured.Unstructured {
			u := &unstructured.Unstructured{}
			if json.Unmarshal([]byte(text), &u.Object) != nil || u.Object == nil {
				t.Skip("it is no object")
			}
			return u
		}
		whole, whatsWrong := Parse(read())
		stripped, err := Strip(read())
		if err != nil {
			t.Fatal(err)
		}
		kept, ok := stripped.(*unstructured.Unstructured)
		if !ok {
			t.Fatalf("a MiniCluster becomes a %T", stripped)
		}
		again, stillWrong := Parse(kept)
		if (whatsWrong == nil) != (stillWrong == nil) || (whatsWrong != nil && whatsWrong.Error() != stillWrong.Error()) {
			t.Errorf("what is wrong with it is %v, and of what is kept %v", whatsWrong, stillWrong)
		}
		if diff := cmp.Diff(whole, again, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("(-whole +kept):\n%s", diff)
		}
		if spec, is := kept.Object["spec"].(map[string]any); is && len(kept.GetOwnerReferences()) == 0 && spec["interactive"] != nil {
			t.Error("what nobody reads is kept")
		}
	})
}
