package flux

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Jobspec is what a job asks for (RFC 25), as far as it decides where and when it runs.
type Jobspec struct {
	// Nodes is the number of nodes that the job asks for, 0 where it leaves that to the scheduler.
	Nodes int
	// Exclusive says that it asks for whole nodes.
	Exclusive bool
	// Slots is the number of task slots on all nodes, and CoresPerSlot what each needs.
	Slots, CoresPerSlot, GPUsPerSlot int
	// Command is what its tasks run.
	Command []string
	// Duration is how long it may run, 0 for as long as it likes.
	Duration time.Duration
	// Name is that which it is shown by, or "".
	Name string
	// Queue is that which it was submitted to, or "".
	Queue string
	// User are the attributes of its submitter: attributes.user.
	User map[string]json.RawMessage
}

// UserText is an attribute of the submitter that is a text, "" where there is none of that name.
func (j *Jobspec) UserText(name string) string {
	var text string
	if err := json.Unmarshal(j.User[name], &text); err != nil {
		return ""
	}
	return text
}

// vertex is a resource that a jobspec asks for, with what it asks for in each of it.
type vertex struct {
	Type      string          `json:"type"`
	Count     json.RawMessage `json:"count"`
	Exclusive bool            `json:"exclusive"`
	With      []vertex        `json:"with"`
}

// UnmarshalJSON reads version 1, and of later ones what they have in common with it. A count that is a range is taken at its least: that
// is what the job can start with.
func (j *Jobspec) UnmarshalJSON(text []byte) error {
	var read struct {
		Resources []vertex `json:"resources"`
		Tasks     []struct {
			Command json.RawMessage `json:"command"`
		} `json:"tasks"`
		Attributes struct {
			System struct {
				Duration float64 `json:"duration"`
				Queue    string  `json:"queue"`
				Job      struct {
					Name string `json:"name"`
				} `json:"job"`
			} `json:"system"`
			User map[string]json.RawMessage `json:"user"`
		} `json:"attributes"`
	}
	if err := json.Unmarshal(text, &read); err != nil {
		return fmt.Errorf("jobspec: %w", err)
	}
	spec := Jobspec{
		Duration: seconds(read.Attributes.System.Duration),
		Name:     read.Attributes.System.Job.Name,
		Queue:    read.Attributes.System.Queue,
		User:     read.Attributes.User,
	}
	if len(read.Tasks) > 0 {
		spec.Command = readCommand(read.Tasks[0].Command)
	}
	for i := range read.Resources {
		if err := spec.add(&read.Resources[i], 1); err != nil {
			return fmt.Errorf("jobspec: resources: %w", err)
		}
	}
	*j = spec
	return nil
}

// add counts a vertex of which there are times.
func (j *Jobspec) add(v *vertex, times int) error {
	count, err := leastCount(v.Count)
	if err != nil {
		return fmt.Errorf("%s: %w", shorten(v.Type), err)
	}
	total, err := multiply(times, count)
	if err != nil {
		return fmt.Errorf("%s: %w", shorten(v.Type), err)
	}
	switch v.Type {
	case "node":
		j.Nodes += total
		j.Exclusive = j.Exclusive || v.Exclusive
	case "slot":
		j.Slots += total
		// What follows is for each slot.
		total = 1
	case "core":
		j.CoresPerSlot += total
	case "gpu":
		j.GPUsPerSlot += total
	}
	for i := range v.With {
		if err := j.add(&v.With[i], total); err != nil {
			return err
		}
	}
	return nil
}

// maxCount bounds the counts of a jobspec and their products.
const maxCount = math.MaxInt32

func multiply(a, b int) (int, error) {
	if b > 0 && a > maxCount/b {
		return 0, fmt.Errorf("more than %d are asked for", maxCount)
	}
	return a * b, nil
}

// leastCount reads a count: a number, a range with its least number in "min" (RFC 14), or a text such as "2-4", "2+" or "2,4" (RFC 14,
// RFC 45), of which the first number is the least.
func leastCount(text json.RawMessage) (int, error) {
	if len(text) == 0 {
		return 1, nil
	}
	var number int64
	if err := json.Unmarshal(text, &number); err == nil {
		return checkCount(number)
	}
	var limits struct {
		Min *int64 `json:"min"`
	}
	if err := json.Unmarshal(text, &limits); err == nil && limits.Min != nil {
		return checkCount(*limits.Min)
	}
	var words string
	if err := json.Unmarshal(text, &words); err == nil {
		if _, err := fmt.Sscanf(words, "%d", &number); err == nil {
			return checkCount(number)
		}
	}
	return 0, fmt.Errorf("count %s is neither a number nor a range", shorten(string(text)))
}

func checkCount(number int64) (int, error) {
	if number < 0 || number > maxCount {
		return 0, fmt.Errorf("count %d is not between 0 and %d", number, maxCount)
	}
	return int(number), nil
}

// readCommand reads a command: its words, or one word alone.
func readCommand(text json.RawMessage) []string {
	var words []string
	if err := json.Unmarshal(text, &words); err == nil {
		return words
	}
	var word string
	if err := json.Unmarshal(text, &word); err == nil {
		return []string{word}
	}
	return nil
}

