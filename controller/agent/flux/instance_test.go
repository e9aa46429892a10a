package flux_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

// The tests in this file hold for real brokers as well: with FLUX=/path they run on them.

const reason = "ensemble-autoscaler: a test"

// eventually waits until something holds of an instance.
func eventually(t *testing.T, what string, holds func(context.Context) (bool, error)) {
	t.Helper()
	if err := wait.PollUntilContextTimeout(t.Context(), 5*time.Millisecond, time.Minute, true, holds); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func TestBroker(t *testing.T) {
	t.Parallel()
	instance := start(t, broker.Options{Size: 3, Online: 1})
	client := connect(t, instance.URI(), flux.Options{})
	got, err := client.Broker(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	if got.Rank != 0 || got.Size != 3 || got.Version == "" || got.Instance == "" {
		t.Errorf("%+v, want rank 0 of 3, a version and an instance", got)
	}
	if err := client.WaitRunning(soon(t)); err != nil {
		t.Error(err)
	}
	if _, err := client.Attribute(soon(t), "nobody.knows"); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("an attribute that is not there: %v, want ENOENT", err)
	}
	if err := client.Call(soon(t), flux.AnyRank, "nobody.knows", nil, nil); !errors.Is(err, syscall.ENOSYS) || !flux.Temporary(err) {
		t.Errorf("a service that is not there: %v, want ENOSYS, which may be there later", err)
	}
}

// ranks are all ranks from first up to end.
func ranks(first, end uint32) idset.Set { return idset.Range(first, end) }

func TestRanksComeAndGo(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 4, Online: 2})
	client := connect(t, instance.URI(), flux.Options{})
	online := opened[idset.Set](t)(client.Online(ctx))
	if got := next(t, online); !got.Equal(ranks(0, 2)) {
		t.Errorf("online %s, want 0-1", got)
	}
	status, err := client.ResourceStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !status.Online.Equal(ranks(0, 2)) || !status.Offline.Equal(ranks(2, 4)) || !status.Drained().Empty() {
		t.Errorf("%+v, want 0-1 online, 2-3 offline, none drained", status)
	}
	if err := instance.Add(ctx, 2); err != nil {
		t.Fatal(err)
	}
	if got := next(t, online); !got.Equal(ranks(0, 3)) {
		t.Errorf("online %s, want 0-2", got)
	}
	if err := instance.Remove(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if got := next(t, online); !got.Equal(idset.Of(0, 2)) {
		t.Errorf("online %s, want 0,2", got)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 3})
	client := connect(t, instance.URI(), flux.Options{})
	if err := client.Drain(ctx, ranks(2, 3), "somebody else's"); err != nil {
		t.Fatal(err)
	}
	// Twice, as after a restart of the agent: that is no error and changes nothing.
	for range 2 {
		if err := client.Drain(ctx, ranks(1, 3), reason); err != nil {
			t.Fatal(err)
		}
	}
	status, err := client.ResourceStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := status.Drained(); !got.Equal(ranks(1, 3)) {
		t.Errorf("drained %s, want 1-2", got)
	}
	if got := status.DrainedWith("ensemble-autoscaler: "); !got.Equal(ranks(1, 2)) {
		t.Errorf("drained by us %s, want 1: the reason of whoever was first stays", got)
	}
	if age := time.Since(status.Drains[0].Since); age < -2*time.Second || age > time.Hour {
		t.Errorf("drained since %s", status.Drains[0].Since)
	}
	// A drain outlives its broker.
	if err := instance.Remove(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if err := instance.Add(ctx, 1); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := client.Undrain(ctx, ranks(1, 2)); err != nil {
			t.Fatal(err)
		}
	}
	if status, err = client.ResourceStatus(ctx); err != nil {
		t.Fatal(err)
	}
	if got := status.Drained(); !got.Equal(ranks(2, 3)) {
		t.Errorf("drained %s, want 2", got)
	}
	for what, wrong := range map[string]idset.Set{"no rank": {}, "a rank that there is not": ranks(3, 4)} {
		if err := client.Drain(ctx, wrong, reason); !errors.Is(err, syscall.EINVAL) || flux.Temporary(err) {
			t.Errorf("drain of %s: %v, want EINVAL", what, err)
		}
	}
}

