package expand_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/provider/expand"
)

func key(name string) types.NamespacedName {
	return types.NamespacedName{Namespace: "default", Name: name}
}

// pods of members, by their names, and other pods with no tolerations.
func pods(others int, members map[string]int) *expand.Pods {
	p := &expand.Pods{Members: map[types.NamespacedName]int{}}
	for name, count := range members {
		p.Members[key(name)] = count
	}
	if others > 0 {
		p.Others = []expand.Others{{Pods: others}}
	}
	return p
}

func option(group string, nodes int32, p *expand.Pods) expand.Option {
	return expand.Option{Group: group, Nodes: nodes, Pods: p}
}

func wants(pools ...string) *expand.Member { return &expand.Member{NodePools: pools} }

func waits(why string, pools ...string) *expand.Member {
	return &expand.Member{NodePools: pools, Waits: why}
}

func priced(price float64) *expand.Pool { return &expand.Pool{PricePerHour: &price} }

var dedicated = []corev1.Taint{{Key: "example.com/dedicated", Value: "hpc", Effect: corev1.TaintEffectNoSchedule}}

func TestChoose(t *testing.T) {
	t.Parallel()
	shared := pods(0, map[string]int{"m": 4})
	for name, row := range map[string]struct {
		options []expand.Option
		members map[string]*expand.Member
		pools   map[string]*expand.Pool
		want    []string
	}{
		"pods of a member whose nodes are on their way get no others": {
			options: []expand.Option{option("a", 4, shared), option("b", 4, shared)},
			members: map[string]*expand.Member{"m": waits("4 of its 4 nodes are on their way", "a", "b")},
			pools:   map[string]*expand.Pool{"a": {}, "b": {}},
			want:    []string{"- a: default/m: 4 of its 4 nodes are on their way", "- b: default/m: 4 of its 4 nodes are on their way"},
		},
		"the first pool of a member is the one to expand": {
			options: []expand.Option{option("b", 4, shared), option("a", 4, shared), option("c", 4, shared)},
			members: map[string]*expand.Member{"m": wants("a", "b")},
			pools:   map[string]*expand.Pool{"a": {}, "b": {}, "c": {}},
			want: []string{
				"- b: default/m: a comes first", "+ a: the first pool for default/m", "- c: default/m: it is none of the member's NodePools",
			},
		},
		"a pool that is full, paused or has failed is passed over": {
			options: []expand.Option{option("a", 4, shared), option("b", 4, shared), option("c", 4, shared), option("d", 4, shared)},
			members: map[string]*expand.Member{"m": {NodePools: []string{"a", "b", "c", "d"}, Failed: []string{"c"}}},
			pools:   map[string]*expand.Pool{"a": {Full: true}, "b": {Paused: true}, "c": {}, "d": {}},
			want: []string{
				"- a: default/m: it is at its maxSize", "- b: default/m: it is paused", "- c: default/m: it has failed the growth under way",
				"+ d: the first pool for default/m",
			},
		},
		"a pool in another domain is passed over, one that spans domains is not": {
			options: []expand.Option{option("a", 4, shared), option("b", 4, shared), option("c", 4, shared)},
			members: map[string]*expand.Member{"m": {NodePools: []string{"a", "b", "c"}, TopologyKey: "zone", Domain: "z2"}},
			pools: map[string]*expand.Pool{
				"a": {Labels: map[string]string{"zone": "z1"}}, "b": {}, "c": {Labels: map[string]string{"zone": "z2"}},
			},
			want: []string{
				"- a: default/m: it is in zone=z1 and the nodes of the member are in z2", "+ b: the first pool for default/m", "- c: default/m: b " +
					"comes first",
			},
		},
		"of two members the one with more pods goes first": {
			options: []expand.Option{option("a", 1, pods(0, map[string]int{"few": 1})), option("b", 5, pods(0, map[string]int{"many": 5}))},
			members: map[string]*expand.Member{"few": wants("a"), "many": wants("b")},
			pools:   map[string]*expand.Pool{"a": {}, "b": {}},
			want:    []string{"- a: default/few: b is for more pods, or cheaper", "+ b: the first pool for default/many"},
		},
		"of two with as many pods the cheaper pool": {
			options: []expand.Option{option("a", 2, pods(0, map[string]int{"m": 2})), option("b", 2, pods(0, map[string]int{"n": 2}))},
			members: map[string]*expand.Member{"m": wants("a"), "n": wants("b")},
			pools:   map[string]*expand.Pool{"a": priced(3), "b": priced(2)},
			want:    []string{"- a: default/m: b is for more pods, or cheaper", "+ b: the first pool for default/n"},
		},
		"what other pods could use stays": {
			options: []expand.Option{option("a", 1, pods(2, nil)), option("elsewhere", 1, pods(2, nil))},
			pools:   map[string]*expand.Pool{"a": {}},
			want:    []string{"+ a: no pods of members", "+ elsewhere: no pods of members"},
		},
		"a dedicated pool is kept from pods that do not tolerate it": {
			options: []expand.Option{
				option("a", 1, pods(2, nil)),
				option(
					"b", 1,
					&expand.Pods{
						Others: []expand.Others{
							{Tolerations: []corev1.Toleration{{Key: "example.com/dedicated", Operator: corev1.TolerationOpExists}}, Pods: 1},
						},
					},
				),
			},
			pools: map[string]*expand.Pool{"a": {Taints: dedicated}, "b": {Taints: dedicated}},
			want:  []string{"- a: the pods do not tolerate its taints", "+ b: no pods of members"},
		},
		"taints of the start, and those that are advice, keep nobody out": {
			options: []expand.Option{option("a", 1, pods(2, nil))},
			pools: map[string]*expand.Pool{"a": {Taints: []corev1.Taint{
				{
					Key: "startup-taint.cluster-autoscaler.kubernetes.io/driver", Effect: corev1.TaintEffectNoSchedule,
				}, {Key: "slow", Effect: corev1.TaintEffectPreferNoSchedule},
			}}},
			want: []string{"+ a: no pods of members"},
		},
		"other pods get nodes where none are bought for a member that waits": {
			options: []expand.Option{option("a", 5, pods(1, map[string]int{"m": 4})), option("general", 1, pods(1, nil))},
			members: map[string]*expand.Member{"m": waits("Queued: behind others", "a")},
			pools:   map[string]*expand.Pool{"a": {}, "general": {}},
			want: []string{
				"- a: another group serves the 1 pods of no member, and default/m: Queued: behind others", "+ general: no pods of members",
			},
		},
		"and are not held up where there is no other group": {
			options: []expand.Option{option("a", 5, pods(1, map[string]int{"m": 4}))},
			members: map[string]*expand.Member{"m": waits("Queued: behind others", "a")},
			pools:   map[string]*expand.Pool{"a": {}},
			want:    []string{"+ a: 1 pods of no member need it, though default/m: Queued: behind others"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			members := map[types.NamespacedName]*expand.Member{}
			for name, m := range row.members {
				members[key(name)] = m
			}
			var got []string
			for _, c := range expand.Choose(row.options, members, row.pools) {
				sign := "-"
				if c.Kept {
					sign = "+"
				}
				got = append(got, fmt.Sprintf("%s %s: %s", sign, c.Group, c.Message))
				if !slices.Contains(expand.Reasons()[c.Kept], c.Reason) {
					t.Errorf("%s has the reason %q, which is none for that answer", c.Group, c.Reason)
				}
			}
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Errorf("choices (-want +got):\n%s", diff)
			}
		})
	}
}

