package flux_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

func TestOptions(t *testing.T) {
	for want, options := range map[string]flux.Options{
		"FLUX_URI is not set":                     {},
		"has to be local://":                      {URI: "ssh://host/run/flux/local"},
		"has no path of a socket":                 {URI: "local://"},
		"at most 107 fit into an address":         {URI: "local://" + strings.Repeat("x", 108)},
		"MaxMessage is -1":                        {URI: "local:///x", MaxMessage: -1},
		"MaxOutstanding is -1":                    {URI: "local:///x", MaxOutstanding: -1},
		"CallTimeout is -1ns":                     {URI: "local:///x", CallTimeout: -1},
		"MaxBackoff 1ms is less than MinBackoff ": {URI: "local:///x", MinBackoff: time.Second, MaxBackoff: time.Millisecond},
	} {
		t.Setenv(flux.EnvURI, "")
		if _, err := flux.New(options); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	t.Setenv(flux.EnvURI, "local:///run/flux/local")
	client, err := flux.New(flux.Options{MinBackoff: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if client.Path() != "/run/flux/local" {
		t.Errorf("path %q, want that of FLUX_URI", client.Path())
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	if _, err := client.JobStats(t.Context()); !errors.Is(err, flux.ErrClosed) {
		t.Errorf("a call of what is closed: %v", err)
	}
}

func TestACallWaitsForTheBroker(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	b.Kill()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err := client.JobStats(short)
	var none *flux.ConnectError
	if !errors.As(err, &none) || !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) || !flux.Temporary(err) {
		t.Errorf("without a broker: %v, want a ConnectError with what the last attempt met", err)
	}
	done := make(chan error)
	go func() {
		_, err := client.JobStats(soon(t))
		done <- err
	}()
	if err := b.Begin(1); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Errorf("a call that the broker came for: %v", err)
	}
}

func TestASocketThatIsNotThere(t *testing.T) {
	t.Parallel()
	client := connect(t, "local://"+filepath.Join(t.TempDir(), "local"), flux.Options{CallTimeout: 200 * time.Millisecond})
	if _, err := client.Journal(t.Context(), flux.JournalOptions{}); !errors.Is(err, os.ErrNotExist) || !flux.Temporary(err) {
		t.Errorf("%v, want that there is no such file, which may come", err)
	}
}

func TestABrokerThatRefuses(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Refuse: byte(syscall.EPERM)})
	client := connect(t, b.URI(), flux.Options{})
	_, err := client.JobStats(soon(t))
	var refused *flux.RefusedError
	if !errors.As(err, &refused) || !errors.Is(err, syscall.EPERM) || flux.Temporary(err) {
		t.Errorf("%v, want that this user is refused, at once", err)
	}
	if _, err := client.Online(soon(t)); !errors.As(err, &refused) {
		t.Errorf("a stream: %v, want the same", err)
	}
}

func TestServicesThatAreNotLoadedYet(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Loading: true})
	client := connect(t, b.URI(), flux.Options{})
	if _, err := client.ResourceStatus(soon(t)); !errors.Is(err, syscall.ENOSYS) || !flux.Temporary(err) {
		t.Errorf("%v, want ENOSYS, which may go away", err)
	}
	done := make(chan error)
	go func() { done <- client.WaitRunning(soon(t)) }()
	b.Load()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := client.ResourceStatus(soon(t)); err != nil {
		t.Error(err)
	}
}

func TestAnOlderRelease(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Version: "0.66.0"})
	client := connect(t, b.URI(), flux.Options{})
	journal := opened[flux.ResourceEntry](t)(client.ResourceJournal(soon(t)))
	if _, err := journal.Next(soon(t)); !errors.Is(err, syscall.ENOSYS) {
		t.Errorf("a journal of resources: %v, want ENOSYS", err)
	}
	got, err := client.Broker(soon(t))
	if err != nil || got.Instance == "" || got.Version != "0.66.0" {
		t.Errorf("%+v, %v; want an instance by its start", got, err)
	}
}

func TestCallsAtOnce(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{MaxOutstanding: 4})
	var calls sync.WaitGroup
	for i := range 200 {
		calls.Go(func() {
			// Each gets its own answer.
			name := flux.AttributeSize
			if i%2 == 0 {
				name = flux.AttributeRank
			}
			if value, err := client.Attribute(soon(t), name); err != nil || value != map[string]string{"size": "4", "rank": "0"}[name] {
				t.Errorf("%s is %q, %v", name, value, err)
			}
		})
	}
	calls.Wait()
	if _, ever := b.Connections(); ever != 1 {
		t.Errorf("%d connections for all calls, want 1", ever)
	}
}

func TestABrokerThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{CallTimeout: 30 * time.Millisecond, MaxOutstanding: 2})
	if _, err := client.JobStats(soon(t)); err != nil {
		t.Fatal(err)
	}
	b.Freeze()
	var calls sync.WaitGroup
	for range 6 {
		calls.Go(func() {
			if _, err := client.JobStats(t.Context()); !errors.Is(err, context.DeadlineExceeded) || !flux.Temporary(err) {
				t.Errorf("%v, want that its time is over", err)
			}
		})
	}
	calls.Wait()
	b.Thaw()
	// Answers that came too late are not taken for those of others.
	if value, err := client.Attribute(soon(t), flux.AttributeSize); err != nil || value != "4" {
		t.Errorf("size %q, %v; want 4", value, err)
	}
	if _, ever := b.Connections(); ever != 1 {
		t.Errorf("%d connections, want that the first is kept", ever)
	}
}

// TestASubmissionHasNoDeadline: who gives one up does not know whether it is carried out yet.
func TestASubmissionHasNoDeadline(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{CallTimeout: 30 * time.Millisecond})
	spec, err := (&flux.Command{Args: []string{"true"}}).Jobspec()
	if err != nil {
		t.Fatal(err)
	}
	b.Freeze()
	before := b.Asked()
	answer := make(chan error, 1)
	go func() {
		_, err := client.Submit(t.Context(), spec, flux.SubmitOptions{})
		answer <- err
	}()
	for b.Asked() == before {
		runtime.Gosched()
	}
	// Calls that came later are given up.
	if _, err := client.JobStats(t.Context()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want that its time is over", err)
	}
	b.Thaw()
	if err := <-answer; err != nil {
		t.Errorf("the submission has come to %v", err)
	}
}

// TestARequestThatDoesNotPass fills the socket of a broker that does not read.
func TestARequestThatDoesNotPass(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	if _, err := client.JobStats(soon(t)); err != nil {
		t.Fatal(err)
	}
	b.Freeze()
	// The broker reads one request whole, and of the next what fits into the socket.
	large := strings.Repeat("x", 4<<20)
	for range 2 {
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := client.Attribute(short, large); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%v, want that its time is over", err)
		}
	}
	b.Thaw()
	if _, err := client.JobStats(soon(t)); err != nil {
		t.Errorf("after a request that was cut off: %v, want a new connection", err)
	}
	if _, ever := b.Connections(); ever < 2 {
		t.Errorf("%d connections, want another in the place of the one with half a request", ever)
	}
}

func TestALostConnection(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	if _, err := client.JobStats(soon(t)); err != nil {
		t.Fatal(err)
	}
	b.Freeze()
	done := make(chan error)
	go func() {
		_, err := client.JobStats(soon(t))
		done <- err
	}()
	// It has to be on its way: the broker would not answer it on a connection that it made after that.
	waitUntil(t, func() bool { return b.Asked() > 1 })
	b.Cut()
	b.Thaw()
	err := <-done
	var lost *flux.LostError
	if !errors.As(err, &lost) || !flux.Temporary(err) {
		t.Errorf("%v, want a LostError: it is not known whether it was done", err)
	}
	if _, err := client.JobStats(soon(t)); err != nil {
		t.Errorf("after a lost connection: %v", err)
	}
}

func waitUntil(t *testing.T, holds func() bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), time.Millisecond, time.Minute, true, func(context.Context) (bool, error) {
		return holds(), nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestBrokersThatAreStartedBetweenCalls(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Size: 2})
	client := connect(t, b.URI(), flux.Options{})
	for range 20 {
		if _, err := client.JobStats(soon(t)); err != nil {
			t.Fatal(err)
		}
		if err := b.Restart(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

func TestCallsWhileBrokersAreKilled(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{Size: 2})
	client := connect(t, b.URI(), flux.Options{})
	ctx, cancel := context.WithCancel(soon(t))
	var calls sync.WaitGroup
	for range 8 {
		calls.Go(func() {
			for ctx.Err() == nil {
				if _, err := client.ResourceStatus(ctx); err != nil && !flux.Temporary(err) && ctx.Err() == nil {
					t.Errorf("%v, want none but of a lost broker", err)
				}
			}
		})
	}
	for range 30 {
		if err := b.Restart(ctx); err != nil {
			t.Error(err)
		}
		b.Cut()
	}
	cancel()
	calls.Wait()
}

func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{})
	if _, err := client.JobStats(soon(t)); err != nil {
		t.Fatal(err)
	}
	b.Freeze()
	done := make(chan error)
	go func() {
		_, err := client.JobStats(soon(t))
		done <- err
	}()
	waitUntil(t, func() bool { return b.Asked() > 1 })
	if err := client.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, flux.ErrClosed) {
		t.Errorf("%v, want that it was closed", err)
	}
	b.Thaw()
}

