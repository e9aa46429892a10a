package kinds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// ofJobSets is the subject of JobSets.
func ofJobSets(t *testing.T) *subject {
	t.Helper()
	at := slices.IndexFunc(subjects, func(s subject) bool { return s.kind == member.Kind(jobset.Kind{}) })
	if at < 0 {
		t.Fatal("no subject is a JobSet")
	}
	return &subjects[at]
}

// TestWithoutElasticJobSet: where the controller of JobSets takes no other sizes, which is its default, its Jobs get them: nodes come
// before pods, a shrink gives back the nodes of the pods that left, and a Job that somebody resizes by hand is given its size back. The
// JobSet goes on to say which sizes these are, whoever takes that away. When the controller takes them from some time on, the next size is
// written there. It is not parallel, so that all others find it so.
func TestWithoutElasticJobSet(t *testing.T) { //nolint:paralleltest // See above.
	t.Cleanup(func() {
		// Its context has ended.
		if err := shared.jobSets.Restart(context.WithoutCancel(t.Context()), true); err != nil {
			t.Error(err)
		}
	})
	p := begin(t, ofJobSets(t), "rigid", "1s", 0)
	first := p.runs(2)
	p.scale(4)
	grown := p.runs(4)
	p.nodesFirst(2)
	if template, given := p.sizes(); template != 2 || given != "4" {
		t.Errorf("the JobSet has size %d, and says that its Jobs are given %q", template, given)
	}
	of := member.Reference(jobset.Kind{}, types.NamespacedName{Namespace: p.name, Name: "m"}, "")
	p.patch(of, `{"metadata": {"annotations": {"`+v1alpha1.AnnotationJobSizes+`": null}}}`)
	if _, given := p.sizes(); given != "4" {
		t.Errorf("after somebody has taken that away, it says that its Jobs are given %q", given)
	}
	p.patch(p.child("work", 0), `{"spec": {"parallelism": 3, "completions": 3}}`)
	p.until("the Job is given its size back", func(ctx context.Context) (string, error) {
		job := p.child("work", 0)
		if err := shared.Client.Get(ctx, client.ObjectKeyFromObject(job), job); err != nil || ptr.Deref(job.Spec.Parallelism, 0) == 4 {
			return "", err
		}
		return fmt.Sprintf("it has %d", ptr.Deref(job.Spec.Parallelism, 0)), nil
	})
	p.runs(4)
	p.scale(1)
	if left := p.runs(1); left[0] != first[0] || grown[0] != first[0] {
		t.Errorf("rank 0 was on %s, then on %s, and is on %s", first[0], grown[0], left[0])
	}

	if err := shared.jobSets.Restart(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	p.scale(3)
	p.runs(3)
	if template, given := p.sizes(); template != 3 || given != "" {
		t.Errorf("the JobSet has size %d, and says that its Jobs are given %q", template, given)
	}
}

// child is one of the Jobs of a JobSet.
func (p *play) child(group string, index int32) *batchv1.Job {
	return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: p.name, Name: jobset.ChildName("m", group, index)}}
}

// sizes are the size of the first group in the JobSet, and what its annotation says that its Jobs are given.
func (p *play) sizes() (template int32, given string) {
	p.Helper()
	object := member.NewObject(jobset.GroupVersionKind)
	if err := shared.Client.Get(p.Context(), types.NamespacedName{Namespace: p.name, Name: "m"}, object); err != nil {
		p.Fatal(err)
	}
	js, err := jobset.Read(object)
	if err != nil {
		p.Fatal(err)
	}
	return js.Jobs[0].Each(), object.GetAnnotations()[v1alpha1.AnnotationJobSizes]
}

