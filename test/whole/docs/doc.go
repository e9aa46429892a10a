// Package docs tests that what is written for people agrees with what there is: links lead somewhere and no page is lost, the README is
// short, each condition and reason is explained, the tests that pages name are there, and the values for Cluster Autoscaler's Helm chart
// say what the manifests say.
//
// With CLUSTER_AUTOSCALER_CHART=/path/to/charts/cluster-autoscaler the chart is rendered with them, by a Helm that is built from
// test/harness/tools/helm.
package docs
