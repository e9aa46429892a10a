// Package crew has a kind of workload that exists for tests alone: a Crew has several groups of pods, each with a size of its own and made
// by Jobs, and pods that come and go by several. So what is the same for all such kinds is tested without the controller of any of them.
package crew

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/member"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
)

// GroupVersionKind is that of a Crew.
var GroupVersionKind = schema.GroupVersionKind{Group: "example.com", Version: "v1", Kind: "Crew"}

// The labels by which the pods of a Crew are known: its name, that of the group, how many Jobs make the pods of the group, and which of
// them that is.
const (
	labelCrew  = "example.com/crew"
	labelGroup = "example.com/group"
	labelJobs  = "example.com/jobs"
	labelJob   = "example.com/job"
)

// Group is a group of a Crew: spec.groups[] of it.
type Group struct {
	Name string
	// Size is its number of pods, of at most Max. At least one unit of pods is there.
	Size, Max int64
	// Unit is how many pods come and go together, each made by a Job of its own; 0 is 1.
	Unit int64
}

// unit is how many Jobs make the pods.
func (g *Group) unit() int64 { return max(g.Unit, 1) }

// Kind is the kind of Crews.
type Kind struct{}

var _ member.Kind = Kind{}

var words = member.Words{
	Kind: "Crew", Kinds: "Crews", Size: "size", MinSize: "unit", MaxSize: "max", Job: "Jobs of the Crew", NoJob: "the Crew has no Jobs",
	Callers: []string{"crew"}, Prefix: "crew.",
}

// GroupVersionKind implements member.Kind.
func (Kind) GroupVersionKind() schema.GroupVersionKind { return GroupVersionKind }

// Words implements member.Kind.
func (Kind) Words() *member.Words { return &words }

// New implements member.Kind.
func (Kind) New() client.Object {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(GroupVersionKind)
	return u
}

// NewList implements member.Kind.
func (Kind) NewList() client.ObjectList {
	u := &unstructured.UnstructuredList{}
	u.SetGroupVersionKind(GroupVersionKind.GroupVersion().WithKind(GroupVersionKind.Kind + "List"))
	return u
}

// Parse implements member.Kind.
func (Kind) Parse(object client.Object) (*member.Workload, error) {
	u, is := object.(*unstructured.Unstructured)
	if !is {
		return nil, fmt.Errorf("a %T is no Crew", object)
	}
	groups, err := Groups(u)
	if err != nil {
		return nil, err
	}
	suspended, _, err := unstructured.NestedBool(u.Object, "spec", "suspend")
	if err != nil {
		return nil, fmt.Errorf("suspend: %w", err)
	}
	w := &member.Workload{
		Kind: Kind{}, Key: client.ObjectKeyFromObject(u), UID: u.GetUID(), Generation: u.GetGeneration(),
		ResourceVersion: u.GetResourceVersion(), Deleting: u.GetDeletionTimestamp() != nil, Life: &member.Life{Suspended: suspended},
	}
	for i := range groups {
		g := &groups[i]
		unit := int32(g.unit())
		w.Groups = append(w.Groups, member.Group{
			Name: g.Name, Size: int32(g.Size), MinSize: unit, MaxSize: int32(g.Max), Unit: unit,
		})
	}
	return w, w.ReadAnnotations(u.GetAnnotations())
}

// Groups are those of a Crew.
func Groups(u *unstructured.Unstructured) ([]Group, error) {
	list, _, err := unstructured.NestedSlice(u.Object, "spec", "groups")
	if err != nil {
		return nil, fmt.Errorf("groups: %w", err)
	}
	var groups []Group
	for _, item := range list {
		of, is := item.(map[string]any)
		if !is {
			return nil, fmt.Errorf("spec.groups has a %T", item)
		}
		var g Group
		g.Name, _ = of["name"].(string)
		g.Size, _ = of["size"].(int64)
		g.Max, _ = of["max"].(int64)
		g.Unit, _ = of["unit"].(int64)
		groups = append(groups, g)
	}
	return groups, nil
}

// SetGroups writes the groups of a Crew.
func SetGroups(u *unstructured.Unstructured, groups ...Group) {
	list := make([]any, len(groups))
	for i := range groups {
		list[i] = map[string]any{"name": groups[i].Name, "size": groups[i].Size, "max": groups[i].Max, "unit": groups[i].unit()}
	}
	spec, is := u.Object["spec"].(map[string]any)
	if !is {
		spec = map[string]any{}
		u.Object["spec"] = spec
	}
	spec["groups"] = list
}

// New is a Crew that is to be managed, with nodes of a pool.
func New(namespace, name, pool string, groups ...Group) *unstructured.Unstructured {
	u := Reference(namespace, name)
	u.SetAnnotations(map[string]string{v1alpha1.AnnotationNodePools: pool})
	SetGroups(u, groups...)
	return u
}

