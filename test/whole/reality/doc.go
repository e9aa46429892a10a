// Package reality tests what a user sees when pods, nodes and clouds do not behave: nodes that are too small, pods that nobody makes,
// pods that are not what their template says, Jobs that pause. All of its tests share one running system, in which each has a
// namespace and pools of its own, and look at nothing but objects, events and metrics.
package reality
