package main

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func parse(t *testing.T, text string) miniCluster {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.UnmarshalStrict([]byte(text), &object.Object); err != nil {
		t.Fatalf("parsing the MiniCluster: %v", err)
	}
	cluster, err := readMiniCluster(object)
	if err != nil {
		t.Fatal(err)
	}
	return cluster
}

func TestSpecsThatTheOperatorIgnores(t *testing.T) {
	for name, row := range map[string]struct {
		spec miniClusterSpec
		want string
	}{
		"a size alone is served":            {miniClusterSpec{Size: 4}, ""},
		"a size within its bounds":          {miniClusterSpec{Size: 4, MinSize: 1, MaxSize: 4}, ""},
		"a negative size without a minimum": {miniClusterSpec{Size: -1}, ""},
		"size 0":                            {miniClusterSpec{Size: 0, MaxSize: 4}, "size is 0"},
		"a size above maxSize":              {miniClusterSpec{Size: 5, MaxSize: 4}, "size 5 is above maxSize 4"},
		"a size below minSize":              {miniClusterSpec{Size: 1, MinSize: 2}, "size 1 is below minSize 2"},
		"bounds the wrong way round":        {miniClusterSpec{Size: 2, MinSize: 4, MaxSize: 3}, "minSize 4 is above maxSize 3"},
		"a negative backoffLimit":           {miniClusterSpec{Size: 2, BackoffLimit: -1}, "backoffLimit is -1"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := ignoredBecause(row.spec); got != row.want {
				t.Errorf("ignored because %q, want %q", got, row.want)
			}
		})
	}
}

func TestMaximumSizeIsFixedWhenFirstSeen(t *testing.T) {
	for name, row := range map[string]struct {
		cluster miniCluster
		want    int32
	}{
		"without maxSize it is the first size": {miniCluster{Spec: miniClusterSpec{Size: 3}}, 3},
		"with maxSize it is that":              {miniCluster{Spec: miniClusterSpec{Size: 3, MaxSize: 8}}, 8},
		"a later, larger maxSize does not count": {
			miniCluster{Spec: miniClusterSpec{Size: 3, MaxSize: 20}, Status: miniClusterStatus{MaximumSize: 8}}, 8,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := maximumSize(row.cluster); got != row.want {
				t.Errorf("maximum size %d, want %d", got, row.want)
			}
		})
	}
}

func TestResize(t *testing.T) {
	for name, row := range map[string]struct {
		desired, current, maximum int32
		applied                   int32
		refused                   bool
	}{
		"growing":                     {desired: 8, current: 2, maximum: 10, applied: 8},
		"shrinking":                   {desired: 1, current: 2, maximum: 10, applied: 1},
		"to the maximum":              {desired: 10, current: 2, maximum: 10, applied: 10},
		"above the maximum is cut":    {desired: 11, current: 2, maximum: 10, applied: 10, refused: true},
		"below one is taken back":     {desired: 0, current: 2, maximum: 10, applied: 2, refused: true},
		"a negative size, taken back": {desired: -3, current: 2, maximum: 10, applied: 2, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			applied, refused := resize(row.desired, row.current, row.maximum)
			if applied != row.applied || refused != row.refused {
				t.Errorf("applied %d, refused %t; want %d, %t", applied, refused, row.applied, row.refused)
			}
		})
	}
}

