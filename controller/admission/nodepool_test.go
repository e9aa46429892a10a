package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

func TestNewPools(t *testing.T) {
	t.Parallel()
	if got := NewPoolsOf(cluster(t, "a,gone", "", `{}`), cluster(t, "gone, b", "", `{}`)); !cmp.Equal(got, []string{"b"}) {
		t.Errorf("looked for are %q", got)
	}
	if got := NewPoolsOf(cluster(t, "", "", `{}`), cluster(t, "a", "", `{}`)); !cmp.Equal(got, []string{"a"}) {
		t.Errorf("looked for are %q", got)
	}
}

func TestExamineNodePool(t *testing.T) {
	t.Parallel()
	const capacity = `capacity: {cpu: "4", memory: 16Gi, pods: "110"}`
	const label = "must be no more than 63 bytes"
	for name, row := range map[string]struct {
		before, after    string
		status           v1alpha1.NodePoolStatus
		faults, warnings []string
	}{
		"all is well": {"", `{template: {labels: {example.com/rack: r-1, zone: ""}, taints: [{key: a, effect: NoSchedule}, {key: a, effect: NoExecute}],
			capacity: {cpu: 3900m, memory: 16Gi, pods: "110", nvidia.com/gpu: "8"}, allocatable: {cpu: 3900m, memory: 15Gi}}}`,
			v1alpha1.NodePoolStatus{}, nil, nil},
		"more allocatable than there is": {"", `{template: {` + capacity + `, allocatable: {cpu: 4100m, memory: 16Gi}}}`,
			v1alpha1.NodePoolStatus{}, []string{
				`spec.template.allocatable[cpu]: Invalid value: "4100m": must be at most template.capacity[cpu], which is 4`}, nil},
		"nothing at all": {"", `{template: {capacity: {cpu: "0", memory: 0Gi, pods: "0", nvidia.com/gpu: "0"}}}`, v1alpha1.NodePoolStatus{},
			[]string{
				`spec.template.capacity[cpu]: Invalid value: "0": must be above 0: no pod fits a node without any`,
				`spec.template.capacity[memory]: Invalid value: "0": must be above 0: no pod fits a node without any`,
				`spec.template.capacity[pods]: Invalid value: "0": must be above 0: no pod fits a node without any`}, nil},
		"all reserved for the system": {"", `{template: {` + capacity + `, allocatable: {pods: "0"}}}`, v1alpha1.NodePoolStatus{}, []string{
			`spec.template.allocatable[pods]: Invalid value: "0": must be above 0: no pod fits a node without any`}, nil},
		"half a device": {"", `{template: {capacity: {cpu: "4", memory: 9Ei, pods: "110", nvidia.com/gpu: 500m}}}`, v1alpha1.NodePoolStatus{},
			[]string{
				`spec.template.capacity[nvidia.com/gpu]: Invalid value: "500m": must be a whole number`}, nil},
		"what a Node would not take": {"", `{template: {labels: {a b: c}, taints: [{key: ok, value: "no value", effect: NoSchedule}], capacity: {cpu: "4", memory: 16Gi, pods: "110", a/b/c: "1"}}}`, v1alpha1.NodePoolStatus{}, []string{
			`spec.template.labels: Invalid value: "a b": name part must consist of`,
			`spec.template.taints[0].value: Invalid value: "no value": a valid label must be an empty string or consist of`,
			`spec.template.capacity: Invalid value: "a/b/c": a valid label key must consist of`}, nil},
		"a value that is too long": {"", `{template: {labels: {a: ` + strings.Repeat("x", 64) + `}, ` + capacity + `}}`,
			v1alpha1.NodePoolStatus{}, []string{
				`spec.template.labels[a]: Invalid value: "` + strings.Repeat("x", 64) + `": ` + label}, nil},
		"a taint twice": {"", `{template: {taints: [{key: a, value: x, effect: NoSchedule}, {key: a, value: y, effect: NoSchedule}], ` + capacity + `}}`, v1alpha1.NodePoolStatus{}, []string{
			`spec.template.taints[1]: Duplicate value: "a:NoSchedule"`}, nil},

		"namespaces that are none": {"", `{allowedNamespaces: {matchExpressions: [{key: "a b", operator: In, values: [c]}, {key: d, operator: In}]}, template: {` + capacity + `}}`, v1alpha1.NodePoolStatus{}, []string{
			`spec.allowedNamespaces.matchExpressions[0].key: Invalid value: "a b"`,
			`spec.allowedNamespaces.matchExpressions[1].values: Required value: must be specified when `}, nil},
		"namespaces that were wrong before": {
			`{allowedNamespaces: {matchExpressions: [{key: d, operator: In}]}, template: {` + capacity + `}}`,
			`{maxSize: 11, allowedNamespaces: {matchExpressions: [{key: d, operator: In}]}, template: {` + capacity + `}}`,
			v1alpha1.NodePoolStatus{}, nil, nil,
		},
		"namespaces": {
			"", `{allowedNamespaces: {matchLabels: {team: hpc}}, template: {` + capacity + `}}`, v1alpha1.NodePoolStatus{}, nil, nil,
		},
		"what was wrong before": {
			`{template: {labels: {a b: c}, ` + capacity + `}}`, `{maxSize: 11, template: {labels: {a b: c}, ` + capacity + `}}`,
			v1alpha1.NodePoolStatus{Replicas: 3}, nil, nil,
		},
		"another template": {`{template: {` + capacity + `}}`, `{template: {labels: {a: b}, ` + capacity + `}}`,
			v1alpha1.NodePoolStatus{Replicas: 3}, nil, []string{
				`spec.template: concerns machines that are ordered from now on; the 3 that there are keep the template of before`}},
		"the same template in other words": {
			`{template: {capacity: {cpu: 4000m, memory: 16Gi, pods: "110"}}}`, `{template: {capacity: {cpu: "4", memory: 16Gi, pods: "110"}}}`,
			v1alpha1.NodePoolStatus{Replicas: 3}, nil, nil,
		},
		"another template, wrong": {
			`{template: {` + capacity + `}}`, `{template: {labels: {a b: c}, ` + capacity + `}}`, v1alpha1.NodePoolStatus{},
			[]string{`spec.template.labels: Invalid value: "a b": name part must consist of`}, nil,
		},
		"a lower maxSize": {`{template: {` + capacity + `}}`, `{maxSize: 4, replicas: 6, template: {` + capacity + `}}`,
			v1alpha1.NodePoolStatus{Reserved: 5, Replicas: 6}, nil, []string{
				`spec.maxSize: 4 is below the 5 nodes that members have reserved: they keep them, and get no more until they hold fewer`,
				`spec.maxSize: 4 is below spec.replicas, which is 6: no machine is deleted for that`}},
		"a lower maxSize that is enough": {
			`{template: {` + capacity + `}}`, `{maxSize: 6, replicas: 6, template: {` + capacity + `}}`, v1alpha1.NodePoolStatus{Reserved: 5},
			nil, nil,
		},
		"a higher maxSize": {
			`{template: {` + capacity + `}}`, `{maxSize: 20, replicas: 30, template: {` + capacity + `}}`, v1alpha1.NodePoolStatus{Reserved: 30},
			nil, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			after := pool(t, "p", row.after)
			after.Status = row.status
			var before *v1alpha1.NodePool
			if row.before != "" {
				before = pool(t, "p", row.before)
			}
			faults, warnings := said(ExamineNodePool(before, after))
			if !cmp.Equal(row.faults, faults, cmp.Comparer(func(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) })) {
				t.Errorf("faults are %q, not %q", faults, row.faults)
			}
			if diff := cmp.Diff(row.warnings, warnings); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
