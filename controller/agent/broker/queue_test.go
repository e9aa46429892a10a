package broker

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// TestCommand: what is submitted is read again from the journal, with its group and its tag.
func TestCommand(t *testing.T) {
	t.Parallel()
	q := &Queue{Environment: map[string]string{"A": "b"}, Directory: "/here"}
	tag := rules.Tag{Rule: "abcd1234", Run: 2, Index: 7}
	for name, row := range map[string]struct {
		job       ensemblefile.Job
		tasks     int
		directory string
	}{
		"plain":           {ensemblefile.Job{Name: "a", Command: "run 'it all'", Count: 3, Nodes: 1}, 1, "/here"},
		"fewer tasks":     {ensemblefile.Job{Name: "a", Command: "run 'it all'", Nodes: 4, Tasks: 2}, 4, "/here"},
		"more, elsewhere": {ensemblefile.Job{Name: "a", Command: "run 'it all'", Nodes: 4, Tasks: 6, Workdir: "/there", Duration: 1.5}, 6, "/there"},
	} {
		command := q.command(rules.Order{Job: &row.job, Tag: tag})
		if command.Tasks != row.tasks || command.Directory != row.directory || command.Nodes != int(row.job.Nodes) {
			t.Errorf("%s: the command is %+v", name, command)
		}
		if want := time.Duration(float64(row.job.Duration) * 1e9); command.Duration != want {
			t.Errorf("%s: the duration is %s, want %s", name, command.Duration, want)
		}
		if diff := cmp.Diff([]string{"run", "it all"}, command.Args); diff != "" {
			t.Errorf("%s: words (-want +got):\n%s", name, diff)
		}
		text, err := command.Jobspec()
		if err != nil {
			t.Fatal(err)
		}
		var spec flux.Jobspec
		if err := json.Unmarshal(text, &spec); err != nil {
			t.Fatal(err)
		}
		want := &rules.Submission{Group: "a", Nodes: row.job.Nodes, Tag: tag}
		if diff := cmp.Diff(want, submission(&spec)); diff != "" {
			t.Errorf("%s: submission (-want +got):\n%s", name, diff)
		}
	}
}

func TestTranslate(t *testing.T) {
	t.Parallel()
	at := time.Unix(1, 0)
	event := func(name, context string) flux.JobEvent {
		return flux.JobEvent{Name: name, Time: at, Context: json.RawMessage(context)}
	}
	q := &Queue{}
	got := q.translate(&flux.JournalEntry{ID: 5, Events: []flux.JobEvent{
		event("submit", `{}`), event("validate", ""), event("exception", `{"type":"cancel","severity":0,"note":"x"}`),
		event("exception", `{}`), event("finish", `{"status":256}`), event("finish", `{}`), event("clean", ""),
	}, Jobspec: &flux.Jobspec{Nodes: 3, User: map[string]json.RawMessage{"group": []byte(`"a"`), "ensemble": []byte(`"mine"`)}}})
	job := func(name string) rules.Job { return rules.Job{ID: 5, At: at, Name: name} }
	submit, cancel, finish, unknown := job("submit"), job("exception"), job("finish"), job("finish")
	submit.Submission = &rules.Submission{Group: "a", Nodes: 3}
	cancel.Type, finish.Status = "cancel", 256
	unknown.Status = -1
	for i := range got {
		// Of a status that is not understood only that it is none of success is known.
		if e, is := got[i].(rules.Job); is && e.Name == "finish" && e.Status != 256 && e.Status != 0 {
			e.Status = -1
			got[i] = e
		}
	}
	if diff := cmp.Diff([]rules.Event{submit, cancel, finish, unknown, job("clean")}, got); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]rules.Event{rules.CaughtUp{}}, q.translate(&flux.JournalEntry{ID: flux.NoJob})); diff != "" {
		t.Errorf("the end of the backlog (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(&rules.Submission{}, submission(nil)); diff != "" {
		t.Errorf("without a jobspec (-want +got):\n%s", diff)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv(flux.EnvURI, "local:///x")
	t.Setenv("ENSEMBLE_TEST", "a=b")
	got := Environment()
	if _, has := got[flux.EnvURI]; has || got["ENSEMBLE_TEST"] != "a=b" {
		t.Errorf("the environment is %v", got)
	}
}
