package apitest

import (
	"strings"
	"testing"
)

const validMember = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: EnsembleMember
metadata: {name: demo, namespace: default}
spec:
  size: 4
  minSize: 2
  maxSize: 10
  nodePools: [hpc-a, hpc-b]
`

// groupedMember has two groups of pods.
const groupedMember = `
apiVersion: autoscaling.flux-framework.org/v1alpha1
kind: EnsembleMember
metadata: {name: demo, namespace: default}
spec:
  size: 4
  minSize: 3
  maxSize: 9
  groups:
  - {name: leader, size: 1, minSize: 1, maxSize: 1}
  - {name: workers, size: 3, minSize: 2, maxSize: 8}
  nodePools: [hpc-a, hpc-b]
`

// TestGroupRules: what a member with several groups of pods says of them is in order, and its own numbers are the sums.
func TestGroupRules(t *testing.T) {
	leader, workers := "{name: leader, size: 1, minSize: 1, maxSize: 1}", "{name: workers, size: 3, minSize: 2, maxSize: 8}"
	groups := func(of ...string) string { return "groups: [" + strings.Join(of, ", ") + "]" }
	check(t, groupedMember, map[string]row{
		"as it is":            {change: `{}`},
		"a group and the sum": {change: `spec: {size: 9, ` + groups(leader, "{name: workers, size: 8, minSize: 2, maxSize: 8}") + `}`},
		"a group alone": {
			change:  `spec: {` + groups(leader, "{name: workers, size: 8, minSize: 2, maxSize: 8}") + `}`,
			refused: []string{"spec.size", "size (4) must be the sum of groups[].size (9)"},
		},
		"the sum alone": {change: `spec: {size: 5}`, refused: []string{"spec.size", "size (5) must be the sum of groups[].size (4)"}},
		"another minimum": {
			change: `spec: {minSize: 1}`, refused: []string{"spec.minSize", "minSize (1) must be the sum of groups[].minSize (3)"},
		},
		"another maximum": {
			change: `spec: {maxSize: 10}`, refused: []string{"spec.maxSize", "maxSize (10) must be the sum of groups[].maxSize (9)"},
		},
		"one group": {
			change: `spec: {size: 3, minSize: 2, maxSize: 8, ` + groups(workers) + `}`, refused: []string{"spec.groups", "at least 2 items"},
		},
		"a group twice": {
			change:  `spec: {size: 6, minSize: 4, maxSize: 16, ` + groups(workers, workers) + `}`,
			refused: []string{"spec.groups", "Duplicate value"},
		},
		"a group below its minimum": {
			change:  `spec: {size: 2, ` + groups(leader, "{name: workers, size: 1, minSize: 2, maxSize: 8}") + `}`,
			refused: []string{"spec.groups[1].size", "size (1) of group workers must be at least minSize (2)"},
		},
		"a group above its maximum": {
			change:  `spec: {size: 9, ` + groups("{name: leader, size: 6, minSize: 1, maxSize: 1}", workers) + `}`,
			refused: []string{"spec.groups[0].size", "size (6) of group leader must be at most maxSize (1)"},
		},
		"half a unit": {
			change:  `spec: {` + groups(leader, "{name: workers, size: 3, minSize: 2, maxSize: 8, unit: 2}") + `}`,
			refused: []string{"spec.groups[1].size", "size (3) of group workers must be a multiple of 2"},
		},
		"a group without a name": {
			change: `spec: {` + groups(leader, `{name: "", size: 3, minSize: 2, maxSize: 8}`) + `}`, refused: []string{"spec.groups[1].name", "at least 1"},
		},
		"a group of size 0": {
			change:  `spec: {size: 1, minSize: 1, ` + groups(leader, "{name: workers, size: 0, minSize: 0, maxSize: 8}") + `}`,
			refused: []string{"spec.groups[1].size", "greater than or equal to 1"},
		},
	})
}

func TestEnsembleMemberRules(t *testing.T) {
	check(t, validMember, map[string]row{
		"as it is":        {change: `{}`},
		"size at minSize": {change: `spec: {size: 2}`},
		"size at maxSize": {change: `spec: {size: 10}`},
		"size below minSize": {
			change: `spec: {size: 1}`, refused: []string{"spec.size", "size (1) must be at least minSize (2)", "the minimum size of the MiniCluster"},
		},
		"size above maxSize": {
			change:  `spec: {size: 11}`,
			refused: []string{"spec.size", "size (11) must be at most maxSize (10)", "the maximum size of the MiniCluster"},
		},
		"size below minSize of a Job": {
			change:  `spec: {size: 1, target: {apiVersion: batch/v1, kind: Job, name: sweep}}`,
			refused: []string{"spec.size", "size (1) must be at least minSize (2), the minimum size of the Job"},
		},
		"size 0":                {change: `spec: {size: 0, minSize: 1}`, refused: []string{"spec.size", "greater than or equal to 1"}},
		"no size":               {change: `spec: {size: null}`, refused: []string{"spec.size", "Required value"}},
		"minSize 0":             {change: `spec: {minSize: 0}`, refused: []string{"spec.minSize", "greater than or equal to 1"}},
		"no maxSize":            {change: `spec: {maxSize: null}`, refused: []string{"spec.maxSize", "Required value"}},
		"minSize above maxSize": {change: `spec: {minSize: 11}`, refused: []string{"spec.minSize", "minSize (11) must not exceed maxSize (10)"}},
		"one pool":              {change: `spec: {nodePools: [hpc-a]}`},
		"no pool":               {change: `spec: {nodePools: []}`, refused: []string{"spec.nodePools", "at least 1 items"}},
		"no nodePools":          {change: `spec: {nodePools: null}`, refused: []string{"spec.nodePools", "Required value"}},
		"a pool twice": {
			change: `spec: {nodePools: [hpc-a, hpc-b, hpc-a]}`, refused: []string{"spec.nodePools", "must not name a pool twice"},
		},
		"a pool without a name": {change: `spec: {nodePools: [""]}`, refused: []string{"spec.nodePools[0]", "at least 1 chars long"}},
		"too long a pool name": {
			change: `spec: {nodePools: [` + strings.Repeat("a", 51) + `]}`, refused: []string{"spec.nodePools[0]", "Too long", "50"},
		},
		"17 pools": {
			change:  `spec: {nodePools: [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q]}`,
			refused: []string{"spec.nodePools", "must have at most 16 items"},
		},
		"an unknown policy":      {change: `spec: {growthPolicy: Best}`, refused: []string{"spec.growthPolicy", "Best", `"AllOrNothing"`}},
		"pods that share a node": {change: `spec: {podsPerNode: 4}`},
		"as many as fit":         {change: `spec: {podsPerNode: Auto}`},
		"no pods on a node": {
			change: `spec: {podsPerNode: 0}`, refused: []string{"spec.podsPerNode", "podsPerNode must be a number from 1 to 1024, or Auto"},
		},
		"too many on a node": {
			change: `spec: {podsPerNode: 1025}`, refused: []string{"spec.podsPerNode", "podsPerNode must be a number from 1 to 1024, or Auto"},
		},
		"some pods on a node": {change: `spec: {podsPerNode: some}`, refused: []string{"spec.podsPerNode", `"some"`, "Auto"}},
		"giving up":           {change: `spec: {giveUpAfter: 3}`},
		"giving up at once":   {change: `spec: {giveUpAfter: 0}`, refused: []string{"spec.giveUpAfter", "greater than or equal to 1"}},
		"one zone":            {change: `spec: {topologyKey: topology.kubernetes.io/zone}`},
		"one rack":            {change: `spec: {topologyKey: rack}`},
		"no label's key": {
			change:  `spec: {topologyKey: "a rack"}`,
			refused: []string{"spec.topologyKey", "topologyKey must be the key of a label, such as topology.kubernetes.io/zone"},
		},
		"an empty key": {change: `spec: {topologyKey: ""}`, refused: []string{"spec.topologyKey", "at least 1 chars long"}},
		"a key with two slashes": {
			change: `spec: {topologyKey: a/b/c}`, refused: []string{"spec.topologyKey", "topologyKey must be the key of a label"},
		},
		"too long a key": {
			change:  `spec: {topologyKey: ` + strings.Repeat("a", 64) + `}`,
			refused: []string{"spec.topologyKey", "topologyKey must be the key of a label"},
		},
		"a request": {
			change: `spec: {request: {action: Grow, amount: 2, size: 4, by: pod demo-0, at: "2026-01-02T03:04:05.678901Z"}}`,
		},
		"an unknown action": {
			change:  `spec: {request: {action: grow, amount: 2, size: 4, by: x, at: "2026-01-02T03:04:05.678901Z"}}`,
			refused: []string{"spec.request.action", "grow", `"Grow", "Shrink", "Adopt"`},
		},
		"a negative amount": {
			change:  `spec: {request: {action: Grow, amount: -2, size: 4, by: x, at: "2026-01-02T03:04:05.678901Z"}}`,
			refused: []string{"spec.request.amount", "greater than or equal to 0"},
		},
		"a request by nobody": {
			change:  `spec: {request: {action: Grow, amount: 2, size: 4, at: "2026-01-02T03:04:05.678901Z"}}`,
			refused: []string{"spec.request.by", "Required value"},
		},
		"a request of one word": {
			change:  `spec: {request: {action: Grow, amount: 2, size: 4, by: x, at: yesterday}}`,
			refused: []string{"spec.request.at", "date-time"},
		},
		"its workload": {change: `spec: {target: {apiVersion: batch/v1, kind: Job, name: sweep}}`},
		"a workload without a name": {
			change: `spec: {target: {apiVersion: batch/v1, kind: Job, name: ""}}`, refused: []string{"spec.target.name", "at least 1 chars long"},
		},
		"a workload of no kind": {
			change: `spec: {target: {apiVersion: batch/v1, name: sweep}}`, refused: []string{"spec.target.kind", "Required value"},
		},
		"a misspelt field": {change: `spec: {pools: [hpc-a]}`, refused: []string{`unknown field "spec.pools"`}},
	})
}

func TestEnsembleMemberDefaults(t *testing.T) {
	member := create(t, edit(t, parse(t, validMember), `{metadata: {name: defaults}, spec: {minSize: null}}`))
	for path, want := range map[string]any{
		"spec.minSize": int64(1), "spec.growthPolicy": "AllOrNothing", "spec.request": nil, "spec.podsPerNode": int64(1),
		"spec.giveUpAfter": nil, "spec.topologyKey": nil, "status.topologyDomain": nil,
	} {
		if got := field(t, member, path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

// TestEnsembleMemberTarget: a member without a target can be given one, and what it has stays.
func TestEnsembleMemberTarget(t *testing.T) {
	member := create(t, edit(t, parse(t, validMember), `metadata: {name: target}`))
	ofMiniCluster := `spec: {target: {apiVersion: flux-framework.org/v1alpha2, kind: MiniCluster, name: target}}`
	for _, step := range []struct {
		what, change string
		refused      []string
	}{
		{"a first one", ofMiniCluster, nil},
		{"the same", ofMiniCluster, nil},
		{"another name", `spec: {target: {name: other}}`, []string{"spec.target", "cannot be changed"}},
		{"another kind", `spec: {target: {apiVersion: batch/v1, kind: Job}}`, []string{"spec.target", "cannot be changed"}},
		// A controller from before targets writes members without.
		{"none", `spec: {target: null}`, nil},
		{"again", ofMiniCluster, nil},
	} {
		t.Run(step.what, func(t *testing.T) {
			changed := edit(t, member, step.change)
			judge(t, server.client.Update(t.Context(), changed), step.refused)
			if len(step.refused) == 0 {
				member = changed
			}
		})
	}
}

func TestEnsembleMemberStatusRules(t *testing.T) {
	member := create(t, edit(t, parse(t, validMember), `metadata: {name: status}`))
	for name, row := range map[string]row{
		"a whole status": {change: `
