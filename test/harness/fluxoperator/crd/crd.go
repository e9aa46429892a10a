// Package crd holds the definition of the MiniCluster that the embedded control plane is given: a small
// one, written here. It declares the fields that this project reads or writes and keeps all others as
// they come, so that a MiniCluster for the real Flux Operator is accepted whole. With the real Flux
// Operator use the definition that comes with it.
package crd

import _ "embed"

// MiniClusters is the CustomResourceDefinition miniclusters.flux-framework.org in YAML.
//
//go:embed miniclusters.yaml
var MiniClusters []byte
