package ensemblefile

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apimachinery/pkg/util/validation/field"
)

// MaxBytes is the length of the longest text that is read. The ConfigMap that the text goes into holds 1 MiB in all.
const MaxBytes = 512 << 10

// maxFaults bounds how many faults are listed, so that the answer to a broken file is short, and given soon.
const maxFaults = 100

// Parse reads the text of an ensemble.yaml. It returns all its faults, each with its path below base, which must
// not be nil and is that of the field that holds the text; the file is nil unless there are none. After a hundred
// faults it stops looking, and says so.
func Parse(text string, base *field.Path) (*File, field.ErrorList) {
	return ParseFor(EnsemblePython, text, base)
}

// ParseFor is Parse for the program that is to run the file.
func ParseFor(runner Runner, text string, base *field.Path) (*File, field.ErrorList) {
	if len(text) > MaxBytes {
		return nil, field.ErrorList{field.TooLong(base, "", MaxBytes)}
	}
	root, faults := document(text, base)
	var file *File
	if root != nil {
		p := &parser{runner: runner, faults: &faults}
		file = p.file(base, root)
	}
	if len(faults) > maxFaults {
		faults = append(faults[:maxFaults:maxFaults],
			field.Invalid(base, field.OmitValueType{}, fmt.Sprintf("has more than these %d faults", maxFaults)))
	}
	if len(faults) > 0 {
		return nil, faults
	}
	return file, nil
}

// parser reads the parts of a file in the order in which they need each other.
type parser struct {
	runner Runner
	faults *field.ErrorList
	jobs   jobNames
	custom pythonText
}

func (p *parser) file(path *field.Path, root *yaml.Node) *File {
	m := newMapping(path, root, p.faults, "logging", "jobs", "rules", "custom")
	if m == nil {
		return nil
	}
	file := &File{Jobs: []Job{}, Rules: []Rule{}}
	custom, ok := m.text("custom")
	file.Custom = custom
	p.custom = newPythonText(custom, ok || !m.has("custom"))

	p.jobs = jobNames{names: sets.New[string](), all: true}
	jobs := m.list("jobs", "must be a list of jobs, which may be empty")
	p.jobs.all = jobs != nil
	for i, node := range jobs {
		if p.enough() {
			p.jobs.all = false
			break
		}
		file.Jobs = append(file.Jobs, p.job(path.Child("jobs").Index(i), node))
	}
	for i, node := range m.list("rules", "must be a list of rules, which may be empty") {
		if p.enough() {
			break
		}
		file.Rules = append(file.Rules, p.rule(path.Child("rules").Index(i), node))
	}
	file.Logging = p.logging(m, file.Rules)
	return file
}

// enough reports whether there are more faults than are listed.
func (p *parser) enough() bool { return len(*p.faults) > maxFaults }

func (p *parser) job(path *field.Path, node *yaml.Node) Job {
	var job Job
	m := newMapping(path, node, p.faults, "name", "command", "workdir", "count", "nodes", "tasks", "duration")
	if m == nil {
		p.jobs.all = false
		return job
	}
	if name, ok := m.requiredText("name", "must be the name by which rules refer to the job"); ok {
		job.Name = name
		p.jobs.names.Insert(name)
	} else {
		p.jobs.all = false
	}
	if command, ok := m.requiredText("command", "must be the command that the job runs"); ok {
		job.Command = command
		if problem := checkCommand(command); problem != "" {
			m.invalid("command", m.values["command"], problem)
		}
	}
	job.Workdir, _ = m.text("workdir")
	job.Count = m.integer("count", 1, 1)
	job.Nodes = m.integer("nodes", 1, 1)
	job.Tasks = m.integer("tasks", 1, 0)
	job.Duration = m.seconds("duration")
	return job
}

func (p *parser) rule(path *field.Path, node *yaml.Node) Rule {
	var rule Rule
	m := newMapping(path, node, p.faults, "trigger", "name", "when", "action")
	if m == nil {
		return rule
	}
	trigger, known := m.oneOf("trigger", p.runner.triggers())
	rule.Trigger = trigger
	name, named := m.text("name")
	rule.Name = name
	rule.When = m.when(p.runner, "when")
	switch {
	case !known:
	case trigger == TriggerMetric && (!m.has("name") || named && name == ""):
		m.required("name", `must be the name of a metric such as "count.<job>.success" or "mean.<job>-pending"`)
	case trigger == TriggerMetric && named:
		if problem := checkMetric(p.runner, name, &p.jobs); problem != "" {
			m.invalid("name", m.values["name"], problem)
		}
	case strings.HasPrefix(trigger, "job-") && named && !p.jobs.known(name):
		m.invalid("name", m.values["name"], "must name a job of this file, or be left out"+p.jobs.list())
	}
	if known && trigger != TriggerMetric && m.has("when") {
		m.add(field.Forbidden(m.child("when"), fmt.Sprintf("only a rule on a metric has a condition; this one is on %q", trigger)))
	}
	if !m.has("action") {
		m.required("action", "must be a mapping with the name of an action")
		return rule
	}
	rule.Action = p.action(path.Child("action"), m.values["action"])
	return rule
}

