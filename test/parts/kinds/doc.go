// Package kinds plays the life of a member of each kind of workload on a whole system, with the controller that makes its pods: the real
// Job controller for Jobs, the real one of JobSets, the Flux Operator, or its stand-in, for MiniClusters. What a play asks is the same for
// each kind.
package kinds
