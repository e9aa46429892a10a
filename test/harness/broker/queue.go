package broker

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// submit takes a job in. It is placed, where it can be, before the next request is answered.
func (s *state) submit(r *request) {
	var asked struct {
		J       *string `json:"J"`
		Urgency *int    `json:"urgency"`
		Flags   *int    `json:"flags"`
	}
	if !r.read(&asked) {
		return
	}
	if asked.J == nil || asked.Urgency == nil || asked.Flags == nil {
		r.fail(syscall.EPROTO, "J, urgency and flags are needed")
		return
	}
	if failure := s.broker.submitting; failure.errno != 0 {
		r.fail(failure.errno, "%s", failure.text)
		return
	}
	text, user, err := unwrap(*asked.J)
	if err != nil {
		r.fail(syscall.EINVAL, "could not unwrap the jobspec: %v", err)
		return
	}
	if user != strconv.FormatUint(uint64(r.UserID), 10) {
		r.fail(syscall.EPERM, "signer %s is not the user %d that submits", user, r.UserID)
		return
	}
	wants, redacted, err := readSpec(text)
	if err != nil {
		r.fail(syscall.EINVAL, "jobspec: %v", err)
		return
	}
	j := &job{id: s.nextID(), spec: wants, redacted: redacted, urgency: *asked.Urgency, state: stateNew, submitted: now()}
	s.jobs[j.id] = j
	s.order = append(s.order, j)
	s.post(j, "submit", map[string]any{"userid": r.UserID, "urgency": j.urgency, "flags": *asked.Flags, "version": 1})
	if note := s.broker.rejecting; note != "" {
		s.post(j, "invalidate", nil)
		delete(s.jobs, j.id)
		s.order = s.order[:len(s.order)-1]
		r.fail(syscall.EINVAL, "%s", note)
		return
	}
	s.enter(j, stateDepend)
	s.post(j, "validate", nil)
	s.enter(j, statePriority)
	s.post(j, "depend", nil)
	s.prioritize(j)
	// Those that read the journal know of the job before its submitter does, most often.
	r.respond(map[string]any{"id": j.id})
	s.schedule()
}

// nextID is a FLUID of RFC 19: milliseconds, generator 0, and a number among those of the same millisecond.
func (s *state) nextID() uint64 {
	s.lastID = max(s.lastID+1, uint64(time.Since(s.began).Milliseconds()+1)<<24)
	return s.lastID
}

// prioritize makes a priority of the urgency: 0 holds a job, 31 puts it before all others.
func (s *state) prioritize(j *job) {
	const expedite = 31
	j.priority = uint32(j.urgency)
	if j.urgency == expedite {
		j.priority = math.MaxUint32
	}
	s.enter(j, stateSched)
	s.post(j, "priority", map[string]any{"priority": j.priority})
}

// enter lets a job be in a state, and keeps the queue of those that wait to be placed.
func (s *state) enter(j *job, to int) {
	if j.state == stateSched {
		s.queue = slices.DeleteFunc(s.queue, func(queued *job) bool { return queued == j })
	}
	j.state = to
	if to == stateSched && j.priority > 0 {
		// Behind those that are served before it or were there before.
		at, _ := slices.BinarySearchFunc(s.queue, j.priority, func(queued *job, priority uint32) int {
			if queued.priority >= priority {
				return -1
			}
			return 1
		})
		s.queue = slices.Insert(s.queue, at, j)
	}
}

// schedule places jobs one after the other, until one has no place: those behind it wait, however small they are. One that never could have
// a place fails when its turn comes.
func (s *state) schedule() {
	if s.ended {
		return
	}
	for len(s.queue) > 0 {
		j := s.queue[0]
		if _, could := s.place(j, s.whole(s.all())); !could {
			s.exception(j, exception{kind: "alloc", note: "unsatisfiable: there are not so many nodes or cores"})
			continue
		}
		cores, placed := s.place(j, s.free())
		if !placed {
			return
		}
		s.start(j, cores)
	}
}

// free are the cores that jobs can be given.
func (s *state) free() placement {
	free := s.whole(s.online.Minus(s.torpid).Minus(s.drained()))
	for rank, cores := range s.busy() {
		if left, has := free[rank]; has {
			free[rank] = left.Minus(cores)
		}
	}
	return free
}

