package check

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
)

// Kinds of admission policies, as the manifests have them.
const (
	validatingPolicies = "ValidatingAdmissionPolicy"
	mutatingPolicies   = "MutatingAdmissionPolicy"
	binding            = "Binding"
)

// Kinds of configurations of webhooks.
const (
	validatingWebhooks = "ValidatingWebhookConfiguration"
	mutatingWebhooks   = "MutatingWebhookConfiguration"
)

// gates is the name of the policy that gives pods their gate, and of the configuration of the webhook that does so before Kubernetes 1.36.
const gates = "ensemble-autoscaler-gates"

// policiesOf is the resource of a kind of admission policies.
func policiesOf(kind string) schema.GroupVersionResource {
	if of, is := strings.CutSuffix(kind, binding); is {
		return schema.GroupVersionResource{Group: "admissionregistration.k8s.io", Version: "v1", Resource: strings.ToLower(of+binding) + "s"}
	}
	return schema.GroupVersionResource{
		Group: "admissionregistration.k8s.io", Version: "v1", Resource: strings.ToLower(strings.TrimSuffix(kind, "y")) + "ies",
	}
}

// webhooksOf is the resource of a kind of configurations of webhooks.
func webhooksOf(kind string) string { return strings.ToLower(kind) + "s.admissionregistration.k8s.io" }

// The parts of the manifests that an installation may be without, by their directories.
const (
	partCertificates = "certificates"
	partKwok         = "components/kwok"
	partKarpenter    = "components/karpenter"
	partClusterAPI   = "components/cluster-api"
	partMetricsAuth  = "components/metrics-auth"
	partKindJob      = "components/kind-job"
	partKindJobSet   = "components/kind-jobset"
	partPodWebhook   = "overlays/pod-webhook"
)

// kindWebhooks are the names of the configurations of webhooks of kinds that an installation may be without, which are there where these
// are managed.
var kindWebhooks = map[string]string{"ensemble-autoscaler-kind-job": "Job", "ensemble-autoscaler-kind-jobset": "JobSet"}

// flagKinds is the flag of the controller with the kinds of workloads that it manages.
const flagKinds = "kinds"

// flagClusterAPI is the flag of the provider with the namespaces of Machines of Cluster API.
const flagClusterAPI = "cluster-api"

// Shipped is what the manifests have.
type Shipped struct {
	// Definitions are the resources that are defined.
	Definitions []schema.GroupVersionResource
	// Policies are the admission policies, and the bindings of them.
	Policies []ShippedPolicy
	// Webhooks are the names of webhooks by kind and name of their configurations.
	Webhooks map[string][]string
	// Rights are what the programs need.
	Rights []ShippedRight
}

// ShippedPolicy is an admission policy of a part of the manifests.
type ShippedPolicy struct{ Part, Kind, Name string }

// ShippedRight is what a program needs, of a part of the manifests.
type ShippedRight struct {
	Part string
	// Program is the name of the ServiceAccount. Namespace is that of a Role; empty for all.
	Program, Namespace string
	Rule               rbacv1.PolicyRule
	// From is the kind and name of the role.
	From string
}

