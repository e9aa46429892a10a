package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	const ours = `labels: {autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}`
	for name, row := range map[string]struct {
		pools, spec string
		// want is the spec that comes of it.
		want string
	}{
		"nothing but a size": {"a", `{size: 2}`, `{size: 2, pod: {` + ours + `}}`},
		"what the user has said stays": {"a,b", `{pod: {other: {kept: 1.5}, labels: {mine: "1"}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"},
			nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b], zone: [z]}, tolerations: [{operator: Exists, effect: NoSchedule, extra: 3}]}}`,
			`{pod: {other: {kept: 1.5}, labels: {mine: "1", autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"},
			nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b], zone: [z]}, tolerations: [{operator: Exists, effect: NoSchedule, extra: 3}]}}`},
		"our label that says another name": {"c", `{pod: {labels: {autoscaling.flux-framework.org/member: other}}}`, `{pod: {` + ours + `}}`},
		"pools that cannot be names":       {"A B", `{size: 1}`, `{size: 1}`},
		"no name yet":                      {"c", `{}`, `{pod: {annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := cluster(t, row.pools, "", row.spec)
			if name == "no name yet" {
				u.SetName("")
			}
			for _, turn := range []string{"once", "asked again"} {
				additions, err := Prepare(u)
				if err != nil {
					t.Fatal(err)
				}
				if err := additions.AddTo(u); err != nil {
					t.Fatal(err)
				}
				want := map[string]any{}
				if err := yaml.Unmarshal([]byte(row.want), &want); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, u.Object["spec"], cmp.Transformer("number", func(n int64) float64 { return float64(n) })); diff != "" {
					t.Errorf("%s (-want +got):\n%s", turn, diff)
				}
			}
		})
	}
}

// TestPrepareBroken: what is not what the definition has is not passed over.
func TestPrepareBroken(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct{ spec, want string }{
		"labels that are a list": {
			`{pod: {labels: [a]}}`, "spec: json: cannot unmarshal array into Go struct field .pod.labels of type map[string]string",
		},
		"a pod that is nothing": {
			`{pod: null}`, "add to spec.pod.labels: value cannot be set because .spec.pod is not a map[string]interface{}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := cluster(t, "a", "", row.spec)
			// The label alone, so that it is known what is added first.
			additions, err := Prepare(u)
			if err == nil {
				additions.PodAnnotations = nil
				err = additions.AddTo(u)
			}
			if err == nil || err.Error() != row.want {
				t.Errorf("the error is %v, not %s", err, row.want)
			}
		})
	}
}

// TestRestore: what an update takes away of the marks of pods comes back, and nothing else.
func TestRestore(t *testing.T) {
	t.Parallel()
	const ours = `labels: {autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}`
	for name, row := range map[string]struct{ before, after, want string }{
		"all of them": {`{pod: {` + ours + `}}`, `{size: 1}`, `{size: 1, pod: {` + ours + `}}`},
		"one of them": {
			`{pod: {` + ours + `}}`, `{pod: {labels: {autoscaling.flux-framework.org/member: m, a: b}}}`,
			`{pod: {labels: {autoscaling.flux-framework.org/member: m, a: b}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}}}`,
		},
		"none": {`{pod: {` + ours + `}}`, `{pod: {` + ours + `}}`, `{pod: {` + ours + `}}`},
		"another word of the user's": {
			`{pod: {` + ours + `}}`,
			`{pod: {labels: {autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}}}`,
			`{pod: {labels: {autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}}}`,
		},
		"pods from before it was managed": {`{}`, `{size: 2}`, `{size: 2}`},
		"a word of the user's that goes":  {`{pod: {annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"}}}`, `{}`, `{}`},
		"what it was cannot be read":      {`{pod: 3}`, `{size: 1}`, `{size: 1}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before, after := cluster(t, "a", "", row.before), cluster(t, "a", "", row.after)
			for range 2 {
				additions, err := Restore(before, after)
				if err == nil {
					err = additions.AddTo(after)
				}
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(cluster(t, "a", "", row.want).Object, after.Object); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
		})
	}
}
