package jobset_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
)

// train is a JobSet with a driver and two Jobs of two workers each, that is to be managed.
const train = `
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: train
  namespace: ns
  uid: u
  resourceVersion: "42"
  annotations:
    autoscaling.flux-framework.org/node-pools: a
    autoscaling.flux-framework.org/max-size: driver=1,workers=8
spec:
  replicatedJobs:
  - name: driver
    template:
      spec:
        completionMode: Indexed
        parallelism: 1
        completions: 1
        template:
          spec: {containers: [{name: c, image: i, resources: {requests: {cpu: "1"}}}]}
  - name: workers
    replicas: 2
    template:
      spec:
        completionMode: Indexed
        parallelism: 2
        completions: 2
        template:
          spec:
            nodeSelector: {fast: "yes"}
            containers: [{name: c, image: i, env: [{name: A, value: b}], resources: {limits: {cpu: "3"}}}]
`

// read is the JobSet train, changed.
func read(t testing.TB, change func(*unstructured.Unstructured)) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	encoded, err := yaml.YAMLToJSON([]byte(train))
	if err == nil {
		err = u.UnmarshalJSON(encoded)
	}
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(u)
	}
	return u
}

// job is one of the replicatedJobs of an object, to be changed.
func job(u *unstructured.Unstructured, i int) map[string]any {
	spec, _ := u.Object["spec"].(map[string]any)
	jobs, _ := spec["replicatedJobs"].([]any)
	of, _ := jobs[i].(map[string]any)
	return of
}

// set is a change of a field of one of the replicatedJobs; nil takes it away.
func set(i int, value any, path ...string) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		if value == nil {
			unstructured.RemoveNestedField(job(u, i), path...)
			return
		}
		if err := unstructured.SetNestedField(job(u, i), value, path...); err != nil {
			panic(err)
		}
	}
}

// field is a change of a field of the spec.
func field(name string, value any) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		if err := unstructured.SetNestedField(u.Object, value, "spec", name); err != nil {
			panic(err)
		}
	}
}

// annotate is a change of annotations, in pairs; an empty value takes one away.
func annotate(pairs ...string) func(*unstructured.Unstructured) {
	return func(u *unstructured.Unstructured) {
		annotations := u.GetAnnotations()
		for i := 0; i < len(pairs); i += 2 {
			if annotations[pairs[i]] = pairs[i+1]; pairs[i+1] == "" {
				delete(annotations, pairs[i])
			}
		}
		u.SetAnnotations(annotations)
	}
}

// words are the groups of a workload.
func words(w *member.Workload) string {
	parts := make([]string, len(w.Groups))
	for i := range w.Groups {
		g := &w.Groups[i]
		parts[i] = fmt.Sprintf("%s %d of %d to %d by %d", g.Name, g.Size, g.MinSize, g.MaxSize, g.Unit)
	}
	out := strings.Join(parts, ", ")
	if !w.Managed() {
		out += ", not managed"
	}
	if w.Own != nil {
		out += ", by its Jobs beside " + w.Own.String()
	}
	if w.Life.Suspended {
		out += ", suspended"
	}
	if w.Life.Finished {
		out += ", finished"
	}
	return out
}

const (
	maxSize  = v1alpha1.AnnotationMaxSize
	minSize  = v1alpha1.AnnotationMinSize
	youngest = ": of any other Job the youngest pod would leave at a shrink, and not the one with the highest index"
	wanted   = "it has to have numbers of pods, at least 1, by replicatedJobs, as in driver=1,workers=8; of an only one the number is enough"
)

