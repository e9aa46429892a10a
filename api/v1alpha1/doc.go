// Package v1alpha1 holds the objects through which the provider, the controller and their users meet:
// NodePool, EnsembleMember and KwokMachine in the group autoscaling.flux-framework.org.
//
// The two processes never call each other. What one has to tell the other stands in these objects, so
// either may be killed at any moment and goes on from what is written here.
//
// +kubebuilder:object:generate=true
// +groupName=autoscaling.flux-framework.org
package v1alpha1
