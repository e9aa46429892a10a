// Package rules decides what an ensemble does: it takes an ensemble.yaml and what happens in the queue, and gives the actions that the
// rules of the file lead to, each with the sentence that says why.
//
// The file is that of ensemble-python and means the same, with the differences that docs/agent.md has in a table. Most come from one
// thing: ensemble-python looks at its queue when an event of a job happens to arrive and at each heartbeat, and every look is a chance
// for every rule on a metric. Here a rule is looked at when what it is about changes:
//
//   - a rule on a count or a duration, when a job of its group ends;
//   - a rule on the time that jobs wait, at the moment at which it becomes true. These times grow with the clock, so that moment is known
//     beforehand ([State.Next]), and nothing is polled. While it stays true the rule is due again after each period;
//   - a rule on events of jobs, at the first such event of each job that it is about;
//   - a rule on the start, once.
//
// The time that jobs wait is that of the jobs which wait now. A growth for the sake of waiting jobs leaves those out of account that
// need more nodes than the member may have.
//
// A growth or a shrink is asked of somebody, who may not answer, or refuse. Such a request stays the rule's until it is granted: it uses
// up no repetition before, and it is made again later with the same name ([Action.ID]), by which a repetition is known for one. A growth
// is not asked for while an earlier one is under way.
//
// State has nothing that the journal of the queue does not have, but for what became of requests and programs. It is made again from the
// journal: Flux tells all that has happened first, and then [CaughtUp]. What the rules lead to meanwhile is compared with the jobs that
// are there, each of which carries a [Tag] with the rule and the repetition that it was submitted for, and what is there is not submitted
// again. What became of the requests is in [Progress], for whoever runs the rules to keep.
//
// The package is pure: no files, no clock, no network.
package rules
