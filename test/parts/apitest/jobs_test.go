package apitest

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// TestWhichJobsTheControllerMayWrite: with the component for Jobs it changes the sizes and its own annotations of managed ones that nothing
// else controls, and makes and deletes none. Nobody else is held to that.
func TestWhichJobsTheControllerMayWrite(t *testing.T) {
	applyManifest(t, "components/kind-job", "admission.yaml")
	controller, other := as(
		t, "system:serviceaccount:ensemble-autoscaler-system:controller",
	), as(t, "system:serviceaccount:default:controller")
	const managed = v1alpha1.AnnotationNodePools + `: hpc`
	job := func(name, annotations, owners string) *unstructured.Unstructured {
		return parse(t, `{apiVersion: batch/v1, kind: Job, metadata: {name: `+name+`, namespace: default, annotations: {`+annotations+`},
			ownerReferences: [`+owners+`]}, spec: {parallelism: 2, completions: 2, completionMode: Indexed, suspend: true,
			template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}`)
	}
	mine, foreign := create(t, job("mine", managed, "")), create(t, job("foreign", "", ""))
	owned := create(t, job("owned", managed, `{apiVersion: batch/v1, kind: CronJob, name: c, uid: c, controller: true}`))
	untilForbidden(t, deletion(controller, mine))

	creates := []string{"the controller creates and deletes no Jobs"}
	changes := []string{"changes nothing of a Job but spec.parallelism, spec.completions and its own annotations"}
	none := []string{"changes no Jobs but those with the annotation"}
	const size = `{metadata: {annotations: {autoscaling.flux-framework.org/applied-size: "3"}}, spec: {parallelism: 3, completions: 3}}`
	checkFences(t, map[string]fence{
		"a size":                           {patch(t, controller, mine, size), nil},
		"an annotation of its own":         {patch(t, controller, mine, `{metadata: {annotations: {autoscaling.flux-framework.org/applied-size: "2"}}}`), nil},
		"a size of one that nobody asked":  {patch(t, controller, foreign, size), none},
		"a size of one of a CronJob":       {patch(t, controller, owned, size), none},
		"to manage one":                    {patch(t, controller, foreign, `{metadata: {annotations: {`+managed+`}}}`), none},
		"another image of a suspended one": {patch(t, controller, mine, `{spec: {template: {metadata: {labels: {a: b}}}}}`), changes},
		"to resume it":                     {patch(t, controller, mine, `{spec: {suspend: false}}`), changes},
		"its time":                         {patch(t, controller, mine, `{spec: {activeDeadlineSeconds: 1}}`), changes},
		"somebody else's annotation":       {patch(t, controller, mine, `{metadata: {annotations: {example.com/x: z}}}`), changes},
		"a label":                          {patch(t, controller, mine, `{metadata: {labels: {a: b}}}`), changes},
		"a finalizer":                      {patch(t, controller, mine, `{metadata: {finalizers: [example.com/keep]}}`), changes},
		"a new one":                        {creation(controller, job("new", managed, "")), creates},
		"its deletion":                     {deletion(controller, mine), creates},
		"a user's new one":                 {creation(other, job("new", "", "")), nil},
		"a user resumes it":                {patch(t, other, mine, `{spec: {suspend: false}}`), nil},
		"a user's deletion":                {deletion(other, mine), nil},
	})
}