func TestJobsThroughTheJournal(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 2})
	client := connect(t, instance.URI(), flux.Options{})
	journal := read(t, opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{Full: true})))
	if len(journal.jobs) != 0 {
		t.Errorf("jobs %v before the first", journal.jobs)
	}

	command := sleep(2, "0.1")
	command.User = map[string]any{"group": "g-1"}
	command.Environment = map[string]string{"SECRET": "x"}
	good := submit(t, client, command)
	got := journal.follow(t, good)
	if !has(got.names, "submit validate depend priority alloc start finish release free clean") {
		t.Errorf("events %v", got.names)
	}
	if got.priority != flux.UrgencyDefault {
		t.Errorf("priority %d, want that of the urgency, %d", got.priority, flux.UrgencyDefault)
	}
	if got.status != 0 || got.exception != "" || !got.ran.Equal(ranks(0, 2)) || got.user != "g-1" {
		t.Errorf("%+v, want success on 0-1, and the group of its submitter", got)
	}

	bad := submit(t, client, flux.Command{Args: []string{"false"}})
	if got := journal.follow(t, bad); got.status.ExitStatus() != 1 {
		t.Errorf("false ends with %v, want 1", got.status)
	}

	waits := submit(t, client, sleep(2, "1000"))
	second := submit(t, client, sleep(2, "1000"))
	if err := client.Cancel(ctx, second, "a test"); err != nil {
		t.Fatal(err)
	}
	if got := journal.follow(t, second); got.exception != "cancel" || has(got.names, "alloc") {
		t.Errorf("%+v, want one that was cancelled before it ran", got)
	}
	if err := client.Cancel(ctx, waits, ""); err != nil {
		t.Fatal(err)
	}
	if got := journal.follow(t, waits); got.exception != "cancel" || !has(got.names, "alloc exception free clean") {
		t.Errorf("%+v, want one that was cancelled while it ran", got)
	}

	for what, options := range map[string]flux.JournalOptions{
		"all":    {Full: true},
		"active": {},
		"ends":   {Full: true, Allow: []string{"submit", "finish", "exception", "clean"}},
		"others": {Full: true, Deny: []string{"priority"}},
	} {
		again := opened[flux.JournalEntry](t)(client.Journal(ctx, options))
		want, got := 4, 0
		if !options.Full {
			want = 0
		}
		for entry := next(t, again); !entry.CaughtUp(); entry = next(t, again) {
			got++
			for i := range entry.Events {
				name := entry.Events[i].Name
				if len(options.Allow) > 0 && !slices.Contains(options.Allow, name) || slices.Contains(options.Deny, name) {
					t.Errorf("%s: event %s", what, name)
				}
			}
		}
		if got != want {
			t.Errorf("%s: %d jobs, want %d", what, got, want)
		}
	}
	if err := client.Cancel(ctx, good, ""); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("cancel of what has ended: %v, want ENOENT", err)
	}
}

func TestJobsAreListed(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 2})
	client := connect(t, instance.URI(), flux.Options{})
	ended := submit(t, client, flux.Command{Args: []string{"false"}, Name: "a-name", Duration: time.Minute})
	eventually(t, "the first job ends", func(ctx context.Context) (bool, error) {
		job, err := client.Job(ctx, ended)
		return err == nil && job.State == flux.StateInactive, err
	})
	runs := submit(t, client, sleep(2, "1000"))
	waits := submit(t, client, sleep(1, "1000"))
	held := submit(t, client, sleep(1, "1000"))
	if old, err := client.SetUrgency(ctx, held, flux.UrgencyExpedite); err != nil || old != flux.UrgencyDefault {
		t.Errorf("the urgency was %d, %v; want %d", old, err, flux.UrgencyDefault)
	}
	if old, err := client.SetUrgency(ctx, held, flux.UrgencyHold); err != nil || old != flux.UrgencyExpedite {
		t.Errorf("the urgency was %d, %v; want %d", old, err, flux.UrgencyExpedite)
	}
	eventually(t, "one job runs and two wait", func(ctx context.Context) (bool, error) {
		stats, err := client.JobStats(ctx)
		return err == nil && stats.Run == 1 && stats.Waiting() == 2 && stats.Inactive == 1 && stats.Failed == 1, err
	})
	eventually(t, "the run is listed", func(ctx context.Context) (bool, error) {
		job, err := client.Job(ctx, runs)
		return err == nil && job.Ranks.Equal(ranks(0, 2)), err
	})
	for _, row := range []struct {
		filter flux.JobFilter
		want   []flux.JobID
	}{
		{flux.JobFilter{}, []flux.JobID{waits, held, runs, ended}},
		{flux.JobFilter{Max: 1}, []flux.JobID{waits}},
		{flux.JobFilter{States: flux.Pending}, []flux.JobID{waits, held}},
		{flux.JobFilter{States: flux.Running}, []flux.JobID{runs}},
		{flux.JobFilter{States: flux.Running | flux.StateInactive}, []flux.JobID{runs, ended}},
		{flux.JobFilter{Since: time.Now().Add(time.Hour)}, []flux.JobID{waits, held, runs}},
	} {
		jobs, err := client.Jobs(ctx, row.filter)
		if err != nil {
			t.Errorf("%+v: %v", row.filter, err)
			continue
		}
		var ids []flux.JobID
		for i := range jobs {
			ids = append(ids, jobs[i].ID)
		}
		if !slices.Equal(ids, row.want) {
			t.Errorf("%+v: %v, want %v", row.filter, ids, row.want)
		}
	}
	job, err := client.Job(ctx, ended)
	if err != nil {
		t.Fatal(err)
	}
	if job.Name != "a-name" || job.Duration != time.Minute {
		t.Errorf("%+v, want a-name and a minute", job)
	}
	if job.Result != flux.Failed || !job.HasWaitStatus || job.WaitStatus.ExitStatus() != 1 {
		t.Errorf("%+v, want that it failed with 1", job)
	}
	if job.Ended.Before(job.Started) || job.Started.Before(job.Submitted) || time.Since(job.Submitted) > time.Hour {
		t.Errorf("submitted %s, started %s, ended %s", job.Submitted, job.Started, job.Ended)
	}
	allocated, err := client.Allocated(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := allocated.Ranks(); !got.Equal(ranks(0, 2)) {
		t.Errorf("busy ranks %s, want 0-1", got)
	}
	scheduler, err := client.SchedulerStatus(ctx)
	if err != nil {
		t.Fatal(err)
	}
	all, down, busy := scheduler.All.Ranks(), scheduler.Down.Ranks(), scheduler.Allocated.Ranks()
	if !all.Equal(ranks(0, 2)) || !busy.Equal(ranks(0, 2)) || !down.Empty() {
		t.Errorf("%s, of which %s are down and %s busy, want 0-1, all of them busy", all, down, busy)
	}
	if _, err := client.SetUrgency(ctx, runs, 1); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("urgency of what runs: %v, want EINVAL", err)
	}
	if err := client.Signal(ctx, waits, syscall.SIGTERM); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("signal to what waits: %v, want EINVAL", err)
	}
	if _, err := client.Job(ctx, 1); !errors.Is(err, syscall.ENOENT) {
		t.Errorf("a job that is not there: %v, want ENOENT", err)
	}
}

