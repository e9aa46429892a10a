// Package ensemblefile reads the text of an ensemble.yaml, the file by which a user tells ensemble-python what an
// ensemble member has to run, and says everything that is wrong with it before a pod is started for it.
//
// It is as strict as the program that reads the file afterwards: ensemble-python 0.0.16, with its executor for
// MiniClusters. Where that program ends with a traceback, or goes on and does not do what the file says, the
// file has a fault. So have keys that it does not know, though it reads over most of them: whoever writes
// "repetition" for "repetitions" should hear of it. What a file needs to be accepted:
//
//   - jobs and rules, both lists, possibly empty. Jobs of one name form a group, and are submitted together.
//   - A rule has a trigger and an action. Of the triggers in its schema, the program supports "start", "metric",
//     "job-depend" and "job-finish" only; with any other it ends at once.
//   - A rule on a metric names one of those the program keeps (see metric.go), of a job in the file, and may
//     have a condition (see [When]).
//   - A rule on an event of jobs may name a job. The program does not look at it: the action is run for that
//     event of every job.
//   - An action to submit has a label that names a job, and a custom action one that names a function in the
//     file's Python text.
//   - A file with a rule that grows or shrinks on a metric says the seconds between heartbeats. The program would
//     take 60 if they were missing or 0; here, how fast an ensemble reacts is not left to a default far away. Rules
//     on events need no heartbeat.
//
// YAML is read as PyYAML reads it, which is YAML 1.1: yes is true, 1e3 is a string, 010 is eight.
//
// The package is pure: no files, no clock, no network.
package ensemblefile
