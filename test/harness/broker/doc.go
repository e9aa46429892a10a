// Package broker stands in for the lead broker of a Flux instance, with as many ranks as a test says.
//
// It stands in for flux-core: the broker of rank 0 with its modules connector-local, job-ingest, job-manager, job-list, resource, groups
// and a scheduler like sched-simple. It speaks their protocol on a unix socket, keeps a queue of jobs, ranks that come and go, and what is
// drained; a job has its nodes, runs for its time, fails when a rank of it is lost, and each of its events is told in order. It runs no
// programs: what a job's command is decides how long it runs and how it ends (Options.Run). What else flux-core has, such as a KVS, the
// overlay network, job shells and plugins, is not there: its services answer ENOSYS, as those of a broker that has not loaded them.
//
// With FLUX=/path, the directory that flux-core is installed in or its program flux, Start runs real brokers in its place, one process
// for each rank that is up. Tests that need what only the stand-in can do ask it with Instance.Real, or use New.
//
// Where what it does comes from: the RFCs of Flux 3 (messages), 6 (calls), 21 (jobs and their events), 44 (events of resources), 20 (sets
// of resources), and the behaviour of flux-core 0.88.
package broker
