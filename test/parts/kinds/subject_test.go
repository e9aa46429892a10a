package kinds

import (
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/job"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/jobset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/controlplane"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
)

// subject is a kind as a play needs it.
type subject struct {
	kind member.Kind
	// text is an object m of size 2, of 1 to 6, in a namespace, with a pool, of which each pod takes a node and runs for some seconds.
	text string
	// edit is the patch of a user who sets the size by hand: a JSON patch where it is a list.
	edit string
	// group is what the pods are called a group of, empty where the kind has one.
	group string
	// suspends is the kind of the object m by which it is suspended.
	suspends member.Kind
}

// subjects are all kinds.
var subjects = []subject{
	{minicluster.Kind{}, `
apiVersion: flux-framework.org/v1alpha2
kind: MiniCluster
metadata: {name: m, namespace: %[1]s, annotations: {autoscaling.flux-framework.org/node-pools: %[2]s}}
spec:
  size: 2
  minSize: 1
  maxSize: 6
  interactive: true
  pod: {annotations: %[3]s}
  containers: [{image: flux, resources: {requests: {cpu: "3"}}}]
`, `{"spec": {"size": %[1]d}}`, "", job.Kind{}},
	{job.Kind{}, `
apiVersion: batch/v1
kind: Job
metadata:
  name: m
  namespace: %[1]s
  annotations:
    autoscaling.flux-framework.org/node-pools: %[2]s
    autoscaling.flux-framework.org/min-size: "1"
    autoscaling.flux-framework.org/max-size: "6"
spec:
  parallelism: 2
  completions: 2
  completionMode: Indexed
  template:
    metadata: {annotations: %[3]s}
    spec:
      restartPolicy: Never
      containers: [{name: work, image: work, resources: {requests: {cpu: "3"}}}]
`, `{"spec": {"parallelism": %[1]d, "completions": %[1]d}}`, "", job.Kind{}},
	{jobset.Kind{}, `
apiVersion: jobset.x-k8s.io/v1alpha2
kind: JobSet
metadata:
  name: m
  namespace: %[1]s
  annotations:
    autoscaling.flux-framework.org/node-pools: %[2]s
    autoscaling.flux-framework.org/max-size: "6"
spec:
  replicatedJobs:
  - name: work
    template:
      spec:
        parallelism: 2
        completions: 2
        completionMode: Indexed
        template:
          metadata: {annotations: %[3]s}
          spec:
            restartPolicy: Never
            containers: [{name: work, image: work, resources: {requests: {cpu: "3"}}}]
`, `[{"op": "replace", "path": "/spec/replicatedJobs/0/template/spec/parallelism", "value": %[1]d},
	{"op": "replace", "path": "/spec/replicatedJobs/0/template/spec/completions", "value": %[1]d}]`, "work", jobset.Kind{}},
}

// object is an object of the kind whose pods run for some seconds, or for ever with 0.
func (s *subject) object(namespace, pool string, seconds int) (*unstructured.Unstructured, error) {
	annotations := "{}"
	if seconds > 0 {
		annotations = fmt.Sprintf(`{%s: "%d"}`, controlplane.RunSecondsAnnotation, seconds)
	}
	objects, err := system.Objects(fmt.Appendf(nil, s.text, namespace, pool, annotations))
	if err != nil {
		return nil, err
	}
	return objects[0], nil
}
