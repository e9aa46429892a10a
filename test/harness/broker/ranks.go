package broker

import (
	"encoding/json"
	"math"
	"slices"
	"syscall"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
)

// drain says why and since when a rank is drained.
type drain struct {
	reason    string
	timestamp float64
}

func (s *state) all() idset.Set { return idset.Range(0, uint32(s.broker.options.Size)) }

func (s *state) drained() idset.Set {
	ranks := make([]uint32, 0, len(s.drains))
	for rank := range s.drains {
		ranks = append(ranks, rank)
	}
	return idset.Of(ranks...)
}

// up lets a rank be online.
func (s *state) up(rank uint32) {
	if s.online.Contains(rank) {
		return
	}
	s.online = s.online.Union(idset.Of(rank))
	s.logResource("online", map[string]any{"idset": idset.Of(rank)})
	s.tellMembers()
	s.schedule()
}

// down lets a rank be offline. What runs there fails.
func (s *state) down(rank uint32) {
	if !s.online.Contains(rank) {
		return
	}
	s.setTorpid(rank, false)
	s.online = s.online.Minus(idset.Of(rank))
	s.logResource("offline", map[string]any{"idset": idset.Of(rank)})
	s.tellMembers()
	for _, j := range s.order {
		if _, there := j.cores[rank]; there && j.state == stateRun {
			s.exception(j, exception{
				kind: "exec", note: "rank " + idset.Of(rank).String() + " on " + hostsOf(idset.Of(rank)) + " is lost",
			})
		}
	}
}

func (s *state) setTorpid(rank uint32, torpid bool) {
	if s.torpid.Contains(rank) == torpid {
		return
	}
	of := idset.Of(rank)
	if torpid {
		s.torpid = s.torpid.Union(of)
		s.logResource("torpid", map[string]any{"idset": of})
		return
	}
	s.torpid = s.torpid.Minus(of)
	s.logResource("lively", map[string]any{"idset": of})
	s.schedule()
}

// tellMembers tells who is online.
func (s *state) tellMembers() {
	for _, r := range s.members {
		r.respond(map[string]any{"members": s.online})
	}
}

func (s *state) getGroup(r *request) {
	var asked struct{ Name string }
	if !r.read(&asked) {
		return
	}
	if asked.Name != "broker.online" {
		r.fail(syscall.ENOENT, "there is no group %s", asked.Name)
		return
	}
	if r.Flags&streamingFlag != 0 {
		s.members = append(s.members, r)
	}
	r.respond(map[string]any{"members": s.online})
}

// logResource writes an event of the resources and tells who reads them.
func (s *state) logResource(name string, context map[string]any) {
	event := map[string]any{"timestamp": now(), "name": name, "context": context}
	s.resourceLog = append(s.resourceLog, event)
	for _, r := range s.resourceReader {
		s.respondResource(r, []map[string]any{event})
	}
}

// respondResource sends events. All resources come with the event that defines them.
func (s *state) respondResource(r *request, events []map[string]any) {
	response := map[string]any{"events": events}
	if len(events) == 1 && events[0]["name"] == "resource-define" {
		response["R"] = s.setOf(s.whole(s.all()))
	}
	r.respond(response)
}

// readResourceLog sends the past in batches, of which the definition of the resources is one, then a response without events, then what
// happens.
func (s *state) readResourceLog(r *request) {
	if !r.streaming() {
		return
	}
	var batch []map[string]any
	flush := func() {
		if len(batch) > 0 {
			s.respondResource(r, batch)
			batch = nil
		}
	}
	for _, event := range s.resourceLog {
		// Before 0.85 each event had a response of its own.
		if event["name"] == "resource-define" || len(batch) == 100 || !s.broker.since(0, 85) {
			flush()
		}
		batch = append(batch, event)
		if event["name"] == "resource-define" {
			flush()
		}
	}
	flush()
	s.respondResource(r, []map[string]any{})
	s.resourceReader = append(s.resourceReader, r)
}

func (s *state) resourceStatus(r *request) {
	type why struct {
		reason    string
		timestamp float64
	}
	together := map[why]idset.Set{}
	for rank, d := range s.drains {
		key := why{d.reason, math.Round(d.timestamp)}
		together[key] = together[key].Union(idset.Of(rank))
	}
	drains := map[string]any{}
	for key, ranks := range together {
		drains[ranks.String()] = map[string]any{"timestamp": key.timestamp, "reason": key.reason}
	}
	r.respond(map[string]any{
		"R": s.setOf(s.whole(s.all())), "drain": drains, "online": s.online, "offline": s.all().Minus(s.online), "exclude": "",
		"torpid": s.torpid,
	})
}

func (s *state) schedulerStatus(r *request) {
	down := s.all().Minus(s.online).Union(s.torpid).Union(s.drained())
	r.respond(map[string]any{
		"all": s.setOf(s.whole(s.all())), "down": s.setOf(s.whole(down)), "allocated": s.setOf(s.busy()),
	})
}