func TestParse(t *testing.T) {
	t.Parallel()
	two := "driver 1 of 1 to 1 by 1, workers 4 of 2 to 8 by 2"
	only := func(u *unstructured.Unstructured) {
		spec, _ := u.Object["spec"].(map[string]any)
		spec["replicatedJobs"] = []any{job(u, 1)}
		annotate(maxSize, "6")(u)
	}
	status := func(conditions ...any) func(*unstructured.Unstructured) {
		return func(u *unstructured.Unstructured) { u.Object["status"] = map[string]any{"conditions": conditions} }
	}
	for name, row := range map[string]struct {
		change func(*unstructured.Unstructured)
		want   string
	}{
		"all that matters": {nil, two},
		"a minimum":        {annotate(minSize, "workers=4"), "driver 1 of 1 to 1 by 1, workers 4 of 4 to 8 by 2"},
		"spaces": {annotate(maxSize, "driver=1, workers=10"),
			"driver 1 of 1 to 1 by 1, workers 4 of 2 to 10 by 2"},
		"one alone, by a number":    {only, "workers 4 of 2 to 6 by 2"},
		"no mode, which is Indexed": {set(1, nil, "template", "spec", "completionMode"), two},
		"suspended":                 {field("suspend", true), two + ", suspended"},
		"completed":                 {status(map[string]any{"type": "Completed", "status": "True"}), two + ", finished"},
		"failed":                    {status(map[string]any{"type": "Failed", "status": "True"}), two + ", finished"},
		"not yet":                   {status(map[string]any{"type": "StartupPolicyCompleted", "status": "True"}), two},
		"sizes of its Jobs": {annotate(v1alpha1.AnnotationJobSizes, "driver=1,workers=6"),
			"driver 1 of 1 to 1 by 1, workers 6 of 2 to 8 by 2, by its Jobs beside driver=1,workers=4"},
		"sizes of its Jobs, in part": {annotate(v1alpha1.AnnotationJobSizes, "workers=6"),
			`annotation autoscaling.flux-framework.org/job-sizes is "workers=6"; it has to have a size for each replicatedJob; it is the controller's own`},
		"not Indexed": {set(1, "NonIndexed", "template", "spec", "completionMode"),
			"spec.replicatedJobs[1].template.spec.completionMode is NonIndexed; it has to be Indexed" + youngest},
		"no completions": {set(1, nil, "template", "spec", "completions"),
			"spec.replicatedJobs[1].template.spec.completions is not set; it has to be parallelism, which is 2" + youngest},
		"other completions": {set(1, int64(9), "template", "spec", "completions"),
			"spec.replicatedJobs[1].template.spec.completions is 9; it has to be parallelism, which is 2" + youngest},
		"no replicas": {set(1, int64(0), "replicas"),
			"spec.replicatedJobs[1].replicas is 0; it has to be at least 1"},
		"a dependency on its end": {set(1, []any{map[string]any{"name": "driver", "status": "Complete"}}, "dependsOn"),
			"spec.replicatedJobs[1].dependsOn[0].status is Complete; it has to be Ready: the nodes of all replicatedJobs are had together, " +
				"and these would wait without pods until the other Jobs have ended"},
		"a dependency": {set(1, []any{map[string]any{"name": "driver", "status": "Ready"}}, "dependsOn"), two},
		"exclusive placement": {annotate("alpha.jobset.sigs.k8s.io/exclusive-topology", "rack"),
			`annotation alpha.jobset.sigs.k8s.io/exclusive-topology is "rack"; it must not be there: which domain the pods of a Job go to is decided when the first of them is on a node, and nodes are had before; the annotation autoscaling.flux-framework.org/topology-key has all nodes in one domain`},
		"left to another controller": {field("managedBy", "kueue.x-k8s.io/multikueue"),
			"spec.managedBy is kueue.x-k8s.io/multikueue; it has to be unset: another controller makes the pods, or none here"},
		"left to its own controller": {field("managedBy", "jobset.sigs.k8s.io/jobset-controller"), two},
		"a coordinator that leaves": {field("coordinator", map[string]any{"replicatedJob": "workers", "podIndex": int64(1)}),
			"spec.coordinator.podIndex is 1; it has to be below 1, the minimum number of pods of each Job of workers: a shrink would take " +
				"the coordinator away"},
		"no maximum of one": {annotate(maxSize, "driver=1"),
			`annotation autoscaling.flux-framework.org/max-size is "driver=1"; it has to have the maximum size of workers, at least 4`},
		"no maximum": {annotate(maxSize, ""),
			"annotation autoscaling.flux-framework.org/max-size is not there; it has to have the maximum size of driver, at least 1"},
		"a maximum of what": {annotate(maxSize, "8"),
			`annotation autoscaling.flux-framework.org/max-size is "8"; it does not say of which of the replicatedJobs driver, workers: ` + wanted},
		"a maximum of nothing": {annotate(maxSize, "driver=1,helpers=8"),
			`annotation autoscaling.flux-framework.org/max-size is "driver=1,helpers=8"; there is no replicatedJob "helpers", but driver, workers: ` + wanted},
		"a maximum in words": {annotate(maxSize, "driver=1,workers=many"),
			`annotation autoscaling.flux-framework.org/max-size is "driver=1,workers=many"; ` + wanted},
		"half a pod each": {annotate(maxSize, "driver=1,workers=7"),
			`annotation autoscaling.flux-framework.org/max-size is "driver=1,workers=7"; 7 is no multiple of 2, the replicas of workers, whose Jobs have as many pods each: ` + wanted},
		"above the maximum": {annotate(maxSize, "driver=1,workers=2"),
			"spec.replicatedJobs[1].template.spec.parallelism is 2; with 2 replicas that is 4 pods; it must not exceed the annotation " +
				"autoscaling.flux-framework.org/max-size, which is 2 for workers"},
		"a minimum above it": {annotate(minSize, "workers=10"),
			`annotation autoscaling.flux-framework.org/min-size is "workers=10"; it must not exceed the annotation autoscaling.flux-framework.org/max-size, which is 8 for workers`},
		"not to be managed": {annotate(v1alpha1.AnnotationNodePools, ""),
			"driver 1 of 1 to 1 by 1, workers 4 of 2 to 4 by 2, not managed"},
		"of a training job": {func(u *unstructured.Unstructured) {
			u.SetOwnerReferences([]metav1.OwnerReference{{
				APIVersion: "trainer.kubeflow.org/v1alpha1", Kind: "TrainJob", Name: "t", Controller: new(true),
			}})
		}, "driver 1 of 1 to 1 by 1, workers 4 of 2 to 4 by 2, not managed"},
		"nothing": {func(u *unstructured.Unstructured) { u.Object["spec"] = map[string]any{} },
			"spec.replicatedJobs is not set; there has to be at least one"},
	} {
		// What is kept in a cache is read alike.
		for _, strip := range []bool{false, true} {
			u := read(t, row.change)
			if strip {
				if _, err := jobset.Strip(u); err != nil {
					t.Fatal(err)
				}
			}
			w, err := jobset.Kind{}.Parse(u)
			var got string
			if err != nil {
				got = err.Error()
			} else {
				got = words(w)
			}
			if got != row.want {
				t.Errorf("%s, from a cache %t:\ngot  %s\nwant %s", name, strip, got, row.want)
			}
		}
	}
	if _, err := (jobset.Kind{}).Parse(&corev1.Pod{}); err == nil {
		t.Error("a Pod is taken for a JobSet")
	}
}

