// Package machine tests what becomes of machines, from their order to their end, on a real API server: the loops of
// provider/machine with the simulated cloud in its roles, beside the reconciler of NodePools and the server that Cluster Autoscaler
// speaks to. One provider serves the pools of all tests that kill nothing.
package machine
