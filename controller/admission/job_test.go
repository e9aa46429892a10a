package admission

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// sweep is an Indexed Job of size 2 with pools and further annotations in YAML, as it was marked.
func sweep(t *testing.T, pools, annotations string, change func(*batchv1.Job)) *batchv1.Job {
	t.Helper()
	j := &batchv1.Job{}
	if err := yaml.UnmarshalStrict([]byte(`
metadata: {name: sweep, namespace: ns, annotations: {`+annotations+`}}
spec:
  parallelism: 2
  completions: 2
  completionMode: Indexed
  template:
    metadata:
      labels: {autoscaling.flux-framework.org/member: job.sweep}
      annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict: "false"}
    spec: {containers: [{name: c, image: i, resources: {requests: {cpu: "3"}}}]}
`), j); err != nil {
		t.Fatal(err)
	}
	metav1.SetMetaDataAnnotation(&j.ObjectMeta, v1alpha1.AnnotationNodePools, pools)
	if change != nil {
		change(j)
	}
	return j
}

const bounded = `autoscaling.flux-framework.org/min-size: "1", autoscaling.flux-framework.org/max-size: "4"`

func words(f *Findings) []string {
	var all []string
	for _, fault := range f.Faults {
		all = append(all, fault.Error())
	}
	return append(all, f.Warnings...)
}

