package plan

import "slices"

// nodesByPool counts nodes by pool. A member has nodes in few pools, and there may be many members, so it is a list; nil is empty. The
// pools are in the order in which they were first counted.
type nodesByPool []poolNodes

// poolNodes is a number of nodes of one pool.
type poolNodes struct {
	pool  string
	nodes int32
}

// of is the number for a pool, 0 for one that was never counted.
func (n *nodesByPool) of(pool string) int32 {
	nodes, _ := n.get(pool)
	return nodes
}

// get is of, and whether the pool was counted at all.
func (n *nodesByPool) get(pool string) (nodes int32, counted bool) {
	if i := n.index(pool); i >= 0 {
		return (*n)[i].nodes, true
	}
	return 0, false
}

// add counts more nodes of a pool, fewer where more is negative. It counts a pool also with 0.
func (n *nodesByPool) add(pool string, more int32) {
	if i := n.index(pool); i >= 0 {
		(*n)[i].nodes += more
		return
	}
	*n = append(*n, poolNodes{pool, more})
}

// set is the number for a pool from now on.
func (n *nodesByPool) set(pool string, nodes int32) { n.add(pool, nodes-n.of(pool)) }

func (n *nodesByPool) index(pool string) int {
	return slices.IndexFunc(*n, func(of poolNodes) bool { return of.pool == pool })
}
