package broker

import (
	"encoding/json"
	"slices"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

const streamingFlag = wire.Streaming

// journal is a reader of the events of jobs.
type journal struct {
	request     *request
	allow, deny map[string]json.RawMessage
}

// passes says whether an event is to be sent.
func (j *journal) passes(name string) bool {
	if j.allow != nil {
		if _, allowed := j.allow[name]; !allowed {
			return false
		}
	}
	_, denied := j.deny[name]
	return !denied
}

// noJob is the id in the response that ends the backlog, as its 64 bits are written with a sign.
const noJob = -1

// readJournal sends all events of each job that is active, or of all, then a response without any, then each event as it happens.
func (s *state) readJournal(r *request) {
	var asked struct {
		Full  bool                       `json:"full"`
		Allow map[string]json.RawMessage `json:"allow"`
		Deny  map[string]json.RawMessage `json:"deny"`
	}
	if len(r.Payload) > 0 && !r.read(&asked) {
		return
	}
	if !r.streaming() {
		return
	}
	reader := &journal{request: r, allow: asked.Allow, deny: asked.Deny}
	backlog := slices.Clone(s.order)
	// In no order that means anything, but those that have ended first, as flux-core sends them.
	slices.SortStableFunc(backlog, func(a, b *job) int {
		switch {
		case a.state == b.state:
			return 0
		case a.state == stateInactive:
			return -1
		case b.state == stateInactive:
			return 1
		default:
			return 0
		}
	})
	for _, j := range backlog {
		if j.state == stateInactive && !asked.Full {
			continue
		}
		events := []map[string]any{}
		for _, event := range j.events {
			if name, _ := event["name"].(string); reader.passes(name) {
				events = append(events, event)
			}
		}
		response := map[string]any{"id": j.id, "events": events, "jobspec": j.redacted}
		if j.set != nil {
			response["R"] = j.set
		}
		r.respond(response)
	}
	r.respond(map[string]any{"id": noJob, "events": []any{}})
	s.journals = append(s.journals, reader)
}

// post writes an event of a job and tells who reads them.
func (s *state) post(j *job, name string, context map[string]any) {
	event := map[string]any{"timestamp": now(), "name": name}
	if context != nil {
		event["context"] = context
	}
	j.events = append(j.events, event)
	response := map[string]any{"id": j.id, "events": []map[string]any{event}}
	switch name {
	case "submit":
		response["jobspec"] = j.redacted
	case "alloc":
		response["R"] = j.set
	}
	for _, reader := range s.journals {
		if reader.passes(name) {
			reader.request.respond(response)
		}
	}
	s.tellWatchers()
}
