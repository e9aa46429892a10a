package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/util/yaml"
)

func TestPrepare(t *testing.T) {
	t.Parallel()
	const (
		tainted = `{template: {taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}, {key: soft, effect: PreferNoSchedule}], capacity: {cpu: "4"}}}`
		drained = `{template: {taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}, {key: special, effect: NoExecute}], capacity: {cpu: "4"}}}`
		ours    = `labels: {autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}`
		toHPC   = `{key: example.com/dedicated, operator: Equal, value: hpc, effect: NoSchedule}`
	)
	for name, row := range map[string]struct {
		pools, spec string
		// want is the spec that comes of it.
		want string
	}{
		"nothing but a size": {"a", `{size: 2}`,
			`{size: 2, pod: {` + ours + `, nodeAffinity: {autoscaling.flux-framework.org/node-pool: [a]}, tolerations: [` + toHPC + `]}}`},
		"pools with taints in common": {"a,b", `{size: 2}`,
			`{size: 2, pod: {` + ours + `, nodeAffinity: {autoscaling.flux-framework.org/node-pool: [a, b]},
			tolerations: [` + toHPC + `, {key: special, operator: Equal, effect: NoExecute}]}}`},
		"what the user has said stays": {"a,b", `{pod: {other: {kept: 1.5}, labels: {mine: "1"}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"},
			nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b], zone: [z]}, tolerations: [{operator: Exists, effect: NoSchedule, extra: 3}]}}`,
			`{pod: {other: {kept: 1.5}, labels: {mine: "1", autoscaling.flux-framework.org/member: m}, annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "true"},
			nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b], zone: [z]},
			tolerations: [{operator: Exists, effect: NoSchedule, extra: 3}, {key: special, operator: Equal, effect: NoExecute}]}}`},
		"a label of ours that says another name": {"c", `{pod: {labels: {autoscaling.flux-framework.org/member: other}}}`,
			`{pod: {` + ours + `, nodeAffinity: {autoscaling.flux-framework.org/node-pool: [c]}}}`},
		"a node selector of the user's own": {"c,a", `{pod: {nodeSelector: {autoscaling.flux-framework.org/node-pool: c}, tolerations: [{operator: Exists}]}}`,
			`{pod: {` + ours + `, nodeSelector: {autoscaling.flux-framework.org/node-pool: c}, tolerations: [{operator: Exists}]}}`},
		"no affinity, one pool": {"c", `{network: {disableAffinity: true}, pod: {nodeSelector: {zone: z}}}`,
			`{network: {disableAffinity: true}, pod: {` + ours + `, nodeSelector: {zone: z, autoscaling.flux-framework.org/node-pool: c}}}`},
		"no affinity, several pools": {"c,d", `{network: {disableAffinity: true}}`, `{network: {disableAffinity: true}, pod: {` + ours + `}}`},
		"a pool that does not exist": {"c,nowhere", `{}`, `{pod: {` + ours + `, nodeAffinity: {autoscaling.flux-framework.org/node-pool: [c, nowhere]}}}`},
		"pools that cannot be names": {"A B", `{size: 1}`, `{size: 1}`},
		"no name yet":                {"c", `{}`, `{pod: {annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}, nodeAffinity: {autoscaling.flux-framework.org/node-pool: [c]}}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := cluster(t, row.pools, "", row.spec)
			if name == "no name yet" {
				u.SetName("")
			}
			pools := found(pool(t, "a", tainted), pool(t, "b", drained), pool(t, "c", `{}`), pool(t, "d", `{}`))
			for _, turn := range []string{"once", "asked again"} {
				additions, err := Prepare(u, pools)
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
		"labels that are a list": {`{pod: {labels: [a]}}`, "spec: json: cannot unmarshal array into Go struct field .pod.labels of type map[string]string"},
		"a pod that is nothing":  {`{pod: null}`, "add to spec.pod.labels: value cannot be set because .spec.pod is not a map[string]interface{}"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := cluster(t, "a", "", row.spec)
			// The label alone, so that it is known what is added first.
			additions, err := Prepare(u, found(pool(t, "a", `{}`)))
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
