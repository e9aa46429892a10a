// Package plan decides what becomes of every ensemble member: what it reserves, which nodes are held for
// it, when its MiniCluster is resized, and what is said about it.
//
// Plan is a pure function of what was observed and of the time. It knows no client, no gRPC and no clock,
// so it is proved by simulation. Its answer is a value: the wanted content of each member's status, at
// most one resize per member, and a sentence for each step, which becomes the log line, the event and the
// condition.
//
// The rules, in the order in which a pass applies them:
//
//   - A desired size is served in two growths: first the size that the MiniCluster has, then the growth to the size
//     that is wanted. Each growth is reserved whole or not at all.
//   - Growths for all or nothing that want nodes of the same pool are served in the order in which they were asked for. For one that
//     finds no room, what becomes free is kept for a while, so that small growths cannot starve a large one, unless it could never be
//     served or is waiting out a failure. What was free all along others may have.
//   - A node is held for a member when it is Ready, schedulable, free of foreign taints and has room for
//     the member's pod, or when a pod of the member is on it. No node is held for two members.
//   - A MiniCluster is given its larger size when all nodes of the reservation are held and usable, and its
//     smaller size at once. A node is held until the pod that leaves has left it.
//   - A node that is about to go stays held until the pods there have left it, and serves nobody else. The claim stays as it is,
//     and another node is held in its place as soon as there is one.
//   - A growth is asked of the first pool of the member's list that has room for all of it, or else, where its nodes may
//     span pools, of several together. When a pool is out of stock, or its nodes are not all there by the deadline, what
//     is missing is asked of the pools that have not failed: the nodes that are there stay (Span), or the whole growth
//     moves (Single). Nodes of a part of a growth are held only while the rest is granted.
//   - The nodes of a member with a topologyKey are in one domain: they have the same value of that label. It is the one that
//     its pods are in. A growth without pods is asked for in one domain after the other, in the order in which the pools of the
//     list have them, and moves as a whole. In pools that span domains it is the one with most free nodes, once there are some.
//   - Nodes that came for a claim and are of no use to it for what they are (too small, filled by DaemonSets, not selected, two empty
//     ones that the scheduler keeps pods off) fail their pool for the member at once. The pool is not asked again while what the finding
//     rests on is the same, or until a node of it is of use. Whatever else takes nodes of a claim is replaced once, or by a tenth of
//     the claim, over all attempts; after that the deadline decides.
//   - The groups of pods of one workload are a gang: each is decided on as a member is, and what is for all or nothing is so for all of
//     them. They are granted nodes in one step or not at all, go on when the nodes of all are Ready, and fail, wait and try again together.
//     A group grows and shrinks by whole units. Which pods leave is known by their ranks, chosen here, or not known, and in any case a
//     node is held until no pod of the group is on it.
//   - When no pool is left, a growth that is all or nothing gives all its nodes back; with best effort the member takes those
//     that are there. Either is tried again after a while. A greedy member takes each node as it comes.
package plan