// TestStrip: of a pod what says which nodes it can go to stays, and nothing of what it does.
func TestStrip(t *testing.T) {
	t.Parallel()
	u := read(t, nil)
	u.SetManagedFields([]metav1.ManagedFieldsEntry{{Manager: "m"}})
	u.SetLabels(map[string]string{"a": "b"})
	u.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: "a", "other": "x"})
	if _, err := jobset.Strip(u); err != nil {
		t.Fatal(err)
	}
	pod, _, err := unstructured.NestedMap(job(u, 1), "template", "spec", "template", "spec")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]any{
		"nodeSelector": map[string]any{"fast": "yes"},
		"containers":   []any{map[string]any{"name": "c", "resources": map[string]any{"limits": map[string]any{"cpu": "3"}}}},
	}
	if diff := cmp.Diff(want, pod); diff != "" {
		t.Errorf("of a pod is kept (-want +got):\n%s", diff)
	}
	if len(u.GetLabels()) > 0 || len(u.GetManagedFields()) > 0 || len(u.GetAnnotations()) != 1 {
		t.Errorf("of the metadata is kept %v", u.Object["metadata"])
	}
}

// TestPatch: one write has the sizes of all Jobs, and the note that they are the controller's. Where the JobSet does not take them they are
// noted for the Jobs, and given to each.
func TestPatch(t *testing.T) {
	t.Parallel()
	const version = `{"op":"replace","path":"/metadata/resourceVersion","value":"42"},`
	const noted = `{"op":"add","path":"/metadata/annotations/autoscaling.flux-framework.org~1applied-size","value":"driver=1,workers=6"},`
	const sizes = `{"op":"add","path":"/spec/replicatedJobs/0/template/spec/completions","value":1},` +
		`{"op":"add","path":"/spec/replicatedJobs/0/template/spec/parallelism","value":1},` +
		`{"op":"add","path":"/spec/replicatedJobs/1/template/spec/completions","value":3},` +
		`{"op":"add","path":"/spec/replicatedJobs/1/template/spec/parallelism","value":3}`
	change := member.To(member.Sizes{"driver": 1, "workers": 6})
	w := parse(t, nil)
	check(t, w.SizePatch, change, types.JSONPatchType, "["+version+noted+sizes+"]")
	check(t, w.JobSizesPatch, change, types.MergePatchType, `{"metadata":{"annotations":{"`+v1alpha1.AnnotationAppliedSize+
		`":"driver=1,workers=6","`+v1alpha1.AnnotationJobSizes+`":"driver=1,workers=6"},"resourceVersion":"42"}}`)

	byJobs := parse(t, annotate(v1alpha1.AnnotationJobSizes, "driver=1,workers=6"))
	check(t, byJobs.SizePatch, change, types.JSONPatchType,
		"["+version+noted+`{"op":"remove","path":"/metadata/annotations/autoscaling.flux-framework.org~1job-sizes"},`+sizes+"]")
	child := &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "train-workers-1", ResourceVersion: "7"}}
	size, differs := byJobs.JobSize(child, byJobs.Group("workers"))
	if size != 3 || !differs {
		t.Errorf("a Job is to have %d pods, and does not: %t", size, differs)
	}
	ofJob := func(*member.Change) (client.Object, client.Patch, error) { return member.JobPatch(child, size) }
	check(t, ofJob, nil, types.MergePatchType, `{"metadata":{"resourceVersion":"7"},"spec":{"completions":3,"parallelism":3}}`)
	child.Spec.Parallelism, child.Spec.Completions = &size, &size
	if _, differs := byJobs.JobSize(child, byJobs.Group("workers")); differs {
		t.Error("a Job that has the size differs from it")
	}
}

