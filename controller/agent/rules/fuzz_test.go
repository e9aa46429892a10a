package rules_test

import (
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/rules"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/ensemblefile"
)

// FuzzFile runs any file that is accepted on a queue in which jobs are submitted, start and end as the bytes say. State must not panic, go
// on for ever, run a rule more often than the file says, or want to look into the past.
func FuzzFile(f *testing.F) {
	for name := range stories() {
		f.Add(text(f, name), []byte("abcdefghijklmnopqrstuvwxyz"))
	}
	f.Fuzz(func(t *testing.T, text string, steps []byte) {
		file, faults := ensemblefile.ParseFor(ensemblefile.Agent, text, field.NewPath("file"))
		if len(faults) > 0 {
			return
		}
		total := int64(0)
		for _, job := range file.Jobs {
			total += int64(job.Count)
		}
		if len(file.Rules) > 50 || total > 1000 || len(steps) > 200 {
			return
		}
		repetitions := int64(0)
		for _, r := range file.Rules {
			repetitions += int64(r.Action.Repetitions)
		}
		if repetitions > 200 {
			return
		}
		s := rules.New(file, rules.Options{})
		now, id, done := epoch, uint64(0), int64(0)
		var live []uint64
		var apply func(e rules.Event)
		apply = func(e rules.Event) {
			for _, a := range s.Apply(e, now) {
				switch a.Verb {
				case rules.Submit:
					done++
					for _, o := range a.Jobs {
						if id >= 2000 {
							return
						}
						id++
						live = append(live, id)
						defer apply(rules.Job{ID: id, At: now, Name: rules.EventSubmit, Submission: &rules.Submission{
							Group: o.Job.Name, Nodes: o.Job.Nodes, Tag: o.Tag,
						}})
					}
				case rules.Terminate:
					done++
				default:
					outcome := rules.Outcome(int(now.UnixNano()) % 3)
					if outcome == rules.Granted {
						done++
					}
					defer apply(rules.Answer{ID: a.ID, Outcome: outcome})
				}
			}
		}
		apply(rules.CaughtUp{})
		events := []string{rules.EventDepend, rules.EventPriority, rules.EventAlloc, rules.EventStart, rules.EventFinish, rules.EventClean,
			rules.EventException, rules.EventInvalidate}
		for _, step := range steps {
			now = now.Add(time.Duration(step) * time.Second / 10)
			if len(live) > 0 && step%3 > 0 {
				e := rules.Job{ID: live[int(step)%len(live)], At: now, Name: events[int(step/3)%len(events)], Status: int(step % 2)}
				apply(e)
			} else {
				apply(nil)
			}
			if next, ok := s.Next(); ok && next.Before(now) {
				t.Fatalf("at %s it wants to look at %s", now, next)
			}
			s.Report()
			s.Metrics()
		}
		if done > repetitions {
			t.Errorf("%d actions were done, and the file has %d repetitions", done, repetitions)
		}
	})
}

func text(f *testing.F, name string) string {
	f.Helper()
	return readText(f, "testdata/stories/"+name+".yaml")
}
