// Package planned is the verb plan of kubectl ensemble: it asks the controller's own planner what it would decide for a member with another
// size, on the live objects, and changes nothing.
//
// What is read is gathered first (gather.go), made into what the planner is given (world.go), and asked about (ask.go). The latter is a
// pure function, so that it is tested without a cluster.
package planned
