// Package docs tests that what is written for people agrees with what there is: links lead somewhere, each reason that a member can
// be given is explained, the tests that the threat model names are there, and the values for Cluster Autoscaler's Helm chart say what the
// manifests say.
//
// With CLUSTER_AUTOSCALER_CHART=/path/to/charts/cluster-autoscaler the chart is rendered with them, by a Helm that is built from
// test/tools/helm.
package docs
