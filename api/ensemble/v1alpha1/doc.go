// Package v1alpha1 holds the Ensemble of the group ensemble.flux-framework.org, with the fields that the
// ensemble-operator gave it, so that what was written for that one applies unchanged, and a few of our own.
//
// +kubebuilder:object:generate=true
// +groupName=ensemble.flux-framework.org
package v1alpha1
