package minicluster

import (
	"maps"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
)

// Strip keeps of a MiniCluster in a cache what Parse reads, and of one that another object controls, as an Ensemble does, all but what
// kubectl remembers of it. A MiniCluster may have a megabyte of scripts, and whoever may create one may create many.
func Strip(object any) (any, error) {
	u, ok := object.(*unstructured.Unstructured)
	if !ok {
		return object, nil
	}
	u.SetManagedFields(nil)
	annotations := u.GetAnnotations()
	if metav1.GetControllerOfNoCopy(u) != nil {
		delete(annotations, "kubectl.kubernetes.io/last-applied-configuration")
		u.SetAnnotations(annotations)
		return u, nil
	}
	maps.DeleteFunc(annotations, func(key, _ string) bool { return !strings.HasPrefix(key, v1alpha1.GroupVersion.Group+"/") })
	u.SetAnnotations(annotations)
	u.SetLabels(nil)
	if spec, is := u.Object["spec"].(map[string]any); is {
		u.Object["spec"] = stripSpec(spec)
	}
	if status, is := u.Object["status"].(map[string]any); is {
		u.Object["status"] = member.Kept(status, "maximumSize")
	}
	return u, nil
}

// stripSpec keeps what miniClusterSpec has. What is not of the type that is expected stays as it is, for Parse to name.
func stripSpec(spec map[string]any) map[string]any {
	out := member.Kept(spec, "size", "minSize", "maxSize", "containers", "flux", "pod")
	if containers, is := out["containers"].([]any); is {
		of := make([]any, len(containers))
		for i := range containers {
			of[i] = containers[i]
			if c, is := containers[i].(map[string]any); is {
				of[i] = member.Kept(c, "resources")
			}
		}
		out["containers"] = of
	}
	if flux, is := out["flux"].(map[string]any); is {
		flux = member.Kept(flux, "container")
		if c, is := flux["container"].(map[string]any); is {
			flux["container"] = member.Kept(c, "resources")
		}
		out["flux"] = flux
	}
	if pod, is := out["pod"].(map[string]any); is {
		out["pod"] = member.Kept(pod, "tolerations", "nodeSelector", "nodeAffinity", "resources")
	}
	return out
}
