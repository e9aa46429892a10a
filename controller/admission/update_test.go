package admission

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestExamineUpdate: only what changes is judged, and what pods are made of does not.
func TestExamineUpdate(t *testing.T) {
	t.Parallel()
	const list = "metadata.annotations[autoscaling.flux-framework.org/node-pools]"
	const toA = `pod: {labels: {autoscaling.flux-framework.org/member: m}, nodeAffinity: {autoscaling.flux-framework.org/node-pool: [a]}}`
	const late = list + `: the pods were created before the MiniCluster was managed: no pod waits for its node, and none is kept on the ` +
		`nodes of the NodePools`
	const good = `{size: 2, maxSize: 4, ` + fits + `}`
	const huge = `{size: 2, maxSize: 4, containers: [{image: i, resources: {requests: {cpu: "9"}}}]}`
	const west = `{size: 2, maxSize: 4, ` + fits + `, pod: {nodeSelector: {zone: west}}}`
	type version struct{ pools, annotations, spec string }
	for name, row := range map[string]struct {
		before, after    version
		maximum          int64
		faults, warnings []string
	}{
		"a size that no pool holds": {version{"a", "", `{size: 2}`}, version{"a", "", `{size: 99}`}, 0, nil, nil},
		"what was wrong before": {
			version{"gone", "autoscaling.flux-framework.org/growth-policy: Slowly", `{minSize: 9}`},
			version{"gone", "autoscaling.flux-framework.org/growth-policy: Slowly, other: x", `{minSize: 9}`}, 0, nil, nil,
		},
		"a size of the controller's own": {version{"a", `autoscaling.flux-framework.org/applied-size: "2"`, `{size: 2}`},
			version{"a", `autoscaling.flux-framework.org/applied-size: "3"`, `{size: 3}`}, 0, nil, nil},
		"the annotation is taken away": {
			version{"a", "", `{size: 2}`}, version{"", "autoscaling.flux-framework.org/growth-policy: Slowly", `{size: 2}`}, 0, nil, nil,
		},
		"a policy that is none": {version{"a", "", `{size: 2}`}, version{
			"a", "autoscaling.flux-framework.org/growth-policy: Slowly", `{size: 2}`,
		}, 0,
			[]string{
				`metadata.annotations[autoscaling.flux-framework.org/growth-policy]: Invalid value: "Slowly": it has to be one of AllOrNothing, ` +
					`BestEffort, Greedy`,
			}, nil},
		"a list that is malformed": {version{"a", "", `{size: 2}`}, version{"a,,b", "", `{size: 2}`}, 0,
			[]string{list + `: Invalid value: "a,,b": a name is empty; it has to be a comma-separated list of NodePool names`}, nil},
		"a pool that does not exist": {version{"a", "", `{}`}, version{"a,nowhere", "", `{}`}, 0,
			[]string{
				list + `: Invalid value: "a,nowhere": there is no NodePool "nowhere"; those that can be named here are a, b, labelled, tiny, tainted`,
			}, nil},
		"a pool fewer, in another order": {version{"a,b,c", "", `{}`}, version{"c,a", "", `{}`}, 0, nil, nil},
		"a pool outside the affinity": {version{"a", "", `{` + toA + `}`}, version{"a,b", "", `{` + toA + `}`}, 0,
			[]string{
				list + `: Invalid value: "a,b": its pods cannot go to b: spec.pod.nodeAffinity[autoscaling.flux-framework.org/node-pool] confines ` +
					`them to a` + fixed,
			}, nil},
		"a pool outside the affinity, which is edited along": {version{"a", "", `{` + toA + `}`}, version{
			"b", "", `{pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [b]}}}`,
		}, 0,
			[]string{
				list + `: Invalid value: "b": its pods cannot go to b: spec.pod.nodeAffinity[autoscaling.flux-framework.org/node-pool] confines them to a` + fixed,
			}, nil},
		"a pool outside the selector": {version{
			"a", "", `{pod: {nodeSelector: {autoscaling.flux-framework.org/node-pool: a}}}`,
		}, version{"b", "", `{pod: {nodeSelector: {autoscaling.flux-framework.org/node-pool: a}}}`}, 0,
			[]string{
				list + `: Invalid value: "b": its pods cannot go to b: spec.pod.nodeSelector[autoscaling.flux-framework.org/node-pool] confines them to a` + fixed,
			}, nil},
		"a pool that a wider affinity has": {
			version{"a", "", `{pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [a, b]}}}`},
			version{"a,b", "", `{pod: {nodeAffinity: {autoscaling.flux-framework.org/node-pool: [a, b]}}}`}, 0, nil, nil,
		},
		"a pool with a taint, of pods that wait for their nodes": {
			version{"a", "", `{pod: {labels: {autoscaling.flux-framework.org/member: m}}}`}, version{"a,tainted", "", `{}`}, 0, nil, nil,
		},
		"a pool with a taint, of pods of another's label": {version{
			"a", "", `{pod: {labels: {autoscaling.flux-framework.org/member: other}}}`,
		}, version{"a,tainted", "", `{}`}, 0,
			[]string{
				list + `: Invalid value: "a,tainted": its pods cannot go to tainted: they do not tolerate its taint ` +
					`example.com/dedicated=hpc:NoSchedule` + fixed,
			}, nil},
		"a pool with a taint": {version{"a", "", `{}`}, version{"a,tainted", "", `{}`}, 0,
			[]string{
				list + `: Invalid value: "a,tainted": its pods cannot go to tainted: they do not tolerate its taint ` +
					`example.com/dedicated=hpc:NoSchedule` + fixed,
			}, nil},

		// Managed by the update: nothing of it has been judged before.
		"managed from now on": {version{"", "", good}, version{"a", "", good}, 0, nil, []string{late}},
		"managed again": {
			version{"", "", `{size: 2, maxSize: 4, ` + fits + `, ` + toA + `}`},
			version{"a", "", `{size: 2, maxSize: 4, ` + fits + `, ` + toA + `}`}, 0, nil, nil,
		},
		"managed with a policy that was none before": {version{
			"", "autoscaling.flux-framework.org/growth-policy: Greedey", good,
		}, version{"a", "autoscaling.flux-framework.org/growth-policy: Greedey", good}, 0,
			[]string{
				`metadata.annotations[autoscaling.flux-framework.org/growth-policy]: Invalid value: "Greedey": it has to be one of AllOrNothing, ` +
					`BestEffort, Greedy`,
			}, []string{late}},
		"managed with pods that fit no node": {version{"", "", huge}, version{"a,b", "", huge}, 0,
			[]string{
				`spec.containers: Invalid value: a pod requests 9 of cpu and an empty node of a offers 4; a pod requests 9 of cpu and an empty node ` +
					`of b offers 4: no node of its NodePools is large enough` + fixed,
			}, []string{late}},
		"managed with pods that fit no node, which are edited along": {version{"", "", huge}, version{"a", "", good}, 0,
			[]string{
				`spec.containers: Invalid value: a pod requests 9 of cpu and an empty node of a offers 4: no node of its NodePools is large enough` + fixed,
			}, []string{late}},
		"managed with too many pods to a node": {version{"", "", good}, version{
			"a", `autoscaling.flux-framework.org/pods-per-node: "2"`, good,
		}, 0,
			[]string{
				`metadata.annotations[autoscaling.flux-framework.org/pods-per-node]: Invalid value: 2: 2 pods that share a node request 6 of cpu and ` +
					`an empty node of a offers 4: no node of its NodePools is large enough`,
			}, []string{late}},
		"managed with pods that fit one of two": {version{"", "", good}, version{"tiny,a", "", good}, 0, nil,
			[]string{list + `: a pod requests 3 of cpu and an empty node of tiny offers 1: none of these nodes will be used`, late}},
		"managed with a size above the pools, whose pods may run elsewhere": {version{
			"", "", `{size: 12, maxSize: 20, ` + fits + `}`,
		}, version{"a", "", `{size: 12, maxSize: 20, ` + fits + `}`}, 20, nil,
			[]string{
				`spec.size: 12 is more than what its NodePools hold, 10 (a has maxSize 10): that is enough only while some pods run elsewhere`, late,
			}},
		"managed with a maximum size above the pools": {version{
			"", "", `{size: 2, maxSize: 20, ` + fits + `}`,
		}, version{"a", "", `{size: 2, maxSize: 20, ` + fits + `}`}, 20, nil,
			[]string{
				`spec.maxSize: 20 is more than what its NodePools hold, 10 (a has maxSize 10): that is enough only while some pods run elsewhere`,
				late,
			}},
		"managed without maxSize": {version{"", "", `{size: 2, ` + fits + `}`}, version{"a", "", `{size: 2, ` + fits + `}`}, 3, nil,
			[]string{`spec.maxSize: is not set: the MiniCluster cannot grow above its first size, 3, and requests to grow will be DENIED`, late}},
		"managed with sizes above the greatest": {version{
			"", "", `{size: 5, minSize: 6, maxSize: 8, ` + fits + `}`,
		}, version{"a", "", `{size: 5, minSize: 6, maxSize: 8, ` + fits + `}`}, 4, []string{
			`spec.minSize: Invalid value: 6: must be at most the maximum size of the MiniCluster, which is 4`,
			`spec.size: Invalid value: 5: must be at most the maximum size of the MiniCluster, which is 4`}, []string{late}},
		"managed with a selector that no node matches": {version{"", "", west}, version{"a,labelled", "", west}, 0,
			[]string{
				list + `: Invalid value: "a,labelled": its pods cannot go to a, labelled: spec.pod.nodeSelector[zone] asks for west, and by their ` +
					`templates those of a do not have the label, nodes of labelled have "east"` + fixed,
			}, []string{late}},
		"managed with pods that have their node": {version{
			"", "", `{size: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {kubernetes.io/hostname: a-0}}}`,
		}, version{"a", "", `{size: 1, maxSize: 4, ` + fits + `, pod: {nodeSelector: {kubernetes.io/hostname: a-0}}}`}, 0,
			[]string{
				list + `: Invalid value: "a": its pods cannot go to a: spec.pod.nodeSelector[kubernetes.io/hostname] confines them to single nodes` + fixed,
			}, []string{late}},
		"managed, of what the Flux Operator drops": {version{
			"", "", `{size: 1, maxSize: 4, containers: [{image: i, name: one}, {image: i, name: two}]}`,
		}, version{"a", "", `{size: 1, maxSize: 4, containers: [{image: i, name: one}, {image: i, name: two}]}`}, 0,
			[]string{`spec.containers: Required value: one of them must have runFlux: true` + ignored}, []string{late}},

		"a pool more, whose nodes are too small": {version{"a", "", good}, version{"a,tiny", "", good}, 0, nil,
			[]string{list + `: a pod requests 3 of cpu and an empty node of tiny offers 1: none of these nodes will be used`}},
		"another pool, whose nodes are too small": {version{"a", "", good}, version{"tiny", "", good}, 0,
			[]string{
				`spec.containers: Invalid value: a pod requests 3 of cpu and an empty node of tiny offers 1: no node of its NodePools is large enough` + fixed,
			}, nil},
		"a pool more, without a label": {version{
			"labelled", "", `{pod: {nodeAffinity: {zone: [east]}}}`,
		}, version{"labelled,a", "", `{pod: {nodeAffinity: {zone: [east]}}}`}, 0,
			[]string{
				list + `: Invalid value: "labelled,a": its pods cannot go to a: spec.pod.nodeAffinity[zone] asks for east, and by their templates ` +
					`those of a do not have the label` + fixed,
			}, nil},
		"a pool more for a policy that was none before": {
			version{"a", "autoscaling.flux-framework.org/growth-policy: Slowly", good},
			version{"a,b", "autoscaling.flux-framework.org/growth-policy: Slowly", good}, 0, nil, nil,
		},

		"a minSize above": {version{"a", "", `{size: 2, maxSize: 4}`}, version{"a", "", `{size: 2, minSize: 5, maxSize: 8}`}, 4,
			[]string{`spec.minSize: Invalid value: 5: must be at most the maximum size of the MiniCluster, which is 4`},
			[]string{`spec.maxSize: 8 has no effect: the Flux Operator has fixed the maximum size at 4, when the MiniCluster was created`}},
		"a minSize within": {version{"a", "", `{size: 2, maxSize: 4}`}, version{"a", "", `{size: 2, minSize: 4, maxSize: 4}`}, 0, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pools := found(pool(t, "a", `{}`), pool(t, "b", `{}`),
				pool(t, "labelled", `{template: {labels: {zone: east}, capacity: {cpu: "4", memory: 16Gi, pods: "110"}}}`),
				pool(t, "tiny", `{template: {capacity: {cpu: "1", memory: 1Gi, pods: "10"}}}`),
				pool(t, "tainted", `{template: {taints: [{key: example.com/dedicated, value: hpc, effect: NoSchedule}], capacity: {cpu: "4"}}}`))
			before, after := cluster(
				t, row.before.pools, row.before.annotations, row.before.spec,
			), cluster(t, row.after.pools, row.after.annotations, row.after.spec)
			if row.maximum > 0 {
				after.Object["status"] = map[string]any{"maximumSize": row.maximum}
			}
			faults, warnings := said(ExamineUpdate(before, after, pools, Itself()))
			if diff := cmp.Diff(row.faults, faults); diff != "" {
				t.Errorf("faults (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(row.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
			after.SetDeletionTimestamp(&metav1.Time{Time: metav1.Now().Time})
			if faults, warnings := said(ExamineUpdate(before, after, pools, Itself())); len(faults)+len(warnings) > 0 {
				t.Errorf("one that is being deleted is told %q, %q", faults, warnings)
			}
		})
	}
}
