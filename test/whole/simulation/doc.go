// Package simulation is a discrete-event world around the real planners: package plan decides about members, package
// nodegroup about pools, and everything else is simulated (the API server and its watches, the cloud, Cluster Autoscaler, the
// Flux Operator and the Job controller, the scheduler, members with queues of jobs, other tenants). There is no client, no
// gRPC and no real clock: time jumps from one event to the next (clock.go), and everything is drawn from one seed.
//
// What makes it more than the simulations of the planners themselves is that nobody is in step:
//
//   - The processes meet only at the objects (store.go). Each reads from a cache that is late, and later for some kinds of
//     objects than for others. A write that was planned from an older version is refused.
//   - A pass is a row of writes, each of which takes time while others go on (apply.go, release.go). A process can be killed
//     between any two, and has only the objects when it starts again.
//   - Requests are lost, late or delivered twice; a member asks again at its next heartbeat.
//   - The scheduler knows nothing of what is held for whom, and puts pods where there is room. Those of members that have to be
//     in one topology domain, and of about half of the others, are created behind the scheduling gate: the controller releases
//     each for one node, where the scheduler may find that it does not fit any more (gates.go).
//   - Users write sizes into MiniClusters of which the controller learns later (edits.go).
//   - A machine is a record that the pool's pass writes and a machine loop brings to pass (machines*.go), an instance that a cloud has
//     (cloud.go, launch.go), and a node. Each knows of the others late. In half of the worlds clouds play roles (roles.go): they name
//     nodes as they like, tell provider ids late, throttle, lose replies, list what was a while ago, accept what they have not, take
//     machines away with or without notice; and people delete nodes and records, and pause pools (mishaps.go).
//   - In half of the worlds what was written does not come about (troubles.go, storm_troubles.go): nodes are smaller than their template
//     says, DaemonSets and passing pods take room on them, they have foreign taints and wrong labels, devices register late or never, and
//     the scheduler refuses pods for reasons that nobody sees; pods request and select more than their MiniCluster says, are not made for
//     want of quota, start late or never, and succeed early; Jobs are suspended, namespaces deleted or shut out of a pool, MiniClusters
//     cannot be read; stocks come back a machine at a time, and several growths want what there is for one of them.
//
// The machine loop is written down here once more, in the order of package machine. Where that differs, this one is what is wanted.
//
// One thing is not simulated: a write of a process that was killed which reaches the API server after its successor has read
// everything. Leader election keeps a successor from starting that early.
//
// # Promises
//
// The promises of the design are checked after every event (promises.go), and when everything that goes wrong has ended, that
// all comes to rest in its place (rest.go). Where a process cannot know yet what has happened, a promise is about what it
// could know: a size is written when every node that it counts on was usable within the longest delay of a cache before the
// plan was made, and so it is with the pods of a growth that are released. What has one writer is exact: no node is held for
// two members, and no pool is promised beyond its maximum size, at any moment. No order makes more instances than it has machines,
// no instance is without a record at rest, and Cluster Autoscaler counts as many machines of each group as its target says, or
// can repair that (checkCounted): it would do nothing any more otherwise, for no group. From what the cloud or a person takes away,
// without asking anybody, members lose pods.
//
// What really happens decides (promises_facts.go): what is ordered for a claim stays within the claim, what was of no use when it was
// granted, and few replacements, over all attempts; a pool that was found to be of no use is not asked again; Ready is told only of a
// member all of whose pods run or have succeeded; nodes of pods that do not come are given back; a member that is suspended claims
// nothing; and of several growths, each of which the stock would be enough for, one is served within two boots.
//
// # Stories
//
// TestStories tells the main cases in testdata/*.golden; run it with -update when they should differ. TestSimulation runs as
// many random worlds as -simulation.seeds says, and tells a seed that breaks a promise with its whole story; -simulation.seed
// tells that of one.
//
// TestExplained tells the same stories as `kubectl ensemble explain` would, in testdata/explained/*.golden: what each member waits for,
// whenever that changes, and the one thing to do.
//
// TestPlanned tells them as `kubectl ensemble plan` would, in testdata/planned/*.golden: what it answers before a size is asked for, and
// whether that has come. TestPlannedInStorms holds such answers against the next pass in random worlds.
//
// # Traces
//
// Replay runs a trace of requests with three strategies and compares what they cost: see Outcome.
package simulation