func parse(t *testing.T, change func(*unstructured.Unstructured)) *member.Workload {
	t.Helper()
	w, err := jobset.Kind{}.Parse(read(t, change))
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func check(
	t *testing.T, patch func(*member.Change) (client.Object, client.Patch, error), change *member.Change, kind types.PatchType, want string,
) {
	t.Helper()
	target, of, err := patch(change)
	if err != nil {
		t.Fatal(err)
	}
	data, err := of.Data(target)
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != want || of.Type() != kind {
		t.Errorf("the %s of %s is\n%s, want\n%s", of.Type(), client.ObjectKeyFromObject(target), data, want)
	}
}

// TestPods: the pods of one index of all Jobs of a group have ranks next to each other, and a Job is known by its name and its owner.
func TestPods(t *testing.T) {
	t.Parallel()
	kind := jobset.Kind{}
	labels := func(job, replicas, index string) map[string]string {
		return map[string]string{
			"jobset.sigs.k8s.io/replicatedjob-name": job, "jobset.sigs.k8s.io/replicatedjob-replicas": replicas,
			"jobset.sigs.k8s.io/job-index": index,
		}
	}
	for _, row := range []struct {
		labels map[string]string
		index  int32
		want   string
	}{
		{labels("driver", "1", "0"), 0, "driver 0"}, {labels("workers", "3", "0"), 0, "workers 0"}, {labels("workers", "3", "2"), 0, "workers 2"},
		{labels("workers", "3", "0"), 1, "workers 3"}, {labels("workers", "3", "2"), 4, "workers 14"},
		{nil, 5, " 5"}, {labels("w", "x", "-1"), 2, "w 2"}, {labels("w", "2147483647", "1"), 2147483647, "w 2147483647"},
	} {
		if group, rank := kind.Place(row.labels, row.index); fmt.Sprint(group, " ", rank) != row.want {
			t.Errorf("a pod with %v and index %d is %s %d, want %s", row.labels, row.index, group, rank, row.want)
		}
	}
	keys := slices.Sorted(maps.Keys(labels("", "", "")))
	if got := slices.Sorted(slices.Values(kind.PodLabels())); !slices.Equal(got, keys) {
		t.Errorf("of a pod are kept %v, and read %v", got, keys)
	}
	of := func(name string, owner metav1.OwnerReference) *batchv1.Job {
		return &batchv1.Job{ObjectMeta: metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{owner}}}
	}
	mine := metav1.OwnerReference{APIVersion: "jobset.x-k8s.io/v1", Kind: "JobSet", Name: "train", UID: "u", Controller: new(true)}
	for name, want := range map[string]string{
		"train-workers-1": "workers 1 train-workers-1", "train-my-workers-12": "my-workers 12 train-my-workers-12",
		"train-workers": " 0 ", "other-workers-1": " 0 ", "train-workers-x": " 0 ", "train-workers-01": "workers 1 train-workers-1",
	} {
		if owner := kind.Owner(of(name, mine)); owner == nil || owner.Name != "train" || owner.UID != "u" ||
			fmt.Sprint(owner.Group, " ", owner.Index, " ", owner.Job) != want {
			t.Errorf("Job %s is of %+v, want %q", name, owner, want)
		}
	}
	for _, other := range []metav1.OwnerReference{
		{APIVersion: "jobset.x-k8s.io/v1alpha2", Kind: "JobSet", Name: "train", UID: "u"},
		{APIVersion: "batch/v1", Kind: "CronJob", Name: "train", UID: "u", Controller: new(true)},
	} {
		if owner := kind.Owner(of("train-workers-1", other)); owner != nil {
			t.Errorf("a Job of %+v is of %+v", other, owner)
		}
	}
	if job := kind.JobOf("train", "workers"); job != "train-workers-0" {
		t.Errorf("the first Job is %s", job)
	}
	if all, group := kind.Selector("train", ""), kind.Selector("train", "workers"); all != "jobset.sigs.k8s.io/jobset-name=train" ||
		group != all+",jobset.sigs.k8s.io/replicatedjob-name=workers" {
		t.Errorf("pods are selected by %s and %s", all, group)
	}
}

