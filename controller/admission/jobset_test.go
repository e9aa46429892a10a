package admission

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
)

// train is a JobSet of a driver and two Jobs of one worker each with pools and further annotations in YAML, as it was marked.
func train(
	t *testing.T, pools, annotations string, change func(job func(int) map[string]any, u *unstructured.Unstructured),
) *unstructured.Unstructured {
	t.Helper()
	u := member.NewObject(jobset.GroupVersionKind)
	const pods = `
          metadata:
            labels: {autoscaling.flux-framework.org/member: jobset.train}
            annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}
`
	if err := yaml.Unmarshal([]byte(`
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata: {name: train, namespace: ns, annotations: {`+annotations+`}}
spec:
  replicatedJobs:
  - name: driver
    template:
      spec:
        parallelism: 1
        completions: 1
        template:`+pods+`
          spec: {containers: [{name: c, image: i, resources: {requests: {cpu: "1"}}}]}
  - name: workers
    replicas: 2
    template:
      spec:
        parallelism: 1
        completions: 1
        template:`+pods+`
          spec: {containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}]}
`), &u.Object); err != nil {
		t.Fatal(err)
	}
	all := u.GetAnnotations()
	if all == nil {
		all = map[string]string{}
	}
	all[v1alpha1.AnnotationNodePools] = pools
	u.SetAnnotations(all)
	if change != nil {
		jobs, _, err := unstructured.NestedSlice(u.Object, "spec", "replicatedJobs")
		if err != nil {
			t.Fatal(err)
		}
		change(func(i int) map[string]any { job, _ := jobs[i].(map[string]any); return job }, u)
		if err := unstructured.SetNestedSlice(u.Object, jobs, "spec", "replicatedJobs"); err != nil {
			t.Fatal(err)
		}
	}
	return u
}

// with is a change of a field of one of the replicatedJobs.
func with(i int, value any, path ...string) func(func(int) map[string]any, *unstructured.Unstructured) {
	return func(job func(int) map[string]any, _ *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(job(i), value, path...); err != nil {
			panic(err)
		}
	}
}

const sized = `autoscaling.flux-framework.org/min-size: "driver=1,workers=2", autoscaling.flux-framework.org/max-size: "driver=1,workers=4"`

