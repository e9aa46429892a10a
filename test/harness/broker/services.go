package broker

import (
	"crypto/rand"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// state is what the lead broker knows. The mutex of its stand-in guards it.
type state struct {
	broker *StandIn
	ended  bool
	// loading says that only the broker itself answers, and not yet its services.
	loading bool
	// running are the requests that wait until it is over.
	running []*request
	began   time.Time
	// attributes are those of the broker.
	attributes map[string]string
	sequence   uint32

	// Ranks.
	online, torpid idset.Set
	drains         map[uint32]drain
	members        []*request
	resourceLog    []map[string]any
	resourceReader []*request

	// Jobs, in the order of their submission.
	jobs  map[uint64]*job
	order []*job
	// queue are those that wait to be placed, in the order in which they are served, and holding those that have cores.
	queue    []*job
	holding  map[uint64]*job
	lastID   uint64
	journals []*journal
	// watchers are those of the counts of jobs, and telling is set while they are about to be told.
	watchers []*request
	telling  *time.Timer
}

// service answers a request of a topic.
type service func(*state, *request)

// own are the services of the broker itself, and loaded those of its modules.
var own = map[string]service{
	"attr.get":           (*state).getAttribute,
	"attr.list":          (*state).listAttributes,
	"event.subscribe":    (*state).subscribe,
	"event.unsubscribe":  (*state).unsubscribe,
	"state-machine.wait": (*state).waitRunning,
	"state-machine.get":  (*state).getState,
}

var loaded = map[string]service{
	"groups.get":                        (*state).getGroup,
	"resource.status":                   (*state).resourceStatus,
	"resource.sched-status":             (*state).schedulerStatus,
	"resource.drain":                    (*state).drainRanks,
	"resource.undrain":                  (*state).undrainRanks,
	"resource.journal":                  (*state).readResourceLog,
	"resource.journal-cancel":           (*state).cancel,
	"job-ingest.submit":                 (*state).submit,
	"job-manager.events-journal":        (*state).readJournal,
	"job-manager.events-journal-cancel": (*state).cancel,
	"job-manager.resource-status":       (*state).allocated,
	"job-manager.raise":                 (*state).raise,
	"job-manager.kill":                  (*state).signal,
	"job-manager.urgency":               (*state).setUrgency,
	"job-list.list":                     (*state).listJobs,
	"job-list.list-id":                  (*state).listJob,
	"job-list.job-stats":                (*state).jobStats,
}

func newState(b *StandIn, online int, loading bool) *state {
	hosts := hostsOf(idset.Range(0, uint32(b.options.Size)))
	s := &state{
		broker:  b,
		loading: loading,
		began:   time.Now(),
		attributes: map[string]string{
			"rank":             "0",
			"size":             strconv.Itoa(b.options.Size),
			"security.owner":   strconv.Itoa(os.Getuid()),
			"version":          b.options.Version,
			"hostlist":         hosts,
			"local-uri":        b.URI(),
			"broker.starttime": strconv.FormatFloat(now(), 'f', 2, 64),
		},
		drains:  map[uint32]drain{},
		jobs:    map[uint64]*job{},
		holding: map[uint64]*job{},
	}
	if b.since(0, 82) {
		s.attributes["broker.uuid"] = newUUID()
	}
	s.logResource("restart", map[string]any{
		"ranks": idset.Range(0, uint32(b.options.Size)), "online": "", "nodelist": hosts,
	})
	s.logResource("resource-define", map[string]any{"method": "configuration"})
	for rank := range uint32(online) {
		s.up(rank)
	}
	return s
}

// since says whether the version of flux-core is not before one.
func (b *StandIn) since(major, minor int) bool {
	var has [2]int
	for i, part := range strings.SplitN(b.options.Version, ".", 3)[:2] {
		number, err := strconv.Atoi(part)
		if err != nil {
			return true
		}
		has[i] = number
	}
	return slices.Compare(has[:], []int{major, minor}) >= 0
}

func newUUID() string {
	var random [16]byte
	// It never fails.
	_, _ = rand.Read(random[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", random[:4], random[4:6], random[6:8], random[8:10], random[10:])
}

// hostsOf are the names of the hosts of some ranks, as a hostlist.
func hostsOf(ranks idset.Set) string {
	if ranks.Count() == 1 {
		return "node-" + ranks.String()
	}
	return "node-[" + ranks.String() + "]"
}

// answer answers a request.
func (s *state) answer(r *request) {
	if serve, known := own[r.Topic]; known {
		serve(s, r)
		return
	}
	serve, known := loaded[r.Topic]
	if r.Topic == "resource.journal" && !s.broker.since(0, 72) {
		known = false
	}
	if !known || s.loading || s.ended {
		r.fail(syscall.ENOSYS, "")
		return
	}
	if name, _, _ := strings.Cut(r.Topic, "."); name == "resource" && r.NodeID != 0 && r.NodeID != 0xffffffff {
		r.fail(syscall.EPROTO, "rank %d has no such service", r.NodeID)
		return
	}
	serve(s, r)
}

// load ends the time of loading.
func (s *state) load() {
	s.loading = false
	for _, r := range s.running {
		r.respond(nil)
	}
	s.running = nil
}

// end stops all that still goes on.
func (s *state) end() {
	s.ended = true
	for _, j := range s.order {
		j.stop()
	}
	if s.telling != nil {
		s.telling.Stop()
	}
}

// disconnect forgets the requests of a client that has gone.
func (s *state) disconnect(c *connection) {
	gone := func(r *request) bool { return r.from == c }
	s.running = slices.DeleteFunc(s.running, gone)
	s.members = slices.DeleteFunc(s.members, gone)
	s.resourceReader = slices.DeleteFunc(s.resourceReader, gone)
	s.watchers = slices.DeleteFunc(s.watchers, gone)
	s.journals = slices.DeleteFunc(s.journals, func(j *journal) bool { return j.request.from == c })
}

// cancel ends the stream of the tag that the request names. It has no response; the stream has.
func (s *state) cancel(r *request) {
	var asked struct {
		Tag uint32 `json:"matchtag"`
	}
	if !r.read(&asked) {
		return
	}
	s.resourceReader = slices.DeleteFunc(s.resourceReader, func(of *request) bool {
		if of.same(r.from, asked.Tag) {
			of.fail(syscall.ENODATA, "")
			return true
		}
		return false
	})
	s.journals = slices.DeleteFunc(s.journals, func(of *journal) bool {
		if of.request.same(r.from, asked.Tag) {
			of.request.fail(syscall.ENODATA, "")
			return true
		}
		return false
	})
}

func (s *state) getAttribute(r *request) {
	var asked struct{ Name string }
	if !r.read(&asked) {
		return
	}
	value, known := s.attributes[asked.Name]
	if !known {
		r.fail(syscall.ENOENT, "")
		return
	}
	r.respond(map[string]any{"value": value, "flags": 1})
}

func (s *state) listAttributes(r *request) {
	names := make([]string, 0, len(s.attributes))
	for name := range s.attributes {
		names = append(names, name)
	}
	r.respond(map[string]any{"names": names})
}

func (s *state) subscribe(r *request) {
	var asked struct{ Topic string }
	if !r.read(&asked) {
		return
	}
	r.from.topics[asked.Topic]++
	r.respond(nil)
}

func (s *state) unsubscribe(r *request) {
	var asked struct{ Topic string }
	if !r.read(&asked) {
		return
	}
	if r.from.topics[asked.Topic]--; r.from.topics[asked.Topic] <= 0 {
		delete(r.from.topics, asked.Topic)
	}
	r.respond(nil)
}

func (s *state) waitRunning(r *request) {
	if s.loading {
		s.running = append(s.running, r)
		return
	}
	r.respond(nil)
}

func (s *state) getState(r *request) {
	name := "run"
	if s.loading {
		name = "init"
	}
	r.respond(map[string]any{"state": name, "duration": time.Since(s.began).Seconds()})
}