// shapes is a JobSet of a small driver and two Jobs of large workers, each pod of which takes a node of its pool.
const shapes = `
apiVersion: v1
kind: Namespace
metadata: {name: %[1]s}
---
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %[1]s}
spec:
  maxSize: 4
  template: {capacity: {cpu: "2", memory: 8Gi, pods: "110"}}
  machines: {kwok: {bootDelay: 1s}}
---
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: NodePool
metadata: {name: %[1]s-large}
spec:
  maxSize: 8
  template: {capacity: {cpu: "8", memory: 32Gi, pods: "110"}}
  machines: {kwok: {bootDelay: 3s}}
---
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: m
  namespace: %[1]s
  annotations:
    autoscaling.flux-framework.org/node-pools: %[1]s,%[1]s-large
    autoscaling.flux-framework.org/max-size: driver=1,workers=8
spec:
  replicatedJobs:
  - name: driver
    template:
      spec:
        parallelism: 1
        completions: 1
        template: {spec: {restartPolicy: Never, containers: [{name: work, image: work, resources: {requests: {cpu: "1"}}}]}}
  - name: workers
    replicas: 2
    template:
      spec:
        parallelism: 1
        completions: 1
        template: {spec: {restartPolicy: Never, containers: [{name: work, image: work, resources: {requests: {cpu: "6"}}}]}}
`

// TestGrowthOfShapes: the replicatedJobs of a JobSet are one growth of several shapes: no pod of any goes to its node before the nodes of all
// are there, each group has nodes that are large enough for it, and grows and shrinks by as many pods as it has Jobs. A shrink gives back the
// nodes of the pods that left.
func TestGrowthOfShapes(t *testing.T) {
	t.Parallel()
	p := newPlay(t, ofJobSets(t), "shapes")
	p.further = []string{p.name + "-large"}
	objects, err := system.Objects(fmt.Appendf(nil, shapes, p.name))
	if err != nil {
		t.Fatal(err)
	}
	if err := shared.Apply(t.Context(), objects...); err != nil {
		t.Fatal(err)
	}
	p.gated(3)
	p.until("the first pod is released", func(ctx context.Context) (string, error) {
		pods, err := p.pods(ctx)
		if err != nil {
			return "", err
		}
		nodes, err := p.nodes(ctx)
		if err != nil {
			return "", err
		}
		for at, pod := range pods {
			if pod.Annotations[v1alpha1.AnnotationNode] == "" {
				continue
			}
			if len(nodes) != 3 {
				return "", fmt.Errorf("rank %d %s was released while there were %d nodes", at.rank, at.group, len(nodes))
			}
			return "", nil
		}
		return "none is", nil
	})
	first := p.run(member.Sizes{"driver": 1, "workers": 2})
	if !strings.HasPrefix(first["driver"][0], p.name) || strings.HasPrefix(first["driver"][0], p.name+"-large") {
		t.Errorf("the driver is on %v", first["driver"])
	}

	p.scaleGroup("workers", 6)
	grown := p.run(member.Sizes{"driver": 1, "workers": 6})
	p.nodesFirst(2)
	if !slices.Equal(grown["driver"], first["driver"]) || !slices.Equal(grown["workers"][:2], first["workers"]) {
		t.Errorf("the first pods were on %v, and are on %v", first, grown)
	}
	p.scaleGroup("workers", 4)
	if left := p.run(member.Sizes{"driver": 1, "workers": 4}); !slices.Equal(left["workers"], grown["workers"][:4]) {
		t.Errorf("after the shrink workers are on %v, not on %v", left["workers"], grown["workers"][:4])
	}

	object := member.Reference(jobset.Kind{}, types.NamespacedName{Namespace: p.name, Name: "m"}, "")
	if err := shared.Client.Delete(t.Context(), object, client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
		t.Fatal(err)
	}
	p.empty()
}

// scaleGroup sets the desired size of a group.
func (p *play) scaleGroup(group string, size int32) {
	p.Helper()
	if err := retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		m := &v1alpha1.EnsembleMember{}
		if err := shared.Client.Get(p.Context(), p.memberKey(), m); err != nil {
			return err
		}
		v1alpha1.SetGroupSize(m, group, size)
		return shared.Client.Update(p.Context(), m)
	}); err != nil {
		p.Fatal(err)
	}
}