func TestMessagesThatAreTooLong(t *testing.T) {
	t.Parallel()
	b := standIn(t, broker.Options{})
	client := connect(t, b.URI(), flux.Options{MaxMessage: 4 << 10})
	var tooLong *wire.TooLongError
	if _, err := client.Attribute(soon(t), strings.Repeat("x", 4<<10)); !errors.As(err, &tooLong) || flux.Temporary(err) {
		t.Errorf("a request: %v, want that it is too long", err)
	}
	large := flux.JournalOptions{Allow: []string{strings.Repeat("x", 4<<10)}}
	if _, err := client.Journal(soon(t), large); !errors.As(err, &tooLong) || flux.Temporary(err) {
		t.Errorf("a request for a stream: %v, want that it is too long", err)
	}
	if err := client.Call(soon(t), flux.AnyRank, "", nil, nil); err == nil || !strings.Contains(err.Error(), "needs a topic") {
		t.Errorf("a request without a topic: %v", err)
	}
	if err := client.Call(soon(t), flux.AnyRank, "attr.get", func() {}, nil); err == nil || !strings.Contains(err.Error(), "encode func()") {
		t.Errorf("a request that is no JSON: %v", err)
	}
	for range 100 {
		submit(t, client, flux.Command{Args: []string{"true"}})
	}
	_, err := client.Jobs(soon(t), flux.JobFilter{})
	if !errors.As(err, &tooLong) || flux.Temporary(err) {
		t.Errorf("a response: %v, want that it is too long", err)
	}
	if jobs, err := client.Jobs(soon(t), flux.JobFilter{Max: 2}); err != nil || len(jobs) != 2 {
		t.Errorf("after that: %d jobs, %v; want 2", len(jobs), err)
	}
}

// TestAPeerThatIsNoBroker speaks with programs that do not know the protocol.
func TestAPeerThatIsNoBroker(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		says string
		want string
	}{
		"that says nothing":         {"", "said nothing"},
		"that ends after the greet": {"\x00", "lost"},
		"that speaks something":     {"\x00HTTP/1.1 400 Bad Request\r\n\r\n", "not a Flux message"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "local")
			var config net.ListenConfig
			listener, err := config.Listen(t.Context(), "unix", path)
			if err != nil {
				t.Fatal(err)
			}
			var serving sync.WaitGroup
			serving.Go(func() {
				for {
					peer, err := listener.Accept()
					if err != nil {
						return
					}
					_, err = io.WriteString(peer, row.says)
					if len(row.says) > 0 && err == nil {
						// The request, or the end.
						_, _ = peer.Read(make([]byte, 1))
					}
					_ = peer.Close()
				}
			})
			t.Cleanup(func() {
				_ = listener.Close()
				serving.Wait()
			})
			client := connect(t, "local://"+path, flux.Options{CallTimeout: 2 * time.Second})
			_, err = client.JobStats(t.Context())
			if err == nil || !strings.Contains(err.Error(), row.want) || !flux.Temporary(err) {
				t.Errorf("%v, want %q", err, row.want)
			}
		})
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	for want, err := range map[string]error{
		"flux t: no (no such file or directory)": &flux.Error{Topic: "t", Errno: syscall.ENOENT, Text: "no"},
		"flux t: no such file or directory":      &flux.Error{Topic: "t", Errno: syscall.ENOENT},
		"flux t: reply not understood: x":        &flux.ReplyError{Topic: "t", Err: errors.New("x")},
		"no Flux broker at /p (context canceled): x": &flux.ConnectError{
			Path: "/p", Err: errors.New("x"), Cause: context.Canceled,
		},
	} {
		if err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
	}
	long := &flux.Error{Topic: "t", Text: strings.Repeat("é", 1000)}
	if text := long.Error(); len(text) > 300 || strings.Contains(text, "�") {
		t.Errorf("%d bytes of a long text", len(text))
	}
	if flux.Temporary(fmt.Errorf("else: %w", io.ErrUnexpectedEOF)) {
		t.Error("what is not known to be temporary is not")
	}
}