func TestExamineNewJobSet(t *testing.T) {
	t.Parallel()
	const youngest = ": of any other Job the youngest pod would leave at a shrink, and not the one with the highest index"
	named := func(name, generate string) func(func(int) map[string]any, *unstructured.Unstructured) {
		return func(_ func(int) map[string]any, u *unstructured.Unstructured) {
			u.SetName(name)
			u.SetGenerateName(generate)
		}
	}
	for name, row := range map[string]struct {
		pools, annotations string
		change             func(func(int) map[string]any, *unstructured.Unstructured)
		want               []string
	}{
		"all is well": {"a", sized, nil, nil},
		"not Indexed": {"a", sized, with(1, "NonIndexed", "template", "spec", "completionMode"), []string{
			`spec.replicatedJobs[1].template.spec.completionMode: Invalid value: "NonIndexed": it has to be Indexed` + youngest}},
		"no completions": {"a", sized, func(job func(int) map[string]any, _ *unstructured.Unstructured) {
			unstructured.RemoveNestedField(job(0), "template", "spec", "completions")
		}, []string{"spec.replicatedJobs[0].template.spec.completions: Required value: it has to be parallelism, which is 1" + youngest}},
		"a maximum that is none": {"a", `autoscaling.flux-framework.org/max-size: many`, nil, []string{
			`metadata.annotations[autoscaling.flux-framework.org/max-size]: Invalid value: "many": it has to have numbers of pods, at least 1, by ` +
				`replicatedJobs, as in driver=1,workers=8; of an only one the number is enough`}},
		"a size below the minimum": {"a", strings.Replace(sized, "workers=2", "workers=4", 1), nil, []string{
			"spec.replicatedJobs[1].template.spec.parallelism: Invalid value: 1: with 2 replicas that is 2 pods; must be at least the annotation " +
				"autoscaling.flux-framework.org/min-size, which is 4 for workers"}},
		"the controller's own annotation": {"a", sized + `, autoscaling.flux-framework.org/job-sizes: "driver=1,workers=4"`, nil, []string{
			"metadata.annotations[autoscaling.flux-framework.org/job-sizes]: Forbidden: it is the controller's own"}},
		"a name that is too long": {"a", sized, named(strings.Repeat("n", 58), ""), []string{
			`metadata.name: Invalid value: "` + strings.Repeat("n", 58) + `": has 58 characters; it has to have at most 56: the pods carry ` +
				`jobset.NAME in a label`}},
		"a name to be made up": {"a", sized, named("", "train-"), []string{
			"metadata.generateName: Forbidden: a JobSet that is to be managed needs metadata.name: its pods carry the name in a label, which is " +
				"written before the API server makes one up"}},
		"a pool that does not exist": {"a,nowhere", sized, nil, []string{
			`metadata.annotations[autoscaling.flux-framework.org/node-pools]: Invalid value: "a,nowhere": there is no NodePool "nowhere"; ` +
				`those that can be named here are a, small, tiny`}},
		"no minimum, and the first sizes the maximum": {"a", `autoscaling.flux-framework.org/max-size: "driver=1,workers=2"`, nil, []string{
			"metadata.annotations[autoscaling.flux-framework.org/max-size]: is the first sizes, driver=1,workers=2: the JobSet cannot grow above " +
				"them, and requests to grow will be DENIED"}},
		"no minimum": {"a", `autoscaling.flux-framework.org/max-size: "driver=1,workers=4"`, nil, []string{
			"metadata.annotations[autoscaling.flux-framework.org/min-size]: is not set: requests may shrink each Job of the JobSet to 1 pod"}},
		"workers that are too large": {"tiny", sized, nil, []string{
			"spec.replicatedJobs[1].template.spec.template.spec.containers: Invalid value: a pod requests 3 of cpu and an empty node of tiny " +
				"offers 1: no node of its NodePools is large enough"}},
		"a pool for each shape": {"tiny,a", sized, nil, []string{
			"metadata.annotations[autoscaling.flux-framework.org/node-pools]: a pod requests 3 of cpu and an empty node of tiny offers 1: none of " +
				"these nodes will be used"}},
		"more pods of a group than nodes": {"small", sized, with(1, int64(2), "template", "spec", "parallelism"), []string{
			"spec.replicatedJobs[1].template.spec.completions: Invalid value: 1: it has to be parallelism, which is 2" + youngest}},
		"more pods of all groups than nodes": {"small", strings.Replace(sized, "workers=4", "workers=2", 1), nil, []string{
			"metadata.annotations[autoscaling.flux-framework.org/max-size]: is the first sizes, driver=1,workers=2: the JobSet cannot grow above " +
				"them, and requests to grow will be DENIED",
			`spec.replicatedJobs: Invalid value: "driver=1,workers=2": the pods of all of them, 3, must be at most what its NodePools hold together, 2`}},
		"labels that no node has": {"a", sized, with(1, "z", "template", "spec", "template", "spec", "nodeSelector", "zone"), []string{
			`spec.replicatedJobs[1].template.spec.template.spec.nodeSelector: Invalid value: "zone=z": no node of its NodePools can match, by their ` +
				`templates: a`}},
		"pods that may be moved": {"a", sized,
			with(0, "true", "template", "spec", "template", "metadata", "annotations", v1alpha1.AnnotationSafeToEvict), []string{
				`spec.replicatedJobs[0].template.spec.template.metadata.annotations[cluster-autoscaler.kubernetes.io/safe-to-evict]: is "true": ` +
					`Cluster Autoscaler may delete running pods to empty a node; "false" keeps them`}},
	} {
		pools := found(pool(t, "a", `{}`), pool(t, "small", `{maxSize: 2}`), pool(t, "tiny", `{template: {capacity: {cpu: "1", pods: "9"}}}`))
		got := words(ExamineNewJobSet(train(t, row.pools, row.annotations, row.change), pools))
		if diff := cmp.Diff(slices.Sorted(slices.Values(row.want)), slices.Sorted(slices.Values(got))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestExamineJobSetUpdate(t *testing.T) {
	t.Parallel()
	before := train(t, "a", sized, nil)
	workers := func(size int64) func(func(int) map[string]any, *unstructured.Unstructured) {
		return func(job func(int) map[string]any, u *unstructured.Unstructured) {
			with(1, size, "template", "spec", "parallelism")(job, u)
			with(1, size, "template", "spec", "completions")(job, u)
		}
	}
	const given = sized + `, autoscaling.flux-framework.org/job-sizes: "driver=1,workers=4"`
	const own = "metadata.annotations[autoscaling.flux-framework.org/job-sizes]: Forbidden: it is the controller's own"
	plain := func() *unstructured.Unstructured { u := train(t, "a", "", nil); u.SetAnnotations(nil); return u }
	for name, row := range map[string]struct {
		before, after *unstructured.Unstructured
		want          []string
	}{
		"an edit of a size": {before, train(t, "a", sized, workers(2)), nil},
		"above the maximum": {before, train(t, "a", sized, workers(3)), []string{
			"spec.replicatedJobs[1].template.spec.parallelism: Invalid value: 3: with 2 replicas that is 6 pods; it must not exceed the " +
				"annotation autoscaling.flux-framework.org/max-size, which is 4 for workers"}},
		"another pool": {before, train(t, "a,b", sized, nil), nil},
		"a pool without room": {before, train(t, "a,tiny", sized, nil), []string{
			"spec.replicatedJobs[1].template.spec.template.spec.containers: Invalid value: a pod requests 3 of cpu and an empty node of tiny " +
				"offers 1: no node of its NodePools is large enough" + fixedInJobSet}},
		"one that joins": {plain(), train(t, "a", sized, func(job func(int) map[string]any, _ *unstructured.Unstructured) {
			unstructured.RemoveNestedField(job(1), "template", "spec", "template", "metadata", "labels")
		}), []string{
			"metadata.annotations[autoscaling.flux-framework.org/node-pools]: the pods are made without our label: no pod waits for its node, " +
				"and none is kept on the nodes of the NodePools" + fixedInJobSet}},
		"one that leaves":                 {before, plain(), nil},
		"the controller's own annotation": {before, train(t, "a", given, nil), []string{own}},
		"the same as before":              {train(t, "a", given, nil), train(t, "a,b", given, nil), nil},
		"the same, of one that joins":     {plain(), train(t, "a", given, nil), []string{own}},
		"one that is taken away":          {train(t, "a", given, nil), before, nil},
	} {
		pools := found(pool(t, "a", `{}`), pool(t, "b", `{}`), pool(t, "tiny", `{template: {capacity: {cpu: "1", pods: "9"}}}`))
		got := words(ExamineJobSetUpdate(row.before, row.after, pools))
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestMarkJobSet: the webhook marks what is to be managed, and nothing else.
func TestMarkJobSet(t *testing.T) {
	t.Parallel()
	u := train(t, "a", "", func(job func(int) map[string]any, _ *unstructured.Unstructured) {
		unstructured.RemoveNestedField(job(1), "template", "spec", "template", "metadata")
	})
	if _, err := markJobSet(nil, nil, u); err != nil {
		t.Fatal(err)
	}
	js, err := jobset.Read(u)
	if err != nil {
		t.Fatal(err)
	}
	if !marked(js) || js.Annotations[v1alpha1.AnnotationMaxSize] != "driver=1,workers=2" {
		t.Errorf("it is marked %t, with the maximum sizes %q", marked(js), js.Annotations[v1alpha1.AnnotationMaxSize])
	}
	for _, other := range []*unstructured.Unstructured{
		train(t, "a,,b", "", nil), func() *unstructured.Unstructured { u := train(t, "a", "", nil); u.SetAnnotations(nil); return u }(),
	} {
		before := other.DeepCopy()
		if _, err := markJobSet(nil, nil, other); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before.Object, other.Object); diff != "" {
			t.Errorf("what is not to be managed is changed (-before +after):\n%s", diff)
		}
	}
}
