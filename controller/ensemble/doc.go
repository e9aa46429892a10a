// Package ensemble makes an Ensemble's members: for each a ConfigMap with its ensemble.yaml and a MiniCluster that runs
// it and asks our endpoint for nodes, named, mounted and started as the ensemble-operator has it. What an Ensemble means
// is in pure functions (validate.go, build.go, status.go); the reconciler (reconciler.go) makes it so.
package ensemble
