package simulation

import (
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
)

// tale is a story whose course is set: what is there, what happens, and when it ends.
type tale struct {
	// name is that of its golden file, about what it tells in a sentence.
	name, about string
	settings    func(*settings)
	// happens begins it; what comes later it plans with after.
	happens func(*world)
	lasts   time.Duration
}

// tell runs a tale.
func (t *tale) tell() *world {
	w := t.begin()
	w.run(t.lasts)
	return w
}

// begin makes the world of a tale, in which nothing has happened yet but that somebody watches.
func (t *tale) begin(watched ...func(*world)) *world {
	s := calm(1)
	s.telling = true
	s.pools = []poolSettings{poolOf("hpc-a", 10, 30*time.Second)}
	if t.settings != nil {
		t.settings(&s)
	}
	w := newWorld(s)
	for _, watch := range watched {
		watch(w)
	}
	t.happens(w)
	return w
}

// user is a member that a tale is about.
func user(name string, size, most int32, pools ...string) *memberObject {
	return &memberObject{meta: meta{name: name}, wants: size, minSize: 1, maxSize: most, pools: pools}
}

// asks lets a member ask at a time.
func (w *world) asks(at time.Duration, member string, what action, amount int32) {
	w.after(at, func() { w.ensemble.ask(member, what, amount) })
}

// twoPools are a small cloud and one beside it.
func twoPools(s *settings) {
	s.pools = []poolSettings{poolOf("hpc-a", 10, 30*time.Second), poolOf("hpc-b", 10, 30*time.Second)}
}