// place finds a job's cores among the free ones: whole nodes from the lowest rank up, and parts of nodes where most is free.
func (s *state) place(j *job, free placement) (placement, bool) {
	ranks := make([]uint32, 0, len(free))
	for rank := range free {
		ranks = append(ranks, rank)
	}
	slices.Sort(ranks)
	if j.spec.exclusive {
		return s.placeWhole(j, free, ranks)
	}
	each, parts := j.spec.cores, j.spec.slots
	if j.spec.nodes > 0 {
		each, parts = j.spec.slots/j.spec.nodes*j.spec.cores, j.spec.nodes
	}
	out := placement{}
	for range parts {
		best, found := uint32(0), false
		for _, rank := range ranks {
			if _, used := out[rank]; used && j.spec.nodes > 0 {
				continue
			}
			left := free[rank].Count()
			if left >= each && (!found || left > free[best].Count()) {
				best, found = rank, true
			}
		}
		if !found {
			return nil, false
		}
		taken := first(free[best], each)
		out[best] = out[best].Union(taken)
		free[best] = free[best].Minus(taken)
	}
	return out, true
}

func (s *state) placeWhole(j *job, free placement, ranks []uint32) (placement, bool) {
	out := placement{}
	for _, rank := range ranks {
		if free[rank].Count() == s.broker.options.Cores && len(out) < j.spec.nodes {
			out[rank] = free[rank]
		}
	}
	return out, len(out) == j.spec.nodes
}

// first are the lowest of some ids.
func first(of idset.Set, count int) idset.Set {
	ids := make([]uint32, 0, count)
	for id := range of.All() {
		if len(ids) == count {
			break
		}
		ids = append(ids, id)
	}
	return idset.Of(ids...)
}

// start lets a job run.
func (s *state) start(j *job, cores placement) {
	j.cores, j.had, j.set = cores, cores, s.setOf(cores)
	s.holding[j.id] = j
	s.enter(j, stateRun)
	j.ran = now()
	// What the scheduler says of its choice is an event that RFC 21 does not have, and then part of one that it has.
	annotations := map[string]any{"annotations": map[string]any{"sched": map[string]any{"resource_summary": ranksOf(cores)}}}
	s.post(j, "annotations", annotations)
	s.post(j, "alloc", annotations)
	s.post(j, "start", nil)
	length, status := s.broker.options.Run(j.spec.command)
	end := func() { s.finish(j, status) }
	if limit := time.Duration(j.spec.duration * float64(time.Second)); limit > 0 && limit < length {
		length = limit
		end = func() { s.exception(j, exception{kind: "timeout", note: "it ran for as long as it may"}) }
	}
	j.timer = s.later(length, func() {
		if j.state == stateRun {
			end()
		}
	})
}

// later does something after a while, unless the broker has ended.
func (s *state) later(length time.Duration, do func()) *time.Timer {
	return time.AfterFunc(length, func() {
		s.broker.mu.Lock()
		defer s.broker.mu.Unlock()
		if !s.ended {
			do()
		}
	})
}

// finish ends what a job runs.
func (s *state) finish(j *job, status int) {
	j.stop()
	j.status = &status
	s.enter(j, stateCleanup)
	s.post(j, "finish", map[string]any{"status": status})
	s.clean(j)
}

// exception tells that something went wrong with a job. One of severity 0 ends it.
func (s *state) exception(j *job, e exception) {
	was := j.state
	fatal := e.severity == 0 && was != stateCleanup && was != stateInactive
	if fatal {
		j.stop()
		j.fatal = &e
		s.enter(j, stateCleanup)
	}
	context := map[string]any{"type": e.kind, "severity": e.severity, "note": e.note}
	context["userid"] = json.Number(s.attributes["security.owner"])
	s.post(j, "exception", context)
	s.publish("job-exception", exceptionEvent(j.id, e))
	if !fatal {
		return
	}
	if was == stateRun {
		status := killed
		j.status = &status
		s.post(j, "finish", map[string]any{"status": status})
	}
	s.clean(j)
}

// clean gives back what a job has, after the time that takes.
func (s *state) clean(j *job) {
	if j.cores == nil {
		s.over(j)
		return
	}
	if cleanup := s.broker.options.Cleanup; cleanup > 0 {
		j.timer = s.later(cleanup, func() { s.release(j) })
		return
	}
	s.release(j)
}

func (s *state) release(j *job) {
	s.post(j, "release", map[string]any{"ranks": "all", "final": true})
	j.cores = nil
	delete(s.holding, j.id)
	s.post(j, "free", nil)
	s.over(j)
	s.schedule()
}

func (s *state) over(j *job) {
	s.enter(j, stateInactive)
	j.ended = now()
	s.post(j, "clean", nil)
}
