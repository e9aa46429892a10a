package apitest

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/jobset"
)

// TestWhichJobSetsTheControllerMayWrite: with the component for JobSets it changes the sizes and its own annotations of managed ones that
// nothing else controls, and the sizes of their Jobs; it makes and deletes none. Nobody else is held to that.
func TestWhichJobSetsTheControllerMayWrite(t *testing.T) {
	path, err := jobset.Definition(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	options := envtest.CRDInstallOptions{MaxTime: time.Minute, Paths: []string{path}, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(server.config, options); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := envtest.UninstallCRDs(server.config, options); err != nil {
			t.Error(err)
		}
	})
	applyManifest(t, "components/kind-jobset", "admission.yaml")
	controller, other := as(
		t, "system:serviceaccount:ensemble-autoscaler-system:controller",
	), as(t, "system:serviceaccount:default:controller")
	const managed = v1alpha1.AnnotationNodePools + `: hpc`
	const pods = `template: {metadata: {labels: {autoscaling.flux-framework.org/member: jobset.mine}},
		spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}`
	jobSet := func(name, annotations, owners string) *unstructured.Unstructured {
		return parse(t, `{apiVersion: jobset.x-k8s.io/v1alpha2, kind: JobSet, metadata: {name: `+name+`, namespace: default,
			annotations: {`+annotations+`}, ownerReferences: [`+owners+`]}, spec: {network: {enableDNSHostnames: true}, replicatedJobs: [
			{name: a, template: {spec: {parallelism: 1, completions: 1, `+pods+`}}},
			{name: b, template: {spec: {parallelism: 2, completions: 2, `+pods+`}}}]}}`)
	}
	mine, foreign := create(t, jobSet("mine", managed, "")), create(t, jobSet("foreign", "", ""))
	owned := create(t, jobSet("owned", managed, `{apiVersion: trainer.kubeflow.org/v1alpha1, kind: TrainJob, name: c, uid: c, controller: true}`))
	child := func(name, label, kind string) *unstructured.Unstructured {
		return create(t, parse(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: `+name+`, namespace: default,
			ownerReferences: [{apiVersion: `+kind+`, name: mine, uid: u, controller: true}]}, spec: {parallelism: 2, completions: 2,
			completionMode: Indexed, suspend: true, template: {metadata: {labels: {`+label+`}},
			spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`))
	}
	const sets = "jobset.x-k8s.io/v1alpha2, kind: JobSet"
	const label = "autoscaling.flux-framework.org/member: jobset.mine"
	job, unmarked := child("mine-b-0", label, sets), child("mine-b-1", "", sets)
	cron := child("cron", label, "batch/v1, kind: CronJob")
	untilForbidden(t, deletion(controller, mine))
	untilForbidden(t, deletion(controller, job))

	of := func(a, b string) string {
		return `{metadata: {annotations: {autoscaling.flux-framework.org/applied-size: "a=1,b=3"}}, spec: {replicatedJobs: [
			{name: a, replicas: 1, groupName: default, template: {spec: {` + a + `, ` + pods + `}}},
			{name: b, replicas: 1, groupName: default, template: {spec: {` + b + `, ` + pods + `}}}]}}`
	}
	creates := []string{"the controller creates and deletes no JobSets"}
	changes := []string{"changes nothing of a JobSet but parallelism and completions of its replicatedJobs, and its own annotations"}
	none, jobs := []string{"changes no JobSets but those with the annotation"}, []string{"changes no Jobs but those with the annotation"}
	const one, three = "parallelism: 1, completions: 1", "parallelism: 3, completions: 3"
	const size = `{spec: {parallelism: 3, completions: 3}}`
	checkFences(t, map[string]fence{
		"sizes":                           {patch(t, controller, mine, of(one, three)), nil},
		"its own annotation":              {patch(t, controller, mine, `{metadata: {annotations: {autoscaling.flux-framework.org/job-sizes: "a=1,b=3"}}}`), nil},
		"sizes of one that nobody asked":  {patch(t, controller, foreign, of(one, three)), none},
		"sizes of one of a training job":  {patch(t, controller, owned, of(one, three)), none},
		"another mode":                    {patch(t, controller, mine, of(one, three+", completionMode: Indexed")), changes},
		"another number of Jobs":          {patch(t, controller, mine, `{spec: {replicatedJobs: [{name: a, replicas: 2, groupName: default, template: {spec: {`+one+`, `+pods+`}}}]}}`), changes},
		"another name":                    {patch(t, controller, mine, `{spec: {replicatedJobs: [{name: c, replicas: 1, groupName: default, template: {spec: {`+one+`, `+pods+`}}}, {name: b, replicas: 1, groupName: default, template: {spec: {`+three+`, `+pods+`}}}]}}`), changes},
		"to suspend it":                   {patch(t, controller, mine, `{spec: {suspend: true}}`), changes},
		"somebody else's annotation":      {patch(t, controller, mine, `{metadata: {annotations: {example.com/x: z}}}`), changes},
		"a label":                         {patch(t, controller, mine, `{metadata: {labels: {a: b}}}`), changes},
		"a new one":                       {creation(controller, jobSet("new", managed, "")), creates},
		"its deletion":                    {deletion(controller, mine), creates},
		"the size of one of its Jobs":     {patch(t, controller, job, size), nil},
		"to resume one of its Jobs":       {patch(t, controller, job, `{spec: {suspend: false}}`), []string{"changes nothing of a Job but"}},
		"the size of an unmarked one":     {patch(t, controller, unmarked, size), jobs},
		"the size of a Job of a CronJob":  {patch(t, controller, cron, size), jobs},
		"the deletion of one of its Jobs": {deletion(controller, job), []string{"the controller creates and deletes no Jobs"}},
		"a user suspends it":              {patch(t, other, mine, `{spec: {suspend: true}}`), nil},
		"a user's deletion":               {deletion(other, mine), nil},
	})
}
