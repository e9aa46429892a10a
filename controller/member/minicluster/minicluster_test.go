package minicluster_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// object is a MiniCluster in YAML, without its kind and name.
func object(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := minicluster.New()
	kind := u.Object["kind"]
	version := u.Object["apiVersion"]
	u.Object = map[string]any{}
	if err := yaml.UnmarshalStrict([]byte(text), &u.Object); err != nil {
		t.Fatal(err)
	}
	u.Object["kind"], u.Object["apiVersion"] = kind, version
	u.SetNamespace("ns")
	u.SetName("m")
	// Numbers of the API are integers, which YAML does not tell from others.
	encoded, err := json.Marshal(u.Object)
	if err != nil {
		t.Fatal(err)
	}
	if err := u.UnmarshalJSON(encoded); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestParse(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		text string
		want string
	}{
		"all that matters": {`{metadata: {annotations: {autoscaling.flux-framework.org/node-pools: "a, b"}}, spec: {size: 3, minSize: 2, maxSize: 9}, status: {maximumSize: 9}}`,
			"size 3 of 2 to 9, pools a b"},
		"no sizes at all":               {`{spec: {}}`, "size 1 of 1 to 1, unmanaged"},
		"no maximum":                    {`{spec: {size: 4}}`, "size 4 of 1 to 4, unmanaged"},
		"a maximum that is fixed lower": {`{spec: {size: 2, maxSize: 9}, status: {maximumSize: 5}}`, "size 2 of 1 to 5, unmanaged"},
		"a size that the controller knows": {`{metadata: {annotations: {autoscaling.flux-framework.org/applied-size: "3"}}, spec: {size: 3, maxSize: 9}}`,
			"size 3 of 1 to 9, applied 3, unmanaged"},
		"a size above the maximum": {`{spec: {size: 6}, status: {maximumSize: 5}}`,
			"spec.size is 6; it must not exceed the maximum size, which is 5 and fixed when the MiniCluster is created"},
		"a minimum above the maximum": {`{spec: {size: 1, minSize: 7, maxSize: 5}}`,
			"spec.minSize is 7; it must not exceed the maximum size, which is 5"},
		"an empty list of pools": {`{metadata: {annotations: {autoscaling.flux-framework.org/node-pools: ""}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/node-pools is "": a name is empty; it has to be a comma-separated list of NodePool names`},
		"a pool twice": {`{metadata: {annotations: {autoscaling.flux-framework.org/node-pools: "a,b,a"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/node-pools is "a,b,a": "a" is named twice; it has to be a comma-separated list of NodePool names`},
		"a pool that cannot be": {`{metadata: {annotations: {autoscaling.flux-framework.org/node-pools: "A_B"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/node-pools is "A_B": "A_B" cannot be the name of a NodePool; it has to be a ` +
				`comma-separated list of NodePool names`},
		"an unknown policy": {`{metadata: {annotations: {autoscaling.flux-framework.org/growth-policy: "Slowly"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/growth-policy is "Slowly"; it has to be one of AllOrNothing, BestEffort, Greedy`},
		"an unknown placement": {`{metadata: {annotations: {autoscaling.flux-framework.org/placement: "span"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/placement is "span"; it has to be one of Span, Single`},
		"pods that share a node, and a limit of attempts": {`{metadata: {annotations: {autoscaling.flux-framework.org/pods-per-node: "4", autoscaling.flux-framework.org/give-up-after: "3"}}, spec: {}}`,
			"size 1 of 1 to 1, 4 pods per node, 3 attempts, unmanaged"},
		"as many pods per node as fit": {`{metadata: {annotations: {autoscaling.flux-framework.org/pods-per-node: Auto}}, spec: {}}`,
			"size 1 of 1 to 1, Auto pods per node, unmanaged"},
		"no pods on a node": {`{metadata: {annotations: {autoscaling.flux-framework.org/pods-per-node: "0"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/pods-per-node is "0"; it has to be a number from 1 to 1024, or Auto`},
		"too many pods on a node": {`{metadata: {annotations: {autoscaling.flux-framework.org/pods-per-node: "1025"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/pods-per-node is "1025"; it has to be a number from 1 to 1024, or Auto`},
		"a number of pods in small letters": {`{metadata: {annotations: {autoscaling.flux-framework.org/pods-per-node: auto}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/pods-per-node is "auto"; it has to be a number from 1 to 1024, or Auto`},
		"one zone for all": {`{metadata: {annotations: {autoscaling.flux-framework.org/topology-key: topology.kubernetes.io/zone}}, spec: {}}`,
			"size 1 of 1 to 1, one topology.kubernetes.io/zone, unmanaged"},
		"a topology key that is no label": {`{metadata: {annotations: {autoscaling.flux-framework.org/topology-key: "zone eu"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/topology-key is "zone eu"; it has to be the key of a label of nodes, such as ` +
				`topology.kubernetes.io/zone`},
		"an empty topology key": {`{metadata: {annotations: {autoscaling.flux-framework.org/topology-key: ""}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/topology-key is ""; it has to be the key of a label of nodes`},
		"no attempt at all": {`{metadata: {annotations: {autoscaling.flux-framework.org/give-up-after: "0"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/give-up-after is "0"; it has to be a number of attempts, at least 1`},
		"an applied size that is none": {`{metadata: {annotations: {autoscaling.flux-framework.org/applied-size: "many"}}, spec: {}}`,
			`annotation autoscaling.flux-framework.org/applied-size is "many"; it is the controller's own and holds a size of at least 1`},
		"as many pods as a Job can have": {`{spec: {size: 100000}}`, "size 100000 of 1 to 100000, unmanaged"},
		"more pods than a Job can have": {`{metadata: {annotations: {autoscaling.flux-framework.org/node-pools: a}}, spec: {size: 2000000000, maxSize: 2000000000}}`,
			"spec.size is 2000000000; it has to be at most 100000, as many pods as its Job can have"},
		"a spec that is no map": {`{spec: 5}`, "spec: .spec accessor error"},
		"a size that is a word": {`{spec: {size: "three"}}`, "spec: json: cannot unmarshal string"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, err := minicluster.Parse(object(t, row.text))
			var got string
			if err != nil {
				got = err.Error()
			} else {
				got = words(m)
			}
			if !strings.HasPrefix(got, row.want) {
				t.Errorf("got  %s\nwant %s", got, row.want)
			}
		})
	}
}

