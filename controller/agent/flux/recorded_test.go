package flux_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/idset"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
	"github.com/ensemble-autoscaler/ensemble-autoscaler/test/harness/broker"
)

// record writes what a real broker says to testdata:
//
//	FLUX=/path go test ./controller/agent/flux -run TestRecord -args -record
var record = flag.Bool("record", false, "record the frames of the flux-core that FLUX names")

// directory is where the frames of a release are.
func directory(version string) string { return filepath.Join("testdata", "flux-core-"+version) }

const framesFile = "frames.txt"

// TestRecord makes one call of each kind through a relay, and with -record keeps the frames.
func TestRecord(t *testing.T) {
	t.Parallel()
	ctx := soon(t)
	instance := start(t, broker.Options{Size: 3, Online: 2})
	relay, err := broker.NewRelay(filepath.Join(t.TempDir(), "relay"), instance.URI())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := relay.Close(); err != nil {
			t.Error(err)
		}
	})
	client := connect(t, relay.URI(), flux.Options{})
	version := callEach(t, client, instance)

	topics := map[string]bool{}
	for _, frame := range relay.Frames() {
		checkFrame(t, frame.FromBroker, frame.Bytes, topics)
	}
	for _, topic := range []string{
		"attr.get", "groups.get", "resource.status", "resource.sched-status", "resource.drain", "resource.undrain", "resource.journal",
		"job-ingest.submit", "job-manager.events-journal", "job-manager.resource-status", "job-manager.raise", "job-manager.urgency",
		"job-list.list", "job-list.list-id", "job-list.job-stats", "event.subscribe", "job-exception",
	} {
		if !topics[topic] {
			t.Errorf("the broker said nothing of %s", topic)
		}
	}
	if !*record {
		return
	}
	if !instance.Real() {
		t.Fatalf("-record needs %s=/path: what the stand-in says is no record of flux-core", broker.Variable)
	}
	if ctx.Err() == nil {
		write(t, version, relay.Frames())
	}
}

// callEach calls each service, and returns the version of the broker.
func callEach(t *testing.T, client *flux.Client, instance broker.Instance) string {
	t.Helper()
	ctx := soon(t)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	about, err := client.Broker(ctx)
	must(err)
	must(client.WaitRunning(ctx))
	if err := client.Call(ctx, flux.AnyRank, "nobody.knows", nil, nil); !errors.Is(err, syscall.ENOSYS) {
		t.Errorf("a service that is not there: %v", err)
	}
	online := opened[idset.Set](t)(client.Online(ctx))
	next(t, online)
	resources := opened[flux.ResourceEntry](t)(client.ResourceJournal(ctx))
	for entry := next(t, resources); !entry.CaughtUp(); entry = next(t, resources) {
		continue
	}
	journal := read(t, opened[flux.JournalEntry](t)(client.Journal(ctx, flux.JournalOptions{Full: true})))
	stats := opened[flux.JobStats](t)(client.WatchJobStats(ctx))
	next(t, stats)
	events, err := client.Subscribe(ctx, "job-exception")
	must(err)
	t.Cleanup(func() { must(events.Close()) })

	command := sleep(1, "0.1")
	command.User = map[string]any{"group": "a-group"}
	ended := submit(t, client, command)
	if got := journal.follow(t, ended); got.status != 0 {
		t.Errorf("%+v, want success", got)
	}
	runs, waits := submit(t, client, sleep(2, "1000")), submit(t, client, sleep(1, "1000"))
	_, err = client.SetUrgency(ctx, waits, flux.UrgencyHold)
	must(err)
	eventually(t, "one runs", func(ctx context.Context) (bool, error) {
		got, err := client.Allocated(ctx)
		return err == nil && got.Ranks().Count() == 2, err
	})
	must(client.Drain(ctx, idset.Of(1), reason))
	for _, ask := range []func() error{
		func() error { _, err := client.ResourceStatus(ctx); return err },
		func() error { _, err := client.SchedulerStatus(ctx); return err },
		func() error { _, err := client.JobStats(ctx); return err },
		func() error {
			_, err := client.Jobs(ctx, flux.JobFilter{States: flux.Active | flux.StateInactive})
			return err
		},
		func() error { _, err := client.Job(ctx, ended); return err },
		func() error { return client.Cancel(ctx, runs, "a note") },
		func() error { return client.Cancel(ctx, waits, "") },
		func() error { return client.Undrain(ctx, idset.Of(1)) },
	} {
		must(ask())
	}
	for _, id := range []flux.JobID{runs, waits} {
		if got := journal.follow(t, id); got.exception != "cancel" {
			t.Errorf("%+v, want that it was cancelled", got)
		}
		_, err := events.Next(ctx)
		must(err)
	}
	must(instance.Add(ctx, 2))
	next(t, online)
	next(t, stats)
	return about.Version
}

// checkFrame reads one frame, and its payload where that is a reply, and notes the topics that the broker spoke of.
func checkFrame(t *testing.T, fromBroker bool, frame []byte, topics map[string]bool) {
	t.Helper()
	m, err := wire.Decode(frame)
	if err != nil {
		t.Errorf("%x: %v", frame, err)
		return
	}
	if !fromBroker {
		return
	}
	if m.Errno == 0 {
		topics[m.Topic] = true
	}
	if m.Type != wire.Response || m.Errno != 0 {
		return
	}
	if _, err := flux.DecodeReply(m.Topic, m.Payload); err != nil {
		t.Errorf("%s %s: %v", m.Topic, m.Payload, err)
	}
}

// write keeps frames as lines: who sent it, and its bytes in hexadecimal.
func write(t *testing.T, version string, frames []broker.Frame) {
	t.Helper()
	var out strings.Builder
	fmt.Fprintf(&out, "# flux-core %s, recorded on %s by TestRecord: > from the client, < from the broker\n", version,
		time.Now().UTC().Format(time.DateOnly))
	for _, frame := range frames {
		from := ">"
		if frame.FromBroker {
			from = "<"
		}
		fmt.Fprintf(&out, "%s %x\n", from, frame.Bytes)
	}
	if err := os.MkdirAll(directory(version), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory(version), framesFile), []byte(out.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRecordedFrames reads what real brokers have said.
func TestRecordedFrames(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(directory("*"), framesFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		t.Run(filepath.Base(filepath.Dir(name)), func(t *testing.T) {
			t.Parallel()
			file, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := file.Close(); err != nil {
					t.Error(err)
				}
			})
			topics := map[string]bool{}
			lines := bufio.NewScanner(file)
			lines.Buffer(nil, 16<<20)
			for lines.Scan() {
				from, text, _ := strings.Cut(lines.Text(), " ")
				if from == "#" {
					continue
				}
				frame, err := hex.DecodeString(text)
				if err != nil {
					t.Fatal(err)
				}
				checkFrame(t, from == "<", frame, topics)
			}
			if err := lines.Err(); err != nil {
				t.Fatal(err)
			}
			if len(topics) < 17 {
				t.Errorf("topics %v, want one of each call", topics)
			}
		})
	}
}
