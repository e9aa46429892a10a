package clusterapi

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/launch"
)

// Names of Cluster API, from api/core/v1beta2 of version 1.14.2.
const (
	// labelCluster names the Cluster that an object belongs to.
	labelCluster = "cluster.x-k8s.io/cluster-name"
	// annotationClonedFromName and annotationClonedFromKind say what template an object was cloned from.
	annotationClonedFromName = "cluster.x-k8s.io/cloned-from-name"
	annotationClonedFromKind = "cluster.x-k8s.io/cloned-from-groupkind"
	// annotationNoDrain and annotationNoVolumes let Cluster API take a machine away without a drain and without a wait for volumes: a
	// machine is told to go when none of our pods is on its node. A drain that is refused is repeated every 20 s.
	annotationNoDrain   = "machine.cluster.x-k8s.io/exclude-node-draining"
	annotationNoVolumes = "machine.cluster.x-k8s.io/exclude-wait-for-node-volume-detach"
	// onInitialization is a taint that a node gets once.
	onInitialization = "OnInitialization"
)

// templateSuffix ends the kinds of templates; the objects have the kind without it.
const templateSuffix = "Template"

// templates are what the objects of machines are cloned from. bootstrap is nil for none.
type templates struct {
	infrastructure, bootstrap *unstructured.Unstructured
}

