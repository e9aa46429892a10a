package simulation

import (
	"time"
)

// span is a time that is drawn evenly between two bounds.
type span struct{ least, most time.Duration }

// settings say what a world is like. Everything random in it is drawn from the seed.
type settings struct {
	seed  uint64
	pools []poolSettings

	// lag is how long a change takes from the API server to a cache, write how long a write takes.
	lag, write span

	autoscaler autoscalerSettings

	// followed is how long the Flux Operator and the Job controller take for a step, scheduled the scheduler, grace a pod
	// that is deleted.
	followed, scheduled, grace span

	// starts is how long a pod takes from its node until it runs; zero for at once.
	starts span
	// troubled is set when pods, nodes and objects do not do what was written.
	troubled bool
	// contest begins with several growths that ask for what the stock of the first pool has for one of them.
	contest bool
	// Of a hundred pods so many do not start.
	stuckPercent int

	// ignoresMembers keeps Cluster Autoscaler from ordering nodes for pods of members that have none.
	ignoresMembers bool
	// lossy lets requests be lost, late or delivered twice.
	lossy bool
	// replicas lets another replica of the provider answer Cluster Autoscaler, which does not know what this one has just written.
	replicas bool
	// patchFirst is the world without a controller: a request patches the MiniCluster at once.
	patchFirst bool
	// telling keeps the story. A world of which nobody wants to hear does without.
	telling bool
}

// poolSettings say what a pool and its cloud are like.
type poolSettings struct {
	name             string
	minSize, maxSize int32
	// stock is how many machines the cloud has, -1 for any number.
	stock            int
	boot             span
	provisionTimeout time.Duration
	// Of a hundred machines so many fail to boot, never register, and register a node that never becomes Ready.
	failPercent, silentPercent, neverReadyPercent int
	// dedicated pools carry a taint that keeps other tenants away.
	dedicated bool
	// zones are where its machines are. The template of a pool with one zone says so; of one with several each machine says
	// where it is when it registers.
	zones []string
	// classed pools have a label that members may select.
	classed bool
	// troubles are what is wrong with its nodes, see troubles.go.
	troubles
	// roles are what its machines play, see roles.go.
	roles
}

// autoscalerSettings are the flags of Cluster Autoscaler.
type autoscalerSettings struct {
	scanInterval                              time.Duration
	initialBackoff, longestBackoff, backReset time.Duration
	unneededTime, delayAfterAdd               time.Duration
	provisionTime                             time.Duration
	deleteDelayAfterTaint                     time.Duration
	enforceMinSize                            bool
}

// defaultAutoscaler are Cluster Autoscaler's defaults, and the flag that nodes first needs.
func defaultAutoscaler() autoscalerSettings {
	return autoscalerSettings{
		scanInterval:   10 * time.Second,
		initialBackoff: 5 * time.Minute, longestBackoff: 30 * time.Minute, backReset: 3 * time.Hour,
		unneededTime: 10 * time.Minute, delayAfterAdd: 10 * time.Minute,
		provisionTime:         15 * time.Minute,
		deleteDelayAfterTaint: 5 * time.Second,
		enforceMinSize:        true,
	}
}

// calm is a world in which nothing goes wrong: short delays, machines that boot.
func calm(seed uint64) settings {
	return settings{
		seed:           seed,
		lag:            span{5 * time.Millisecond, 50 * time.Millisecond},
		write:          span{2 * time.Millisecond, 10 * time.Millisecond},
		autoscaler:     defaultAutoscaler(),
		followed:       span{200 * time.Millisecond, 800 * time.Millisecond},
		scheduled:      span{20 * time.Millisecond, 100 * time.Millisecond},
		grace:          span{2 * time.Second, 5 * time.Second},
		ignoresMembers: true,
	}
}

// poolOf is a pool of a calm world.
func poolOf(name string, maxSize int32, boot time.Duration) poolSettings {
	return poolSettings{
		name: name, maxSize: maxSize, stock: -1,
		boot: span{boot, boot + boot/5}, provisionTimeout: 5 * time.Minute, dedicated: true,
	}
}

// stormy draws a world in which everything goes wrong now and then.
func stormy(seed uint64) settings {
	s := calm(seed)
	s.lossy = true
	draw := newRand(seed ^ 0x5eed)
	chance := func(percent int) bool { return draw.IntN(100) < percent }
	s.lag.most = []time.Duration{50 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second}[draw.IntN(3)]
	s.grace.most = []time.Duration{5 * time.Second, 30 * time.Second}[draw.IntN(2)]
	s.ignoresMembers = chance(60)
	if chance(50) {
		s.autoscaler.initialBackoff = 30 * time.Second
	}
	if chance(30) {
		s.autoscaler.unneededTime, s.autoscaler.delayAfterAdd = time.Minute, time.Minute
	}
	names := []string{"hpc-a", "hpc-b", "hpc-c"}
	for _, name := range names[:2+draw.IntN(2)] {
		boot := []time.Duration{5 * time.Second, 30 * time.Second, 90 * time.Second}[draw.IntN(3)]
		p := poolOf(name, int32(4+draw.IntN(7)), boot)
		p.boot.most = boot + time.Duration(draw.IntN(60))*time.Second
		p.provisionTimeout = time.Duration(3+draw.IntN(4)) * time.Minute
		p.dedicated = chance(50)
		if chance(20) {
			p.minSize = int32(1 + draw.IntN(2))
		}
		if chance(25) {
			p.stock = 2 + draw.IntN(4)
		}
		if chance(40) {
			p.failPercent, p.silentPercent, p.neverReadyPercent = draw.IntN(15), draw.IntN(8), draw.IntN(8)
		}
		p.zones = [][]string{nil, {"eu-1a"}, {"eu-1a"}, {"eu-1b"}, {"eu-1b"}, {"eu-1a", "eu-1b"}}[draw.IntN(6)]
		s.pools = append(s.pools, p)
	}
	castRoles(&s, draw)
	castTroubles(&s, newRand(seed^0x7be))
	return s
}