// ReadShipped reads the manifests.
func ReadShipped(files fs.FS) (*Shipped, error) {
	s := &Shipped{Webhooks: map[string][]string{}}
	roles, bindings := map[string]role{}, []roleBinding{}
	err := fs.WalkDir(files, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || path.Ext(name) != ".yaml" || path.Base(name) == "kustomization.yaml" {
			return err
		}
		objects, err := readObjects(files, name)
		if err != nil {
			return fmt.Errorf("manifests/%s: %w", name, err)
		}
		for _, o := range objects {
			switch o.GetKind() {
			case "ClusterRole", "Role":
				r := role{part: path.Dir(name)}
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &r.ClusterRole); err != nil {
					return fmt.Errorf("manifests/%s: %w", name, err)
				}
				roles[o.GetKind()+"/"+o.GetNamespace()+"/"+o.GetName()] = r
			case "ClusterRoleBinding", "RoleBinding":
				b := roleBinding{}
				if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &b); err != nil {
					return fmt.Errorf("manifests/%s: %w", name, err)
				}
				bindings = append(bindings, b)
			default:
				s.add(path.Dir(name), o)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	for i := range bindings {
		s.bind(&bindings[i], roles)
	}
	return s, nil
}

// role is a ClusterRole, or a Role, which has the same fields.
type role struct {
	part string
	rbacv1.ClusterRole
}

// roleBinding is a binding of either.
type roleBinding struct{ rbacv1.RoleBinding }

func readObjects(files fs.FS, name string) (objects []*unstructured.Unstructured, err error) {
	file, err := files.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	decoder := yaml.NewYAMLOrJSONDecoder(file, 4096)
	for {
		object := &unstructured.Unstructured{}
		switch err := decoder.Decode(&object.Object); {
		case errors.Is(err, io.EOF):
			return objects, nil
		case err != nil:
			return nil, err
		case len(object.Object) > 0:
			objects = append(objects, object)
		}
	}
}

// add notes an object that is not about rights.
func (s *Shipped) add(part string, o *unstructured.Unstructured) {
	switch kind := o.GetKind(); kind {
	case "CustomResourceDefinition":
		group, _, _ := unstructured.NestedString(o.Object, "spec", "group")
		plural, _, _ := unstructured.NestedString(o.Object, "spec", "names", "plural")
		versions, _, _ := unstructured.NestedSlice(o.Object, "spec", "versions")
		for _, version := range versions {
			if v, is := version.(map[string]any); is && v["served"] == true {
				name, _ := v["name"].(string)
				s.Definitions = append(s.Definitions, schema.GroupVersionResource{Group: group, Version: name, Resource: plural})
			}
		}
	case validatingPolicies, mutatingPolicies, validatingPolicies + binding, mutatingPolicies + binding:
		s.Policies = append(s.Policies, ShippedPolicy{part, kind, o.GetName()})
	case validatingWebhooks, mutatingWebhooks:
		webhooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
		for _, webhook := range webhooks {
			if w, is := webhook.(map[string]any); is {
				name, _ := w["name"].(string)
				s.Webhooks[kind+" "+o.GetName()] = append(s.Webhooks[kind+" "+o.GetName()], name)
			}
		}
	}
}

// bind notes what a binding gives to the programs.
func (s *Shipped) bind(b *roleBinding, roles map[string]role) {
	namespace := b.Namespace
	if b.RoleRef.Kind == "ClusterRole" {
		namespace = ""
	}
	r, is := roles[b.RoleRef.Kind+"/"+namespace+"/"+b.RoleRef.Name]
	if !is {
		return
	}
	for i := range b.Subjects {
		if subject := &b.Subjects[i]; subject.Kind == rbacv1.ServiceAccountKind && subject.Namespace == Namespace {
			for _, rule := range r.Rules {
				s.Rights = append(
					s.Rights,
					ShippedRight{Part: r.part, Program: subject.Name, Namespace: b.Namespace, Rule: rule, From: b.RoleRef.Kind + " " + r.Name},
				)
			}
		}
	}
}

// manages reports whether the controller was told to manage workloads of a kind.
func (f *Facts) manages(kind string) bool {
	return slices.ContainsFunc(f.Controller, func(p Pod) bool {
		return slices.Contains(strings.Split(p.Flags.Value(flagKinds, ""), ","), kind)
	})
}

// parts are the parts of the manifests that an installation has, as the flags of its programs say.
func (f *Facts) parts() map[string]bool {
	has := func(pods []Pod, flag string) bool {
		for i := range pods {
			if _, is := pods[i].Flags[flag]; is {
				return true
			}
		}
		return false
	}
	return map[string]bool{
		"controller": true, "provider": true, "namespace": true, "crd": true,
		partCertificates: issues(f.Provider) && issues(f.Controller),
		partKwok:         has(f.Provider, "kwok"),
		partKarpenter:    has(f.Provider, "karpenter"),
		partClusterAPI:   has(f.Provider, flagClusterAPI),
		partMetricsAuth:  has(f.Provider, "metrics-authorization"),
		partKindJob:      f.manages("Job"),
		partKindJobSet:   f.manages("JobSet"),
	}
}