// TestHasJob: a JobSet has as many Jobs of each of its replicatedJobs as that has replicas, and no others, whatever owner they name. Of
// one that cannot be read its member has recorded the groups.
func TestHasJob(t *testing.T) {
	t.Parallel()
	two := read(t, nil)
	one := read(t, annotate(maxSize, "8"))
	field("replicatedJobs", []any{job(one, 1)})(one)
	parsed := func(u *unstructured.Unstructured) *member.Workload {
		w, err := jobset.Kind{}.Parse(u)
		if err != nil {
			t.Fatal(err)
		}
		return w
	}
	recorded := func(spec v1alpha1.EnsembleMemberSpec) *member.Workload {
		return member.Unreadable(jobset.Kind{}, two, nil, &v1alpha1.EnsembleMember{Spec: spec})
	}
	for name, row := range map[string]struct {
		w    *member.Workload
		want []string
	}{
		"two groups": {parsed(two), []string{"train-driver-0", "train-workers-0", "train-workers-1"}},
		"one group":  {parsed(one), []string{"train-workers-0", "train-workers-1"}},
		"two groups as they were recorded": {recorded(v1alpha1.EnsembleMemberSpec{Groups: []v1alpha1.MemberGroup{
			{Name: "driver", Size: 1, MinSize: 1, MaxSize: 1}, {Name: "workers", Size: 4, MinSize: 2, MaxSize: 8},
		}}), []string{"train-driver-0", "train-workers-0", "train-workers-1"}},
		"one group as it was recorded": {recorded(v1alpha1.EnsembleMemberSpec{Size: 4, MinSize: 2, MaxSize: 8}), []string{
			"train-driver-0", "train-driver-1", "train-workers-0", "train-workers-1", "train-zzz-0",
		}},
	} {
		var got []string
		for _, name := range []string{
			"train-driver-0", "train-driver-1", "train-workers-0", "train-workers-1", "train-workers-2", "train-workers-9", "train-zzz-0",
		} {
			of := metav1.NewControllerRef(two, jobset.GroupVersionKind)
			if row.w.HasJob(jobset.Kind{}.Owner(&metav1.ObjectMeta{Name: name, OwnerReferences: []metav1.OwnerReference{*of}})) {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, row.want) {
			t.Errorf("%s: the Jobs are %v, not %v", name, got, row.want)
		}
	}
}

// TestTooLarge: of sizes that no JobSet can have nothing is made, whether somebody has asked for it to be managed or not, and what is wrong
// is said.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	const each, all = "it has to be at most 100000 for a Job", "it has to be at most 75000 for a Job"
	sized := func(i int, size int64) func(*unstructured.Unstructured) {
		return func(u *unstructured.Unstructured) {
			set(i, size, "template", "spec", "parallelism")(u)
			set(i, size, "template", "spec", "completions")(u)
		}
	}
	plain := func(u *unstructured.Unstructured) { u.SetAnnotations(nil); sized(1, 75001)(u) }
	given := func(text string) func(*unstructured.Unstructured) {
		return annotate(maxSize, "driver=1,workers=150000", v1alpha1.AnnotationJobSizes, text)
	}
	for name, row := range map[string]struct {
		change func(*unstructured.Unstructured)
		want   string
		read   bool
	}{
		"a Job":                 {sized(0, 100001), "spec.replicatedJobs[0].template.spec.parallelism is 100001; each of", false},
		"two Jobs":              {sized(1, 75001), all, false},
		"what nobody manages":   {plain, all, false},
		"sizes of Jobs":         {given("driver=1,workers=67108864"), all + "; it is the controller's own", false},
		"the most sizes of all": {given("driver=1,workers=150000"), "", true},
		"a maximum":             {annotate(maxSize, "driver=100001,workers=8"), each, true},
		"a maximum of two Jobs": {annotate(maxSize, "driver=1,workers=150002"), all, true},
	} {
		w, err := jobset.Kind{}.Parse(read(t, row.change))
		if (w != nil) != row.read || (err != nil) != (row.want != "") || (err != nil && !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: read is %v and wrong is %v, want %q", name, w, err, row.want)
		}
	}
}