status:
  observedGeneration: 1
  size: 2
  reserved: 4
  nodes: 2
  reservations: [{nodePool: hpc-a, nodes: 4, occupied: 1, held: [hpc-a-0, hpc-a-1]}]
  topologyDomain: topology.kubernetes.io/zone=eu-1a
  growth: {size: 4, since: "2026-01-02T03:04:05.000001Z", deadline: "2026-01-02T03:19:05.000000Z"}
  selector: hpa-selector=status`},
		"a pool reserved in twice": {
			change:  `status: {size: 2, reserved: 4, nodes: 2, reservations: [{nodePool: hpc-a, nodes: 2}, {nodePool: hpc-a, nodes: 2}]}`,
			refused: []string{"status.reservations[1]", "Duplicate value", "hpc-a"},
		},
		"a node held twice": {
			change:  `status: {size: 2, reserved: 4, nodes: 2, reservations: [{nodePool: hpc-a, nodes: 2, held: [hpc-a-0, hpc-a-0]}]}`,
			refused: []string{"status.reservations[0].held[1]", "Duplicate value", "hpc-a-0"},
		},
		"a negative reservation": {
			change:  `status: {size: 2, reserved: 4, nodes: 2, reservations: [{nodePool: hpc-a, nodes: -1}]}`,
			refused: []string{"status.reservations[0].nodes", "greater than or equal to 0"},
		},
		"a status without numbers": {change: `status: {size: null, reserved: 0, nodes: 0}`, refused: []string{"status.size", "Required value"}},
	} {
		t.Run(name, func(t *testing.T) {
			changed := edit(t, member, row.change)
			judge(t, server.client.Status().Update(t.Context(), changed), row.refused)
			if len(row.refused) == 0 {
				member = changed
			}
		})
	}
}