func words(m *member.Workload) string {
	parts := []string{"size " + number(m.Size()) + " of " + number(m.MinSize()) + " to " + number(m.MaxSize())}
	if m.Applied != nil {
		parts = append(parts, "applied "+m.Applied.String())
	}
	if m.PodsPerNode.String() != "1" {
		parts = append(parts, m.PodsPerNode.String()+" pods per node")
	}
	if m.GiveUpAfter != nil {
		parts = append(parts, number(*m.GiveUpAfter)+" attempts")
	}
	if m.TopologyKey != "" {
		parts = append(parts, "one "+m.TopologyKey)
	}
	if m.Managed() {
		parts = append(parts, "pools "+strings.Join(m.NodePools, " "))
	} else {
		parts = append(parts, "unmanaged")
	}
	return strings.Join(parts, ", ")
}

func number(n int32) string {
	encoded, _ := json.Marshal(n)
	return string(encoded)
}

func TestTooManyPools(t *testing.T) {
	t.Parallel()
	names := make([]string, 17)
	for i := range names {
		names[i] = "p" + number(int32(i))
	}
	if _, err := member.ParseNodePools(strings.Join(names[:16], ",")); err != nil {
		t.Errorf("16 pools: %v", err)
	}
	_, err := member.ParseNodePools(strings.Join(names, ","))
	if want := "annotation autoscaling.flux-framework.org/node-pools names 17 pools; at most 16 can be given"; err == nil ||
		err.Error() != want {
		t.Errorf("17 pools: %v, want %s", err, want)
	}
}

func TestPodNeeds(t *testing.T) {
	t.Parallel()
	m, err := minicluster.Parse(object(t, `
spec:
  containers:
  - resources: {requests: {cpu: 500m}, limits: {cpu: "2", memory: 1Gi}}
  - resources: {limits: {nvidia.com/gpu: "1"}}
  pod: {tolerations: [{key: example.com/dedicated, operator: Exists}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	got := map[corev1.ResourceName]string{}
	for name, quantity := range m.Only().PodRequests {
		got[name] = quantity.String()
	}
	want := map[corev1.ResourceName]string{corev1.ResourceCPU: "500m", corev1.ResourceMemory: "1Gi", "nvidia.com/gpu": "1"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("a limit counts where there is no request (-want +got):\n%s", diff)
	}
	if tolerations := m.Only().Tolerations; len(tolerations) != 1 || tolerations[0].Key != "example.com/dedicated" {
		t.Errorf("the tolerations are %v", tolerations)
	}
}

// TestPatches: the size goes with the note that it is ours, and neither overwrites what somebody else has written.
func TestPatches(t *testing.T) {
	t.Parallel()
	u := object(t, `{metadata: {resourceVersion: "42"}, spec: {size: 3, maxSize: 9}}`)
	m, err := minicluster.Parse(u)
	if err != nil {
		t.Fatal(err)
	}
	target, patch, err := m.SizePatch(member.To(member.Sizes{"": 5}))
	if err != nil {
		t.Fatal(err)
	}
	data, err := patch.Data(target)
	if err != nil {
		t.Fatal(err)
	}
	if want := `[{"op":"replace","path":"/metadata/resourceVersion","value":"42"},` +
		`{"op":"add","path":"/metadata/annotations/autoscaling.flux-framework.org~1applied-size","value":"5"},` +
		`{"op":"add","path":"/spec/size","value":5}]`; string(data) != want {
		t.Errorf("the patch of the size is %s, want %s", data, want)
	}
	if target.GetNamespace() != "ns" || target.GetName() != "m" {
		t.Errorf("the patch is for %s/%s", target.GetNamespace(), target.GetName())
	}
	target, patch, err = m.AppliedSizePatch()
	if err != nil {
		t.Fatal(err)
	}
	if data, err = patch.Data(target); err != nil {
		t.Fatal(err)
	}
	if want := `{"metadata":{"annotations":{"` + v1alpha1.AnnotationAppliedSize + `":"3"},"resourceVersion":"42"}}`; string(data) != want {
		t.Errorf("the patch of the note is %s, want %s", data, want)
	}
}
