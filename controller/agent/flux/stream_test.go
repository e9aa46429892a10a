package flux_test

import (
	"context"
	"errors"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

func TestAStreamIsCutInTheMiddle(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	online := opened[flux.JobStats](t)(client.WatchJobStats(soon(t)))
	next(t, online)
	b.Cut()
	for range 2 {
		_, err := online.Next(soon(t))
		if _, lost := errors.AsType[*flux.LostError](err); !lost {
			t.Errorf("%v, want a LostError, each time", err)
		}
	}
}

func TestAStreamThatWaits(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Size: 2, Online: 1})
	client := connect(t, b.URI(), flux.Options{})
	stream, err := client.Online(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	next(t, stream)
	for range 3 {
		short, cancel := context.WithTimeout(t.Context(), 5*time.Millisecond)
		defer cancel()
		if _, err := stream.Next(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that the time is over", err)
		}
	}
	if err := b.Add(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := next(t, stream); got.Count() != 2 {
		t.Errorf("%s, want both: the stream goes on after a wait that ended", got)
	}
	done := make(chan error)
	go func() {
		_, err := stream.Next(soon(t))
		done <- err
	}()
	if err := stream.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, flux.ErrClosed) {
		t.Errorf("%v, want that it was closed", err)
	}
	if err := stream.Close(); err != nil {
		t.Errorf("closed twice: %v", err)
	}
	waitUntil(t, func() bool { now, _ := b.Connections(); return now == 0 })
}

func TestAStreamThatIsReadSlowlyHoldsUpNothing(t *testing.T) {
	t.Parallel()
	const jobs = 1000
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	journal := opened[flux.JournalEntry](t)(client.Journal(soon(t), flux.JournalOptions{}))
	for range jobs {
		submit(t, client, flux.Command{Args: []string{"true"}})
	}
	ended := 0
	for ended < jobs {
		entry := next(t, journal)
		for i := range entry.Events {
			if entry.Events[i].Name == "clean" {
				ended++
			}
		}
	}
}

func TestFollow(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Size: 2})
	client := connect(t, b.URI(), flux.Options{})
	ctx, cancel := context.WithCancel(soon(t))
	var mu sync.Mutex
	openings, ends := 0, 0
	jobs := map[flux.JobID]int{}
	done := make(chan error)
	open := func(ctx context.Context) (*flux.Stream[flux.JournalEntry], error) {
		return client.Journal(ctx, flux.JournalOptions{Full: true})
	}
	go func() {
		done <- flux.Follow(ctx, client, open, flux.Follower[flux.JournalEntry]{
			Opened: func() error {
				mu.Lock()
				defer mu.Unlock()
				openings++
				clear(jobs)
				return nil
			},
			Each: func(entry flux.JournalEntry) error {
				mu.Lock()
				defer mu.Unlock()
				if !entry.CaughtUp() {
					jobs[entry.ID] += len(entry.Events)
				}
				return nil
			},
			Ended: func(err error) {
				mu.Lock()
				defer mu.Unlock()
				ends++
				if !flux.Temporary(err) {
					t.Errorf("ended with %v", err)
				}
			},
		})
	}()
	const eventsOfAJob = 11
	known := func(want int) func() bool {
		return func() bool {
			mu.Lock()
			defer mu.Unlock()
			for _, events := range jobs {
				if events != eventsOfAJob {
					return false
				}
			}
			return len(jobs) == want
		}
	}
	submit(t, client, flux.Command{Args: []string{"true"}})
	waitUntil(t, known(1))
	// The connection is lost: what is known is learnt again.
	b.Cut()
	waitUntil(t, func() bool { mu.Lock(); defer mu.Unlock(); return openings == 2 })
	submit(t, client, flux.Command{Args: []string{"true"}})
	waitUntil(t, known(2))
	// The broker is lost: so are the jobs.
	if err := b.Restart(ctx); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool { mu.Lock(); defer mu.Unlock(); return openings >= 3 })
	waitUntil(t, known(0))
	submit(t, client, flux.Command{Args: []string{"true"}})
	waitUntil(t, known(1))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	if ends < 2 {
		t.Errorf("%d ends, want each told", ends)
	}
}

func TestFollowEndsWithWhatWaitingDoesNotChange(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	mine := errors.New("mine")
	open := func(ctx context.Context) (*flux.Stream[flux.JobStats], error) { return client.WatchJobStats(ctx) }
	err := flux.Follow(soon(t), client, open, flux.Follower[flux.JobStats]{Each: func(flux.JobStats) error { return mine }})
	if !errors.Is(err, mine) {
		t.Errorf("%v, want the error of Each as it is", err)
	}
	err = flux.Follow(soon(t), client, open, flux.Follower[flux.JobStats]{Opened: func() error { return mine }})
	if !errors.Is(err, mine) {
		t.Errorf("%v, want the error of Opened as it is", err)
	}
	broken := func(context.Context) (*flux.Stream[flux.JobStats], error) {
		return nil, &flux.RefusedError{Errno: syscall.EPERM}
	}
	if err := flux.Follow(soon(t), client, broken, flux.Follower[flux.JobStats]{}); !errors.Is(err, syscall.EPERM) {
		t.Errorf("%v, want that it is refused", err)
	}
}

func TestFollowPassesOverWhatIsNotUnderstood(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	mine, done := errors.New("mine"), errors.New("done")
	open := func(ctx context.Context) (*flux.Stream[string], error) {
		first := true
		return flux.OpenStream(ctx, client, "job-list.job-stats", func([]byte) (string, error) {
			defer func() { first = false }()
			if first {
				return "", mine
			}
			return "understood", nil
		})
	}
	each := func(string) error { return done }
	var reply *flux.ReplyError
	if err := flux.Follow(soon(t), client, open, flux.Follower[string]{Each: each}); !errors.As(err, &reply) || !errors.Is(err, mine) {
		t.Errorf("%v, want that it is not understood", err)
	}
	misread := 0
	err := flux.Follow(soon(t), client, open, flux.Follower[string]{Each: each, Misread: func(err error) {
		misread++
		if !errors.As(err, &reply) {
			t.Errorf("misread %v, want a ReplyError", err)
		}
		// There is something to be told after it.
		submit(t, client, flux.Command{Args: []string{"true"}})
	}})
	if !errors.Is(err, done) || misread != 1 {
		t.Errorf("%v after %d that were not understood, want the one after it", err, misread)
	}
}