func TestJobsWaitForRanks(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 4, Online: 1})
	client := connect(t, instance.URI(), flux.Options{})
	journal := read(t, opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{})))
	id := submit(t, client, sleep(3, "0.1"))
	for _, rank := range []int{1, 2} {
		stats, err := client.JobStats(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if stats.Run != 0 {
			t.Fatalf("a job of three nodes runs with %d up", rank)
		}
		if err := instance.Add(ctx, rank); err != nil {
			t.Fatal(err)
		}
	}
	if got := journal.follow(t, id); got.status != 0 || !got.ran.Equal(ranks(0, 3)) {
		t.Errorf("%+v, want success on 0-2", got)
	}
}

func TestAJobOnALostRankFails(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 2})
	client := connect(t, instance.URI(), flux.Options{})
	journal := read(t, opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{})))
	id := submit(t, client, sleep(2, "1000"))
	eventually(t, "it runs", func(ctx context.Context) (bool, error) {
		allocated, err := client.Allocated(ctx)
		return err == nil && allocated.Ranks().Count() == 2, err
	})
	if err := instance.Remove(ctx, 1); err != nil {
		t.Fatal(err)
	}
	if got := journal.follow(t, id); got.exception == "" || !has(got.names, "alloc exception free clean") {
		t.Errorf("%+v, want an exception", got)
	}
}

// TestADrainKillsNoJob is the way in which a member shrinks: drain the ranks that are to go, wait until they are free, let them go, undrain.
func TestADrainKillsNoJob(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 4})
	client := connect(t, instance.URI(), flux.Options{})
	journal := read(t, opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{})))
	var ids []flux.JobID
	for range 4 {
		ids = append(ids, submit(t, client, sleep(1, "0.5")))
	}
	doomed := ranks(2, 4)
	eventually(t, "all run", func(ctx context.Context) (bool, error) {
		allocated, err := client.Allocated(ctx)
		return err == nil && allocated.Ranks().Count() == 4, err
	})
	if err := client.Drain(ctx, doomed, reason); err != nil {
		t.Fatal(err)
	}
	for range 4 {
		ids = append(ids, submit(t, client, sleep(1, "0.1")))
	}
	eventually(t, "the ranks are free", func(ctx context.Context) (bool, error) {
		allocated, err := client.Allocated(ctx)
		return err == nil && allocated.Ranks().Intersect(doomed).Empty(), err
	})
	for rank := range doomed.All() {
		if err := instance.Remove(ctx, int(rank)); err != nil {
			t.Fatal(err)
		}
	}
	if err := client.Undrain(ctx, doomed); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		if got := journal.follow(t, id); got.exception != "" || got.status != 0 {
			t.Errorf("job %s: %+v, want success", id, got)
		}
	}
}

