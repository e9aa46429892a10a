package flux_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start starts an instance, real where FLUX says so.
func start(t *testing.T, options broker.Options) broker.Instance {
	t.Helper()
	options.Dir = t.TempDir()
	instance, err := broker.Start(t.Context(), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := instance.Close(); err != nil {
			t.Error(err)
		}
	})
	return instance
}

// standIn starts the stand-in, whatever FLUX says: for tests of what a real broker does not do when it is told.
func standIn(t *testing.T, options broker.Options) *broker.StandIn {
	t.Helper()
	options.Dir = t.TempDir()
	b, err := broker.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		for _, fault := range b.Faults() {
			t.Errorf("the client sent what is no message: %v", fault)
		}
	})
	return b
}

// connect makes a client of an instance.
func connect(t *testing.T, uri string, options flux.Options) *flux.Client {
	t.Helper()
	options.URI = uri
	if options.MinBackoff == 0 {
		options.MinBackoff, options.MaxBackoff = time.Millisecond, 20*time.Millisecond
	}
	client, err := flux.New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

// soon bounds what should not take long, on a machine that may be busy.
func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// next reads a stream.
func next[T any](t *testing.T, s *flux.Stream[T]) T {
	t.Helper()
	value, err := s.Next(soon(t))
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// opened hands on a stream that was opened, and closes it in the end.
func opened[T any](t *testing.T) func(*flux.Stream[T], error) *flux.Stream[T] {
	t.Helper()
	return func(s *flux.Stream[T], err error) *flux.Stream[T] {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	}
}

// submit submits a command.
func submit(t *testing.T, client *flux.Client, command flux.Command) flux.JobID {
	t.Helper()
	spec, err := command.Jobspec()
	if err != nil {
		t.Fatal(err)
	}
	id, err := client.Submit(soon(t), spec, flux.SubmitOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// sleep is a job on whole nodes.
func sleep(nodes int, seconds string) flux.Command {
	return flux.Command{Args: []string{"sleep", seconds}, Nodes: nodes, Exclusive: true}
}