// TestJobSetsAreJudged: what could be no member is refused when it is written, by its field, its value and what would be right; a JobSet
// that is managed is marked at its creation.
func TestJobSetsAreJudged(t *testing.T) {
	t.Parallel()
	p := begin(t, ofJobSets(t), "judged", "1s", 0)
	file, err := p.subject.object(p.name, p.name, 0)
	if err != nil {
		t.Fatal(err)
	}
	create := func(change func(u *unstructured.Unstructured, job map[string]any) error) func(context.Context) error {
		object := file.DeepCopy()
		object.SetName("other")
		jobs, _, err := unstructured.NestedSlice(object.Object, "spec", "replicatedJobs")
		if err != nil {
			t.Fatal(err)
		}
		job, _ := jobs[0].(map[string]any)
		if err := change(object, job); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedSlice(object.Object, jobs, "spec", "replicatedJobs"); err != nil {
			t.Fatal(err)
		}
		return func(ctx context.Context) error { return shared.Client.Create(ctx, object.DeepCopy(), client.DryRunAll) }
	}
	set := func(value any, path ...string) func(*unstructured.Unstructured, map[string]any) error {
		return func(_ *unstructured.Unstructured, job map[string]any) error {
			return unstructured.SetNestedField(job, value, path...)
		}
	}
	annotate := func(key, value string) func(*unstructured.Unstructured, map[string]any) error {
		return func(u *unstructured.Unstructured, _ map[string]any) error {
			return unstructured.SetNestedField(u.Object, value, "metadata", "annotations", key)
		}
	}
	patch := func(text string) func(context.Context) error {
		return func(ctx context.Context) error {
			of := member.Reference(jobset.Kind{}, types.NamespacedName{Namespace: p.name, Name: "m"}, "")
			return shared.Client.Patch(ctx, of, client.RawPatch(types.MergePatchType, []byte(text)), client.DryRunAll)
		}
	}
	for name, row := range map[string]struct {
		write func(context.Context) error
		want  string
	}{
		"not Indexed": {
			create(set("NonIndexed", "template", "spec", "completionMode")),
			"spec.replicatedJobs[0].template.spec.completionMode: Invalid value",
		},
		"completions that differ": {
			create(set(int64(9), "template", "spec", "completions")), "spec.replicatedJobs[0].template.spec.completions: Invalid value: 9",
		},
		"a pool that is not there": {create(annotate(v1alpha1.AnnotationNodePools, "nowhere")), `there is no NodePool "nowhere"`},
		"a maximum of nothing":     {create(annotate(v1alpha1.AnnotationMaxSize, "helpers=3")), `there is no replicatedJob "helpers", but work`},
		"a maximum in words": {
			patch(`{"metadata":{"annotations":{"autoscaling.flux-framework.org/max-size":"many"}}}`), "it has to have numbers of pods",
		},
		"sizes that are the controller's to give": {
			patch(`{"metadata":{"annotations":{"autoscaling.flux-framework.org/job-sizes":"2"}}}`), "Forbidden: it is the controller's own",
		},
		"suspension": {patch(`{"spec":{"suspend":true}}`), ""},
		"one that nothing is said of": {create(func(u *unstructured.Unstructured, job map[string]any) error {
			u.SetAnnotations(nil)
			return unstructured.SetNestedField(job, "NonIndexed", "template", "spec", "completionMode")
		}), ""},
	} {
		err := system.Write(t.Context(), row.write)
		if (row.want == "") != (err == nil) || (err != nil && !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}

	stored := member.NewObject(jobset.GroupVersionKind)
	if err := shared.Client.Get(t.Context(), types.NamespacedName{Namespace: p.name, Name: "m"}, stored); err != nil {
		t.Fatal(err)
	}
	js, err := jobset.Read(stored)
	if err != nil {
		t.Fatal(err)
	}
	template := &js.Jobs[0].Template.Spec.Template
	if template.Labels[v1alpha1.LabelMember] != "jobset.m" || template.Annotations[v1alpha1.AnnotationSafeToEvict] != "false" {
		t.Errorf("the pods are marked with %v and %v", template.Labels, template.Annotations)
	}
	p.runs(2)
}