// TestMarks: pods are marked at the creation of a JobSet, and so are the maximum sizes; marks that an update takes away come back.
func TestMarks(t *testing.T) {
	t.Parallel()
	of := func(u *unstructured.Unstructured) *jobset.JobSet {
		js, err := jobset.Read(u)
		if err != nil {
			t.Fatal(err)
		}
		return js
	}
	plain := read(t, annotate(maxSize, ""))
	marked := plain.DeepCopy()
	marks := of(plain).MarksOfNew()
	if err := marks.AddTo(marked); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		pod := &of(marked).Jobs[i].Template.Spec.Template
		if pod.Labels[v1alpha1.LabelMember] != "jobset.train" || pod.Annotations[v1alpha1.AnnotationSafeToEvict] != "false" {
			t.Errorf("the pods of %d are marked with %v and %v", i, pod.Labels, pod.Annotations)
		}
	}
	if got := marked.GetAnnotations()[maxSize]; got != "driver=1,workers=4" {
		t.Errorf("the maximum sizes are %s", got)
	}
	none := func(marks jobset.Marks) bool {
		return marks.MaxSize == "" && !slices.ContainsFunc(marks.Pods, func(m jobset.PodMarks) bool { return m != jobset.PodMarks{} })
	}
	if again := of(marked).MarksOfNew(); !none(again) {
		t.Errorf("what is marked lacks %+v", again)
	}
	if back := of(plain).MarksOfUpdate(of(marked)); back.MaxSize != "driver=1,workers=4" || back.Pods[1].Label != "jobset.train" ||
		back.Pods[0].SafeToEvict != "false" {
		t.Errorf("an update that takes all away is given %+v", back)
	}
	unmarked := read(t, nil)
	if late := of(unmarked).MarksOfUpdate(of(unmarked)); !none(late) {
		t.Errorf("one whose pods are without is given %+v", late)
	}
	suspended := read(t, field("suspend", true))
	if late := of(suspended).MarksOfUpdate(of(unmarked)); late.Pods[0].Label != "jobset.train" {
		t.Errorf("one that is suspended, whose template may change, is given %+v", late)
	}
	given := of(read(t, annotate(v1alpha1.AnnotationJobSizes, "driver=1,workers=6")))
	restored := read(t, nil)
	back := of(restored).MarksOfUpdate(given)
	if err := back.AddTo(restored); err != nil {
		t.Fatal(err)
	}
	if sizes := restored.GetAnnotations()[v1alpha1.AnnotationJobSizes]; sizes != "driver=1,workers=6" {
		t.Errorf("an update that takes the sizes of the Jobs away is given %q", sizes)
	}
	if taken := of(read(t, set(1, int64(3), "template", "spec", "parallelism"))).MarksOfUpdate(given); taken.JobSizes != "" {
		t.Errorf("an update by which the JobSet has other sizes itself is given %q", taken.JobSizes)
	}
	if stays := given.MarksOfUpdate(given); stays.JobSizes != "" {
		t.Errorf("an update that leaves the sizes of the Jobs is given %q", stays.JobSizes)
	}
	part := of(read(t, annotate(maxSize, "workers=6"))).MarksOfNew()
	if part.MaxSize != "driver=1,workers=6" {
		t.Errorf("of a part of the maximum sizes comes %q", part.MaxSize)
	}
}

