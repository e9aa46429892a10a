package resize

import (
	"context"
	"regexp"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/api/v1alpha1"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/plan"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/pods"
)

const (
	// lackingFor is how long pods have to be lacking before it is asked why: a Job makes them a moment after it was resized.
	lackingFor = 5 * time.Second
	// askAgain is how long an answer is good for.
	askAgain = 30 * time.Second
	// askFor bounds what the answer may take, for all that are asked for in a pass.
	askFor = 2 * time.Second
	// maxEvents bounds how many events of one Job are read.
	maxEvents = 100
)

// failedCreate is the reason of the events in which alone a Job says why it makes no pods.
const failedCreate = "FailedCreate"

// notMade knows why Jobs make no pods. They say so in events, of which there are many, and which nobody keeps: those of one Job are
// read from the API server while pods of it are lacking, now and then, and one sentence of them is remembered.
type notMade struct {
	live   client.Reader
	budget *budget[types.UID]
	jobs   map[types.UID]*lack
	count  func(outcome string)
}

// lack is a Job with pods that are lacking.
type lack struct {
	since time.Time
	why   string
}

// What may become of a read.
const (
	readDone   = "Read"
	readPutOff = "PutOff"
	readFailed = "Failed"
)

func newNotMade(live client.Reader, count func(outcome string)) *notMade {
	return &notMade{live: live, count: count, budget: newBudget[types.UID](askAgain), jobs: map[types.UID]*lack{}}
}

// read says of each member why its Job does not make pods, and asks where that is due.
func (n *notMade) read(ctx context.Context, s *seen, now time.Time) {
	lacking := map[types.UID]bool{}
	var ask []*batchv1.Job
	for _, wants := range s.lacking() {
		uid := wants.job.UID
		lacking[uid] = true
		of := n.jobs[uid]
		if of == nil {
			of = &lack{since: now}
			if recorded := v1alpha1.RecordOf(wants.e.member, wants.g.name).PodsLacking; recorded != nil {
				// Another process has seen that before.
				of.since = recorded.Since.Time
			}
			n.jobs[uid] = of
		}
		if due := of.since.Add(lackingFor); now.Before(due) {
			s.wake(due)
			continue
		}
		may, spent, due := n.budget.allow(wants.e.key.Namespace, uid, now)
		if s.wake(due); spent {
			n.count(readPutOff)
		}
		if may {
			ask = append(ask, wants.job)
		}
	}
	for uid := range n.jobs {
		if !lacking[uid] {
			delete(n.jobs, uid)
		}
	}
	n.budget.keep(lacking)
	n.ask(ctx, ask)
	for _, wants := range s.lacking() {
		wants.g.notMade = n.jobs[wants.job.UID].why
	}
	for _, e := range s.entries {
		for i := range e.groups {
			if g := &e.groups[i]; len(g.jobs) == 0 {
				g.notMade = e.kind.Words().NoJob
			}
		}
	}
}

// lackingGroup is a group with pods that are lacking, and a Job that should have made them.
type lackingGroup struct {
	e   *entry
	g   *group
	job *batchv1.Job
}

// lacking are the groups with pods that are lacking. Where several Jobs make the pods of a group, one of them tells for all.
func (s *seen) lacking() []lackingGroup {
	var out []lackingGroup
	for _, e := range s.entries {
		for i := range e.groups {
			if g := &e.groups[i]; e.lacks(g) {
				out = append(out, lackingGroup{e, g, g.jobs[0]})
			}
		}
	}
	return out
}

// lacks reports whether pods of a group are lacking that its Jobs should have made.
func (e *entry) lacks(g *group) bool {
	if e.member == nil || len(g.jobs) == 0 || e.lifecycle() != plan.Running || len(g.ranks.lacking) == 0 {
		return false
	}
	_, lacking := e.completed(g)
	return len(lacking) > 0
}

func (n *notMade) ask(ctx context.Context, jobs []*batchv1.Job) {
	if len(jobs) == 0 || n.live == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askFor)
	defer cancel()
	inParallel(len(jobs), func(i int) error {
		job := jobs[i]
		why, err := n.askOne(ctx, job.Namespace, job.UID)
		if err != nil {
			// What is known stays, and it is asked again in a while: nothing but a sentence depends on it.
			log.FromContext(ctx).V(1).Info(
				"Could not read why a Job makes no pods", "namespace", job.Namespace, "job", job.Name, "error", err.Error(),
			)
			n.count(readFailed)
			return nil
		}
		n.jobs[job.UID].why = why
		n.count(readDone)
		return nil
	})
}

func (n *notMade) askOne(ctx context.Context, namespace string, job types.UID) (string, error) {
	var events corev1.EventList
	which := fields.Set{"involvedObject.uid": string(job), "reason": failedCreate}
	if err := n.live.List(
		ctx, &events, client.InNamespace(namespace), client.MatchingFieldsSelector{Selector: which.AsSelector()}, client.Limit(maxEvents),
	); err != nil {
		return "", err //nolint:wrapcheck // It is logged with what it is about.
	}
	var last *corev1.Event
	for i := range events.Items {
		if e := &events.Items[i]; last == nil || told(last).Before(told(e)) {
			last = e
		}
	}
	if last == nil {
		return "", nil
	}
	return ofJob(last.Message), nil
}

// told is when an event was last told of.
func told(e *corev1.Event) time.Time {
	switch {
	case e.Series != nil:
		return e.Series.LastObservedTime.Time
	case !e.LastTimestamp.IsZero():
		return e.LastTimestamp.Time
	default:
		return e.EventTime.Time
	}
}

// ofPod begins what a Job says of one pod, with a name that is another one each time.
var ofPod = regexp.MustCompile(`pods "[^"]*" is forbidden: `)

// ofJob is what a Job says without the name of the pod that it was about.
func ofJob(message string) string {
	return pods.Shortened(ofPod.ReplaceAllString(strings.TrimPrefix(message, "Error creating: "), ""), longestMessage)
}
