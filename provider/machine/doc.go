// Package machine brings to pass what PoolMachines say: it launches orders, observes machines and their nodes, and ends the
// machines whose records are deleted. It is one for all launchers, and writes the records' status alone.
//
// There are three loops, each keyed by what it is about, and none waits for a cloud:
//
//   - launching.go, keyed by order, asks for the machines of an order when all records of it are there;
//   - reconciler.go, keyed by machine, writes what has become of one: from the outcome of its order, from the newest listing of
//     its pool, and from its node, which it labels and frees of the registration taint; and ends it when its record is deleted;
//   - listings.go, keyed by pool, lists instances when something is heard of them, or now and then.
//
// Calls of launchers run beside the loops (calls.go), a few at a time for each pool, so that a slow cloud delays only its own
// machines. What a call returns is kept in memory until it is written: after a crash the same call is made again, and has the
// same effect. orphans.go looks for instances that no record tells of.
package machine