func TestExamineNewJob(t *testing.T) {
	t.Parallel()
	const youngest = ": of any other Job the youngest pod would leave at a shrink, and not the one with the highest index"
	for name, row := range map[string]struct {
		pools, annotations string
		change             func(*batchv1.Job)
		want               []string
	}{
		"all is well": {"a", bounded, nil, nil},
		"not Indexed": {"a", bounded, func(j *batchv1.Job) { j.Spec.CompletionMode = nil }, []string{
			`spec.completionMode: Invalid value: "NonIndexed": it has to be Indexed` + youngest}},
		"completions that differ": {"a", bounded, func(j *batchv1.Job) { j.Spec.Completions = new(int32(7)) }, []string{
			`spec.completions: Invalid value: 7: it has to be spec.parallelism, which is 2` + youngest}},
		"no completions": {"a", bounded, func(j *batchv1.Job) { j.Spec.Completions = nil }, []string{
			`spec.completions: Required value: it has to be spec.parallelism, which is 2` + youngest}},
		"a name that is too long": {"a", bounded, func(j *batchv1.Job) {
			j.Name = strings.Repeat("n", 60)
		}, []string{`metadata.name: Invalid value: "` + strings.Repeat("n", 60) + `": has 60 characters; it has to have at most 59: the pods carry ` +
			`job.NAME in a label`}},
		"a name to be made up": {"a", bounded, func(j *batchv1.Job) { j.Name, j.GenerateName = "", "sweep-" }, []string{
			"metadata.generateName: Forbidden: a Job that is to be managed needs metadata.name: its pods carry the name in a label, which is " +
				"written before the API server makes one up"}},
		"a maximum that is none": {"a", `autoscaling.flux-framework.org/max-size: many`, nil, []string{
			`metadata.annotations[autoscaling.flux-framework.org/max-size]: Invalid value: "many": it has to be a number of pods, at least 1`}},
		"a size above the maximum": {"a", `autoscaling.flux-framework.org/max-size: "1"`, nil, []string{
			`spec.parallelism: Invalid value: 2: it must not exceed the annotation autoscaling.flux-framework.org/max-size, which is 1`}},
		"a size below the minimum": {"a", `autoscaling.flux-framework.org/min-size: "3", autoscaling.flux-framework.org/max-size: "4"`, nil, []string{
			`spec.parallelism: Invalid value: 2: must be at least the annotation autoscaling.flux-framework.org/min-size, which is 3`}},
		"no minimum, and the first size the maximum": {"a", `autoscaling.flux-framework.org/max-size: "2"`, nil, []string{
			"metadata.annotations[autoscaling.flux-framework.org/min-size]: is not set: requests may shrink the Job to 1",
			"metadata.annotations[autoscaling.flux-framework.org/max-size]: is the first size, 2: the Job cannot grow above it, and requests to " +
				"grow will be DENIED"}},
		"an annotation of every kind": {"a", bounded + ", autoscaling.flux-framework.org/placement: Both", nil, []string{
			`metadata.annotations[autoscaling.flux-framework.org/placement]: Invalid value: "Both": it has to be one of Span, Single`}},
		"a pool that does not exist": {"a,nowhere", bounded, nil, []string{
			`metadata.annotations[autoscaling.flux-framework.org/node-pools]: Invalid value: "a,nowhere": there is no NodePool "nowhere"; ` +
				`those that can be named here are a, one`}},
		"pods that are too large": {"a", bounded, func(j *batchv1.Job) {
			j.Spec.Template.Spec.Containers[0].Resources.Requests[corev1.ResourceCPU] = resource.MustParse("8")
		}, []string{"spec.template.spec.containers: Invalid value: a pod requests 8 of cpu and an empty node of a offers 4: no node of its " +
			"NodePools is large enough"}},
		"more pods than nodes": {"one", bounded, nil, []string{
			"spec.parallelism: Invalid value: 2: must be at most what its NodePools hold, 1 (one has maxSize 1)"}},
		"labels that no node has": {"a", bounded, func(j *batchv1.Job) {
			j.Spec.Template.Spec.NodeSelector = map[string]string{"zone": "z"}
		}, []string{`spec.template.spec.nodeSelector: Invalid value: "zone=z": no node of its NodePools can match, by their templates: a`}},
		"pods that may be moved": {"a", bounded, func(j *batchv1.Job) {
			j.Spec.Template.Annotations[v1alpha1.AnnotationSafeToEvict] = "true"
		}, []string{`spec.template.metadata.annotations[cluster-autoscaler.kubernetes.io/safe-to-evict]: is "true": Cluster Autoscaler may delete ` +
			`running pods to empty a node; "false" keeps them`}},
	} {
		got := words(ExamineNewJob(sweep(t, row.pools, row.annotations, row.change), found(pool(t, "a", `{}`), pool(t, "one", `{maxSize: 1}`))))
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestExamineJobUpdate(t *testing.T) {
	t.Parallel()
	before := sweep(t, "a", bounded, nil)
	for name, row := range map[string]struct {
		before, after *batchv1.Job
		want          []string
	}{
		"an edit of the size": {before, sweep(t, "a", bounded, func(j *batchv1.Job) {
			j.Spec.Parallelism, j.Spec.Completions = new(int32(4)), new(int32(4))
		}), nil},
		"an edit of one of the two": {before, sweep(t, "a", bounded, func(j *batchv1.Job) { j.Spec.Parallelism = new(int32(4)) }), []string{
			"spec.completions: Invalid value: 2: it has to be spec.parallelism, which is 4: of any other Job the youngest pod would leave at a " +
				"shrink, and not the one with the highest index"}},
		"above the maximum": {before, sweep(t, "a", bounded, func(j *batchv1.Job) {
			j.Spec.Parallelism, j.Spec.Completions = new(int32(5)), new(int32(5))
		}), []string{"spec.parallelism: Invalid value: 5: it must not exceed the annotation autoscaling.flux-framework.org/max-size, which is 4"}},
		"another pool": {before, sweep(t, "a,b", bounded, nil), nil},
		"a pool without room": {before, sweep(t, "a,tiny", bounded, nil), []string{
			"spec.template.spec.containers: Invalid value: a pod requests 3 of cpu and an empty node of tiny offers 1: no node of its NodePools " +
				"is large enough" + fixedInJob}},
		"one that joins": {func() *batchv1.Job { j := sweep(t, "a", "", nil); j.Annotations = nil; return j }(),
			sweep(t, "a", bounded, func(j *batchv1.Job) { j.Spec.Template.Labels = nil }), []string{
				"metadata.annotations[autoscaling.flux-framework.org/node-pools]: the pods are made without our label: no pod waits for its node, " +
					"and none is kept on the nodes of the NodePools" + fixedInJob}},
		"one that leaves": {before, func() *batchv1.Job { j := sweep(t, "a", bounded, nil); j.Annotations = nil; return j }(), nil},
	} {
		pools := found(pool(t, "a", `{}`), pool(t, "b", `{}`), pool(t, "tiny", `{template: {capacity: {cpu: "1", pods: "9"}}}`))
		got := words(ExamineJobUpdate(row.before, row.after, pools))
		if diff := cmp.Diff(row.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
