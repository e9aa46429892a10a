// Package e2e tests the whole: provider and controller as their real binaries under their ServiceAccounts, on
// a real control plane, with Cluster Autoscaler and the Flux Operator, real or stand-ins. All tests share one
// system and have a namespace and pools of their own; at the end the promises are checked on the record of
// everything that happened.
package e2e