// TestCheckName: names are as short as the label and the host names of pods want it.
func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		length int
		change func(*unstructured.Unstructured)
		want   string
	}{
		{49, nil, ""},
		{53, nil, "has 53 characters; it has to have at most 51: at its maximum size the last pod of workers has the host name NAME-workers-1-3"},
		{60, nil, "has 60 characters; it has to have at most 56: the pods carry jobset.NAME in a label"},
		{51, annotate(maxSize, "driver=1,workers=2000"), "has 51 characters; it has to have at most 49: at its maximum size the last pod of " +
			"workers has the host name NAME-workers-1-999"},
	} {
		u := read(t, row.change)
		u.SetName(strings.Repeat("n", row.length))
		js, err := jobset.Read(u)
		if err != nil {
			t.Fatal(err)
		}
		bounds, _ := js.Bounds()
		if got := js.CheckName(bounds); got != row.want {
			t.Errorf("%d characters: %q, want %q", row.length, got, row.want)
		}
	}
}

// FuzzParse: whatever is written, what is read of it is in order or refused.
func FuzzParse(f *testing.F) {
	f.Add("driver=1,workers=8", "workers=4", "driver=1,workers=6", int32(2), int32(2), int32(2))
	f.Add("8", "", "", int32(0), int32(-1), int32(1))
	f.Fuzz(func(t *testing.T, most, least, given string, replicas, parallelism, completions int32) {
		u := read(t, func(u *unstructured.Unstructured) {
			annotate(maxSize, most, minSize, least, v1alpha1.AnnotationJobSizes, given)(u)
			set(1, int64(replicas), "replicas")(u)
			set(1, int64(parallelism), "template", "spec", "parallelism")(u)
			set(1, int64(completions), "template", "spec", "completions")(u)
		})
		w, err := jobset.Kind{}.Parse(u)
		if err != nil {
			if err.Error() == "" {
				t.Error("an error without words")
			}
			return
		}
		for i := range w.Groups {
			g := &w.Groups[i]
			if g.Size < 1 || g.MinSize < 1 || g.Size > g.MaxSize || g.MinSize > g.MaxSize || g.Size%g.Unit != 0 || g.MaxSize%g.Unit != 0 {
				t.Errorf("%s from %q, %q, %q with %d of %d and %d", words(w), most, least, given, replicas, parallelism, completions)
			}
		}
	})
}
