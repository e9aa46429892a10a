// Package v1alpha1 holds the objects through which the provider, the controller and their users meet:
// NodePool, PoolMachine and EnsembleMember in the group autoscaling.flux-framework.org, and KwokInstance, which only the simulated
// cloud knows.
//
// Provider and controller never call each other. What one has to tell the other is in these objects, so
// either may be killed at any moment and goes on from what is written here.
//
// +kubebuilder:object:generate=true
// +groupName=autoscaling.flux-framework.org
package v1alpha1
