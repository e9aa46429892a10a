// Package agent runs the rules of an ensemble.yaml beside the lead broker of an ensemble member.
//
// [Run] is told of the jobs in the queue by a [Queue], has package rules decide, and does what comes of it: it submits jobs, runs the
// user's programs, and asks an [Operator] for another size. It reports the state of the queue to the operator as well.
//
// Its end is the end of the Flux instance, and of all jobs in it. So it ends when a rule says so and when it is told to, and for no call
// that fails: calls have deadlines and are made again, less and less often.
//
// It keeps little. Jobs are found again by the tags that they carry, what became of requests in a [Store]; the rest follows from the
// journal. Whatever made the stream of the journal end, and a restart of the program, are treated alike: all is read again.
package agent
