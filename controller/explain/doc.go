// Package explain says why a member, a pool, a pod or a node waits, from what the API server tells of them: facts in, an explanation out.
// It knows no client and no clock, so whoever has such facts, a person's rights or a simulation, gets the same answer.
//
// The steps of a member come in the order in which a growth takes them:
//
//	desired size → claim → who is before it → floor → Cluster Autoscaler → machines → nodes → gates → pods
//
// Each step is done, waits, is blocked, comes later, or is not known for want of a right. The first that is neither done nor unknown is
// what it waits for, and there is one thing to do about it.
package explain
