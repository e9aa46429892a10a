package broker

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ensemble-autoscaler/ensemble-autoscaler/controller/agent/flux/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newStandIn(t *testing.T, options Options) *StandIn {
	t.Helper()
	options.Dir = t.TempDir()
	b, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		for _, fault := range b.Faults() {
			t.Errorf("a client sent what is no message: %v", fault)
		}
	})
	return b
}

// raw is a client that knows nothing but messages.
type raw struct {
	t        *testing.T
	socket   net.Conn
	messages *wire.Reader
	tag      uint32
}

func dial(t *testing.T, b *StandIn) *raw {
	t.Helper()
	var dialer net.Dialer
	socket, err := dialer.DialContext(t.Context(), "unix", b.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	if err := socket.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var verdict [1]byte
	if _, err := io.ReadFull(socket, verdict[:]); err != nil || verdict[0] != 0 {
		t.Fatalf("the broker greets with %v, %v", verdict, err)
	}
	return &raw{t: t, socket: socket, messages: wire.NewReader(socket, 1<<20)}
}

func (r *raw) ask(topic string, flags wire.Flags, payload string) {
	r.t.Helper()
	r.tag++
	m := &wire.Message{
		Type: wire.Request, Flags: flags, UserID: wire.UnknownUser, NodeID: wire.AnyRank, Tag: r.tag, Topic: topic, Payload: wire.Text(payload),
	}
	framed, err := wire.AppendFramed(nil, m)
	if err != nil {
		r.t.Fatal(err)
	}
	if _, err := r.socket.Write(framed); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) answer() *wire.Message {
	r.t.Helper()
	m, err := r.messages.Next()
	if err != nil {
		r.t.Fatal(err)
	}
	return m
}

func (r *raw) call(topic, payload string) string {
	r.t.Helper()
	r.ask(topic, 0, payload)
	m := r.answer()
	if m.Errno != 0 {
		r.t.Fatalf("%s: errno %d, %s", topic, m.Errno, m.Payload)
	}
	return string(wire.Unterminated(m.Payload))
}

func (r *raw) submit(nodes int, command ...string) {
	r.t.Helper()
	slot := map[string]any{"type": "slot", "count": 1, "label": "task", "with": []any{map[string]any{"type": "core", "count": 1}}}
	spec, err := json.Marshal(map[string]any{
		"version":    1,
		"resources":  []any{map[string]any{"type": "node", "count": nodes, "exclusive": true, "with": []any{slot}}},
		"tasks":      []any{map[string]any{"command": command, "slot": "task", "count": map[string]int{"per_slot": 1}}},
		"attributes": map[string]any{"system": map[string]any{"duration": 0}},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	request, err := json.Marshal(map[string]any{"J": sign(spec), "urgency": 16, "flags": 0})
	if err != nil {
		r.t.Fatal(err)
	}
	r.call("job-ingest.submit", string(request))
}

// journal asks for the events of jobs, and returns when those that happen now are sent.
func (r *raw) journal() {
	r.t.Helper()
	r.ask("job-manager.events-journal", wire.Streaming, "{}")
	if end := string(r.answer().Payload); !strings.Contains(end, `"id":-1`) {
		r.t.Fatalf("%s, want the end of an empty backlog", end)
	}
}

// events are the names of the events of the next jobs that come to an end.
func (r *raw) events(ends int) []string {
	r.t.Helper()
	var names []string
	for ends > 0 {
		var read struct {
			Events []struct{ Name string }
		}
		if err := json.Unmarshal(wire.Unterminated(r.answer().Payload), &read); err != nil {
			r.t.Fatal(err)
		}
		for _, event := range read.Events {
			names = append(names, event.Name)
			if event.Name == "clean" {
				ends--
			}
		}
	}
	return names
}

func TestAJobIsToldInOrder(t *testing.T) {
	t.Parallel()
	b := newStandIn(t, Options{})
	submitter, reader := dial(t, b), dial(t, b)
	reader.journal()
	submitter.submit(1, "sleep", "0.01")
	want := strings.Fields("submit validate depend priority annotations alloc start finish release free clean")
	if got := reader.events(1); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func TestAJobOnALostRankFails(t *testing.T) {
	t.Parallel()
	b := newStandIn(t, Options{Size: 2})
	submitter, reader := dial(t, b), dial(t, b)
	reader.journal()
	submitter.submit(2, "sleep", "1000")
	if err := b.Remove(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	want := strings.Fields("submit validate depend priority annotations alloc start exception finish release free clean")
	if got := reader.events(1); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func TestAJobThatIsTooLargeFailsWhenItsTurnComes(t *testing.T) {
	t.Parallel()
	b := newStandIn(t, Options{Size: 2})
	submitter, reader := dial(t, b), dial(t, b)
	reader.journal()
	submitter.submit(2, "sleep", "0.2")
	submitter.submit(2, "sleep", "0.2")
	submitter.submit(3, "true")
	want := strings.Fields("submit validate depend priority annotations alloc start submit validate depend priority " +
		"submit validate depend priority finish release free clean annotations alloc start exception clean finish release free clean")
	if got := reader.events(3); !slices.Equal(got, want) {
		t.Errorf("events %v, want %v", got, want)
	}
}

func TestASmallJobWaitsBehindALargeOne(t *testing.T) {
	t.Parallel()
	b := newStandIn(t, Options{Size: 4, Online: 2})
	client := dial(t, b)
	client.submit(3, "sleep", "1000")
	client.submit(1, "sleep", "1000")
	stats := client.call("job-list.job-stats", "")
	if !strings.Contains(stats, `"sched":2`) || !strings.Contains(stats, `"run":0`) {
		t.Errorf("with two of three nodes up: %s, want both to wait", stats)
	}
	if err := b.Add(t.Context(), 2); err != nil {
		t.Fatal(err)
	}
	if stats := client.call("job-list.job-stats", ""); !strings.Contains(stats, `"run":1`) {
		t.Errorf("with three of three nodes up: %s, want one to run", stats)
	}
}

func TestNoJobIsPlacedOnADrainedRank(t *testing.T) {
	t.Parallel()
	b := newStandIn(t, Options{Size: 2})
	client := dial(t, b)
	client.call("resource.drain", `{"targets":"1","reason":"a reason","mode":"update"}`)
	client.submit(1, "sleep", "1000")
	client.submit(1, "sleep", "1000")
	if stats := client.call("job-list.job-stats", ""); !strings.Contains(stats, `"run":1`) {
		t.Errorf("with one of two ranks drained: %s, want one of two jobs to run", stats)
	}
	// A drain outlives the broker of its rank.
	if err := b.Remove(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := b.Add(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if stats := client.call("job-list.job-stats", ""); !strings.Contains(stats, `"run":1`) {
		t.Errorf("when the drained rank has come back: %s, want one of two jobs to run", stats)
	}
	client.call("resource.undrain", `{"targets":"1","mode":"update"}`)
	if stats := client.call("job-list.job-stats", ""); !strings.Contains(stats, `"run":2`) {
		t.Errorf("when no rank is drained: %s, want both to run", stats)
	}
}

func TestWhatIsAskedWrongly(t *testing.T) {
	t.Parallel()
	const (
		enoent, einval, eexist, enosys, eproto, eperm = 2, 22, 17, 38, 71, 1
	)
	b := newStandIn(t, Options{Size: 2})
	client := dial(t, b)
	client.call("resource.drain", `{"targets":"1","reason":"a reason"}`)
	for _, row := range []struct {
		topic, payload string
		want           uint32
	}{
		{"nobody.knows", "", enosys},
		{"kvs.lookup", "{}", enosys},
		{"attr.get", `{"name":"nobody.knows"}`, enoent},
		{"attr.get", `{`, eproto},
		{"groups.get", `{"name":"nobody"}`, enoent},
		{"resource.drain", `{"targets":"1","reason":"another"}`, eexist},
		{"resource.drain", `{"targets":"2"}`, einval},
		{"resource.drain", `{"targets":""}`, einval},
		{"resource.drain", `{"targets":"1","mode":"often"}`, einval},
		{"resource.drain", `{}`, eproto},
		{"resource.undrain", `{"targets":"0"}`, eexist},
		{"resource.journal", "", eproto},
		{"job-manager.events-journal", "{}", eproto},
		{"job-manager.raise", `{"id":1,"severity":0,"type":"cancel"}`, enoent},
		{"job-manager.raise", `{"id":1,"severity":8,"type":"cancel"}`, eproto},
		{"job-manager.kill", `{"id":1,"signum":15}`, einval},
		{"job-manager.urgency", `{"id":1,"urgency":0}`, einval},
		{"job-manager.urgency", `{"id":1,"urgency":32}`, einval},
		{"job-list.list", `{}`, eproto},
		{"job-list.list", `{"max_entries":1,"attrs":[],"constraint":{"nobody":[]}}`, 0},
		{"job-list.list-id", `{"id":1,"attrs":[]}`, enoent},
		{"job-ingest.submit", `{"J":"none","urgency":16,"flags":0}`, einval},
		{"job-ingest.submit", `{"J":"` + signAs("{}", "4294967295") + `","urgency":16,"flags":0}`, eperm},
		{"job-ingest.submit", `{"J":"` + sign([]byte("{}")) + `","urgency":16,"flags":0}`, einval},
	} {
		client.ask(row.topic, 0, row.payload)
		if m := client.answer(); m.Errno != row.want {
			t.Errorf("%s %s: errno %d, %s; want %d", row.topic, row.payload, m.Errno, m.Payload, row.want)
		}
	}
}

func TestAStreamIsCancelled(t *testing.T) {
	t.Parallel()
	const enodata = 61
	b := newStandIn(t, Options{})
	for _, topic := range []string{"job-manager.events-journal", "resource.journal"} {
		client := dial(t, b)
		client.ask(topic, wire.Streaming, "{}")
		client.ask(topic+"-cancel", wire.NoResponse, `{"matchtag":1}`)
		for m := client.answer(); m.Errno != enodata; m = client.answer() {
			if m.Tag != 1 {
				t.Fatalf("%s: an answer with tag %d", topic, m.Tag)
			}
		}
	}
}

func TestARestartForgetsAll(t *testing.T) {
	t.Parallel()
	b := newStandIn(t, Options{Size: 3})
	client := dial(t, b)
	client.submit(1, "sleep", "1000")
	client.call("resource.drain", `{"targets":"1"}`)
	instance := client.call("attr.get", `{"name":"broker.uuid"}`)
	if err := b.Restart(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := client.messages.Next(); err == nil {
		t.Error("a connection outlives its broker")
	}
	client = dial(t, b)
	if stats := client.call("job-list.job-stats", ""); !strings.Contains(stats, `"total":0`) {
		t.Errorf("after a restart: %s, want no job", stats)
	}
	if status := client.call("resource.status", ""); !strings.Contains(status, `"drain":{}`) || !strings.Contains(status, `"online":"0-2"`) {
		t.Errorf("after a restart: %s, want all ranks online and none drained", status)
	}
	if got := client.call("attr.get", `{"name":"broker.uuid"}`); got == instance {
		t.Error("the broker after a restart is the same as before")
	}
}

// sign wraps a jobspec for the user of this process.
func sign(jobspec []byte) string { return signAs(string(jobspec), uid()) }