// TestChooseKeepsItsRules draws worlds and checks what has to be true of each choice: at most one group is expanded for members
// alone, it is the first one that can be had of a member that does not wait, and other pods always have a group left that
// could help as many of them as any.
func TestChooseKeepsItsRules(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2000) {
		options, members, pools := draw(rand.New(rand.NewPCG(seed, 1)))
		choices := expand.Choose(options, members, pools)
		if len(choices) != len(options) {
			t.Fatalf("seed %d: %d choices for %d options", seed, len(choices), len(options))
		}
		forMembers, most, kept := 0, 0, 0
		for i, c := range choices {
			if c.Message == "" || c.Group != options[i].Group || !slices.Contains(expand.Reasons()[c.Kept], c.Reason) {
				t.Fatalf("seed %d: choice %d is %+v for group %s", seed, i, c, options[i].Group)
			}
			others := 0
			for _, o := range options[i].Pods.Others {
				others += o.Pods
			}
			if pool := pools[c.Group]; pool != nil && len(pool.Taints) > 0 {
				others = 0
			}
			most = max(most, others)
			if !c.Kept {
				continue
			}
			kept = max(kept, others)
			if others == 0 {
				forMembers++
				if !serves(options, i, members, pools) {
					t.Fatalf("seed %d: %s is expanded (%s), and is the first pool of no member that waits for nothing", seed, c.Group, c.Message)
				}
			}
		}
		if forMembers > 1 {
			t.Fatalf("seed %d: %d groups are expanded for members alone", seed, forMembers)
		}
		if kept < most {
			t.Fatalf("seed %d: the other pods are left with a group for %d of them, and there is one for %d", seed, kept, most)
		}
	}
}

