package jobset

import (
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// Strip keeps of a JobSet in a cache what Parse reads.
func Strip(object any) (any, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	u.SetManagedFields(nil)
	u.SetLabels(nil)
	annotations := u.GetAnnotations()
	maps.DeleteFunc(annotations, func(key, _ string) bool {
		return !strings.HasPrefix(key, v1alpha1.GroupVersion.Group+"/") && key != exclusiveTopology
	})
	u.SetAnnotations(annotations)
	if spec, is := u.Object["spec"].(map[string]any); is {
		spec = member.Kept(spec, "suspend", "managedBy", "coordinator", "replicatedJobs")
		editList(spec["replicatedJobs"], stripReplicatedJob)
		u.Object["spec"] = spec
	}
	if status, is := u.Object["status"].(map[string]any); is {
		status = member.Kept(status, "terminalState", "conditions")
		editList(status["conditions"], func(condition map[string]any) map[string]any { return member.Kept(condition, "type", "status") })
		u.Object["status"] = status
	}
	return u, nil
}

// editList changes the objects of a list. What is not of the type that is expected stays as it is, for Read to name.
func editList(list any, change func(map[string]any) map[string]any) {
	items, is := list.([]any)
	if !is {
		return
	}
	for i := range items {
		if item, is := items[i].(map[string]any); is {
			items[i] = change(item)
		}
	}
}

func stripReplicatedJob(job map[string]any) map[string]any {
	job = member.Kept(job, "name", "replicas", "dependsOn", "template")
	within(job, "template", func(template map[string]any) map[string]any {
		template = member.Kept(template, "metadata", "spec")
		within(template, "metadata", func(metadata map[string]any) map[string]any {
			metadata = member.Kept(metadata, "annotations")
			within(metadata, "annotations", func(annotations map[string]any) map[string]any {
				return member.Kept(annotations, exclusiveTopology)
			})
			return metadata
		})
		within(template, "spec", func(spec map[string]any) map[string]any {
			spec = member.Kept(spec, "parallelism", "completions", "completionMode", "template")
			within(spec, "template", func(pod map[string]any) map[string]any {
				pod = member.Kept(pod, "spec")
				within(pod, "spec", stripPod)
				return pod
			})
			return spec
		})
		return template
	})
	return job
}

func stripPod(pod map[string]any) map[string]any {
	pod = member.Kept(
		pod, "nodeSelector", "affinity", "tolerations", "overhead", "resources", "containers", "initContainers",
	)
	for _, list := range []string{"containers", "initContainers"} {
		editList(pod[list], func(container map[string]any) map[string]any {
			return member.Kept(container, "name", "restartPolicy", "resources")
		})
	}
	return pod
}

// within changes the object that is in a field, if there is one.
func within(object map[string]any, name string, change func(map[string]any) map[string]any) {
	if inner, is := object[name].(map[string]any); is {
		object[name] = change(inner)
	}
}
