// Package nodegroup is the arithmetic of a pool: its floor and target, which machines to order, which to
// release, and what Cluster Autoscaler's requests do to it.
//
// Everything here is a function of values. There is no client, no gRPC and no clock, so the rules are
// proved by simulation, and the server and the reconciler cannot disagree about them.
package nodegroup
