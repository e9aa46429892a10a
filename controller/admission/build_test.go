package admission

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// cluster is a MiniCluster m with the pools of an annotation, further annotations, and a spec, all in YAML.
func cluster(t *testing.T, pools, annotations, spec string) *unstructured.Unstructured {
	t.Helper()
	encoded, err := yaml.YAMLToJSON([]byte("{apiVersion: flux-framework.org/v1alpha2, kind: MiniCluster, metadata: {namespace: ns, name: m, " +
		"annotations: {" +
		annotations + "}}, spec: " + spec + "}"))
	if err != nil {
		t.Fatal(err)
	}
	u := minicluster.New()
	if err := u.UnmarshalJSON(encoded); err != nil {
		t.Fatal(err)
	}
	if pools != "" {
		all := u.GetAnnotations()
		if all == nil {
			all = map[string]string{}
		}
		all[v1alpha1.AnnotationNodePools] = pools
		u.SetAnnotations(all)
	}
	return u
}

// pool is a NodePool with a spec in YAML, beside which it has 4 cores a node.
func pool(t *testing.T, name, spec string) *v1alpha1.NodePool {
	t.Helper()
	p := &v1alpha1.NodePool{}
	p.Name = name
	p.Spec.MaxSize = 10
	if err := yaml.Unmarshal([]byte(`{capacity: {cpu: "4", memory: 16Gi, pods: "110"}}`), &p.Spec.Template); err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict([]byte(spec), &p.Spec); err != nil {
		t.Fatal(err)
	}
	return p
}

// found are the NodePools that exist.
func found(all ...*v1alpha1.NodePool) *Pools {
	pools := &Pools{Named: map[string]*v1alpha1.NodePool{}}
	for _, p := range all {
		pools.Named[p.Name] = p
		pools.Allowed = append(pools.Allowed, p.Name)
	}
	return pools
}

// said are the faults, as the API server tells them, and the warnings.
func said(f *Findings) (faults, warnings []string) {
	for _, fault := range f.Faults {
		faults = append(faults, fault.Error())
	}
	return faults, f.Warnings
}