func TestJobOfAMiniCluster(t *testing.T) {
	const text = `
metadata: {name: demo, namespace: lab}
spec:
  size: 2
  maxSize: 10
  jobLabels: {team: hpc}
  deadlineSeconds: 600
  containers:
  - image: flux
    command: sleep infinity
    runFlux: true
    resources: {requests: {cpu: 3, memory: 4Gi}}
  pod:
    labels: {color: red}
    annotations: {note: kept}
    nodeSelector: {arch: amd64}
    nodeAffinity: {b: ["2", "3"], a: ["1"]}
    tolerations: [{key: dedicated, operator: Equal, value: hpc, effect: NoSchedule}]
    schedulerName: other
`
	job := newJob(parse(t, text))
	if *job.Spec.Completions != 2 || *job.Spec.Parallelism != 2 || *job.Spec.CompletionMode != "Indexed" {
		t.Errorf(
			"completions %d, parallelism %d, mode %s; want 2, 2, Indexed", *job.Spec.Completions, *job.Spec.Parallelism, *job.Spec.CompletionMode,
		)
	}
	if job.Name != "demo" || job.Namespace != "lab" || job.Labels["team"] != "hpc" {
		t.Errorf("Job %s/%s with labels %v; want lab/demo with team=hpc", job.Namespace, job.Name, job.Labels)
	}
	if *job.Spec.BackoffLimit != 100 || *job.Spec.ActiveDeadlineSeconds != 600 {
		t.Errorf("backoffLimit %d, deadline %d s; want 100 and 600", *job.Spec.BackoffLimit, *job.Spec.ActiveDeadlineSeconds)
	}
	template := job.Spec.Template
	for label, want := range map[string]string{
		"color": "red", "namespace": "lab", "app": "flux-operator", "app.kubernetes.io/name": "demo", "hpa-selector": "demo",
	} {
		if template.Labels[label] != want {
			t.Errorf("pod label %s is %q, want %q", label, template.Labels[label], want)
		}
	}
	if template.Annotations["note"] != "kept" || template.Spec.NodeSelector["arch"] != "amd64" || template.Spec.SchedulerName != "other" {
		t.Errorf(
			"annotations %v, node selector %v, scheduler %q: something of spec.pod is missing", template.Annotations, template.Spec.NodeSelector,
			template.Spec.SchedulerName,
		)
	}
	if got := template.Spec.Tolerations; len(got) != 1 || got[0] != (corev1.Toleration{
		Key: "dedicated", Operator: "Equal", Value: "hpc", Effect: "NoSchedule",
	}) {
		t.Errorf("tolerations %v", got)
	}
	if got := template.Spec.Containers[0]; got.Name != "demo" || got.Image != "flux" || got.Resources.Requests.Cpu().String() != "3" ||
		got.Resources.Requests.Memory().String() != "4Gi" {
		t.Errorf("container %+v", got)
	}
	terms := template.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	if len(terms) != 1 || len(terms[0].MatchExpressions) != 2 || terms[0].MatchExpressions[0].Key != "a" || len(
		terms[0].MatchExpressions[1].Values,
	) != 2 {
		t.Errorf("node affinity %v, want one term with a and b", terms)
	}
	if got := template.Spec.Affinity.PodAntiAffinity; len(got.RequiredDuringSchedulingIgnoredDuringExecution) != 0 ||
		got.PreferredDuringSchedulingIgnoredDuringExecution[0].PodAffinityTerm.TopologyKey != "kubernetes.io/hostname" {
		t.Errorf("anti-affinity %v, want a preference for one pod a host", got)
	}
}

func TestDisableAffinityLeavesTheNodeSelectorAlone(t *testing.T) {
	job := newJob(parse(t, `
metadata: {name: demo, namespace: lab}
spec:
  size: 1
  network: {disableAffinity: true, headlessName: brokers}
  containers: [{name: side, image: a, pullAlways: true}]
  pod: {nodeSelector: {pool: a}, nodeAffinity: {pool: [b]}}
`))
	spec := job.Spec.Template.Spec
	if spec.Affinity != nil {
		t.Errorf("affinity %v, want none", spec.Affinity)
	}
	if spec.NodeSelector["pool"] != "a" {
		t.Errorf("node selector %v, want pool=a", spec.NodeSelector)
	}
	if spec.Subdomain != "brokers" || spec.Containers[0].ImagePullPolicy != corev1.PullAlways || spec.Containers[0].Name != "side" {
		t.Errorf("subdomain %q, container %+v", spec.Subdomain, spec.Containers[0])
	}
}

func TestConditionsSayReadyOnceAndForGood(t *testing.T) {
	first := readyConditions(nil, time.Unix(100, 0))
	for _, c := range first {
		if want := c.Type == conditionReady; want != (c.Status == "True") {
			t.Errorf("condition %s is %s", c.Type, c.Status)
		}
	}
	if len(first) != 5 {
		t.Errorf("%d conditions, want 5", len(first))
	}
	second := readyConditions(first, time.Unix(200, 0))
	if !second[0].LastTransitionTime.Equal(&first[0].LastTransitionTime) {
		t.Error("a second pass changed the conditions")
	}
}
