// Package nodegroup is the arithmetic of a pool: its floor and target, which machines to order, which to
// release, and what Cluster Autoscaler's requests do to it.
//
// Everything here is a function of values. There is no client, no gRPC and no clock, so the rules are
// proved by simulation, and the server and the reconciler cannot disagree about them.
//
// What is ordered, released and deleted are machines, by the names of their records; what members hold, and what is marked, are nodes,
// by their own names. Plan decides in the numbered steps of plan.go, and what it has decided is carried out in those of steps.go, each of
// which says what has to be written before it and what a kill after it leaves.
//
// A machine comes by an order (orders.go; its name, names.go), and goes in one of these ways:
//
//	way      who decides          when                                                        file
//	release  Plan                 it is a member's no more, and nobody uses it                release.go
//	retire   Plan, no autoscaler  the target does not count it, or it does not come up        retire.go
//	lost     the cloud            it had a node and is no more                                lost.go
//	leave    the cloud, a person  it is taken away, and is replaced                           leave.go
//	cancel   Plan                 it boots, and a lower target does not count it              cancel.go
//	abandon  Plan                 its order is incomplete and has launched nothing            abandon.go
//	give up  Plan                 it was not ordered yet, and nobody is to have it            giveup.go
//	delete   Cluster Autoscaler   it calls DeleteNodes                                        deletenodes.go
//	end      Plan                 the NodePool is deleted: all are released or retired        end.go
//
// What each writes, in which step, and what has to be so before:
//
//	way      step         target      before it
//	release  StepTarget   is lowered  the floor is in the status; the node is tainted, empty and held by nobody, by a live look
//	retire   StepTarget   stays       the same of the node
//	lost     StepTarget   is lowered  its failure is in the status; stays where it follows the floor or does not count it
//	leave    StepTarget   stays       nothing: its node is tainted afterwards, and its pods are waited for
//	cancel   StepCancel   stays       the lower target is written; the record is as it was observed, not registered
//	abandon  StepCancel   stays       no record of its order is missing in a cache only; the record is as it was observed
//	give up  StepTarget   is lowered  the floor is in the status; no record exists that was not observed
//	delete   StepTarget   is lowered  no member holds its node; package server makes the write
//	end      StepTarget   as of release and retire
//
// All but cancel, abandon and give up put its name into spec.machinesToDelete, in the write that lowers the target, if that is. From
// there its record is deleted (StepDelete, delete.go), and taken out of the list when it is gone.
package nodegroup
