// Package install tests that all ways to install bring the same: the chart, kustomize, and the files of make dist, object by object, for
// the defaults and for each overlay and component.
package install