var tales = []tale{{
	name: "grow", about: "A member grows: its nodes come first, then its pods, which find them at once.",
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 2, 8, "hpc-a"))
		w.asks(2*time.Minute, "lammps", grow, 4)
	},
	lasts: 4 * time.Minute,
}, {
	name: "fallback", about: "The cloud runs out of machines of the first pool. What is missing is asked of the next one.",
	settings: func(s *settings) {
		twoPools(s)
		s.pools[0].stock = 3
	},
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 1, 8, "hpc-a", "hpc-b"))
		w.asks(2*time.Minute, "lammps", grow, 5)
	},
	lasts: 5 * time.Minute,
}, {
	name: "zones",
	about: "A growth that has to be in one zone begins in the first one, which runs out of machines. It moves to the next zone as a " +
		"whole, and grows there.",
	settings: func(s *settings) {
		s.pools = []poolSettings{poolOf("hpc-a", 10, 30*time.Second), poolOf("hpc-b", 10, 30*time.Second), poolOf("hpc-c", 3, 30*time.Second)}
		s.pools[0].zones, s.pools[1].zones, s.pools[2].zones = []string{"eu-1a"}, []string{"eu-1b"}, []string{"eu-1a"}
		s.pools[0].stock, s.pools[2].maxSize = 2, 1
	},
	happens: func(w *world) {
		m := user("lammps", 4, 8, "hpc-a", "hpc-b", "hpc-c")
		m.topologyKey = zoneKey
		w.ensemble.arrive(m)
		w.asks(3*time.Minute, "lammps", grow, 2)
	},
	lasts: 5 * time.Minute,
}, {
	name: "gate",
	about: "A MiniCluster is created, and its pods wait behind the gate. They are released together when nodes for all of them are " +
		"Ready, each for one of these.",
	happens: func(w *world) {
		m := user("lammps", 3, 8, "hpc-a")
		m.gated = true
		w.ensemble.arrive(m)
	},
	lasts: time.Minute,
}, {
	name: "edit",
	about: "A user writes a larger size into a MiniCluster. Its new pods wait for all of their nodes. A pod that dies meanwhile " +
		"goes back to its place at once, and one whose node goes away on its way there is recreated.",
	happens: func(w *world) {
		m := user("lammps", 2, 8, "hpc-a")
		m.gated = true
		w.ensemble.arrive(m)
		w.after(2*time.Minute, func() { w.ensemble.edit("lammps", 5) })
		w.after(130*time.Second, func() { w.podDies("lammps", 1) })
		w.losesOnTheWay("lammps", 3)
	},
	lasts: 5 * time.Minute,
}, {
	name:  "timeout",
	about: "No pool has the nodes in time. The growth gives them back, waits, and is tried again when the cloud has machines.",
	settings: func(s *settings) {
		twoPools(s)
		s.pools[0].silentPercent, s.pools[1].silentPercent = 100, 100
		s.pools[0].provisionTimeout, s.pools[1].provisionTimeout = 2*time.Minute, 2*time.Minute
	},
	happens: func(w *world) {
		w.cloud.perfect = true
		w.ensemble.arrive(user("lammps", 1, 8, "hpc-a", "hpc-b"))
		w.after(2*time.Minute, func() { w.cloud.perfect = false })
		w.asks(2*time.Minute, "lammps", grow, 2)
		w.after(450*time.Second, func() {
			w.tell("cloud", "machines register again")
			w.cloud.perfect = true
		})
	},
	lasts: 14 * time.Minute,
}, {
	name:     "growths",
	about:    "Two members want more than a small pool has together. One gets all of its nodes, the other none until there is room.",
	settings: func(s *settings) { s.pools[0].maxSize = 8 },
	happens: func(w *world) {
		w.ensemble.arrive(user("amg", 1, 8, "hpc-a"))
		w.ensemble.arrive(user("lammps", 1, 8, "hpc-a"))
		w.asks(2*time.Minute, "amg", grow, 4)
		w.asks(2*time.Minute+10*time.Second, "lammps", grow, 5)
		w.asks(5*time.Minute, "amg", shrink, 4)
	},
	lasts: 8 * time.Minute,
}, {
	name: "handover", about: "One member shrinks while another waits for room: the nodes change hands, and no machine is ordered or deleted.",
	settings: func(s *settings) { s.pools[0].maxSize = 6 },
	happens: func(w *world) {
		w.ensemble.arrive(user("amg", 5, 8, "hpc-a"))
		w.ensemble.arrive(user("lammps", 1, 8, "hpc-a"))
		w.asks(2*time.Minute, "lammps", grow, 3)
		w.asks(3*time.Minute, "amg", shrink, 3)
	},
	lasts: 4 * time.Minute,
}, {
	name: "shrink",
	about: "A member changes its mind while its machines boot. Those that have not registered are cancelled, and it pays for none " +
		"that it does not use.",
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 1, 8, "hpc-a"))
		w.asks(2*time.Minute, "lammps", grow, 6)
		w.asks(2*time.Minute+20*time.Second, "lammps", shrink, 4)
	},
	lasts: 4 * time.Minute,
}, {
	name: "loss",
	about: "A node of a member that is complete goes away. The floor still counts it, so another one comes, and the pod that was lost " +
		"runs again.",
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 3, 8, "hpc-a"))
		w.after(2*time.Minute, func() {
			w.tell("cloud", "hpc-a-1 is taken away")
			w.cloud.gone("hpc-a-1")
		})
	},
	lasts: 4 * time.Minute,
}, {
	name:  "spot",
	about: "The cloud announces that it takes a machine away. Its replacement is ordered before it is gone, and its pod goes there.",
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 3, 8, "hpc-a"))
		w.after(2*time.Minute, func() { w.cloud.notice(w.nodes.get("hpc-a-1"), 2*time.Minute) })
	},
	lasts: 6 * time.Minute,
}, {
	name: "nodedeleted",
	about: "A user deletes the node of a machine that a member uses. The machine is of no use without it: it is ended, and another " +
		"one comes.",
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 3, 8, "hpc-a"))
		w.after(2*time.Minute, func() { w.deleteNode(w.nodes.get("hpc-a-1")) })
	},
	lasts: 4 * time.Minute,
}, {
	name: "restart",
	about: "The controller is killed after it has recorded the nodes as held and before it has written the size. The next one goes on " +
		"from there.",
	happens: func(w *world) {
		w.ensemble.arrive(user("lammps", 1, 8, "hpc-a"))
		w.asks(2*time.Minute, "lammps", grow, 2)
		w.killBetweenWrites("lammps", 3)
	},
	lasts: 4 * time.Minute,
}, {
	name:  "giveup",
	about: "A growth has failed as often as the member lets it. The desired size is set back to what it has, and that is told.",
	settings: func(s *settings) {
		s.pools[0].stock = 2
		s.autoscaler.initialBackoff = 30 * time.Second
	},
	happens: func(w *world) {
		m := user("lammps", 2, 8, "hpc-a")
		m.giveUpAfter = 2
		w.ensemble.arrive(m)
		w.asks(2*time.Minute, "lammps", grow, 3)
	},
	lasts: 6 * time.Minute,
}, {
	name: "greedy", about: "A greedy member takes each node as it comes.",
	settings: func(s *settings) { s.pools[0].boot.most = 90 * time.Second },
	happens: func(w *world) {
		m := user("lammps", 1, 8, "hpc-a")
		m.policy = v1alpha1.GrowthGreedy
		w.ensemble.arrive(m)
		w.asks(2*time.Minute, "lammps", grow, 3)
	},
	lasts: 5 * time.Minute,
}, {
	name: "toosmall",
	about: "The nodes of the first pool are smaller than its template says. Two of them are enough to find out: what is missing is asked " +
		"of the next pool, and nothing more of this one.",
	settings: func(s *settings) {
		twoPools(s)
		s.pools[0].smallerPercent, s.pools[0].smaller = 100, 1500
	},
	happens: func(w *world) {
		m := user("lammps", 3, 8, "hpc-a", "hpc-b")
		m.gated = true
		w.ensemble.arrive(m)
		w.asks(3*time.Minute, "lammps", grow, 2)
	},
	lasts: 5 * time.Minute,
}, {
	name: "daemonset",
	about: "A DaemonSet of which the template tells nothing takes room on each new node. The member says who takes what, and asks the " +
		"pool again when its template has changed.",
	settings: func(s *settings) {
		s.pools[0].daemons = []daemon{{name: "agent", cpu: 1200, unknown: true}}
	},
	happens: func(w *world) {
		m := user("lammps", 2, 8, "hpc-a")
		m.gated = true
		w.ensemble.arrive(m)
		w.after(4*time.Minute, func() {
			w.tell("user", "the DaemonSet agent is deleted")
			w.cloud.repaired = true
			w.editTemplate("hpc-a")
		})
	},
	lasts: 8 * time.Minute,
}, {
	name: "quota",
	about: "A quota allows two pods of five. The nodes for the others are given back after a while, and the size with them; it is tried " +
		"again, and served when the quota allows it.",
	settings: func(s *settings) {
		s.pools[0].provisionTimeout = 2 * time.Minute
	},
	happens: func(w *world) {
		m := user("lammps", 2, 8, "hpc-a")
		m.gated = true
		w.ensemble.arrive(m)
		w.after(90*time.Second, func() { w.setQuota("lammps", 2) })
		w.asks(2*time.Minute, "lammps", grow, 3)
		w.after(6*time.Minute, func() { w.liftQuota("lammps") })
	},
	lasts: 9 * time.Minute,
}, {
	name: "stock",
	about: "Two growths ask for eight nodes each, and the cloud has twelve. One of them gets its eight in the time of one boot; the other " +
		"waits, and gets its own when the first has gone.",
	settings: func(s *settings) {
		s.pools[0].maxSize, s.pools[0].stock = 20, 12
		s.autoscaler.initialBackoff = 30 * time.Second
	},
	happens: func(w *world) {
		for _, name := range []string{"amg", "lammps"} {
			m := user(name, 8, 8, "hpc-a")
			m.gated = true
			w.ensemble.arrive(m)
		}
		w.after(3*time.Minute, func() { w.ensemble.finish("amg") })
		w.after(4*time.Minute, func() { w.ensemble.delete("amg") })
	},
	lasts: 10 * time.Minute,
}, {
	name: "suspend",
	about: "A Job is suspended: its member claims nothing any more, and its nodes go when its pods have. When it is resumed, it is a growth " +
		"that waits for all of its nodes.",
	happens: func(w *world) {
		m := user("lammps", 3, 8, "hpc-a")
		m.gated = true
		w.ensemble.arrive(m)
		w.after(2*time.Minute, func() { w.suspend("lammps", true) })
		w.after(4*time.Minute, func() { w.suspend("lammps", false) })
	},
	lasts: 6 * time.Minute,
}}

// killBetweenWrites kills the controller when it has recorded so many nodes as held for a member and not resized it yet.
func (w *world) killBetweenWrites(member string, held int) {
	w.controller.recorded = func(m *memberObject) {
		if m.name == member && len(m.reservations) > 0 && len(m.reservations[0].Held) == held && w.controller.up {
			w.controller.recorded = nil
			w.tell("storm", "the controller is killed; the nodes are recorded, the size is not")
			w.controller.kill()
			w.after(5*time.Second, w.startController)
		}
	}
}

// podDies ends the pod of a rank.
func (w *world) podDies(member string, rank int32) {
	for _, p := range w.pods.live.items {
		if p.member == member && p.index == rank {
			w.tell("kubelet", "pod %s fails", p.name)
			w.jobs.end(p.name)
			return
		}
	}
}

// losesOnTheWay takes the node away that the pod of a rank is released for, before the pod is there.
func (w *world) losesOnTheWay(member string, rank int32) {
	w.controller.released = func(p *podObject) {
		if p.member == member && p.index == rank {
			w.controller.released = nil
			w.tell("cloud", "%s is taken away", p.releasedFor)
			w.cloud.gone(p.releasedFor)
		}
	}
}
