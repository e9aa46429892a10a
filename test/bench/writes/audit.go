package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/system"
)

// accounts begins the names of the users that provider and controller are.
const accounts = "system:serviceaccount:" + system.Namespace + ":"

// auditPolicy makes the API server record the writes of provider and controller, and nothing else.
const auditPolicy = `
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: Metadata
  users: ["` + accounts + `provider", "` + accounts + `controller"]
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

// auditLog is what the API server writes, a line for each request that it has answered.
type auditLog struct {
	path string
	// read is how far it was read.
	read int64
}

// record is what a line says.
type record struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	Object struct {
		Group       string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	Response struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// kind is what kind of write a record is of. That of a lease is none: it does not depend on nodes.
func (r *record) kind() (k kind, counts bool) {
	k = kind{verb: r.Verb, resource: r.Object.Resource}
	if r.Object.Subresource != "" {
		k.resource += "/" + r.Object.Subresource
	}
	switch r.User.Username {
	case accounts + "controller":
		k.by = controller
	case accounts + "provider":
		k.by = provider
		registers := r.Object.Group == "" && r.Object.Resource == "nodes" && (r.Verb == "create" || r.Verb == "delete")
		if registers || r.Object.Group == v1alpha1.Group && r.Object.Resource == "kwokinstances" {
			k.by = cloud
		}
	default:
		return k, false
	}
	return k, r.Object.Resource != "leases"
}

// next counts what was written since it was asked last.
func (l *auditLog) next() (t *tally, err error) {
	t = &tally{count: map[kind]int{}}
	file, err := os.Open(l.path)
	if os.IsNotExist(err) {
		return t, nil
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if closeErr := file.Close(); err == nil {
			err = closeErr
		}
	}()
	if _, err := file.Seek(l.read, io.SeekStart); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(file)
	for {
		line, err := reader.ReadBytes('\n')
		if err == io.EOF {
			// A line that is half written is read the next time.
			return t, nil
		}
		if err != nil {
			return nil, err
		}
		l.read += int64(len(line))
		var r record
		if err := json.Unmarshal(line, &r); err != nil {
			return nil, fmt.Errorf("read %s: %w", l.path, err)
		}
		k, counts := r.kind()
		if !counts {
			continue
		}
		t.count[k]++
		if r.Response.Code == http.StatusConflict {
			t.conflict[k.by]++
		}
	}
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
