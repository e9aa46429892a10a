// Package reading makes of Kubernetes objects what package plan knows of them: what a pod needs, which nodes it selects, and what
// an empty node of a pool offers and what DaemonSets take there. The resize controller and the admission of MiniClusters read alike,
// so that neither promises what the other refuses.
package reading