// Reference is a Crew that tells which one it is, and nothing else.
func Reference(namespace, name string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{}
	u.SetGroupVersionKind(GroupVersionKind)
	u.SetNamespace(namespace)
	u.SetName(name)
	return u
}

// SizeFields implements member.Kind.
func (Kind) SizeFields(w *member.Workload, change *member.Change) []member.Field {
	fields := make([]member.Field, len(w.Groups))
	for i := range w.Groups {
		fields[i] = member.Field{Path: fmt.Sprintf("/spec/groups/%d/size", i), Value: change.Sizes[w.Groups[i].Name]}
	}
	return fields
}

// Leaves implements member.Kind.
func (Kind) Leaves() plan.Leaves { return plan.Highest }

// PodLabels implements member.Kind.
func (Kind) PodLabels() []string { return []string{labelGroup, labelJobs, labelJob} }

// Place implements member.Kind.
func (Kind) Place(labels map[string]string, index int32) (group string, rank int32) {
	return labels[labelGroup], index*max(number(labels[labelJobs]), 1) + number(labels[labelJob])
}

// number is what a label says, 0 for what is none.
func number(text string) int32 {
	n, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		return 0
	}
	return int32(n)
}

// Selector implements member.Kind.
func (Kind) Selector(name, group string) string {
	if group == "" {
		return labelCrew + "=" + name
	}
	return labelCrew + "=" + name + "," + labelGroup + "=" + group
}

// Owner implements member.Kind.
func (Kind) Owner(job metav1.Object) *member.Owner {
	of := metav1.GetControllerOfNoCopy(job)
	if of == nil || of.Kind != GroupVersionKind.Kind {
		return nil
	}
	group, index, _ := strings.Cut(strings.TrimPrefix(job.GetName(), of.Name+"-"), "-")
	return &member.Owner{Name: of.Name, UID: of.UID, Group: group, Index: number(index), Job: job.GetName()}
}

// JobOf implements member.Kind.
func (Kind) JobOf(name, group string) string { return name + "-" + group + "-0" }

// Jobs are the Jobs of a Crew that make as many pods as its groups have. Their pods have the gate, as the policy of manifests/controller
// adds it, and these containers.
func Jobs(u *unstructured.Unstructured, containers []corev1.Container) ([]*batchv1.Job, error) {
	groups, err := Groups(u)
	if err != nil {
		return nil, err
	}
	var jobs []*batchv1.Job
	for i := range groups {
		g := &groups[i]
		for j := range g.unit() {
			size := int32(g.Size / g.unit())
			jobs = append(jobs, &batchv1.Job{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: u.GetNamespace(), Name: fmt.Sprintf("%s-%s-%d", u.GetName(), g.Name, j),
					OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(u, GroupVersionKind)},
				},
				Spec: batchv1.JobSpec{
					CompletionMode: new(batchv1.IndexedCompletion), Completions: &size, Parallelism: &size,
					Template: corev1.PodTemplateSpec{
						ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{
							v1alpha1.LabelMember: member.Name(Kind{}, u.GetName()), labelCrew: u.GetName(), labelGroup: g.Name,
							labelJobs: strconv.FormatInt(g.unit(), 10), labelJob: strconv.FormatInt(j, 10),
						}},
						Spec: corev1.PodSpec{
							SchedulingGates: []corev1.PodSchedulingGate{{Name: v1alpha1.SchedulingGate}},
							RestartPolicy:   corev1.RestartPolicyNever, Containers: slices.Clone(containers),
						},
					},
				},
			})
		}
	}
	return jobs, nil
}

// Definition is that of Crews.
func Definition() *apiextensionsv1.CustomResourceDefinition {
	return &apiextensionsv1.CustomResourceDefinition{
		ObjectMeta: metav1.ObjectMeta{Name: "crews.example.com"},
		Spec: apiextensionsv1.CustomResourceDefinitionSpec{
			Group: GroupVersionKind.Group, Scope: apiextensionsv1.NamespaceScoped,
			Names: apiextensionsv1.CustomResourceDefinitionNames{Plural: "crews", Singular: "crew", Kind: "Crew", ListKind: "CrewList"},
			Versions: []apiextensionsv1.CustomResourceDefinitionVersion{{
				Name: GroupVersionKind.Version, Served: true, Storage: true,
				Schema: &apiextensionsv1.CustomResourceValidation{OpenAPIV3Schema: &apiextensionsv1.JSONSchemaProps{
					Type: "object", XPreserveUnknownFields: new(true),
				}},
			}},
		},
	}
}