// seconds is a length of time, of which a longer one than Go can say is the longest.
func seconds(number float64) time.Duration {
	length := number * float64(time.Second)
	switch {
	case length >= math.MaxInt64:
		return math.MaxInt64
	case length <= 0:
		return 0
	default:
		return time.Duration(length)
	}
}

// Command is a job to be submitted: a command on some nodes or cores.
type Command struct {
	// Args is the program and its arguments.
	Args []string
	// Nodes is the number of nodes, 0 to leave that to the scheduler.
	Nodes int
	// Exclusive asks for whole nodes. It needs Nodes.
	Exclusive bool
	// Tasks is the number of tasks, on all nodes. 0 is one for each node, or one. It is at least Nodes.
	Tasks int
	// CoresPerTask is at least 1, which 0 stands for.
	CoresPerTask int
	// GPUsPerTask is 0 for none.
	GPUsPerTask int
	// Duration is how long it may run, 0 for as long as it likes.
	Duration time.Duration
	// Environment is that of the tasks.
	Environment map[string]string
	// Directory is that which the tasks start in. It has to be the same on all ranks.
	Directory string
	// Name is what the job is shown by, "" for the name of the program.
	Name string
	// Queue is that which it goes to, "" for the default one.
	Queue string
	// User are attributes that others find the job by: attributes.user.
	User map[string]any
	// Shell are options of the job shell: attributes.system.shell.options.
	Shell map[string]any
}

// Jobspec is the command in version 1 of the jobspec (RFC 25).
func (c *Command) Jobspec() ([]byte, error) {
	complete, err := c.complete()
	if err != nil {
		return nil, err
	}
	children := []map[string]any{{"type": "core", "count": complete.CoresPerTask}}
	if complete.GPUsPerTask > 0 {
		children = append(children, map[string]any{"type": "gpu", "count": complete.GPUsPerTask})
	}
	slot := map[string]any{"type": "slot", "label": "task", "count": complete.Tasks, "with": children}
	resource, tasks := slot, map[string]int{"per_slot": 1}
	if complete.Nodes > 0 {
		// Slots are the same on each node. Where the tasks do not divide, some of them stay empty.
		slot["count"] = (complete.Tasks + complete.Nodes - 1) / complete.Nodes
		if complete.Tasks%complete.Nodes != 0 {
			tasks = map[string]int{"total": complete.Tasks}
		}
		resource = map[string]any{"type": "node", "count": complete.Nodes, "with": []any{slot}}
		if complete.Exclusive {
			resource["exclusive"] = true
		}
	}
	attributes := map[string]any{"system": complete.system()}
	if len(complete.User) > 0 {
		attributes["user"] = complete.User
	}
	spec, err := json.Marshal(map[string]any{
		"version":    1,
		"resources":  []any{resource},
		"tasks":      []any{map[string]any{"command": complete.Args, "slot": "task", "count": tasks}},
		"attributes": attributes,
	})
	if err != nil {
		return nil, fmt.Errorf("jobspec of %q: %w", shorten(complete.Args[0]), err)
	}
	return spec, nil
}

// complete checks a command and fills in what follows from the rest.
func (c *Command) complete() (*Command, error) {
	out := *c
	if len(out.Args) == 0 || out.Args[0] == "" {
		return nil, errors.New("a job needs a command")
	}
	for _, number := range []struct {
		name  string
		value *int
		unset int
	}{
		{"Nodes", &out.Nodes, 0},
		{"Tasks", &out.Tasks, max(1, out.Nodes)},
		{"CoresPerTask", &out.CoresPerTask, 1},
		{"GPUsPerTask", &out.GPUsPerTask, 0},
	} {
		if *number.value < 0 || *number.value > maxCount {
			return nil, fmt.Errorf("%s of a job is %d: it has to be between 0 and %d", number.name, *number.value, maxCount)
		}
		if *number.value == 0 {
			*number.value = number.unset
		}
	}
	switch {
	case out.Tasks < out.Nodes:
		return nil, fmt.Errorf("%d tasks on %d nodes: each node needs at least one", out.Tasks, out.Nodes)
	case out.Exclusive && out.Nodes == 0:
		return nil, errors.New("a job that asks for whole nodes has to say how many")
	case out.Duration < 0:
		return nil, fmt.Errorf("duration %s of a job is negative", out.Duration)
	}
	return &out, nil
}

// system are the attributes that Flux itself reads.
func (c *Command) system() map[string]any {
	environment := c.Environment
	if environment == nil {
		environment = map[string]string{}
	}
	system := map[string]any{"duration": c.Duration.Seconds(), "environment": environment}
	for name, text := range map[string]string{"cwd": c.Directory, "queue": c.Queue} {
		if text != "" {
			system[name] = text
		}
	}
	if c.Name != "" {
		system["job"] = map[string]string{"name": c.Name}
	}
	if len(c.Shell) > 0 {
		system["shell"] = map[string]any{"options": c.Shell}
	}
	return system
}
