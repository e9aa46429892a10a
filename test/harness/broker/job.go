package broker

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// The states of a job, as their numbers are on the wire.
const (
	stateNew = 1 << iota
	stateDepend
	statePriority
	stateSched
	stateRun
	stateCleanup
	stateInactive

	statePending = stateDepend | statePriority | stateSched
	stateRunning = stateRun | stateCleanup
)

// The results of a job, as their numbers are on the wire.
const (
	resultCompleted = 1
	resultFailed    = 2
	resultCanceled  = 4
	resultTimeout   = 8
)

// killed is the status of wait(2) of what SIGTERM ended.
const killed = 15

// exception is what went wrong with a job.
type exception struct {
	kind     string
	severity int
	note     string
}

// job is one job.
type job struct {
	id       uint64
	spec     spec
	redacted json.RawMessage
	urgency  int
	priority uint32
	state    int
	events   []map[string]any
	// cores is what it has, and set the same in the form of RFC 20. set stays when the job has given it back.
	cores placement
	had   placement
	set   json.RawMessage
	timer *time.Timer

	submitted, ran, ended float64
	status                *int
	fatal                 *exception
}

// stop ends what still is to happen to it.
func (j *job) stop() {
	if j.timer != nil {
		j.timer.Stop()
	}
}

func (j *job) result() int {
	switch {
	case j.fatal != nil && j.fatal.kind == "cancel":
		return resultCanceled
	case j.fatal != nil && j.fatal.kind == "timeout":
		return resultTimeout
	case j.fatal != nil, j.status == nil, *j.status != 0:
		return resultFailed
	default:
		return resultCompleted
	}
}

// spec is what a job asks for.
type spec struct {
	nodes, slots, cores int
	exclusive           bool
	command             []string
	duration            float64
	name, queue         string
}

// resource is a part of what a job asks for.
type resource struct {
	Type      string     `json:"type"`
	Count     int        `json:"count"`
	Label     string     `json:"label"`
	Exclusive bool       `json:"exclusive"`
	With      []resource `json:"with"`
}

// readSpec reads version 1 of RFC 25, and says what is wrong with it as the validator of flux-core would.
func readSpec(text []byte) (spec, json.RawMessage, error) {
	var read struct {
		Version   int        `json:"version"`
		Resources []resource `json:"resources"`
		Tasks     []struct {
			Command []string       `json:"command"`
			Slot    string         `json:"slot"`
			Count   map[string]int `json:"count"`
		} `json:"tasks"`
		Attributes struct {
			System struct {
				Duration *float64 `json:"duration"`
				Queue    string   `json:"queue"`
				Job      struct {
					Name string `json:"name"`
				} `json:"job"`
			} `json:"system"`
		} `json:"attributes"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return spec{}, nil, err
	}
	switch {
	case read.Version != 1:
		return spec{}, nil, fmt.Errorf("version %d", read.Version)
	case len(read.Resources) != 1:
		return spec{}, nil, fmt.Errorf("%d resources", len(read.Resources))
	case len(read.Tasks) != 1 || len(read.Tasks[0].Command) == 0 || len(read.Tasks[0].Count) != 1:
		return spec{}, nil, errors.New("tasks have to be one, with a command and a count")
	case read.Attributes.System.Duration == nil:
		return spec{}, nil, errors.New("attributes.system.duration is missing")
	}
	system := read.Attributes.System
	out := spec{command: read.Tasks[0].Command, duration: *system.Duration, name: system.Job.Name, queue: system.Queue, cores: 1}
	if out.name == "" {
		out.name = out.command[0][strings.LastIndexByte(out.command[0], '/')+1:]
	}
	slot := read.Resources[0]
	nodes := 1
	if slot.Type == "node" {
		if slot.Count < 1 || len(slot.With) != 1 {
			return spec{}, nil, errors.New("a node needs a count and one slot")
		}
		out.nodes, out.exclusive, nodes = slot.Count, slot.Exclusive, slot.Count
		slot = slot.With[0]
	}
	if slot.Type != "slot" || slot.Count < 1 || slot.Label != read.Tasks[0].Slot || len(slot.With) == 0 {
		return spec{}, nil, errors.New("a slot needs a count, a label that its task names, and cores")
	}
	out.slots = nodes * slot.Count
	for _, in := range slot.With {
		if in.Type == "core" {
			out.cores = in.Count
		}
	}
	redacted, err := redact(text)
	return out, redacted, err
}

// redact takes the environment out of a jobspec, as flux-core does before it tells others.
func redact(text []byte) (json.RawMessage, error) {
	var whole map[string]any
	if err := json.Unmarshal(text, &whole); err != nil {
		return nil, err
	}
	if attributes, is := whole["attributes"].(map[string]any); is {
		if system, is := attributes["system"].(map[string]any); is {
			delete(system, "environment")
		}
	}
	return json.Marshal(whole)
}

// unwrap takes a jobspec out of its envelope with the mechanism none (RFC 15).
func unwrap(envelope string) (jobspec []byte, user string, err error) {
	parts := strings.Split(envelope, ".")
	if len(parts) != 3 || parts[2] != "none" {
		return nil, "", errors.New("the envelope does not have three parts of which the last is none")
	}
	header, err := base64.StdEncoding.DecodeString(parts[0])
	if err != nil {
		return nil, "", fmt.Errorf("header: %w", err)
	}
	jobspec, err = base64.StdEncoding.DecodeString(parts[1])
	if err != nil {
		return nil, "", fmt.Errorf("payload: %w", err)
	}
	fields := strings.Split(strings.TrimSuffix(string(header), "\x00"), "\x00")
	if len(fields)%2 != 0 {
		return nil, "", errors.New("header: a key without a value")
	}
	values := map[string]string{}
	for i := 0; i < len(fields); i += 2 {
		values[fields[i]] = fields[i+1]
	}
	if values["version"] != "i1" || values["mechanism"] != "snone" || !strings.HasPrefix(values["userid"], "i") {
		return nil, "", fmt.Errorf("header: %q", header)
	}
	return jobspec, values["userid"][1:], nil
}