func TestResourceJournal(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 3, Online: 2})
	client := connect(t, instance.URI(), flux.Options{})
	journal := opened[flux.ResourceEntry](t)(client.ResourceJournal(ctx))
	var online idset.Set
	var defined bool
	for {
		entry := next(t, journal)
		if entry.CaughtUp() {
			break
		}
		if entry.R != nil {
			defined = entry.R.Ranks().Equal(ranks(0, 3)) && entry.R.Cores() > 0
		}
		for _, event := range entry.Events {
			switch event.Name {
			case flux.ResourceRestart:
				if !event.Ranks.Equal(ranks(0, 3)) {
					t.Errorf("ranks %s, want 0-2", event.Ranks)
				}
				online = event.Online
			case flux.ResourceOnline:
				online = online.Union(event.Ranks)
			}
		}
	}
	if !online.Equal(ranks(0, 2)) || !defined {
		t.Errorf("online %s, defined %t; want 0-1 and the resources", online, defined)
	}
	expect := func(name string, of idset.Set, why string) {
		t.Helper()
		entry := next(t, journal)
		if len(entry.Events) != 1 || entry.Events[0].Name != name || !entry.Events[0].Ranks.Equal(of) || entry.Events[0].Reason != why {
			t.Errorf("%+v, want %s of %s because of %q", entry, name, of, why)
		}
	}
	if err := client.Drain(ctx, ranks(1, 3), reason); err != nil {
		t.Fatal(err)
	}
	expect(flux.ResourceDrain, ranks(1, 3), reason)
	if err := instance.Add(ctx, 2); err != nil {
		t.Fatal(err)
	}
	expect(flux.ResourceOnline, ranks(2, 3), "")
	if err := client.Undrain(ctx, ranks(1, 3)); err != nil {
		t.Fatal(err)
	}
	expect(flux.ResourceUndrain, ranks(1, 3), "")
	if err := instance.Remove(ctx, 1); err != nil {
		t.Fatal(err)
	}
	expect(flux.ResourceOffline, ranks(1, 2), "")
}

func TestCountsOfJobsAreStreamed(t *testing.T) {
	t.Parallel()
	instance := start(t, broker.Options{Size: 1})
	client := connect(t, instance.URI(), flux.Options{})
	stream := opened[flux.JobStats](t)(client.WatchJobStats(soon(t)))
	if got := next(t, stream); got != (flux.JobStats{}) {
		t.Errorf("%+v before the first job", got)
	}
	for range 2 {
		submit(t, client, sleep(1, "0.3"))
	}
	for got := next(t, stream); got.Successful != 2; got = next(t, stream) {
		if got.Run > 1 || got.Failed > 0 {
			t.Errorf("%+v, want at most one to run on one node", got)
		}
	}
}

func TestEvents(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 1})
	client := connect(t, instance.URI(), flux.Options{})
	subscription, err := client.Subscribe(ctx, "job-exception")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := subscription.Close(); err != nil {
			t.Error(err)
		}
	})
	cancel := func() {
		t.Helper()
		if err := client.Cancel(ctx, submit(t, client, sleep(1, "1000")), ""); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	event, err := subscription.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if event.Topic != "job-exception" || !strings.Contains(string(event.Payload), "cancel") {
		t.Errorf("%s %s, want that a job was cancelled", event.Topic, event.Payload)
	}
	if err := subscription.Remove(ctx, "job-exception"); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := subscription.Add(ctx, "job-exception"); err != nil {
		t.Fatal(err)
	}
	short, end := context.WithTimeout(ctx, 50*time.Millisecond)
	defer end()
	if event, err := subscription.Next(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%+v, %v; want nothing of what happened while nobody listened", event, err)
	}
	cancel()
	if event, err := subscription.Next(ctx); err != nil || event.Topic != "job-exception" {
		t.Errorf("%+v, %v; want the last", event, err)
	}
}

func TestAnInstanceIsStartedAgain(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 2})
	client := connect(t, instance.URI(), flux.Options{CallTimeout: time.Minute})
	before, err := client.Broker(ctx)
	if err != nil {
		t.Fatal(err)
	}
	journal := opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{Full: true}))
	read(t, journal)
	submit(t, client, sleep(1, "1000"))
	if err := instance.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	var lost *flux.LostError
	for {
		if _, err = journal.Next(ctx); err != nil {
			break
		}
	}
	if !errors.As(err, &lost) || !flux.Temporary(err) {
		t.Errorf("the journal ends with %v, want a LostError", err)
	}
	after, err := client.Broker(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if after.Instance == before.Instance {
		t.Error("the instance after a restart is the same as before")
	}
	again := read(t, opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{Full: true})))
	if len(again.jobs) != 0 {
		t.Errorf("jobs %v of the instance before", again.jobs)
	}
}
