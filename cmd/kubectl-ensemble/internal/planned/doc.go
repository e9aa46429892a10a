// Package planned is the verb plan of kubectl ensemble: it reads what the controller reads, with the rights of its user (gather.go), and
// asks package whatif what the planner would decide for a member with another size. It changes nothing.
package planned
