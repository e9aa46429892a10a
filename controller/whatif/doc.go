// Package whatif says what would become of another size of a member: which pools grant nodes, what is refused and why, what the nodes cost
// for an hour, and how long they take. It asks the controller's own planner, and knows no client and no clock: a program that has read the
// cluster with a person's rights and a simulation get the same answer.
package whatif