func (s *state) allocated(r *request) {
	r.respond(map[string]any{"allocated": s.setOf(s.busy())})
}

// drainRequest is what drain and undrain are asked.
type drainRequest struct {
	Targets *string
	Reason  *string
	Mode    string
}

// targets reads and checks a drainRequest. It answers itself where that is wrong.
func (s *state) targets(r *request, asked *drainRequest) (idset.Set, bool) {
	if !r.read(asked) {
		return idset.Set{}, false
	}
	if asked.Targets == nil {
		r.fail(syscall.EPROTO, "")
		return idset.Set{}, false
	}
	ranks, err := idset.Parse(*asked.Targets)
	highest, some := ranks.Max()
	switch {
	case err != nil:
		r.fail(syscall.EINVAL, "targets: %v", err)
	case !some:
		r.fail(syscall.EINVAL, "targets: no rank")
	case int(highest) >= s.broker.options.Size:
		r.fail(syscall.EINVAL, "targets: rank %d is out of range", highest)
	case !slices.Contains([]string{"", "update", "overwrite", "force-overwrite"}, asked.Mode):
		r.fail(syscall.EINVAL, "mode %s is not known", asked.Mode)
	default:
		return ranks, true
	}
	return idset.Set{}, false
}

func (s *state) drainRanks(r *request) {
	var asked drainRequest
	ranks, ok := s.targets(r, &asked)
	if !ok {
		return
	}
	reason := ""
	if asked.Reason != nil {
		reason = *asked.Reason
	}
	if asked.Mode == "" {
		for rank := range ranks.All() {
			if d, is := s.drains[rank]; is && d.reason != "" {
				r.fail(syscall.EEXIST, "rank %d is drained already", rank)
				return
			}
		}
	}
	timestamp := now()
	for rank := range ranks.All() {
		d, is := s.drains[rank]
		switch {
		case !is:
			d = drain{reason: reason, timestamp: timestamp}
		case asked.Mode == "force-overwrite":
			d = drain{reason: reason, timestamp: timestamp}
		case asked.Mode == "overwrite" || d.reason == "":
			d.reason = reason
		}
		s.drains[rank] = d
	}
	context := map[string]any{"idset": ranks, "nodelist": hostsOf(ranks), "overwrite": overwrite(asked.Mode)}
	if asked.Reason != nil {
		context["reason"] = reason
	}
	s.logResource("drain", context)
	r.respond(nil)
}

func (s *state) undrainRanks(r *request) {
	var asked drainRequest
	ranks, ok := s.targets(r, &asked)
	if !ok {
		return
	}
	if asked.Mode == "" {
		if not := ranks.Minus(s.drained()); !not.Empty() {
			r.fail(syscall.EEXIST, "ranks %s are not drained", not)
			return
		}
	}
	for rank := range ranks.All() {
		delete(s.drains, rank)
	}
	context := map[string]any{"idset": ranks, "nodelist": hostsOf(ranks), "overwrite": overwrite(asked.Mode)}
	if asked.Reason != nil {
		context["reason"] = *asked.Reason
	}
	s.logResource("undrain", context)
	r.respond(nil)
	s.schedule()
}

func overwrite(mode string) int {
	switch mode {
	case "overwrite":
		return 1
	case "force-overwrite":
		return 2
	default:
		return 0
	}
}

// placement is cores by rank.
type placement map[uint32]idset.Set

// whole are all cores of some ranks.
func (s *state) whole(ranks idset.Set) placement {
	out := placement{}
	for rank := range ranks.All() {
		out[rank] = idset.Range(0, uint32(s.broker.options.Cores))
	}
	return out
}

// busy are the cores that jobs have.
func (s *state) busy() placement {
	out := placement{}
	for _, j := range s.holding {
		for rank, cores := range j.cores {
			out[rank] = out[rank].Union(cores)
		}
	}
	return out
}

// setOf is a set of resources in the form of RFC 20.
func (s *state) setOf(cores placement) json.RawMessage {
	type entry struct {
		Rank     idset.Set            `json:"rank"`
		Children map[string]idset.Set `json:"children"`
	}
	byCores := map[string]idset.Set{}
	var ranks idset.Set
	for rank, has := range cores {
		byCores[has.String()] = byCores[has.String()].Union(idset.Of(rank))
		ranks = ranks.Union(idset.Of(rank))
	}
	entries := []entry{}
	for has, of := range byCores {
		// It was just written.
		set, _ := idset.Parse(has)
		entries = append(entries, entry{Rank: of, Children: map[string]idset.Set{"core": set}})
	}
	slices.SortFunc(entries, func(a, b entry) int { return a.Rank.Compare(b.Rank) })
	execution := map[string]any{"R_lite": entries, "starttime": 0.0, "expiration": 0.0}
	if !ranks.Empty() {
		execution["nodelist"] = []string{hostsOf(ranks)}
	}
	// There is nothing in it that JSON has not.
	text, _ := json.Marshal(map[string]any{"version": 1, "execution": execution})
	return text
}
