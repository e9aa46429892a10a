// Package manifests has the manifests that are shipped, for programs that compare them with what is installed.
package manifests

import "embed"

// Files are the manifests, by their paths in this directory.
//
//go:embed certificates components controller crd namespace overlays provider
var Files embed.FS
