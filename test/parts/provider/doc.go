// Package provider tests the provider's parts together, in this process and on a real API server: the reconciler
// of NodePools, the kwok backend, and the server that Cluster Autoscaler speaks to. Here it can be killed between
// any two of its writes.
package provider
