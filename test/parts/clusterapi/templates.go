package clusterapi

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/system"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/parts/clusterapi/tiny"
)

// infrastructureRights are those on the kinds of the stand-in, as docs/cluster-api.md says how to give them for real ones.
const infrastructureRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: ensemble-autoscaler-infrastructure}
rules:
- apiGroups: [tiny.example.com]
  resources: [tinymachinetemplates, tinyconfigtemplates]
  verbs: [get]
- apiGroups: [tiny.example.com]
  resources: [tinymachines, tinyconfigs]
  verbs: [get, create, delete]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: ensemble-autoscaler-infrastructure}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: ensemble-autoscaler-infrastructure}
subjects: [{kind: ServiceAccount, name: provider, namespace: ensemble-autoscaler-system}]
`

// Grant gives the provider's ServiceAccount what manifests/components/cluster-api gives it, in the namespace of the Machines, and the
// rights on the kinds of the stand-in.
func (i *Installation) Grant(ctx context.Context, s *system.System) error {
	objects, err := s.ObjectsOf("manifests/components/cluster-api/rbac.yaml")
	if err != nil {
		return err
	}
	ofInfrastructure, err := system.Objects([]byte(infrastructureRights))
	if err != nil {
		return err
	}
	for _, object := range append(objects, ofInfrastructure...) {
		object.SetNamespace(i.Namespace)
		if err := i.Client.Create(ctx, object); err != nil {
			return fmt.Errorf("create %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return i.makeConfigTemplate(ctx)
}

// Template is what is said of the machines of a TinyMachineTemplate: see package tiny.
type Template struct {
	BootDelay string
	// Stock is how many there are, nil for any number.
	Stock *int64
	// Node are labels, taints, capacity and allocatable of the node, as YAML.
	Node string
	// Fail is {reason, message} as YAML, empty for machines that do not fail.
	Fail string
}

// Apply makes a TinyMachineTemplate or replaces what it says.
func (i *Installation) Apply(ctx context.Context, name string, t *Template) error {
	spec := map[string]any{}
	if err := yaml.Unmarshal([]byte(t.Node), &spec); err != nil {
		return fmt.Errorf("parse what a node is to have: %w", err)
	}
	if t.BootDelay != "" {
		spec["bootDelay"] = t.BootDelay
	}
	if t.Fail != "" {
		var fail map[string]any
		if err := yaml.Unmarshal([]byte(t.Fail), &fail); err != nil {
			return fmt.Errorf("parse a failure: %w", err)
		}
		spec["fail"] = fail
	}
	of := map[string]any{"template": map[string]any{"spec": spec}}
	if t.Stock != nil {
		of["stock"] = *t.Stock
	}
	object := i.object("TinyMachineTemplate", name)
	object.Object["spec"] = of
	return i.put(ctx, object)
}

// ConfigTemplate is the name of the one TinyConfigTemplate.
const ConfigTemplate = "tiny"

func (i *Installation) makeConfigTemplate(ctx context.Context) error {
	object := i.object("TinyConfigTemplate", ConfigTemplate)
	object.Object["spec"] = map[string]any{"template": map[string]any{"spec": map[string]any{}}}
	return i.put(ctx, object)
}

func (i *Installation) object(kind, name string) *unstructured.Unstructured {
	out := tiny.New(kind)
	out.SetNamespace(i.Namespace)
	out.SetName(name)
	return out
}

func (i *Installation) put(ctx context.Context, object *unstructured.Unstructured) error {
	configuration := client.ApplyConfigurationFromUnstructured(object)
	if err := i.Client.Apply(ctx, configuration, client.FieldOwner("test"), client.ForceOwnership); err != nil {
		return fmt.Errorf("apply %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return nil
}

// SpecMachines is spec.machines of a NodePool whose machines are of a TinyMachineTemplate.
func (i *Installation) SpecMachines(template string) map[string]any {
	reference := func(kind, name string) map[string]any {
		return map[string]any{"apiGroup": tiny.Group, "kind": kind, "name": name}
	}
	return map[string]any{"clusterAPI": map[string]any{
		"namespace": i.Namespace, "clusterName": ClusterName,
		"infrastructureTemplateRef": reference("TinyMachineTemplate", template),
		"bootstrap":                 map[string]any{"templateRef": reference("TinyConfigTemplate", ConfigTemplate)},
	}}
}
