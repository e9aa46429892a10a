// Package nodegroup is the arithmetic of a pool: its floor and target, which machines to order, which to
// release, and what Cluster Autoscaler's requests do to it.
//
// Everything here is a function of values. There is no client, no gRPC and no clock, so the rules are
// proved by simulation, and the server and the reconciler cannot disagree about them.
//
// What is ordered, released and deleted are machines, by the names of their records; what members hold, and what is marked, are nodes,
// by their own names. A machine comes by an order (orders.go), and goes in one of these ways:
//
//	way      when                                                     the target     first a look    file
//	release  it is a member's no more, and nobody uses it             is lowered     free, tainted   release.go
//	retire   the target does not count it, or it will not come up     stays          free, tainted   retire.go
//	lost     it had a node and is no more                             is lowered     -               lost.go
//	leave    the cloud, or a person, takes it away; it is replaced    stays          -               lost.go
//	cancel   it boots, and a lower target does not count it           stays          not registered  orders.go
//	abandon  its order is incomplete and has launched nothing         stays          not asked       orders.go
//	give up  it was not ordered yet, and nobody is to have it         is lowered     does not exist  giveup.go
//	delete   Cluster Autoscaler asks for it                           is lowered     not held        requests.go
//
// All but cancel, abandon and give up put its name into spec.machinesToDelete, in the write that lowers the target, if that is. From
// there it is deleted (delete.go).
package nodegroup
