package main

import (
	"cmp"
	"net/http"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/whole/bench/audit"
)

// auditPolicy makes the API server record the writes of provider and controller, and nothing else.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["` + audit.Provider + `", "` + audit.Controller + `"]
  verbs: [create, update, patch, delete, deletecollection]
- level: None
`

// writer is who writes.
type writer int

const (
	provider writer = iota
	controller
	cloud
	writers
)

func (w writer) String() string { return [...]string{"provider", "controller", "simulated cloud"}[w] }

// kind is one kind of write.
type kind struct {
	by             writer
	verb, resource string
}

func (k kind) compare(other kind) int {
	return cmp.Or(cmp.Compare(k.by, other.by), strings.Compare(k.resource, other.resource), strings.Compare(k.verb, other.verb))
}

// tally counts writes, of which some were in vain.
type tally struct {
	count    map[kind]int
	conflict [writers]int
}

// sum is the number of writes of one.
func (t *tally) sum(by writer) (sum int) {
	for k, n := range t.count {
		if k.by == by {
			sum += n
		}
	}
	return sum
}

// kindOf is what kind of write a record is of. That of a lease is none: it does not depend on nodes.
func kindOf(r *audit.Record) (k kind, counts bool) {
	k = kind{verb: r.Verb, resource: r.Resource()}
	switch {
	case r.User.Username == audit.Controller:
		k.by = controller
	case r.Cloud():
		k.by = cloud
	case r.User.Username == audit.Provider:
		k.by = provider
	default:
		return k, false
	}
	return k, r.Object.Resource != "leases"
}

// next counts what was written since it was asked last.
func next(log *audit.Log) (*tally, error) {
	t := &tally{count: map[kind]int{}}
	records, err := log.Next()
	for i := range records {
		k, counts := kindOf(&records[i])
		if !counts {
			continue
		}
		t.count[k]++
		if records[i].Response.Code == http.StatusConflict {
			t.conflict[k.by]++
		}
	}
	return t, err
}

// add adds another tally.
func (t *tally) add(other *tally) {
	for k, n := range other.count {
		t.count[k] += n
	}
	for w, n := range other.conflict {
		t.conflict[w] += n
	}
}
