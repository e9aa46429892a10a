package broker

import (
	"fmt"
	"strings"
	"syscall"
)

// active finds a job that has not ended. It answers itself where there is none, as flux-core does with an errno that differs by service.
func (s *state) active(r *request, id *uint64, none syscall.Errno) (*job, bool) {
	if id == nil {
		r.fail(syscall.EPROTO, "id is missing")
		return nil, false
	}
	j, known := s.jobs[*id]
	switch {
	case !known:
		r.fail(none, "there is no such job")
	case j.state == stateInactive:
		r.fail(none, "the job is inactive")
	default:
		return j, true
	}
	return nil, false
}

func (s *state) raise(r *request) {
	var asked struct {
		ID       *uint64 `json:"id"`
		Severity *int    `json:"severity"`
		Type     string  `json:"type"`
		Note     string  `json:"note"`
	}
	if !r.read(&asked) {
		return
	}
	switch {
	case asked.Severity == nil || *asked.Severity < 0 || *asked.Severity > 7:
		r.fail(syscall.EPROTO, "severity has to be between 0 and 7")
		return
	case asked.Type == "" || strings.ContainsAny(asked.Type, " \t\n="):
		r.fail(syscall.EPROTO, "type has to be a word")
		return
	}
	j, ok := s.active(r, asked.ID, syscall.ENOENT)
	if !ok {
		return
	}
	r.respond(nil)
	s.exception(j, exception{kind: asked.Type, severity: *asked.Severity, note: asked.Note})
	s.schedule()
}

func (s *state) signal(r *request) {
	var asked struct {
		ID     *uint64 `json:"id"`
		Signal *int    `json:"signum"`
	}
	if !r.read(&asked) {
		return
	}
	if asked.Signal == nil || *asked.Signal <= 0 || *asked.Signal > 64 {
		r.fail(syscall.EINVAL, "that is no signal")
		return
	}
	j, ok := s.active(r, asked.ID, syscall.EINVAL)
	if !ok {
		return
	}
	if j.state != stateRun {
		r.fail(syscall.EINVAL, "the job does not run")
		return
	}
	r.respond(nil)
	s.publish(fmt.Sprintf("shell-%d.kill", j.id), fmt.Appendf(nil, `{"signum":%d}`+"\x00", *asked.Signal))
	// What a job runs here does as it is told.
	s.finish(j, *asked.Signal)
	s.schedule()
}

func (s *state) setUrgency(r *request) {
	var asked struct {
		ID      *uint64 `json:"id"`
		Urgency *int    `json:"urgency"`
	}
	if !r.read(&asked) {
		return
	}
	if asked.Urgency == nil || *asked.Urgency < 0 || *asked.Urgency > 31 {
		r.fail(syscall.EINVAL, "urgency has to be between 0 and 31")
		return
	}
	j, ok := s.active(r, asked.ID, syscall.EINVAL)
	if !ok {
		return
	}
	if j.state != stateSched {
		r.fail(syscall.EINVAL, "the job has its resources")
		return
	}
	old := j.urgency
	j.urgency = *asked.Urgency
	s.enter(j, statePriority)
	s.post(j, "urgency", map[string]any{"userid": r.UserID, "urgency": j.urgency})
	r.respond(map[string]any{"old_urgency": old})
	s.prioritize(j)
	s.schedule()
}

func exceptionEvent(id uint64, e exception) []byte {
	return fmt.Appendf(nil, `{"id":%d,"type":%q,"severity":%d}`+"\x00", id, e.kind, e.severity)
}
