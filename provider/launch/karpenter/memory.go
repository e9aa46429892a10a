package karpenter

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

const (
	// eventWithin is how long the event of a claim is waited for that was deleted. Karpenter sends it before it deletes the claim, and beside
	// that.
	eventWithin = 4 * time.Second
	// launchFailedAfter is how long Karpenter may try again to launch what it could not. It would for five minutes
	// (lifecycle/liveness.go), and as long as there is a claim without a provider id it makes and consolidates nothing else
	// (state/cluster.go, Synced).
	launchFailedAfter = 10 * time.Second
	// certainlyOver is after how long both are over by the times of the API server, however long this process has seen the claim: no clock
	// is taken to be that wrong, and a process that is started again and again has to come to an end.
	certainlyOver = time.Minute
)

// eventAgain is how soon an event is looked for again: the wait after each look, the last one after all that follow.
func eventAgain(looks int) time.Duration {
	const first, longest = 500 * time.Millisecond, 2 * time.Second
	return min(first<<min(looks-1, 8), longest)
}

// stage is what a claim without a machine is waited for in.
type stage int

const (
	// stageNone is a claim that may get a machine, or has one.
	stageNone stage = iota
	// stageTried is a claim that Karpenter could not launch, and tries again.
	stageTried
	// stageEnded is a claim that somebody else has deleted.
	stageEnded
)

// sight is what is remembered of a claim in a stage.
type sight struct {
	name  string
	stage stage
	// since is when the stage began.
	since time.Time
	// looks is how often events were looked for, and next when they are again.
	looks int
	next  time.Time
	// shortage is the message of the event that says that there was no machine, empty for no event. err is why it could not be looked for.
	shortage string
	err      error
}

// asks reports whether an event is to be looked for.
func (s *sight) asks(now time.Time) bool {
	return s.stage == stageEnded && s.shortage == "" && !now.Before(s.next)
}

// memory has the claims that have no machine and will hardly get one. How long they have been so is counted by the clock of this process
// alone: that of the API server, which writes the times of claims, may be another one.
type memory struct {
	mu     sync.Mutex
	sights map[types.UID]sight
}

// see is what is remembered of a claim that is there.
func (m *memory) see(claim *NodeClaim, now time.Time) sight {
	stage, began := stageOf(claim)
	m.mu.Lock()
	defer m.mu.Unlock()
	if stage == stageNone {
		delete(m.sights, claim.UID)
		return sight{}
	}
	if s, is := m.sights[claim.UID]; is && s.stage == stage {
		return s
	}
	s := sight{name: claim.Name, stage: stage, since: now}
	if now.Sub(began) >= certainlyOver {
		s.since = began
	}
	if m.sights == nil {
		m.sights = map[types.UID]sight{}
	}
	m.sights[claim.UID] = s
	return s
}

// looked says what came of a look for events about claims.
func (m *memory) looked(of []types.UID, shortages map[types.UID]string, err error, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, uid := range of {
		s, is := m.sights[uid]
		if !is {
			continue
		}
		s.shortage, s.err = shortages[uid], err
		s.looks++
		s.next = now.Add(eventAgain(s.looks))
		if over := s.since.Add(eventWithin); now.Before(over) && s.next.After(over) {
			s.next = over
		}
		m.sights[uid] = s
	}
}

// forget forgets the claims that are gone.
func (m *memory) forget(isThere func(name string, uid types.UID) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for uid := range m.sights {
		if !isThere(m.sights[uid].name, uid) {
			delete(m.sights, uid)
		}
	}
}

// stageOf is the stage of a claim, and when it began by the clock of the API server at the earliest.
func stageOf(claim *NodeClaim) (stage, time.Time) {
	if endedUnlaunched(claim) {
		return stageEnded, claim.DeletionTimestamp.Time
	}
	if c := claim.condition(conditionLaunched); claim.DeletionTimestamp == nil && c != nil && tried(c) {
		return stageTried, claim.CreationTimestamp.Time
	}
	return stageNone, time.Time{}
}