// serves reports whether an option is for a member that waits for nothing, and the first of its pools that can be had.
func serves(options []expand.Option, at int, members map[types.NamespacedName]*expand.Member, pools map[string]*expand.Pool) bool {
	for name := range options[at].Pods.Members {
		m := members[name]
		if m.Waits != "" {
			continue
		}
		first := slices.IndexFunc(m.NodePools, func(pool string) bool {
			return slices.ContainsFunc(options, func(o expand.Option) bool {
				return o.Group == pool && o.Pods.Members[name] > 0 && !pools[pool].Full && !pools[pool].Paused
			})
		})
		if first >= 0 && m.NodePools[first] == options[at].Group {
			return true
		}
	}
	return false
}

func draw(r *rand.Rand) ([]expand.Option, map[types.NamespacedName]*expand.Member, map[string]*expand.Pool) {
	groups := strings.Split("abcdef", "")[:1+r.IntN(6)]
	members, pools := map[types.NamespacedName]*expand.Member{}, map[string]*expand.Pool{}
	for _, g := range groups {
		pools[g] = &expand.Pool{Full: r.IntN(4) == 0, Paused: r.IntN(6) == 0}
		if r.IntN(3) == 0 {
			pools[g].Taints = dedicated
		}
		if r.IntN(2) == 0 {
			price := r.Float64()
			pools[g].PricePerHour = &price
		}
	}
	for n := range r.IntN(4) {
		m := &expand.Member{}
		for _, i := range r.Perm(len(groups))[:1+r.IntN(len(groups))] {
			m.NodePools = append(m.NodePools, groups[i])
		}
		if r.IntN(2) == 0 {
			m.Waits = "it waits"
		}
		members[key(fmt.Sprintf("m%d", n))] = m
	}
	var options []expand.Option
	for _, g := range groups {
		p := pods(r.IntN(3), nil)
		for name := range members {
			if r.IntN(2) == 0 {
				p.Members[name] = 1 + r.IntN(5)
			}
		}
		if len(p.Members)+len(p.Others) > 0 {
			options = append(options, option(g, int32(1+r.IntN(5)), p))
		}
	}
	return options, members, pools
}

// BenchmarkChoose measures a choice among groups that could all take the same pods, those of a hundred members among them.
func BenchmarkChoose(b *testing.B) {
	for _, groups := range []int{10, 100, 1000} {
		b.Run(fmt.Sprintf("options=%d/pods=1000", groups), func(b *testing.B) {
			members, counts := map[types.NamespacedName]*expand.Member{}, map[string]int{}
			for n := range 100 {
				name := fmt.Sprintf("m%d", n)
				counts[name] = 5
				members[key(name)] = wants(fmt.Sprintf("group-%d", n%groups))
			}
			shared := pods(500, counts)
			var options []expand.Option
			pools := map[string]*expand.Pool{}
			for g := range groups {
				name := fmt.Sprintf("group-%d", g)
				options = append(options, option(name, 10, shared))
				pools[name] = &expand.Pool{Taints: dedicated}
			}
			b.ReportAllocs()
			for b.Loop() {
				expand.Choose(options, members, pools)
			}
		})
	}
}