// readTemplates reads the templates of a pool, as they are now.
func (l *Launcher) readTemplates(ctx context.Context, config *v1alpha1.ClusterAPIMachines) (*templates, error) {
	out := &templates{}
	var err error
	if out.infrastructure, err = l.readTemplate(ctx, config.Namespace, &config.InfrastructureTemplateRef); err != nil {
		return nil, err
	}
	if config.Bootstrap.TemplateRef != nil {
		if out.bootstrap, err = l.readTemplate(ctx, config.Namespace, config.Bootstrap.TemplateRef); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (l *Launcher) readTemplate(
	ctx context.Context, namespace string, ref *v1alpha1.ClusterAPITemplate,
) (*unstructured.Unstructured, error) {
	out, err := l.objectOf(ref, "")
	if err != nil {
		return nil, err
	}
	if err := l.live.Get(ctx, client.ObjectKey{Namespace: namespace, Name: ref.Name}, out); err != nil {
		return nil, fmt.Errorf("get %s %s/%s: %w", ref.Kind, namespace, ref.Name, err)
	}
	return out, nil
}

// objectOf is an empty object of the kind that a template is of, without a suffix of the kind. Its version is the one that the API
// server prefers: references of a Machine name none.
func (l *Launcher) objectOf(ref *v1alpha1.ClusterAPITemplate, without string) (*unstructured.Unstructured, error) {
	kind := schema.GroupKind{Group: ref.APIGroup, Kind: strings.TrimSuffix(ref.Kind, without)}
	mapping, err := l.mapper.RESTMapping(kind)
	if err != nil {
		return nil, fmt.Errorf("find the kind %s at %s: %w", kind, l.host, err)
	}
	out := &unstructured.Unstructured{}
	out.SetGroupVersionKind(mapping.GroupVersionKind)
	return out, nil
}

// clone is the object of a machine that a template describes, not marked yet. It is what Cluster API itself makes of a template for the
// machines of a MachineSet (controllers/external, CreateFromTemplate).
func clone(template *unstructured.Unstructured, machine string) (*unstructured.Unstructured, error) {
	kind := template.GroupVersionKind()
	spec, found, err := unstructured.NestedMap(template.Object, "spec", "template", "spec")
	if err != nil {
		return nil, fmt.Errorf("read spec.template.spec of %s %s: %w", kind.Kind, template.GetName(), err)
	}
	out := &unstructured.Unstructured{Object: map[string]any{}}
	if found {
		out.Object["spec"] = spec
	}
	labels, _, err := unstructured.NestedStringMap(template.Object, "spec", "template", "metadata", "labels")
	if err != nil {
		return nil, fmt.Errorf("read the labels of %s %s: %w", kind.Kind, template.GetName(), err)
	}
	annotations, _, err := unstructured.NestedStringMap(template.Object, "spec", "template", "metadata", "annotations")
	if err != nil {
		return nil, fmt.Errorf("read the annotations of %s %s: %w", kind.Kind, template.GetName(), err)
	}
	annotations = maps.Clone(annotations)
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[annotationClonedFromName], annotations[annotationClonedFromKind] = template.GetName(), kind.GroupKind().String()
	out.SetGroupVersionKind(kind.GroupVersion().WithKind(strings.TrimSuffix(kind.Kind, templateSuffix)))
	out.SetName(machine)
	out.SetNamespace(template.GetNamespace())
	out.SetLabels(labels)
	out.SetAnnotations(annotations)
	return out, nil
}

// objects are those of a machine, in the order in which they are made: the infrastructure object waits for the Machine that owns it and
// costs nothing until then. A Machine that came first would be without its references if nothing came after it.
func (t *templates) objects(
	pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine, failureDomain string,
) ([]*unstructured.Unstructured, error) {
	infrastructure, err := clone(t.infrastructure, machine.Name)
	if err != nil {
		return nil, err
	}
	out := []*unstructured.Unstructured{infrastructure}
	if t.bootstrap != nil {
		bootstrap, err := clone(t.bootstrap, machine.Name)
		if err != nil {
			return nil, err
		}
		out = append(out, bootstrap)
	}
	out = append(out, machineOf(pool, order, machine, failureDomain))
	for _, object := range out {
		mark(object, pool, order, machine)
	}
	return out, nil
}

// machineOf is the Machine of a machine, not marked yet. The labels of the pool's template are on it, so that Cluster API gives them to
// the node as far as --additional-sync-machine-labels says.
func machineOf(pool *launch.Pool, order *launch.Order, machine *v1alpha1.PoolMachine, failureDomain string) *unstructured.Unstructured {
	config := pool.Machines.ClusterAPI
	bootstrap := map[string]any{}
	if ref := config.Bootstrap.TemplateRef; ref != nil {
		bootstrap["configRef"] = referenceTo(ref, machine.Name)
	} else {
		bootstrap["dataSecretName"] = config.Bootstrap.DataSecretName
	}
	spec := map[string]any{
		"clusterName": config.ClusterName, "bootstrap": bootstrap,
		"infrastructureRef": referenceTo(&config.InfrastructureTemplateRef, machine.Name),
	}
	if config.Version != "" {
		spec["version"] = config.Version
	}
	if failureDomain != "" {
		spec["failureDomain"] = failureDomain
	}
	if taints := taintsOf(&machine.Spec.Template); len(taints) > 0 {
		spec["taints"] = taints
	}
	out := newMachine()
	out.Object["spec"] = spec
	out.SetName(machine.Name)
	out.SetNamespace(config.Namespace)
	out.SetLabels(maps.Clone(machine.Spec.Template.Labels))
	annotations := map[string]string{annotationNoDrain: "", annotationNoVolumes: ""}
	if order.Domain != "" {
		annotations[annotationDomain] = order.Domain
	}
	out.SetAnnotations(annotations)
	return out
}

func referenceTo(ref *v1alpha1.ClusterAPITemplate, name string) map[string]any {
	return map[string]any{"apiGroup": ref.APIGroup, "kind": strings.TrimSuffix(ref.Kind, templateSuffix), "name": name}
}

// taintsOf are the taints of the pool's template as a Machine has them: Cluster API gives them to the node from version 1.12 on, where
// its feature gate MachineTaintPropagation is on. Everywhere else the bootstrap has to set them.
func taintsOf(template *v1alpha1.NodeTemplate) []any {
	out := make([]any, 0, len(template.Taints))
	for i := range template.Taints {
		taint := map[string]any{"key": template.Taints[i].Key, "effect": string(template.Taints[i].Effect), "propagation": onInitialization}
		if value := template.Taints[i].Value; value != "" {
			taint["value"] = value
		}
		out = append(out, taint)
	}
	return out
}
