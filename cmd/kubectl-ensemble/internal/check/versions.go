package check

import (
	"fmt"

	"k8s.io/apimachinery/pkg/util/version"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member/minicluster"
)

// miniClusters is the resource that the Flux Operator defines.
var miniClusters = minicluster.GroupVersionKind.GroupVersion().WithResource("miniclusters")

// minKubernetes is the version from which on the validating admission policies that are shipped are served.
const minKubernetes = "1.30"

// findVersions looks at the versions of what the ensemble-autoscaler needs.
func findVersions(f *Facts, _ *Shipped) []Finding {
	var out []Finding
	server := "API server " + f.Kubernetes
	if v, err := version.ParseGeneric(f.Kubernetes); err == nil && v.LessThan(version.MustParseGeneric(minKubernetes)) {
		out = append(out, Finding{
			Error, "KubernetesTooOld", server, fmt.Sprintf(
				"Kubernetes is %s; admission policies are served from %s on", f.Kubernetes, minKubernetes,
			),
			"upgrade the cluster",
		})
	}
	if !f.Serves(miniClusters) {
		out = append(out, Finding{
			Error, "FluxOperatorMissing", server,
			fmt.Sprintf("it does not serve %s %s: there are no MiniClusters to resize", miniClusters.GroupResource(), miniClusters.Version),
			"install the Flux Operator: https://flux-framework.org/flux-operator/",
		})
	}
	return out
}

// findDefinitions looks at whether what is shipped is served.
func findDefinitions(f *Facts, shipped *Shipped) []Finding {
	var out []Finding
	for _, resource := range shipped.Definitions {
		if !f.Serves(resource) {
			out = append(out, Finding{
				Error, "DefinitionNotServed", "CustomResourceDefinition " + resource.GroupResource().String(),
				fmt.Sprintf("the API server does not serve %s of version %s", resource.GroupResource(), resource.Version),
				"apply the definitions of this version: make deploy, or kubectl apply --server-side -k manifests/crd",
			})
		}
	}
	return out
}

// findPrograms looks at the pods of provider and controller.
func findPrograms(f *Facts, _ *Shipped) []Finding {
	if !f.knows("pods") {
		return nil
	}
	var out []Finding
	images := map[string]bool{}
	for _, program := range []struct {
		name string
		pods []Pod
		of   string
	}{
		{"provider", f.Provider, "no machine is ordered or released"},
		{"controller", f.Controller, "no member is resized, and its webhooks refuse what they judge"},
	} {
		ready := 0
		for i := range program.pods {
			p := &program.pods[i]
			images[p.Image] = true
			switch {
			case p.Ready:
				ready++
			case p.Waits != "":
				out = append(out, Finding{
					Warning, "ProgramNotReady", p.object(), "a container of it does not run: " + p.Waits,
					fmt.Sprintf("kubectl --namespace %s describe pod %s", p.Namespace, p.Name),
				})
			}
		}
		if ready == 0 {
			out = append(out, Finding{
				Error, "ProgramNotReady", "Deployment " + f.Namespace + "/" + program.name,
				fmt.Sprintf("none of its %d pods is Ready: %s", len(program.pods), program.of),
				fmt.Sprintf(
					"kubectl --namespace %s describe deployment %s; kubectl --namespace %s logs deployment/%s", f.Namespace, program.name, f.Namespace,
					program.name,
				),
			})
		}
	}
	if len(images) > 1 {
		out = append(out, Finding{
			Warning, "ImagesDiffer", "Namespace " + f.Namespace, fmt.Sprintf("pods of provider and controller run %d different images", len(images)),
			"wait for the end of the upgrade, or repeat make deploy",
		})
	}
	return out
}
