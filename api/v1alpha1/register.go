package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Group is the API group of every kind in this package and the prefix of our labels and annotations.
const Group = "autoscaling.flux-framework.org"

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

// AddToScheme registers the kinds of this package with a scheme.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&NodePool{}, &NodePoolList{},
		&EnsembleMember{}, &EnsembleMemberList{},
		&MemberQueue{}, &MemberQueueList{},
		&PoolMachine{}, &PoolMachineList{},
		&KwokInstance{}, &KwokInstanceList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