func (p *parser) action(path *field.Path, node *yaml.Node) Action {
	var action Action
	m := newMapping(path, node, p.faults, "name", "label", "value", "repetitions", "backoff")
	if m == nil {
		return action
	}
	// ensemble-python takes a null here as if the key was missing.
	for _, key := range []string{"label", "value", "backoff"} {
		if m.has(key) && tagOf(m.values[key]) == tagNull {
			delete(m.values, key)
		}
	}
	action.Name, _ = m.oneOf("name", actions)
	action.Repetitions = m.integer("repetitions", 0, 1)
	action.Backoff = m.integer("backoff", 0, 0)
	switch action.Name {
	case ActionSubmit:
		label, ok := m.requiredText("label", "must name the job to submit")
		if ok && !p.jobs.known(label) {
			m.invalid("label", m.values["label"], "must name a job of this file"+p.jobs.list())
		}
		action.Label = label
	case ActionCustom:
		label, ok := m.requiredText("label", p.runner.customLabel())
		problem := p.custom.checkFunction(label)
		if p.runner == Agent && p.custom.empty {
			problem = checkCommand(label)
		}
		if ok && problem != "" {
			m.invalid("label", m.values["label"], problem)
		}
		action.Label = label
	default:
		action.Label, _ = m.text("label")
	}
	switch action.Name {
	case ActionGrow, ActionShrink:
		action.Value = m.value(action.Name)
	default:
		if value := m.values["value"]; value != nil && !slices.Contains([]string{tagInt, tagFloat, tagString}, tagOf(value)) {
			m.wrongKind("value", value, "a number or a string")
		}
	}
	return action
}

// value reads by how much an action grows or shrinks. It may be a string, and for a shrink it may be negative.
func (m *mapping) value(action string) int32 {
	node := m.values["value"]
	if node == nil {
		return 1
	}
	var number int64
	var err error
	switch tagOf(node) {
	case tagInt:
		number, err = parseInteger(node.Value)
	case tagString:
		number, err = strconv.ParseInt(strings.TrimSpace(node.Value), 10, 64)
	case tagFloat:
		err = strconv.ErrSyntax
	default:
		m.wrongKind("value", node, "a whole number")
		return 1
	}
	if action == ActionShrink && number < 0 {
		number = -number
	}
	if err != nil || number < 1 || number > math.MaxInt32 {
		m.invalid("value", node, fmt.Sprintf("must be a whole number from 1 to %d", math.MaxInt32))
		return 1
	}
	return int32(number)
}

// logging reads what the member prints, and finds fault when a rule needs a heartbeat that is not there. A rule on an event
// needs none: its action is run with the event.
func (p *parser) logging(file *mapping, rules []Rule) Logging {
	var logging Logging
	path := file.path.Child("logging")
	heartbeat := path.Child("heartbeat")
	needs := slices.IndexFunc(rules, func(r Rule) bool {
		return p.runner == EnsemblePython && r.Trigger == TriggerMetric && (r.Action.Name == ActionGrow || r.Action.Name == ActionShrink)
	})
	var why string
	if needs >= 0 {
		why = fmt.Sprintf("must be the seconds between heartbeats, on which rules[%d] can %s: give it a number greater than 0",
			needs, rules[needs].Action.Name)
	}
	node := file.values["logging"]
	if node == nil {
		if needs >= 0 {
			*p.faults = append(*p.faults, field.Required(heartbeat, why))
		}
		return logging
	}
	m := newMapping(path, node, p.faults, "debug", "heartbeat")
	if m == nil {
		return logging
	}
	logging.Debug = m.boolean("debug")
	before := len(*p.faults)
	logging.Heartbeat = m.seconds("heartbeat")
	switch {
	case needs < 0 || logging.Heartbeat > 0 || len(*p.faults) > before:
	case m.has("heartbeat"):
		m.invalid("heartbeat", m.values["heartbeat"], why)
	default:
		m.required("heartbeat", why)
	}
	return logging
}
