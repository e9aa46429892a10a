package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of every kind in this package and the prefix of its labels and annotations.
const Group = "ensemble.flux-framework.org"

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, &Ensemble{}, &EnsembleList{})
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}

const (
	// LabelEnsemble on what an Ensemble is made of is the name of the Ensemble.
	LabelEnsemble = Group + "/ensemble"

	// AnnotationAppliedSpec on a MiniCluster is the digest of each part of the member that it was created from. It tells
	// later which parts have changed since.
	AnnotationAppliedSpec = Group + "/applied-spec"
)
