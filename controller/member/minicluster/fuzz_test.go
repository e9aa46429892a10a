package minicluster_test

import (
	"testing"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// FuzzParse: whatever a user writes into a MiniCluster, it is read or refused with words, and the sizes of one that was read are in order.
func FuzzParse(f *testing.F) {
	f.Add(`{"size":3,"minSize":2,"maxSize":9,"containers":[{"resources":{"requests":{"cpu":"3800m"},"limits":{"memory":"1Gi"}}}]}`, `{"maximumSize":9}`, v1alpha1.AnnotationNodePools, "a, b")
	f.Add(`{"size":-1,"maxSize":2147483647,"pod":{"tolerations":[{"operator":"Exists"}],"nodeAffinity":{"zone":["a"]},"resources":{"cpu":"1"}}}`, `{}`, v1alpha1.AnnotationPodsPerNode, "Auto")
	f.Add(`{"flux":{"container":{"resources":{"limits":{"cpu":"1e999"}}}}}`, `null`, v1alpha1.AnnotationGiveUpAfter, "9999999999h")
	f.Add(`{"size":1.5}`, `[]`, v1alpha1.AnnotationAppliedSize, "99999999999")
	f.Fuzz(func(t *testing.T, spec, status, key, value string) {
		u := minicluster.New()
		if err := u.UnmarshalJSON([]byte(`{"apiVersion":"flux-framework.org/v1alpha2","kind":"MiniCluster","metadata":{"name":"m","namespace":"ns"},"spec":` + spec + `,"status":` + status + `}`)); err != nil {
			return
		}
		annotations := map[string]string{v1alpha1.AnnotationNodePools: "a", key: value}
		u.SetAnnotations(annotations)
		m, err := minicluster.Parse(u)
		if err != nil {
			if err.Error() == "" {
				t.Error("the error says nothing")
			}
			return
		}
		if g := m.Only(); g.Size < 1 || g.MinSize < 1 || g.Size > g.MaxSize || g.MinSize > g.MaxSize || len(m.NodePools) == 0 {
			t.Errorf("size %d of %d to %d in %q", g.Size, g.MinSize, g.MaxSize, m.NodePools)
		}
	})
}

// FuzzParseTemplate: whatever a user writes as the MiniCluster of an Ensemble's member, it is read or refused with the field.
func FuzzParseTemplate(f *testing.F) {
	f.Add([]byte(`{"spec":{"size":2,"minSize":1,"maxSize":4,"network":{"headlessName":"flux"},"containers":[{"image":"i","runFlux":true}],"cleanup":true}}`))
	f.Add([]byte(`{"spec":{"size":1e300,"containers":{}},"metadata":null}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		template, faults := minicluster.ParseTemplate(raw, field.NewPath("spec"))
		if template == nil && len(faults) == 0 {
			t.Error("there is neither a template nor a fault")
		}
		for _, fault := range faults {
			if fault.Error() == "" || fault.Field == "" {
				t.Errorf("the fault %#v says nothing", fault)
			}
		}
	})
}
